"""One process of many that work in a store at once: ROOT KIND NUMBER SECONDS. It says how often it did its work."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from stillrun_snapshot.errors import ObjectMissing
from stillrun_snapshot.garbage import find_garbage
from stillrun_snapshot.packing import pack_store
from stillrun_snapshot.refs import RefChange
from stillrun_snapshot.store import Store
from stillrun_snapshot.sweeping import sweep
from stillrun_snapshot.upkeep import UpkeepBusy, upkeep

POOL = 60
"""Contents that all writers share, so that most of what one puts another has put, or has gone as garbage."""
KEPT = 6
"""Refs that a writer has; older ones are forgotten."""


def content(number: int) -> bytes:
    """Small ones, compressed ones, and some large."""
    return b"%d " % number * (40_000 if number % 10 == 0 else 5_000 if number % 10 == 1 else 20)


def write(root: Path, number: int, chance: random.Random, done: int) -> None:
    """Put a few objects under a record and a ref, forget an old one, read all that is left."""
    with Store.open(root) as store:
        for part in range(chance.randrange(1, 4)):
            objects = [store.put(content(chance.randrange(POOL)), compress=True) for _ in range(8)]
            inner = store.put_record({"schema": "stillrun/test/1", "objects": objects})
            outer = store.put_record({"schema": "stillrun/test/1", "objects": [inner], "of": f"{number} {done}"})
            store.refs.set([RefChange(f"soak/{number}/{done}.{part}", outer)])
        mine = sorted(
            store.refs.names(f"soak/{number}/"), key=lambda ref: [int(x) for x in ref[0].split("/")[2].split(".")]
        )
        for name, _ in mine[:-KEPT]:
            store.refs.set([RefChange(name, None, note="soak")])
        for _, digest in mine[-KEPT:]:
            whole(store, digest)


def whole(store: Store, digest: str) -> None:
    """Read a record and all below it."""
    for inner in store.get_record(digest, "test")["objects"]:  # type: ignore[arg-type]  # it is one
        for each in store.get_record(inner, "test")["objects"]:
            store.verify(each)


def read(root: Path, _number: int, chance: random.Random, _done: int) -> None:
    """Read what a ref reaches; where something is missing, the ref must have gone meanwhile."""
    with Store.open(root) as store:
        refs = list(store.refs.names("soak/"))
        for name, digest in chance.sample(refs, min(8, len(refs))):
            try:
                whole(store, digest)
            except ObjectMissing:
                if store.refs.get(name) == digest:
                    raise


def collect(root: Path, _number: int, _chance: random.Random, _done: int) -> None:
    """Remove all garbage at once, without any grace."""
    with suppress(UpkeepBusy), Store.open(root) as store, upkeep(root, "gc"):
        sweep(find_garbage(store, grace_s=-1))


def pack(root: Path, _number: int, _chance: random.Random, _done: int) -> None:
    """Make blocks and chunks of everything, whatever its age."""
    with suppress(UpkeepBusy):
        assert not pack_store(root, older_than_ns=time.time_ns() + 10**9).damaged


KINDS: dict[str, Callable[[Path, int, random.Random, int], None]] = {
    "write": write,
    "read": read,
    "gc": collect,
    "pack": pack,
}


def main(root: str, kind: str, number: str, seconds: str) -> None:
    """Do one kind of work until the time is over."""
    chance, end, done = random.Random(int(number)), time.monotonic() + float(seconds), 0
    while time.monotonic() < end or not done:
        KINDS[kind](Path(root), int(number), chance, done)
        done += 1
    print(done)


if __name__ == "__main__":
    main(*sys.argv[1:])
