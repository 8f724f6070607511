"""Runs out of a remote: records first, then what they need, then their refs. Rules: docs/spec/remote.md §6."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from stillrun_engine.archive import KeptRun, Record
from stillrun_engine.bundle import BundleRefused
from stillrun_engine.carry import check_records, check_runs, refuse_clashes, set_refs, sound_records
from stillrun_engine.closure import Needed, needed_objects
from stillrun_engine.errors import NotFound, RunDamaged
from stillrun_engine.pathspec import LATEST, Pathspec, nearest
from stillrun_engine.remote_log import Known, RemoteUnsound
from stillrun_engine.remote_manifest import PIECE, Manifest, Packed, Place, Whole
from stillrun_engine.remote_objects import LargeObject, fetched_entries, fetched_small
from stillrun_engine.remote_send import LATER
from stillrun_engine.remote_work import JOBS, Crew, Progress, Tally
from stillrun_engine.remotes import OpenRemote
from stillrun_engine.run_refs import beside
from stillrun_engine.tags import change_tags
from stillrun_snapshot.deferred import dataclass
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.errors import RecordError, StoreError
from stillrun_snapshot.intake import unfinished_folder
from stillrun_snapshot.lease import Lease
from stillrun_snapshot.refs import RefChange
from stillrun_snapshot.store import Store

__all__ = ["Pulled", "fetch_objects", "fetched_ref", "find_there", "pull_run"]

_FOLDER = "fetch"


@dataclass(frozen=True)
class Pulled:
    """A run that came: objects that were fetched, their bytes, how many of its objects are still only there and their bytes.

    added: whether any ref of it is new here. doubts: what was not taken over, and why: a sentence each.
    """

    run: str
    objects: int
    size: int
    left: int
    left_size: int
    added: bool
    doubts: tuple[str, ...] = ()


def fetched_ref(run: str) -> str:
    """The ref that tells where the rest of FLOW/RUN is."""
    return f"fetched/{run}"


def find_there(remote: OpenRemote, known: Known, spec: Pathspec) -> str:
    """FLOW/RUN in full, as a remote has it: 'latest', a unique beginning, or the run itself; NotFound."""
    runs = sorted(name.split("/")[1] for name in known.runs if name.startswith(f"{spec.flow}/"))
    if not runs:
        flows = {name.split("/")[0] for name in known.runs}
        raise NotFound(f"no flow '{spec.flow}' in the remote '{remote.name}'.{nearest(spec.flow, flows)}")
    if spec.run == LATEST:
        for run in reversed(runs):
            if remote.manifest(known.runs[f"{spec.flow}/{run}"]).kind == "run":
                return f"{spec.flow}/{run}"
        raise NotFound(f"flow '{spec.flow}' has replays in the remote '{remote.name}', but no run.")
    asked = str(spec.run)
    found = [run for run in runs if run == asked] or [run for run in runs if run.startswith(asked)]
    if len(found) == 1:
        return f"{spec.flow}/{found[0]}"
    if found:
        raise NotFound(
            f"'{spec.flow}/{asked}' is the beginning of {len(found)} runs of '{remote.name}': {', '.join(found[:5])}."
        )
    raise NotFound(
        f"no run '{spec.flow}/{asked}' in the remote '{remote.name}'.{nearest(asked, reversed(runs), spec.flow + '/')}"
    )


def pull_run(
    store: Store,
    remote: OpenRemote,
    known: Known,
    run: str,
    *,
    everything: bool = True,
    told: Progress | None = None,
    jobs: int = JOBS,
) -> Pulled:
    """Fetch what is missing here of FLOW/RUN, then set its refs; without ``everything`` only its records, code and logs.

    Raises EngineError for a run or task that is here with another record, RunDamaged for what does not match its name.
    What was fetched before an interruption is not fetched again.
    """
    manifest = remote.manifest(known.runs[run])
    if manifest.run != run:
        raise RemoteUnsound(f"'{remote.name}' gives {manifest.run} as {run}. Nothing was taken from there.")
    refuse_clashes(store, manifest.refs)
    progress = Tally(told)
    with _folder(store) as folder, Crew(jobs) as crew:
        fetch = _Fetch(store, remote, manifest, folder, crew, progress)
        fetch.all({digest: Needed(digest, "a record") for digest in manifest.first()})
        try:
            needed = fetch.needed()
        except (BundleRefused, RecordError) as err:
            raise RemoteUnsound(f"what {remote.bucket.name} says of {run} is not sound: {err} No ref was set.") from err
        wanted = {d: one for d, one in needed.items() if everything or one.kind not in LATER}
        fetch.all(wanted)
    left = [one for digest, one in needed.items() if digest in store.absent(needed.keys() - wanted.keys())]
    landed = set_refs(store, manifest.refs)
    _merge_tags(store, manifest)
    _note_left(store, remote, manifest, run, bool(left))
    left_size = sum(one.size or 0 for one in left)
    return Pulled(run, fetch.count, progress.bytes, len(left), left_size, landed.added, landed.doubts)


def fetch_objects(
    store: Store, remote: OpenRemote, manifest: Manifest, needed: Mapping[Digest, Needed], told: Progress | None = None
) -> int:
    """Fetch what is not here of some objects that a manifest tells of; the bytes that came."""
    progress = Tally(told)
    with _folder(store) as folder, Crew() as crew:
        _Fetch(store, remote, manifest, folder, crew, progress).all(needed)
    store.sync()
    return progress.bytes


class _Fetch:
    """One run on its way here."""

    def __init__(
        self, store: Store, remote: OpenRemote, manifest: Manifest, folder: Path, crew: Crew, progress: Progress
    ) -> None:
        self._store, self._bucket, self._manifest = store, remote.bucket, manifest
        self._folder, self._crew, self._progress = folder, crew, progress
        self._places = manifest.places()
        self.count = 0

    def needed(self) -> dict[Digest, Needed]:
        """What the run needs, by its own records; those that were not among the first are fetched on the way."""
        refs, name = self._manifest.refs, self._manifest.run
        found = beside(refs)
        own = {
            digest: Needed(digest, "a record") for ref, digest in refs.items() if ref.startswith(("runs/", "tasks/"))
        }
        self.all({**found, **own})
        check_runs(self._store, [name], refs)
        digest = refs[f"runs/{name}"]
        run = KeptRun(self._store, Pathspec(*name.split("/")), digest, self._store.get_record(digest, "run"))
        tasks: list[Record] = [
            self._store.get_record(to, "task") for ref, to in refs.items() if ref.startswith("tasks/")
        ]
        with sound_records(name):
            for one in needed_objects(run, tasks):  # each record is here before it is read
                found[one.digest] = one
                if one.kind not in LATER and self._lacks(one.digest):
                    self.all({one.digest: one})
            check_records(self._store, [run], found.values())
        return found

    def all(self, needed: Mapping[Digest, Needed]) -> None:
        """Fetch what is not here of these objects."""
        absent = sorted(self._store.absent(needed) | {digest for digest in needed if self._store.is_spare(digest)})
        if not absent:
            return
        places = {digest: self._place(digest) for digest in absent}
        sizes = {digest: one.entry.size if isinstance(one, Packed) else one.size for digest, one in places.items()}
        large = [
            (LargeObject(self._store, self._folder, self._bucket, digest, sizes[digest]), needed[digest].purpose)
            for digest in absent
            if isinstance(places[digest], Whole) and sizes[digest] > PIECE
        ]
        whole = [d for d in absent if isinstance(places[d], Whole) and sizes[d] <= PIECE]
        packed = [one for one in places.values() if isinstance(one, Packed)]
        self._progress.expect(
            sum(sizes[d] for d in whole) + sum(one.entry.size for one in packed) + sum(one.left for one, _ in large)
        )
        self._crew.run(self._segment_tasks(packed))
        self._crew.run(partial(self._whole, d, places[d], needed[d].purpose) for d in whole)
        self._crew.run(task for one, purpose in large for task in one.tasks(self._progress, purpose))
        for one, purpose in large:
            one.end(self._crew, self._progress, purpose)
        self.count += len(absent)

    def _place(self, digest: Digest) -> Place:
        try:
            return self._places[digest]
        except KeyError:
            raise RunDamaged(
                f"{digest} is needed by {self._manifest.run}, and '{self._bucket.name}' does not tell where it is. "
                "Have somebody who has the run push it again with --again."
            ) from None

    def _lacks(self, digest: Digest) -> bool:
        return digest in self._store.absent([digest]) or self._store.is_spare(digest)

    def _segment_tasks(self, packed: Iterable[Packed]) -> Iterator[Callable[[], None]]:
        by_segment: dict[Digest, list[Packed]] = {}
        for one in packed:
            by_segment.setdefault(one.segment, []).append(one)
        for group in by_segment.values():
            yield partial(self._segment, group)

    def _segment(self, group: list[Packed]) -> None:
        entries = [one.entry for one in group]
        for _, data in fetched_entries(self._bucket, group[0].segment, group[0].length, entries):
            self._store.put(data, compress=True)
            self._progress.moved("small objects", len(data))

    def _whole(self, digest: Digest, place: Place, purpose: str) -> None:
        data = fetched_small(self._bucket, digest, place)
        self._store.put(data)
        self._progress.moved(purpose, len(data))


@contextmanager
def _folder(store: Store) -> Iterator[Path]:
    """A folder for unfinished objects: the one that an interrupted fetch has left, or one of our own beside another fetch."""
    try:
        lease = Lease.take(store.root, _FOLDER)
    except StoreError:
        path = store.scratch(_FOLDER)
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)
        return
    with lease:
        yield unfinished_folder(store, _FOLDER)


def _merge_tags(store: Store, manifest: Manifest) -> None:
    """Add the tags that a run has there to those that it has here."""
    ref = f"tags/{manifest.run}"
    theirs = manifest.refs.get(ref)
    if theirs is not None and store.refs.get(ref) != theirs:
        spec = Pathspec(*manifest.run.split("/"))
        digest = manifest.refs[spec.run_ref]
        run = KeptRun(store, spec, digest, store.get_record(digest, "run"))
        change_tags(run, add=store.get_record(theirs, "tags")["tags"])


def _note_left(store: Store, remote: OpenRemote, manifest: Manifest, run: str, left: bool) -> None:
    """Keep where the rest of the run is, as long as there is a rest."""
    if left:
        record = {"remote": remote.settings.id, "run": run, "manifest": store.put(manifest.to_bytes())}
        store.refs.set([RefChange(fetched_ref(run), store.put_record({"schema": "stillrun/fetched/1", **record}))])
    elif store.refs.get(fetched_ref(run)) is not None:
        store.refs.set([RefChange(fetched_ref(run), None)])
