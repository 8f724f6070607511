"""What is done to a store while it is killed, or its disk refuses: run as a program, ROOT WORK [BUNDLE], or called."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

from stillrun_engine.bundle_import import import_bundle
from stillrun_snapshot.errors import StillrunError
from stillrun_snapshot.garbage import find_garbage
from stillrun_snapshot.packing import pack_store
from stillrun_snapshot.refs import RefChange
from stillrun_snapshot.store import Store
from stillrun_snapshot.sweeping import sweep
from stillrun_snapshot.upkeep import upkeep

LARGE = 100_000
ROWS = b"".join(b"%d,\n" % number for number in range(60_000))
"""Large enough for chunks when it is packed."""


def prepared(root: Path) -> None:
    """Make a store with what is needed, and garbage: in a pack of its own, in one with what is needed, loose, spare."""
    with Store.open(root) as store:
        needed = [
            store.put(b"small"),
            store.put(b"n" * LARGE),
            store.put(b"text " * 4000, compress=True),
            store.put(ROWS),
        ]
        record = store.put_record({"schema": "stillrun/test/1", "objects": needed})
        store.refs.set([RefChange("tests/needed", record)])
        store.put(b"garbage " * 200)
        store.put(b"g" * LARGE)
        store.put(ROWS[:200_000] + b"changed" + ROWS[200_000:])
    with Store.open(root) as store:
        store.put(b"garbage of its own")
        path = store.scratch("left") / "file"
        path.write_bytes(b"s" * LARGE)
    with Store.open(root) as store:
        store.refs.set([RefChange("tests/gone", store.put(b"forgotten"))])
        store.refs.set([RefChange("tests/gone", None, note="no longer wanted")])


def put(store: Store, _bundle: Path | None) -> None:
    """Two small objects and two large ones, of which one each is there already, under a ref."""
    objects = [store.put(b"small"), store.put(b"new"), store.put(b"n" * LARGE), store.put(b"l" * LARGE)]
    store.refs.set([RefChange("tests/put", store.put_record({"schema": "stillrun/test/1", "objects": objects}))])


def collect(store: Store, _bundle: Path | None) -> None:
    """Remove all garbage, as if some seconds had gone by."""
    with upkeep(store.root, "gc"):
        sweep(find_garbage(store, grace_s=-5))


def collect_blocks(store: Store, _bundle: Path | None) -> None:
    """Make blocks and chunks of everything, then remove all garbage from them."""
    pack_store(store.root, older_than_ns=time.time_ns() + 10**9)
    collect(store, None)


def take_in(store: Store, bundle: Path | None) -> None:
    """Take in a bundle."""
    assert bundle is not None
    import_bundle(store, bundle)


def reindex(store: Store, _bundle: Path | None) -> None:
    """Make the catalog anew."""
    store.reindex()
    store.refs.get("")


WORK: dict[str, Callable[[Store, Path | None], None]] = {
    "put": put,
    "gc": collect,
    "pack": collect_blocks,
    "import": take_in,
    "reindex": reindex,
}


def main(root: str, work: str, bundle: str = "") -> int:
    """Do it; 0, or 2 after an error that was raised on purpose, told in a sentence."""
    try:
        with Store.open(Path(root)) as store:
            WORK[work](store, Path(bundle) if bundle else None)
    except StillrunError as err:
        print(err)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
