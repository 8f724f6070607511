"""What a run borrows of a conda environment is kept: as the very archives, or packed from its files when those are gone."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.envs.conftest import ROOT, Site, _served
from tests.system.test_ambient_conda import INSTALL

from stillrun_envs.ambient import ambient_environment, keep_ambient
from stillrun_envs.lock import Lock, PinnedPackage, read_lock
from stillrun_envs.prefix import Prefix, prefix_for
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.store import Store

INDEX = """
import asyncio, os, runpy, sys
from pathlib import Path
asyncio.run(runpy.run_path(sys.argv[1])["_indexed"](Path(sys.argv[2])))
os._exit(0)
"""
TIDE = """
import sys
from pathlib import Path

def level():
    library = (Path(sys.prefix) / "lib" / "libtide.so").read_bytes()
    place = library.partition(b"DATA=")[2].partition(b"\\0")[0].decode()
    return Path(place).read_text()
"""


@pytest.fixture(scope="module")
def tides(channel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The channel, with tide, which needs the shared library libtide, and coast.sand and coast.rock of one namespace."""
    spec = importlib.util.spec_from_file_location("make_channel", ROOT / "fixtures/conda/make_channel.py")
    assert spec is not None and spec.loader is not None
    maker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(maker)
    folder = tmp_path_factory.mktemp("tides") / "channel"
    shutil.copytree(channel, folder)
    plain = maker._path
    maker._path = lambda name, source: {
        **plain(name, source),
        **({"file_mode": "binary"} if name.endswith(".so") else {}),
    }
    strings = f"\x7fELF\0DATA={maker.PLACEHOLDER}/share/tide/level.txt\0{maker.PLACEHOLDER}:{maker.PLACEHOLDER}/x\0end"
    library = {"lib/libtide.so": strings.encode(), "share/tide/level.txt": b"high\n"}
    maker._write(folder, "libtide", "1.0", "h1_0", ["__glibc >=2.17"], "linux-64", library)
    maker._tiny(folder, "tide", "1.0", TIDE, ["python >=3.8", "libtide >=1.0,<2.0a0"])
    for name in ("sand", "rock"):
        module = {f"site-packages/coast/{name}.py": f"kind = {name!r}\n".encode()}
        maker._write(folder, f"coast-{name}", "1.0", "pyh0_0", ["python>=3.8"], "noarch", module)
    subprocess.run([sys.executable, "-c", INDEX, maker.__file__, folder], check=True, capture_output=True)
    yield from _served(folder)


@pytest.fixture
def make(tmp_path: Path, tides: Site) -> Callable[..., Path]:
    """Makes a conda environment of the served channel as a user's conda would, in a place with an accent; its Python."""

    def made(*specs: str) -> Path:
        prefix = tmp_path / "conda" / "envs" / "\u00e9tude"
        words = [sys.executable, "-c", INSTALL, tides.url, prefix, tmp_path / "elsewhere", "python", *specs]
        subprocess.run([str(word) for word in words], check=True)
        tides.requests.clear()
        return prefix / "bin" / "python"

    return made


@pytest.fixture
def keep(lonely: Store, environ: Mapping[str, str], tmp_path: Path) -> Callable[..., Digest]:
    """Keeps what a run used, with a home of its own."""

    def kept(python: Path, *modules: str, **more: Any) -> Digest:
        variables = {**environ, "HOME": str(tmp_path / "home")}
        environment = ambient_environment(lonely, python, environ=variables)
        return keep_ambient(lonely, environment, modules, environ=variables, **{"progress": print, **more})

    return kept


def by_name(lock: Lock) -> dict[str, PinnedPackage]:
    return {f"{one.manager} {one.name}": one for one in lock.packages}


def archive(site: Site, file: str) -> Path:
    return next(path for name in ("noarch", "linux-64") if (path := site.folder / name / file).is_file())


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def cached(site: Site, python: Path, *, tampered: str = "") -> Path:
    """Put every archive where conda keeps them for this environment."""
    folder = python.parents[3] / "pkgs"
    folder.mkdir(exist_ok=True)
    for path in site.folder.glob("*/*.conda"):
        if path.parent.name in ("noarch", "linux-64"):
            shutil.copy(path, folder)
    if tampered:
        data = (folder / tampered).read_bytes()
        (folder / tampered).write_bytes(data[:-1] + b"?")
    return folder


def said(prefix: Prefix, code: str) -> str:
    ended = subprocess.run([prefix.python, "-c", code], env=dict(prefix.variables), capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()


def noted(python: Path, name: str) -> Path:
    return next((python.parents[1] / "conda-meta").glob(f"{name}-[0-9]*.json"))


def test_the_archives_come_from_the_channel_with_all_that_they_need(
    keep: Callable[..., Digest], make: Callable[..., Path], tides: Site, lonely: Store, environ: dict[str, str]
) -> None:
    python = make("tide", "greet")
    digest = keep(python, "tide", "json")
    lock = read_lock(lonely, digest)
    assert lock.complete and list(by_name(lock)) == ["conda libtide", "conda python", "conda tide"]
    assert all(one.origin == "fetched" and sha256(archive(tides, one.file)) == one.digest.hex for one in lock.packages)
    assert lock.needs == ("__glibc >=2.17",) and lock.python.digest is None
    assert any("libtide" in path for path in tides.requests) and not any("greet" in path for path in tides.requests)
    shutil.rmtree(python.parents[3])
    assert said(prefix_for(digest, lonely, environ=environ), "import tide; print(tide.level())") == "high"


def test_an_unchanged_environment_is_looked_at_and_no_more(
    keep: Callable[..., Digest], make: Callable[..., Path], tides: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = make("tide")
    first = keep(python, "tide")
    tides.requests.clear()
    keep(python, "tide")  # the first may have looked while files were too young
    monkeypatch.setattr("stillrun_envs.command.run", None)
    monkeypatch.setattr("stillrun_envs.borrowed.keep_borrowed", None)
    assert keep(python, "tide") == first
    assert not tides.requests


def test_an_archive_in_a_cache_is_taken_without_the_network(
    keep: Callable[..., Digest], make: Callable[..., Path], tides: Site, lonely: Store
) -> None:
    python = make("tide")
    cached(tides, python)
    lock = read_lock(lonely, keep(python, "tide", offline=True))
    assert lock.complete and all(one.origin == "fetched" for one in lock.packages)
    assert not tides.requests


def test_a_tampered_archive_in_a_cache_is_refused_and_the_next_place_is_asked(
    keep: Callable[..., Digest], make: Callable[..., Path], tides: Site, lonely: Store
) -> None:
    python = make("tide")
    spoiled = cached(tides, python, tampered="libtide-1.0-h1_0.conda") / "libtide-1.0-h1_0.conda"
    lock = read_lock(lonely, keep(python, "tide"))
    assert by_name(lock)["conda libtide"].digest.hex == sha256(archive(tides, "libtide-1.0-h1_0.conda"))
    assert [path for path in tides.requests if path.endswith(".conda")] == ["/linux-64/libtide-1.0-h1_0.conda"]
    assert not lonely.has(Digest(f"sha256:{sha256(spoiled)}"))


@pytest.mark.parametrize("offline", [False, True])
def test_where_conda_noted_an_md5_alone_the_archive_is_checked_by_it(
    keep: Callable[..., Digest], make: Callable[..., Path], tides: Site, lonely: Store, *, offline: bool
) -> None:
    python = make("tide")
    if offline:
        cached(tides, python)
    note = json.loads(noted(python, "libtide").read_text())
    del note["sha256"]
    noted(python, "libtide").write_text(json.dumps(note))
    lock = read_lock(lonely, keep(python, "tide", offline=offline))
    assert by_name(lock)["conda libtide"].digest.hex == sha256(archive(tides, "libtide-1.0-h1_0.conda"))
    note["md5"] = "0" * 32
    noted(python, "libtide").write_text(json.dumps(note))
    assert by_name(read_lock(lonely, keep(python, "tide", offline=offline)))["conda libtide"].origin == "installed"


@pytest.mark.slow
def test_what_is_nowhere_is_packed_from_files_that_are_as_the_archive_had_them(
    keep: Callable[..., Digest], make: Callable[..., Path], tides: Site, lonely: Store, environ: dict[str, str]
) -> None:
    python = make("tide", "numpy", "greet")
    genuine = keep(python, "tide", "numpy", "greet")
    with Store.open(lonely.root.with_name("other")) as other:
        environment = ambient_environment(other, python, environ=environ)
        told: list[str] = []
        packing = partial(keep_ambient, other, environment, ["tide", "numpy", "greet"], environ=environ, offline=True)
        packed = packing(progress=told.append)
        lock = read_lock(other, packed)
        assert lock.complete and {one.origin for one in lock.packages} == {"installed"}
        assert not any(one.edited for one in lock.packages)
        assert "tide is packed from its files: nothing was fetched, as the run is offline." in told
        shutil.rmtree(python.parents[3])
        trees = []
        for store, digest in ((lonely, genuine), (other, packed)):
            prefix = prefix_for(digest, store, environ=environ)
            assert said(prefix, "import tide, numpy, greet; print(tide.level(), numpy.arange(5).sum())") == "high\n 10"
            assert subprocess.run([prefix.path / "bin/greet"], check=False).returncode == 1  # prints what it returns
            trees.append({name: text.replace(bytes(prefix.path), b"@") for name, text in contents(prefix.path).items()})
        assert trees[0].keys() == trees[1].keys()
        assert [name for name in trees[0] if trees[0][name] != trees[1][name]] == []


def contents(prefix: Path) -> dict[str, bytes]:
    found = {}
    for path in sorted(prefix.rglob("*")):
        name = path.relative_to(prefix).as_posix()
        if path.is_file() and not name.startswith(("conda-meta/", "stillrun-")) and "__pycache__" not in name:
            found[name] = path.read_bytes()
    return found
