"""An installed distribution becomes a wheel again."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from stillrun_envs.installed import installed_distributions
from stillrun_envs.repack import UnpackableError, repack


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A distribution with a module, a script of its own, a generated command, a data file and bytecode."""
    site = tmp_path / "env/lib/python3.11/site-packages"
    info = site / "tool-1.0.dist-info"
    info.mkdir(parents=True)
    for path, text in {
        site / "tool.py": "x = 1\n",
        site / "__pycache__/tool.cpython-311.pyc": "",
        tmp_path / "env/bin/tool-script": "#!/somewhere/bin/python3.11\nprint(1)\n",
        tmp_path / "env/bin/tool": "#!/somewhere/bin/python\n",
        tmp_path / "env/share/tool/note.txt": "data\n",
        info / "METADATA": "Metadata-Version: 2.1\nName: Tool\nVersion: 1.0\n",
        info / "WHEEL": "Wheel-Version: 1.0\nTag: py2-none-any\nTag: py3-none-any\n",
        info / "INSTALLER": "pip\n",
        info / "entry_points.txt": "[console_scripts]\ntool = tool:main\n",
    }.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    listed = ["tool.py", "__pycache__/tool.cpython-311.pyc", "../../../bin/tool-script", "../../../bin/tool"]
    listed += ["../../../share/tool/note.txt", "tool-1.0.dist-info/METADATA", "tool-1.0.dist-info/WHEEL"]
    listed += ["tool-1.0.dist-info/INSTALLER", "tool-1.0.dist-info/entry_points.txt", "tool-1.0.dist-info/RECORD"]
    (info / "RECORD").write_text("".join(f"{path},,\n" for path in listed))
    return site


def test_a_wheel_holds_what_was_installed_and_not_what_the_installer_added(site: Path, tmp_path: Path) -> None:
    (one,) = installed_distributions([site])
    made = repack(one, site, tmp_path / "env", [], tmp_path / "out")
    assert made.file == "tool-1.0-py2.py3-none-any.whl"
    with zipfile.ZipFile(tmp_path / "out") as wheel:
        assert sorted(wheel.namelist()) == [
            "tool-1.0.data/data/share/tool/note.txt",
            "tool-1.0.data/scripts/tool-script",
            "tool-1.0.dist-info/METADATA",
            "tool-1.0.dist-info/RECORD",
            "tool-1.0.dist-info/WHEEL",
            "tool-1.0.dist-info/entry_points.txt",
            "tool.py",
        ]
        assert wheel.read("tool-1.0.data/scripts/tool-script").startswith(b"#!python\n")


def test_the_same_files_make_the_same_wheel(site: Path, tmp_path: Path) -> None:
    (one,) = installed_distributions([site])
    first = repack(one, site, tmp_path / "env", [], tmp_path / "a")
    (site / "tool.py").touch()
    assert repack(one, site, tmp_path / "env", [], tmp_path / "b") == first


def test_files_outside_of_the_environment_cannot_be_packed(site: Path, tmp_path: Path) -> None:
    record = site / "tool-1.0.dist-info/RECORD"
    record.write_text(record.read_text() + "/etc/tool.conf,,\n")
    (one,) = installed_distributions([site])
    with pytest.raises(UnpackableError, match=r"/etc/tool\.conf, outside"):
        repack(one, site, tmp_path / "env", [], tmp_path / "out")


def test_a_leftover_of_an_upgrade_is_no_distribution(site: Path) -> None:
    (site / "gone-2.0.dist-info").mkdir()
    (site / "odd-1.0.dist-info").mkdir()
    (site / "odd-1.0.dist-info/METADATA").write_text("Metadata-Version: 2.1\n")
    assert [one.name for one in installed_distributions([site, site / "no-such-folder"])] == ["tool"]
