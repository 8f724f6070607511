"""What is done to a store while it is killed, its disk refuses or the power goes: run as a program, PLACE WORK, or called.

PLACE is a folder with a ``store`` and what it is worked with: remotes, bundles. What is done for good is told.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

from stillrun_engine import remote_work
from stillrun_engine.archive import runs as runs_of
from stillrun_engine.bundle_import import import_bundle
from stillrun_engine.forgetting import facts_of_runs, find_run, forget
from stillrun_engine.pathspec import parse_pathspec
from stillrun_engine.remote_pull import pull_run
from stillrun_engine.remote_push import push_runs
from stillrun_engine.remotes import OpenRemote, RemoteSettings, add_remote, known_remotes, opened_remote
from stillrun_engine.repair import opened_sources, repair_store
from stillrun_engine.soundness import check_store, opened_to_check
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
NEW = "new/folder/store"
KEPT, GOING, COMING = "kept.bundle", "going.bundle", "coming.bundle"
"""Bundles of a run that stays, of one that is forgotten, of one that is not in the store."""


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


def with_runs(place: Path) -> None:
    """Take runs into the store at ``place``, where their bundles are, and let another store have pushed one to a remote."""
    with Store.open(place / "other") as other:
        import_bundle(other, place / COMING)
        add_remote(other, RemoteSettings("theirs", str(place / "theirs")))
        (place / "theirs").mkdir()
        push_runs(other, opened_remote(other, "theirs", {}, create=True), list(runs_of(other)))
    shutil.rmtree(place / "other")
    with Store.open(place / "store") as store:
        import_bundle(store, place / KEPT)
        import_bundle(store, place / GOING)
    (place / "ours").mkdir()


def put(place: Path) -> None:
    """Two small objects and two large ones, of which one each is there already, under a ref; then more under another."""
    with Store.open(place / "store") as store:
        objects = [store.put(b"small"), store.put(b"new"), store.put(b"n" * LARGE), store.put(b"l" * LARGE)]
        keep(store, "tests/put", objects)
        keep(store, "tests/more", [store.put(b"more " * 3000), store.put(b"more " * 4000, compress=True), *objects])


def keep(store: Store, name: str, objects: Sequence[str]) -> None:
    """Set a ref, and say so."""
    record = store.put_record({"schema": "stillrun/test/1", "objects": list(objects)})
    store.refs.set([RefChange(name, record)])
    print(name, record, flush=True)


def begin(place: Path) -> None:
    """Make a store where nothing was, and put something in it."""
    with Store.open(place / NEW) as store:
        keep(store, "tests/first", [store.put(b"first"), store.put(b"f" * LARGE)])
    print(NEW, "is there", flush=True)


def collect(place: Path) -> None:
    """Remove all garbage, as if some seconds had gone by."""
    with Store.open(place / "store") as store, upkeep(store.root, "gc"):
        sweep(find_garbage(store, grace_s=-5))


def pack(place: Path) -> None:
    """Make blocks and chunks of everything."""
    pack_store(place / "store", older_than_ns=time.time_ns() + 10**9)


def collect_blocks(place: Path) -> None:
    """Make blocks and chunks of everything, then remove all garbage from them."""
    pack(place)
    collect(place)


def take_in(place: Path) -> None:
    """Take in a bundle."""
    with Store.open(place / "store") as store:
        import_bundle(store, place / COMING)


def reindex(place: Path) -> None:
    """Make the catalog anew."""
    with Store.open(place / "store") as store:
        store.reindex()
        store.refs.get("")


def push(place: Path) -> None:
    """Make a remote and push all runs to it."""
    with Store.open(place / "store") as store:
        push_runs(store, remote_at(store, place, "ours"), list(runs_of(store)))


def pull(place: Path) -> None:
    """Fetch the run that is not here."""
    with Store.open(place / "store") as store:
        remote = remote_at(store, place, "theirs")
        known = remote.known()
        (run,) = known.runs
        pull_run(store, remote, known, run)


def remote_at(store: Store, place: Path, name: str) -> OpenRemote:
    """The remote in a folder of that name, which this store may not know yet."""
    if name not in known_remotes(store):
        add_remote(store, RemoteSettings(name, str(place / name)))
    return opened_remote(store, name, {}, create=True)


def let_go(place: Path) -> None:
    """Forget a run."""
    with Store.open(place / "store") as store:
        known = facts_of_runs(store)
        going = (place / "going").read_text()
        if any(one.pathspec == going for one in known):
            forget(store, [find_run(known, parse_pathspec(going))], "no longer wanted")


def repair(place: Path) -> None:
    """Mend what is damaged from the bundles."""
    with opened_to_check(place / "store") as (store, before):
        found = check_store(store, before, full=True)
        with opened_sources([place / KEPT, place / GOING], store) as sources:
            repair_store(store, found, sources)


WORK: dict[str, Callable[[Path], None]] = {
    "begin": begin,
    "put": put,
    "gc": collect,
    "pack": pack,
    "pack and gc": collect_blocks,
    "import": take_in,
    "reindex": reindex,
    "push": push,
    "pull": pull,
    "forget": let_go,
    "repair": repair,
}


class _InThisThread(Executor):
    """Does what it is given at once, so that each call stands in one order."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def submit(self, work: Callable[..., Any], /, *args: Any, **words: Any) -> Future[Any]:
        done: Future[Any] = Future()
        try:
            done.set_result(work(*args, **words))
        except Exception as error:  # raised to who asks for the result
            done.set_exception(error)
        return done


def main(place: str, work: str) -> int:
    """Do it; 0, or 2 after an error that was raised on purpose, told in a sentence."""
    remote_work.ThreadPoolExecutor = _InThisThread  # type: ignore[assignment,misc]
    try:
        WORK[work](Path(place))
    except StillrunError as err:
        print(err)
        return 2
    print(f"{work} is done", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
