"""What Stillrun does in `benchmarks/store.py`, each time in a process of its own."""

from __future__ import annotations

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


def locate(store: Store, digest: str) -> None:
    """Ask for an object as a file; prints the milliseconds of the first request and of the next."""
    for _ in range(2):
        begun = time.perf_counter()
        location = store.checked(Digest(digest))
        print((time.perf_counter() - begun) * 1000)
        assert location.path is not None


def main() -> None:
    verb, root, *rest = sys.argv[1:]
    source = Path(rest[0]) if rest else Path()
    if verb == "pack":
        print(pack_store(Path(root), older_than_ns=time.time_ns()))
        return
    if verb == "write_memory":
        write_memory(Path(root), source)
        return
    with Store.open(Path(root)) as store:
        if verb == "locate":
            locate(store, rest[0])
        else:
            {"put": put, "capture": capture, "read": read, "keep_memory": keep_memory}[verb](store, source)


if __name__ == "__main__":
    main()
