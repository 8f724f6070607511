"""What a run borrowed is found again on the index, file by file; what is other than the index's wheel stays as files."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.envs.conftest import Site
from tests.envs.test_ambient import made_editable, site, uv, venv

from stillrun_envs.ambient import ambient_environment, keep_ambient
from stillrun_envs.errors import FetchError
from stillrun_envs.exporting import exported
from stillrun_envs.lock import PinnedPackage, read_lock
from stillrun_envs.matching import match_index
from stillrun_envs.prefix import prefix_for
from stillrun_snapshot.digest import Digest, digest_of_file
from stillrun_snapshot.store import Store

__all__ = ["venv"]


def kept(store: Store, environ: dict[str, str], python: Path, *modules: str) -> Digest:
    environment = ambient_environment(store, python, environ=environ)
    return keep_ambient(store, environment, modules, environ=environ)


def packages(store: Store, lock: Digest) -> dict[str, PinnedPackage]:
    return {one.name: one for one in read_lock(store, lock).packages}


def test_what_was_installed_from_the_index_is_found_on_it(
    store: Store, environ: dict[str, str], venv: Path, index: Site, wheelhouse: Path
) -> None:
    lock = kept(store, environ, venv, "beta", "bulky")
    better, matches = match_index(store, lock, environ, print)
    assert [one.reason for one in matches] == ["", "", ""]
    found = packages(store, better)
    assert found.keys() == packages(store, lock).keys() == {"alpha", "beta", "bulky"}
    for one in found.values():
        assert one.origin == "fetched" and one.digest == digest_of_file(wheelhouse / one.file)[0]
        assert not store.is_spare(one.digest)
    assert index.url in exported(store, better, "pylock")
    prefix = prefix_for(better, store, environ=environ)
    ended = subprocess.run([prefix.path / "bin/alpha"], capture_output=True, text=True, check=True)
    assert ended.stdout == "alpha 1.0\n"
    assert match_index(store, better, environ, print) == (better, [])


def test_what_is_other_than_the_index_has_it_stays_as_files(
    store: Store, environ: dict[str, str], venv: Path, tmp_path: Path, make_wheel: Callable[..., Path]
) -> None:
    made_editable(venv, tmp_path / "project")
    make_wheel(tmp_path / "mine", "alpha", "1.0", modules={"alpha/__init__.py": "mine = True\n"})
    uv(environ, "pip", "install", "--python", venv, "--reinstall", next((tmp_path / "mine").glob("*.whl")))
    edited = site(venv) / "bulky/__init__.py"
    text = edited.read_text() + "edited = True\n"
    edited.unlink()
    edited.write_text(text)
    lock = kept(store, environ, venv, "beta", "bulky", "lab")
    better, matches = match_index(store, lock, environ, print)
    assert {one.package.name: one.reason for one in matches} == {
        "alpha": "its files are others than those of the index's wheel",
        "beta": "",
        "bulky": "bulky/__init__.py was changed after it was installed",
        "lab": "no index has a wheel of 0.1 for this machine",
    }
    before, after = packages(store, lock), packages(store, better)
    assert {name for name in before if before[name] == after[name]} == {"alpha", "bulky", "lab"}


def test_an_index_out_of_reach_is_said(store: Store, environ: dict[str, str], venv: Path) -> None:
    lock = kept(store, environ, venv, "beta")
    with pytest.raises(FetchError, match="cannot be reached"):
        match_index(store, lock, {**environ, "UV_DEFAULT_INDEX": "http://127.0.0.1:9/simple"}, print)
