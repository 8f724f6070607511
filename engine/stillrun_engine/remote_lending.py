"""Objects that were left in a remote when a run was fetched, got when they are asked for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from weakref import WeakKeyDictionary

from stillrun_engine.archive import KeptRun
from stillrun_engine.closure import Needed, needed_objects
from stillrun_engine.errors import NotFound
from stillrun_engine.remote_manifest import Manifest
from stillrun_engine.remote_pull import fetch_objects
from stillrun_engine.remote_work import Progress
from stillrun_engine.remotes import OpenRemote, known_remotes, opened_remote
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.errors import RecordError
from stillrun_snapshot.record import parse_record
from stillrun_snapshot.store import Store

__all__ = ["bring_rest", "left_in", "lend"]

Told = Callable[[str, str, int], None]
"""Is told of each object that came: the remote's name, what it is, its bytes."""


class _Lending:
    """What one open store knows of where the rest of its runs is."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.opened: dict[str, OpenRemote] = {}
        self.manifests: dict[Digest, Manifest] = {}


_LENDINGS: WeakKeyDictionary[Store, _Lending] = WeakKeyDictionary()


def lend(store: Store, digest: Digest, variables: Mapping[str, str], told: Told | None = None) -> bool:
    """Put an object here that a run needs and that was left in the remote the run came from; whether that could be done.

    Raises BucketError when the remote cannot be used, RunDamaged when what it gives is something else.
    """
    lending = _LENDINGS.setdefault(store, _Lending())
    with lending.lock:
        if digest not in store.absent([digest]):  # another thread has just asked for it
            return True
        for run, remote_id, manifest in _left(store, lending):
            if digest in manifest.places():
                remote = _opened(store, lending, remote_id, run, variables)
                count = fetch_objects(store, remote, manifest, {digest: Needed(digest, "an object")})
                if told:
                    told(remote.name, f"{digest.hex[:12]} of {run}", count)
                return True
    return False


def bring_rest(run: KeptRun, variables: Mapping[str, str], progress: Progress | None = None) -> int:
    """Fetch what the tasks that ``run`` names need and that was left in a remote; the bytes that came."""
    store = run.store
    if store.refs.get(f"fetched/{run.pathspec}") is None:
        return 0
    needed = {one.digest: one for one in needed_objects(run, run.selected())}
    absent = store.absent(needed)
    lending = _LENDINGS.setdefault(store, _Lending())
    with lending.lock:
        for name, remote_id, manifest in _left(store, lending):
            if name == run.pathspec and absent:
                there = {digest: needed[digest] for digest in absent & manifest.places().keys()}
                remote = _opened(store, lending, remote_id, name, variables)
                return fetch_objects(store, remote, manifest, there, progress)
    return 0


def left_in(store: Store, run: str) -> str | None:
    """The remote that has the rest of FLOW/RUN, None when all of it is here or nobody knows."""
    digest = store.refs.get(f"fetched/{run}")
    if digest is None:
        return None
    remote_id = store.get_record(digest, "fetched")["remote"]
    return next((name for name, one in known_remotes(store).items() if one.id == remote_id), None)


def _left(store: Store, lending: _Lending) -> Iterator[tuple[str, str, Manifest]]:
    for ref, digest in store.refs.names("fetched/"):
        record = parse_record(store.get(digest), "stillrun/fetched/1")
        manifest = Digest.parse(record["manifest"])
        if manifest not in lending.manifests:
            if manifest in store.absent([manifest]):  # or it would be asked for here
                continue
            try:
                lending.manifests[manifest] = Manifest.parse(store.get(manifest))
            except RecordError:
                continue
        yield ref.removeprefix("fetched/"), record["remote"], lending.manifests[manifest]


def _opened(store: Store, lending: _Lending, remote_id: str, run: str, variables: Mapping[str, str]) -> OpenRemote:
    if remote_id not in lending.opened:
        name = next((name for name, one in known_remotes(store).items() if one.id == remote_id), None)
        if name is None:
            raise NotFound(
                f"the rest of {run} was left in a remote that this store does not know any more. Add it again "
                f"('stillrun remote add NAME ADDRESS'), then 'stillrun pull {run}'."
            )
        lending.opened[remote_id] = opened_remote(store, name, variables)
    return lending.opened[remote_id]
