"""conda packages to measure with, made of this very Python, and what py-rattler alone does with them."""

from __future__ import annotations

import asyncio
import importlib
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from stillrun_envs.lock import Interpreter, Lock, PinnedPackage
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.store import Store

__all__ = ["archives", "conda_lock", "raw_install"]

_ROOT = Path(__file__).parents[1]


def archives(folder: Path) -> list[Path]:
    """Python and numpy as conda packages."""
    script = _ROOT / "fixtures" / "conda" / "make_channel.py"
    subprocess.run([sys.executable, script, folder], check=True, capture_output=True)
    return [*folder.glob("linux-64/python-*.conda"), *folder.glob("linux-64/numpy-*.conda")]


def conda_lock(store: Store, files: Sequence[Path]) -> Digest:
    """The kept lock of them."""
    packages = []
    for file in files:
        name, version, build = file.name.removesuffix(".conda").rsplit("-", 2)
        digest, size = store.put_file(file), file.stat().st_size
        packages.append(PinnedPackage("conda", name, version, file.name, digest, size, build, file.parent.name))
    version = next(one.version for one in packages if one.name == "python")
    family = ".".join(version.split(".")[:2])
    python = Interpreter(version, "cpython", "", "linux-x86_64", f"bin/python{family}")
    lock = store.put_record(Lock(python, tuple(packages)).to_record())
    store.sync()
    return lock


def raw_install(files: Sequence[Path], prefix: Path, cache: Path) -> None:
    """py-rattler in a process of its own, as anybody would use it on archives."""
    words = [sys.executable, "-m", "benchmarks.channel", prefix, cache, *files]
    subprocess.run([str(word) for word in words], check=True, capture_output=True, cwd=_ROOT)


async def _installed(prefix: str, cache: str, files: Sequence[str]) -> None:
    rattler: ModuleType = importlib.import_module("rattler")
    records = []
    for file in files:
        record = await rattler.RepoDataRecord.from_package_archive(file)
        record.url = Path(file).as_uri()
        records.append(record)
    await rattler.install(records, target_prefix=prefix, cache_dir=Path(cache), show_progress=False)


if __name__ == "__main__":
    asyncio.run(_installed(sys.argv[1], sys.argv[2], sys.argv[3:]))
    os._exit(0)  # rattler's threads may crash an interpreter that ends in the usual way
