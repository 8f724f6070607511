"""What Stillrun does in `benchmarks/store.py`, each time in a process of its own."""

from __future__ import annotations

import mmap
import os
import sys
import time
from pathlib import Path

from stillrun_snapshot.capture import CaptureLimits, capture_code
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.packing import pack_store
from stillrun_snapshot.refs import RefChange
from stillrun_snapshot.secret_rules import RULES
from stillrun_snapshot.store import Store

LIMITS = CaptureLimits(source_file=1 << 40, data_file=1 << 40, total=1 << 40, git_total=1 << 40, files=1 << 30)


def put(store: Store, source: Path) -> None:
    """Keep each file below the source as an object, and a ref to the last."""
    digest = None
    for path in sorted(source.iterdir()):
        digest = store.put_file(path)
    store.refs.set([RefChange(f"bench/{source.name}", digest)])


def capture(store: Store, source: Path) -> None:
    """Keep the source as captured code, as a run does."""
    flow = next(path for path in sorted(source.iterdir()) if path.is_file())
    found = capture_code(store, flow, limits=LIMITS, allowed={rule.name for rule in RULES})
    assert not found.left_out, found.left_out[:3]
    assert found.files > 10, found.files
    store.refs.set([RefChange(f"bench/{found.code.hex}", found.code)])


def read(store: Store, out: Path) -> None:
    """Write every object to a file of its own."""
    out.mkdir()
    digests = list(store.digests())
    for start in range(0, len(digests), 1000):
        for digest, data in store.get_many(digests[start : start + 1000]).items():
            descriptor = os.open(f"{out}/{digest.hex}", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
            os.write(descriptor, data)
            os.close(descriptor)


def keep_memory(store: Store, source: Path) -> None:
    """Keep bytes that are in memory, and make them durable; prints the seconds of that alone."""
    data = source.read_bytes()
    begun = time.perf_counter()
    digest = store.put(data)
    store.refs.set([RefChange("bench/memory", digest)])
    print(time.perf_counter() - begun)
    print(digest)


def write_memory(out: Path, source: Path) -> None:
    """Write the same bytes to a file and sync it; prints the seconds of that alone."""
    data = source.read_bytes()
    begun = time.perf_counter()
    with open(out, "wb", buffering=0) as stream:
        view = memoryview(data)
        while view:
            view = view[stream.write(view) :]
        os.fsync(stream.fileno())
    print(time.perf_counter() - begun)


def use_kept(store: Store, digest: str) -> None:
    """Ask for an object as the next task does, and read all of it; prints milliseconds to its first byte, and seconds for all."""
    begun = time.perf_counter()
    location = store.checked(Digest(digest))
    assert location.path is not None
    _use(location.path, begun)


def _use(path: Path, begun: float) -> None:
    with open(path, "rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as view:
        assert view[:1] is not None
        print((time.perf_counter() - begun) * 1000)
        begun = time.perf_counter()
        for start in range(0, len(view), 1 << 20):
            view[start : start + (1 << 20)]
        print(time.perf_counter() - begun)


def main() -> None:
    verb, root, *rest = sys.argv[1:]
    source = Path(rest[0]) if rest else Path()
    if verb == "pack":
        print(pack_store(Path(root), older_than_ns=time.time_ns()))
        return
    if verb == "write_memory":
        write_memory(Path(root), source)
        return
    if verb == "use_file":
        _use(Path(root), time.perf_counter())
        return
    with Store.open(Path(root)) as store:
        if verb == "use_kept":
            use_kept(store, rest[0])
        else:
            {"put": put, "capture": capture, "read": read, "keep_memory": keep_memory}[verb](store, source)


if __name__ == "__main__":
    main()
