"""Locks made by hand of wheels and conda archives, so that building is tested without resolving."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import zipfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from stillrun_envs.discovery import describe_python
from stillrun_envs.interpreter import keep_interpreter
from stillrun_envs.lock import Interpreter, Lock, PinnedPackage
from stillrun_envs.memo import Memo
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.store import Store

__all__ = ["conda_lock", "make_archive", "wheel_lock", "wheels_of"]

_WHEELS = {  # of the wheelhouse in conftest.py: what a package needs
    "alpha": ["alpha-1.0"],
    "beta": ["alpha-1.0", "beta-1.0"],
    "bulky": ["bulky-1.0"],
    "gamma": ["alpha-2.0", "gamma-1.0"],
}


def wheels_of(wheelhouse: Path, *names: str) -> list[Path]:
    """The wheels of packages and of what they need."""
    stems = sorted({stem for name in names for stem in _WHEELS[name]})
    return [wheelhouse / f"{stem}-py3-none-any.whl" for stem in stems]


def make_archive(
    channel: Path,
    name: str,
    files: Mapping[str, bytes],
    *,
    version: str = "1.0",
    depends: Sequence[str] = (),
    executables: Collection[str] = (),
) -> Path:
    """A conda package of ``files`` in the folder of a channel."""
    source = Path(__file__).parents[2] / "fixtures" / "conda" / "make_channel.py"
    spec = importlib.util.spec_from_file_location("make_channel", source)
    assert spec is not None and spec.loader is not None
    maker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(maker)
    maker._write(channel, name, version, "h0_0", list(depends), "linux-64", files, set(executables))
    return channel / "linux-64" / f"{name}-{version}-h0_0.conda"


def wheel_lock(store: Store, environ: Mapping[str, str], wheels: Sequence[Path]) -> Digest:
    """A kept lock of wheels on the Python that runs the tests."""
    with Memo(store) as memo:
        facts = describe_python(Path(sys.executable), memo, environ)
        python = keep_interpreter(facts, store, memo, environ)
    return _kept(store, Lock(python, tuple(_wheel(store, wheel) for wheel in wheels)))


def conda_lock(
    store: Store, archives: Sequence[Path], wheels: Sequence[Path] = (), link_scripts: Sequence[str] = ()
) -> Digest:
    """A kept lock of conda archives, Python among them, with wheels on top."""
    packages = [_archive(store, archive) for archive in archives]
    version = next(one.version for one in packages if one.name == "python")
    family = ".".join(version.split(".")[:2])
    soabi = f"cpython-{family.replace('.', '')}-x86_64-linux-gnu"
    python = Interpreter(version, "cpython", soabi, "linux-x86_64", f"bin/python{family}")
    packages += [_wheel(store, wheel) for wheel in wheels]
    return _kept(store, Lock(python, tuple(packages), link_scripts=tuple(link_scripts)))


def _kept(store: Store, lock: Lock) -> Digest:
    digest = store.put_record(lock.to_record())
    store.sync()
    return digest


def _wheel(store: Store, wheel: Path) -> PinnedPackage:
    name, version = wheel.name.split("-")[:2]
    return PinnedPackage(
        "pypi", name.replace("_", "-"), version, wheel.name, store.put_file(wheel), os.stat(wheel).st_size
    )


def _archive(store: Store, archive: Path) -> PinnedPackage:
    name, version, build = archive.name.removesuffix(".conda").rsplit("-", 2)
    with zipfile.ZipFile(archive) as opened:
        assert json.loads(opened.read("metadata.json"))["conda_pkg_format_version"] == 2
    digest = store.put_file(archive)
    return PinnedPackage(
        "conda", name, version, archive.name, digest, os.stat(archive).st_size, build=build, subdir=archive.parent.name
    )
