"""No file, however broken, leads to anything but one clear sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stillrun_envs.errors import LockError, RequestError
from stillrun_envs.formats import is_lock, read_lock_file, read_request_file
from stillrun_envs.platforms import Target

LINUX = Target.elsewhere("linux-64", "3.11.7")
D = "a" * 64
VALID = {
    "conda-lock.yml": (
        "version: 1\nmetadata:\n  content_hash: {linux-64: x}\n  channels: []\n  platforms: [linux-64]\n  sources: []\n"
        f"package:\n- name: six\n  version: '1.17.0'\n  manager: pip\n  platform: linux-64\n  dependencies: {{}}\n"
        f"  url: https://h/six-1.17.0-py2.py3-none-any.whl\n  hash: {{sha256: {D}}}\n  category: main\n  optional: false\n"
    ),
    "pylock.toml": (
        "lock-version = '1.0'\ncreated-by = 'x'\n[[packages]]\nname = 'six'\n"
        "version = '1.17.0'\nmarker = \"python_version > '3'\"\n"
        f"wheels = [{{ name = 'six-1.17.0-py2.py3-none-any.whl', url = 'https://h/six.whl', hashes = {{ sha256 = '{D}' }} }}]\n"
    ),
    "uv.lock": (
        "version = 1\nrequires-python = '>=3.9'\n[[package]]\nname = 'p'\nversion = '0'\nsource = { virtual = '.' }\n"
        "dependencies = [{ name = 'six' }]\n[[package]]\nname = 'six'\nversion = '1.17.0'\nsource = { registry = 'https://h' }\n"
        f"wheels = [{{ url = 'https://h/six-1.17.0-py2.py3-none-any.whl', hash = 'sha256:{D}', size = 9 }}]\n"
    ),
    "pixi.lock": (
        "version: 6\nenvironments:\n  default:\n    channels:\n    - url: https://h/c/\n    packages:\n      linux-64:\n"
        "      - conda: https://h/c/noarch/six-1.17.0-py_0.conda\npackages:\n"
        f"- conda: https://h/c/noarch/six-1.17.0-py_0.conda\n  sha256: {D}\n  depends:\n  - python\n"
    ),
    "explicit.txt": f"@EXPLICIT\nhttps://h/c/noarch/six-1.17.0-py_0.conda#{'b' * 32}\n",
    "requirements.txt": f"six==1.17.0 ; python_version > '3' \\\n    --hash=sha256:{D}\n--index-url https://h/simple\n",
    "environment.yml": "channels: [c]\ndependencies:\n- python=3.11\n- numpy >=1.26  # [linux]\n- pip:\n  - six==1.17\n",
    "pyproject.toml": (
        "[project]\nname = 'p'\nversion = '0'\nrequires-python = '>=3.9'\ndependencies = ['six>=1', 'p[x]']\n"
        "[project.optional-dependencies]\nx = ['tqdm']\n[dependency-groups]\nt = ['a', {include-group = 'u'}]\nu = ['b']\n"
        "[tool.uv.sources]\nsix = { git = 'https://h/six', tag = 'v1' }\n"
    ),
    "pixi.toml": (
        "[workspace]\nname = 'p'\nchannels = ['c']\nplatforms = ['linux-64']\n"
        "[dependencies]\npython = '3.11.*'\nnumpy = '>=1.26'\n"
        "[pypi-dependencies]\nsix = '*'\n[system-requirements]\ncuda = '12'\n[feature.t.dependencies]\npytest = '*'\n"
        "[environments]\ntest = ['t']\n"
    ),
}


def read(path: Path) -> object:
    return (read_lock_file if is_lock(path) else read_request_file)(path, LINUX)


@pytest.mark.parametrize("name", VALID)
def test_the_valid_files_are_read(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(VALID[name])
    assert "six" in str(read(tmp_path / name)) or "numpy" in str(read(tmp_path / name))


@pytest.mark.parametrize("name", VALID)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_spoiled_file_is_read_or_refused(tmp_path: Path, name: str, data: st.DataObject) -> None:
    text = VALID[name]
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text)))
        cut = data.draw(st.integers(0, 12))
        text = text[:at] + data.draw(st.text("abz019 \n\t'\"[]{}=:,.-_#@!<>/\\é\0", max_size=6)) + text[at + cut :]
    (tmp_path / name).write_text(text, "utf-8")
    try:
        read(tmp_path / name)
    except (LockError, RequestError) as refused:
        assert name in str(refused) or str(tmp_path) in str(refused) or len(str(refused)) < 400


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00bad", b"\0" * 100, b"   \n", b"a: *b", b"a: &b [1]\nc: *b\n"])
@pytest.mark.parametrize("name", VALID)
def test_what_is_no_such_file_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises((LockError, RequestError)):
        read(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("conda-lock.yml", "version: 1", "version: 4"),
        ("pylock.toml", "'1.0'", "'2.0'"),
        ("uv.lock", "version = 1\n", "version = 2\n"),
        ("pixi.lock", "version: 6", "version: 9"),
    ],
)
def test_a_newer_format_is_refused_by_its_number(tmp_path: Path, name: str, old: str, new: str) -> None:
    (tmp_path / name).write_text(VALID[name].replace(old, new, 1))
    with pytest.raises(LockError, match=new.strip("'\n").rpartition(" ")[2].strip("'")):
        read(tmp_path / name)


@pytest.mark.parametrize("name", ["conda-lock.yml", "pixi.lock"])
def test_a_lock_for_other_machines_names_both(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(VALID[name])
    with pytest.raises(LockError, match=r"locked for linux-64, this is osx-arm64; lock it with"):
        read_lock_file(tmp_path / name, Target.elsewhere("osx-arm64", "3.11"))


def test_credentials_are_not_carried_over(tmp_path: Path) -> None:
    (tmp_path / "pylock.toml").write_text(VALID["pylock.toml"].replace("https://h/", "https://ada:secret@h/"))
    assert "secret" not in str(read(tmp_path / "pylock.toml"))
