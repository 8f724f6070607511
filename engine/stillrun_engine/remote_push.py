"""Runs to a remote: what it lacks of them, then one change of its log. Rules: docs/spec/remote.md."""

from __future__ import annotations

from collections.abc import Sequence

from stillrun_engine.archive import KeptRun
from stillrun_engine.closure import Needed
from stillrun_engine.custody import custody_of
from stillrun_engine.errors import EngineError
from stillrun_engine.remote_log import Change, Known
from stillrun_engine.remote_manifest import Manifest, Place, sent_manifest
from stillrun_engine.remote_objects import fetched_small
from stillrun_engine.remote_send import LATER, Sender
from stillrun_engine.remote_sweep import files_of, settled, swept_files
from stillrun_engine.remote_work import JOBS, Crew, Progress, Tally
from stillrun_engine.remotes import OpenRemote
from stillrun_engine.run_refs import beside, refs_of_runs, whole_closure, whole_locks
from stillrun_engine.tags import checked_tag, tags_of
from stillrun_snapshot.bucket import KeyMissing
from stillrun_snapshot.deferred import dataclass
from stillrun_snapshot.digest import Digest, digest_of
from stillrun_snapshot.errors import RecordError
from stillrun_snapshot.record import canonical_bytes, parse_record
from stillrun_snapshot.store import Store

__all__ = ["Pushed", "RunTaken", "push_runs"]

_RUNS_AT_ONCE = 32  # share segments and an event; what was pushed before is kept when the next ones fail
_LOOKED_THROUGH = 3  # earlier runs of a flow that most of what a new one needs came with


class RunTaken(EngineError):
    """A remote has another run under the same name."""


@dataclass(frozen=True)
class Pushed:
    """What was pushed: runs that are new there or changed, those that were there already, objects and bytes that were sent."""

    runs: tuple[str, ...]
    same: tuple[str, ...]
    objects: int
    size: int


def push_runs(
    store: Store,
    remote: OpenRemote,
    runs: Sequence[KeptRun],
    *,
    again: bool = False,
    told: Progress | None = None,
    jobs: int = JOBS,
) -> Pushed:
    """Push runs, all that they stand on included; what is there already is not sent, unless ``again`` says so.

    Raises RunTaken when one of the names leads to another run there; PromiseBroken before anything is written to its log.
    """
    remote.prove()
    changed: list[str] = []
    objects, progress = 0, Tally(told)
    ordered = sorted({run.pathspec: run for run in runs}.values(), key=lambda run: run.pathspec)
    known = remote.known()
    for begin in range(0, len(ordered), _RUNS_AT_ONCE):
        with Crew(jobs) as crew:
            push = _Push(store, remote, ordered[begin : begin + _RUNS_AT_ONCE], again, progress, crew)
            push.refuse_taken(known)
            known = remote.log.append(known, push.changes)
        remote.remember(known)
        changed += push.changed
        objects += push.sent
    same = [run.pathspec for run in ordered if run.pathspec not in changed]
    return Pushed(tuple(changed), tuple(same), objects, progress.bytes)


class _Push:
    """Some runs on their way to a remote."""

    def __init__(
        self, store: Store, remote: OpenRemote, runs: Sequence[KeptRun], again: bool, progress: Progress, crew: Crew
    ) -> None:
        self._store, self._remote, self._runs, self._again = store, remote, runs, again
        self._sender = Sender(store, remote.bucket, crew, progress, again=again)
        self._ready: dict[str, Manifest] = {}
        self._locks = {run.pathspec: whole_locks(run) for run in runs}
        self._all_refs = refs_of_runs(store, list(self._locks), set().union(*self._locks.values()))
        self._made = self._all_refs.made
        self._swept: dict[Digest, set[str]] = {}
        self._settled: set[tuple[Digest, int]] = set()
        self.changed: tuple[str, ...] = ()

    @property
    def sent(self) -> int:
        """How many objects were sent."""
        return len(self._sender.sent)

    def refuse_taken(self, known: Known) -> None:
        """RunTaken before anything is sent."""
        for run in self._runs:
            if run.pathspec in known.runs:
                self._theirs(run, known.runs[run.pathspec])

    def changes(self, known: Known) -> list[Change]:
        """What is to be known of the runs beside what is known of them; all that it rests on is there then."""
        wanted = self._wanted(known)
        if self._was_swept(known, wanted):
            wanted = self._wanted(known)
        found = []
        for manifest in wanted:
            digest, there = sent_manifest(self._remote.bucket, manifest), known.runs.get(manifest.run)
            if digest != there:
                found.append(Change(manifest.run, digest, there))
        self.changed = tuple(change.run for change in found)
        return found

    def _wanted(self, known: Known) -> list[Manifest]:
        """The manifests that the runs are to have where it is another than they have; what they name was sent."""
        new = [run for run in self._runs if run.pathspec not in known.runs or self._again]
        if missing := [run for run in new if run.pathspec not in self._ready]:
            self._send(missing, known)
        found = []
        for run in self._runs:
            there = known.runs.get(run.pathspec)
            manifest = self._ready[run.pathspec] if there is None else self._merged(run, there)
            found += [manifest] if manifest is not None else []
        return found

    def _was_swept(self, known: Known, wanted: Sequence[Manifest]) -> bool:
        """Whether files that some of ``wanted`` name may have been deleted meanwhile; nothing more of them is, then."""
        hit: set[str] = set()
        for listed, begun in (known.swept | known.sweeping.items()) - self._settled:
            own = {one.run for one in wanted if self._is_hit(listed, one)}
            if own:
                settled(self._remote, known, listed)
            if own or (listed, begun) in known.swept:  # what is sent from now on stays
                self._settled.add((listed, begun))
            hit |= own
        for run in hit:
            self._ready.pop(run, None)
        return bool(hit)

    def _is_hit(self, listed: Digest, manifest: Manifest) -> bool:
        if listed not in self._swept:
            try:
                self._swept[listed] = swept_files(self._remote.bucket, listed)
            except RecordError:  # long ago, and the list itself has gone: it may be anything
                return True
        key = f"manifests/{digest_of(manifest.to_bytes()).hex}"
        return not self._swept[listed].isdisjoint({key, *files_of(manifest)})

    def _theirs(self, run: KeptRun, there: Digest) -> Manifest | None:
        """What the remote says of the run, None when that is damaged and is to be sent again. RunTaken for another run."""
        try:
            theirs = self._remote.manifest(there)
        except (RecordError, KeyMissing):
            if not self._again:
                raise
            return None
        name = f"runs/{run.pathspec}"
        if theirs.refs.get(name) != run.digest:
            raise RunTaken(
                f"'{self._remote.name}' has another {run.pathspec}: its record is {theirs.refs.get(name)}, not {run.digest}. "
                "Nothing of it was pushed; neither of the two is changed."
            )
        return theirs

    def _merged(self, run: KeptRun, there: Digest) -> Manifest | None:
        """What is there already with what this store knows beside: tags of both, signatures, hints. None when that is nothing."""
        theirs = self._theirs(run, there)
        if theirs is None:
            return self._ready[run.pathspec]
        refs, made = {**self._refs(run), **theirs.refs}, dict(self._made)
        tags = f"tags/{run.pathspec}"
        ours = self._refs(run).get(tags)
        if ours is not None and refs[tags] != ours:
            data = self._tags_of_both(run, theirs, tags)
            refs[tags] = digest_of(data)
            made[refs[tags]] = data
        if refs == theirs.refs and not self._again:
            return None
        there_already = theirs.places() | (self._ready[run.pathspec].places() if self._again else {})
        absent = {digest: one for digest, one in beside(refs).items() if digest not in there_already}
        places = {**there_already, **self._sender.send(absent, made, {})}
        return Manifest.of(theirs.run, theirs.kind, refs, places, theirs.first() | absent.keys())

    def _tags_of_both(self, run: KeptRun, theirs: Manifest, ref: str) -> bytes:
        """The record of all tags that the run has here or there."""
        data = fetched_small(self._remote.bucket, theirs.refs[ref], theirs.places()[theirs.refs[ref]])
        tags = {
            *parse_record(data, "stillrun/tags/1")["tags"],
            *tags_of(self._store, run.spec.flow, str(run.spec.run), run.record),
        }
        return canonical_bytes(
            {"schema": "stillrun/tags/1", "run": run.pathspec, "tags": sorted(map(checked_tag, tags))}
        )

    def _refs(self, run: KeptRun) -> dict[str, Digest]:
        """The refs of one of the runs."""
        name = run.pathspec
        own = {f"runs/{name}", f"tags/{name}", f"evidence/{name}", *(f"locks/{lock.hex}" for lock in self._locks[name])}
        own.update(custody_of(self._store, name, run.digest))
        return {ref: to for ref, to in self._all_refs.refs.items() if ref in own or ref.startswith(f"tasks/{name}/")}

    def _send(self, runs: Sequence[KeptRun], known: Known) -> None:
        """Send what the remote lacks of new runs, and have their manifests ready."""
        needs = {run.pathspec: whole_closure([run]) | beside(self._refs(run)) for run in runs}
        needed: dict[Digest, Needed] = {}
        for one in needs.values():
            needed.update(one)
        places = self._sender.send(needed, self._made, {} if self._again else self._held(runs, known))
        first = {digest for digest, one in needed.items() if one.kind not in LATER}
        for run in runs:
            own = {digest: places[digest] for digest in needs[run.pathspec]}
            self._ready[run.pathspec] = Manifest.of(run.pathspec, run.record["kind"], self._refs(run), own, first)

    def _held(self, runs: Sequence[KeptRun], known: Known) -> dict[Digest, Place]:
        """Where objects stand that came with the last runs of the same flows."""
        found: dict[Digest, Place] = {}
        for flow in {run.spec.flow for run in runs}:
            earlier = sorted(name for name in known.runs if name.startswith(f"{flow}/"))[-_LOOKED_THROUGH:]
            for name in earlier:
                found.update(self._remote.manifest(known.runs[name]).places())
        return found
