"""Prefixes of conda packages: link scripts only where allowed, activation variables, no file overwritten by a wheel."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.envs.pinned import conda_lock, make_archive

from stillrun_envs.errors import BuildError
from stillrun_envs.prefix import Prefix, drop_prefix, prefix_for, verify_prefix
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.store import Store

Archive = Callable[..., Path]

POST_LINK = b"""set -eu
echo "$PKG_NAME $PKG_VERSION $PKG_BUILDNUM" > "$PREFIX/share/linked.txt"
echo "$PREFIX/share" > "$PREFIX/share/where.txt"
"$PREFIX/bin/python" -c 'import sys; print(sys.prefix)' >> "$PREFIX/share/where.txt"
echo "Thank you." >> "$PREFIX/.messages.txt"
"""
ACTIVATE = b"""# as scripts in the wild: not strict, talking, with a word of bash's own
echo "activating"
if [[ -n "${GDAL_DATA:-}" ]]; then
  export _CONDA_SET_GDAL_DATA="$GDAL_DATA"
fi
export GDAL_DATA="$CONDA_PREFIX/share/gdal"
export PATH="$CONDA_PREFIX/libexec:$PATH"
export GREETING="hello
$USELESS world"
"""


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    """Makes a conda package: archive(name, files)."""

    def made(name: str, files: dict[str, bytes], **more: Any) -> Path:
        return make_archive(tmp_path / "made", name, files, **more)

    return made


@pytest.fixture(scope="session")
def python(channel: Path) -> Path:
    """The conda package of Python."""
    return next((channel / "linux-64").glob("python-3*.conda"))


def built(store: Store, lock: Digest, environ: dict[str, str]) -> tuple[Prefix, list[str]]:
    told: list[str] = []
    return prefix_for(lock, store, environ=environ, progress=told.append), told


def test_a_link_script_is_told_of_and_not_run(
    store: Store, environ: dict[str, str], archive: Archive, python: Path
) -> None:
    linked = archive("linked", {"share/a.txt": b"a", "bin/.linked-post-link.sh": POST_LINK})
    prefix, told = built(store, conda_lock(store, [python, linked]), environ)
    assert 'linked has a post-link script that was not run; allow it with link_scripts=["linked"].' in told
    assert not (prefix.path / "share/linked.txt").exists()


def test_an_allowed_link_script_sees_what_conda_tells_and_leaves_no_trace_of_where_it_ran(
    store: Store, environ: dict[str, str], archive: Archive, python: Path
) -> None:
    linked = archive("linked", {"share/a.txt": b"a", "bin/.linked-post-link.sh": POST_LINK})
    lock = conda_lock(store, [python, linked], link_scripts=["linked"])
    prefix, told = built(store, lock, environ)
    assert (prefix.path / "share/linked.txt").read_text() == "linked 1.0 0\n"
    assert (prefix.path / "share/where.txt").read_text() == f"{prefix.path}/share\n{prefix.path}\n"
    assert not (prefix.path / ".messages.txt").exists()
    assert "linked: Thank you." in told
    verify_prefix(prefix, store)
    drop_prefix(lock, store)
    assert prefix_for(lock, store, environ=environ) == prefix


def test_link_scripts_run_after_those_of_what_their_packages_need(
    store: Store, environ: dict[str, str], archive: Archive, python: Path
) -> None:
    note = b'echo "$PKG_NAME" >> "$PREFIX/order.txt"\n'
    archives = [
        archive("a-last", {"bin/.a-last-post-link.sh": note}, depends=["between"]),
        archive("between", {"share/between": b""}, depends=["z-first"]),
        archive("z-first", {"bin/.z-first-post-link.sh": note}, depends=["python"]),
    ]
    lock = conda_lock(store, [python, *archives], link_scripts=["a-last", "z-first"])
    prefix, _ = built(store, lock, environ)
    assert (prefix.path / "order.txt").read_text() == "z-first\na-last\n"


def test_a_link_script_that_fails_fails_the_build(
    store: Store, environ: dict[str, str], archive: Archive, python: Path
) -> None:
    linked = archive("failing", {"bin/.failing-post-link.sh": b"echo no such licence >&2; exit 3\n"})
    lock = conda_lock(store, [python, linked], link_scripts=["failing"])
    with pytest.raises(
        BuildError, match=r"script of failing 1\.0 ended with code 3: no such licence\. Take failing out"
    ):
        prefix_for(lock, store, environ=environ)


def test_steps_get_the_variables_that_activation_sets(
    store: Store, environ: dict[str, str], archive: Archive, python: Path
) -> None:
    files = {"etc/conda/activate.d/gdal.sh": ACTIVATE, "share/gdal/x.csv": b"x"}
    lock = conda_lock(store, [python, archive("gdal", files)])
    prefix, told = built(store, lock, {**environ, "USELESS": "cruel", "GDAL_DATA": "/mine"})
    assert prefix.variables["GDAL_DATA"] == f"{prefix.path}/share/gdal"
    assert prefix.variables["GREETING"] == "hello\n world"
    own = {"PYTHONNOUSERSITE", "PYTHONPYCACHEPREFIX", "CONDA_PREFIX"}
    assert prefix.variables.keys() == {"GDAL_DATA", "GREETING"} | own
    assert len(told) == 1
    again = prefix_for(lock, store, environ=environ)
    assert again == prefix
    seen = subprocess.run(
        [prefix.python, "-c", "import os; print(os.environ['GDAL_DATA'])"],
        env={**os.environ, **again.variables},
        capture_output=True,
        text=True,
        check=True,
    )
    assert seen.stdout == f"{prefix.path}/share/gdal\n"


def test_an_activation_script_that_ends_the_shell_is_told_of(
    store: Store, environ: dict[str, str], archive: Archive, python: Path
) -> None:
    lock = conda_lock(store, [python, archive("rude", {"etc/conda/activate.d/rude.sh": b"exit 1\n"})])
    prefix, told = built(store, lock, environ)
    assert "rude.sh" in told[-1]
    assert "CONDA_PREFIX" in prefix.variables


def test_a_changed_marker_is_noticed(store: Store, environ: dict[str, str], archive: Archive, python: Path) -> None:
    files = {"etc/conda/activate.d/gdal.sh": ACTIVATE}
    lock = conda_lock(store, [python, archive("gdal", files, version="2.0")])
    prefix, _ = built(store, lock, environ)
    marker = prefix.path / "stillrun-env.json"
    marker.write_text(marker.read_text().replace("share/gdal", "share/lies"))
    again, told = built(store, lock, environ)
    assert "stillrun-env.json changed" in told[0]
    assert again == prefix


@pytest.mark.parametrize(
    ("path", "theirs"),
    [
        ("lib/python{family}/site-packages/alpha/__init__.py", b"not what the wheel brings\n"),
        ("bin/alpha", b"#!/bin/sh\n"),
    ],
)
def test_a_wheel_that_would_overwrite_a_conda_package_is_refused(
    store: Store, environ: dict[str, str], archive: Archive, python: Path, wheelhouse: Path, path: str, theirs: bytes
) -> None:
    family = ".".join(python.name.split("-")[1].split(".")[:2])
    path = path.format(family=family)
    mine = archive("mine", {path: theirs})
    lock = conda_lock(store, [python, mine], [wheelhouse / "alpha-1.0-py3-none-any.whl"])
    with pytest.raises(BuildError) as refused:
        prefix_for(lock, store, environ=environ)
    assert str(refused.value) == (
        f"{path} comes from the conda package mine 1.0 and, with other contents, from the wheel "
        "alpha-1.0-py3-none-any.whl; ask for one of the two only."
    )


def test_a_file_that_is_the_same_in_both_is_no_clash(
    store: Store, environ: dict[str, str], archive: Archive, python: Path, wheelhouse: Path
) -> None:
    family = ".".join(python.name.split("-")[1].split(".")[:2])
    same = b"__version__ = '1.0'\ndef main():\n    print('alpha', __version__)\n"
    mine = archive("same", {f"lib/python{family}/site-packages/alpha/__init__.py": same})
    lock = conda_lock(store, [python, mine], [wheelhouse / "alpha-1.0-py3-none-any.whl"])
    prefix, _ = built(store, lock, environ)
    assert subprocess.run([prefix.path / "bin/alpha"], capture_output=True, text=True).stdout == "alpha 1.0\n"
    verify_prefix(prefix, store)
