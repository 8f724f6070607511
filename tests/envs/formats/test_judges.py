"""Locks that we write are accepted by the tools whose formats they are, and locks that these tools write are read."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from stillrun_envs import command
from stillrun_envs.errors import FetchError
from stillrun_envs.exporting import exported, listing_of
from stillrun_envs.formats import read_lock_file
from stillrun_envs.lock import read_lock
from stillrun_envs.platforms import Target
from stillrun_envs.request import EnvRequest
from stillrun_envs.resolver import lock_for
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.store import Store

PYTHON = Path(sys.executable)
VERSION = ".".join(map(str, sys.version_info[:3]))
HERE = Target.elsewhere("linux-64", VERSION)
ADAPTER = Path(__file__).parents[3] / "fixtures" / "conda" / "rattler_conda.py"
Site = Any  # the server in conftest.py


def locked(store: Store, environ: dict[str, str], **asked: object) -> Digest:
    return lock_for(EnvRequest(**asked), store, base_python=PYTHON, environ=environ)  # type: ignore[arg-type]


def ran(words: Sequence[str | Path], environ: dict[str, str], cwd: Path) -> str:
    ended = subprocess.run([str(word) for word in words], env=environ, cwd=cwd, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def conda_environ(environ: dict[str, str], tmp_path: Path) -> dict[str, str]:
    shim = tmp_path / "bin" / "conda"
    shim.parent.mkdir()
    shim.write_text(f'#!/bin/sh\nexec {sys.executable} {ADAPTER} "$@"\n')
    shim.chmod(0o755)
    return {**environ, "CONDA": str(shim), "HOME": str(tmp_path)}


def conda_lock(*words: str | Path) -> list[str | Path]:
    return [sys.executable, "-m", "conda_lock", *words]


@pytest.mark.slow
def test_conda_lock_renders_and_installs_ours(
    store: Store, environ: dict[str, str], channel: Path, tmp_path: Path
) -> None:
    lock = locked(store, environ, conda=("greet",), channels=(channel.as_uri(),), pypi=("beta",))
    (tmp_path / "conda-lock.yml").write_text(exported(store, lock, "conda-lock"))
    surroundings = conda_environ(environ, tmp_path)
    ran(conda_lock("render", "-k", "explicit", "-p", "linux-64"), surroundings, tmp_path)
    rendered = (tmp_path / "conda-linux-64.lock").read_text()
    for one in read_lock(store, lock).of("conda"):
        assert one.file in rendered
    prefix = tmp_path / "prefix"
    install = conda_lock("install", "--conda", surroundings["CONDA"], "--prefix", prefix, tmp_path / "conda-lock.yml")
    ran(install, surroundings, tmp_path)
    code = "import greet, beta, alpha; print(greet.hello(), alpha.__version__)"
    assert ran([prefix / "bin" / "python", "-c", code], environ, tmp_path) == "hello 2.0 1.0\n"
    again = read_lock_file(tmp_path / "conda-lock.yml", HERE)
    assert {one.digest for one in again.packages} == {one.digest for one in listing_of(store, lock).packages}


def test_what_conda_lock_locks_is_read_and_kept(
    store: Store, environ: dict[str, str], channel: Path, tmp_path: Path
) -> None:
    family = ".".join(VERSION.split(".")[:2])
    (tmp_path / "environment.yml").write_text(
        f"channels: [{channel.as_uri()}]\ndependencies: [needs-old-greet, python={family}]\nplatforms: [linux-64]\n"
    )
    surroundings = conda_environ(environ, tmp_path)
    words = conda_lock(
        "lock", "--conda", surroundings["CONDA"], "-f", "environment.yml", "--lockfile", "conda-lock.yml"
    )
    ran(words, surroundings, tmp_path)
    listing = read_lock_file(tmp_path / "conda-lock.yml", HERE)
    lock = read_lock(store, locked(store, environ, listing=listing, channels=()))
    assert [f"{one.name} {one.version}" for one in lock.packages] == [
        "greet 1.0",
        "needs-old-greet 1.0",
        f"python {VERSION}",
    ]


def test_uv_and_pip_install_our_pylock(store: Store, environ: dict[str, str], index: Site, tmp_path: Path) -> None:
    lock = locked(store, environ, pypi=("beta",))
    (tmp_path / "pylock.toml").write_text(exported(store, lock, "pylock"))
    ran([command.uv(), "venv", "--quiet", "--python", PYTHON, "v"], environ, tmp_path)
    ran(
        [command.uv(), "pip", "sync", "--quiet", "--python", "v/bin/python", "--preview", "pylock.toml"],
        environ,
        tmp_path,
    )
    assert ran(["v/bin/python", "-c", "import alpha, beta; print(alpha.__version__)"], environ, tmp_path) == "1.0\n"


def test_what_uv_writes_as_pylock_is_read(store: Store, environ: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "requirements.in").write_text("beta\nbulky\n")
    words = [
        command.uv(),
        "pip",
        "compile",
        "requirements.in",
        "--format",
        "pylock.toml",
        "-o",
        "pylock.toml",
        "--quiet",
    ]
    ran(words, environ, tmp_path)
    listing = read_lock_file(tmp_path / "pylock.toml", HERE)
    assert locked(store, environ, listing=listing, channels=()) == locked(store, environ, pypi=("beta", "bulky"))


def test_what_uv_locks_for_a_project_is_read(store: Store, environ: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(
        "[project]\nname = 'study'\nversion = '0.1'\nrequires-python = '>=3.9'\ndependencies = ['beta']\n"
        "[project.optional-dependencies]\nlarge = ['bulky']\n[dependency-groups]\ntest = ['bulky']\n"
    )
    ran([command.uv(), "lock", "--quiet", "--python", PYTHON], environ, tmp_path)
    names = {
        key: [one.name for one in read_lock_file(tmp_path / "uv.lock", HERE, **chosen).packages]
        for key, chosen in (("plain", {}), ("extra", {"extras": ["large"]}), ("group", {"groups": ["test"]}))
    }
    assert names["plain"] == ["alpha", "beta"]
    assert names["extra"] == names["group"] == ["alpha", "beta", "bulky"]
    listing = read_lock_file(tmp_path / "uv.lock", HERE)
    assert locked(store, environ, listing=listing, channels=()) == locked(store, environ, pypi=("beta",))


def test_pip_installs_our_requirements_by_their_hashes(
    store: Store, environ: dict[str, str], index: Site, tmp_path: Path
) -> None:
    lock = locked(store, environ, pypi=("beta",))
    (tmp_path / "requirements.txt").write_text(exported(store, lock, "requirements"))
    pip = [sys.executable, "-m", "pip", "install", "--require-hashes", "--no-deps", "--target", "t"]
    pip += ["--index-url", f"{index.url}/simple", "--disable-pip-version-check", "-r", "requirements.txt"]
    ran(pip, {**environ, "PIP_CONFIG_FILE": "/dev/null"}, tmp_path)
    assert (tmp_path / "t" / "beta").is_dir()
    assert (tmp_path / "t" / "alpha-1.0.dist-info").is_dir()


def test_what_pip_tools_pins_is_read(store: Store, environ: dict[str, str], index: Site, tmp_path: Path) -> None:
    (tmp_path / "requirements.in").write_text("beta\n")
    words = [
        sys.executable,
        "-m",
        "piptools",
        "compile",
        "requirements.in",
        "--generate-hashes",
        "--quiet",
        "--no-config",
    ]
    ran([*words, "--index-url", f"{index.url}/simple"], {**environ, "PIP_CONFIG_FILE": "/dev/null"}, tmp_path)
    listing = read_lock_file(tmp_path / "requirements.txt", HERE)
    assert locked(store, environ, listing=listing, channels=()) == locked(store, environ, pypi=("beta",))


def test_rattler_reads_our_pixi_lock(store: Store, environ: dict[str, str], channel: Path, tmp_path: Path) -> None:
    lock = locked(store, environ, conda=("greet",), channels=(channel.as_uri(),), pypi=("beta",))
    (tmp_path / "pixi.lock").write_text(exported(store, lock, "pixi"))
    code = (
        "import os, rattler; file = rattler.LockFile.from_path('pixi.lock'); env = file.default_environment();"
        "found = env.packages(env.platforms()[0]);"
        "print(sorted(one.name for one in found), flush=True); os._exit(0)"
    )
    said = ran([sys.executable, "-c", code], environ, tmp_path)
    assert said.strip() == str(sorted(one.name for one in read_lock(store, lock).packages))
    again = read_lock_file(tmp_path / "pixi.lock", HERE)
    assert {one.digest for one in again.packages} == {one.digest for one in read_lock(store, lock).packages}


def test_an_explicit_list_goes_out_and_comes_back(
    store: Store, environ: dict[str, str], channel: Path, tmp_path: Path
) -> None:
    lock = locked(store, environ, conda=("greet",), channels=(channel.as_uri(),))
    (tmp_path / "explicit.txt").write_text(exported(store, lock, "explicit"))
    listing = read_lock_file(tmp_path / "explicit.txt", HERE)
    again = read_lock(store, locked(store, environ, listing=listing, channels=()))
    assert again.packages == read_lock(store, lock).packages
    wrong = re.sub(r"#.*$", "#" + "0" * 32, exported(store, lock, "explicit"), flags=re.MULTILINE)
    (tmp_path / "explicit.txt").write_text(wrong)
    with pytest.raises(FetchError, match="expected MD5 0000"):
        locked(store, environ, listing=read_lock_file(tmp_path / "explicit.txt", HERE), channels=())


@pytest.mark.parametrize("form", ["conda-lock", "pylock", "requirements", "pixi"])
def test_what_we_write_depends_on_nothing_but_the_lock(store: Store, environ: dict[str, str], form: str) -> None:
    lock = locked(store, environ, pypi=("bulky", "beta"))
    assert exported(store, lock, form) == exported(store, lock, form)
    assert str(store.root) not in exported(store, lock, form)
