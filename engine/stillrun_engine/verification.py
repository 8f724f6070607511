"""What can be said of a run, or of a whole store, by whoever trusts nobody: what was checked, what was found, what was not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import field
from typing import Any

from stillrun_engine.archive import KeptRun, open_run
from stillrun_engine.closure import Needed, needed_objects
from stillrun_engine.hashing import Damage, check_objects
from stillrun_engine.pathspec import Pathspec
from stillrun_engine.signing import CheckedSignature, keys_held, signatures_of
from stillrun_snapshot.checkpoint import Agreement, Note, agreement
from stillrun_snapshot.deferred import dataclass
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.ed25519 import PublicKey
from stillrun_snapshot.errors import ObjectRedacted, StillrunError
from stillrun_snapshot.logtree import LogTree
from stillrun_snapshot.record import RECORD_MAX, parse_record
from stillrun_snapshot.redaction import Tombstone, check_tombstone, tombstone_of
from stillrun_snapshot.refs import RefEvent
from stillrun_snapshot.store import Store

__all__ = ["Asked", "RunFinding", "Verification", "verify_run", "verify_store"]

Told = Callable[[Needed, int], None]
_TOGETHER = 1000  # records that are read at a time
_ONCE = ("keys/", "revocations/", "signatures/", "redactions/")  # refs that are made and never changed


@dataclass(frozen=True)
class Asked:
    """What to check with. trusted: public keys that the checker was handed; note: a checkpoint that was kept elsewhere."""

    trusted: Sequence[PublicKey] = ()
    note: Note | None = None
    full: bool = False


@dataclass
class RunFinding:
    """What was found of one run."""

    run: str
    objects: int = 0
    damaged: list[Damage] = field(default_factory=list)
    redacted: list[Tombstone] = field(default_factory=list)
    signatures: list[CheckedSignature] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        """Whether nothing that was checked is wrong."""
        return not (self.damaged or self.problems or any(not each.counts for each in self.signatures))


@dataclass
class Verification:
    """What was found of what was asked for. problems: of the store itself."""

    runs: list[RunFinding] = field(default_factory=list)
    objects: int = 0
    bytes: int = 0
    log_lines: int = 0
    refs: int = 0
    damaged: list[Damage] = field(default_factory=list)
    redacted: list[Tombstone] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    not_checked: list[str] = field(default_factory=list)
    checkpoint: Agreement | None = None

    @property
    def sound(self) -> bool:
        """Whether nothing that was checked is wrong."""
        return not (self.damaged or self.problems) and all(run.sound for run in self.runs)


def verify_run(run: KeptRun, asked: Asked, told: Told | None = None) -> Verification:
    """Hash everything that the run (or the step or task that its pathspec names) stands on; check its signatures and the log."""
    check = _Check(run.store, asked, told)
    check.log()
    check.run(run, run.selected() if run.spec.step is not None else None)
    check.say_what_was_not([run])
    return check.found


def verify_store(store: Store, asked: Asked, told: Told | None = None) -> Verification:
    """Check every run, ref, record, signature, key and tombstone; with ``asked.full`` every object that is held besides."""
    check = _Check(store, asked, told)
    check.log()
    check.refs()
    kept = [open_run(store, Pathspec(run.spec.flow, run.spec.run)) for run in check.readable_runs()]
    for run in kept:
        check.run(run, None)
    check.rest()
    check.say_what_was_not(kept)
    return check.found


class _Check:
    """One verification on its way."""

    def __init__(self, store: Store, asked: Asked, told: Told | None) -> None:
        self.store, self.asked, self.told = store, asked, told
        self.found = Verification()
        self._seen: dict[Digest, str | None] = {}  # what was hashed: None when sound, else its problem
        self._state: dict[str, Digest] = {}  # refs, as the log has them
        self._redacted: dict[Digest, Tombstone] = {}
        self.tree = LogTree(store.root, anew=asked.full or asked.note is not None)
        self.keys, problem = keys_held(store, asked.trusted)
        if problem is not None:
            self.found.problems.append(problem)

    def log(self) -> None:
        """Follow the whole chain; compare it with what the checkpoint stands for."""
        for event in self.store.refs.events():
            self.found.log_lines += 1
            self._follow(event)
        if self.asked.note is None:
            return
        try:
            signers = self.asked.note.signers([known.public for known in self.keys.known.values()])
        except StillrunError as error:
            self.found.problems.append(str(error))
            return
        self.found.checkpoint = agreement(self.asked.note.checkpoint, self.tree)
        if not self.found.checkpoint.sound:
            self.found.problems.append(f"the log: {self.found.checkpoint.told}.")
        trusted = self.keys.trusted
        if trusted is not None and not any(key.keyid in trusted for key in signers):
            self.found.problems.append("the checkpoint is not signed by a key that you trust.")

    def _follow(self, event: RefEvent) -> None:
        if event.old != self._state.get(event.name):
            self.found.problems.append(
                f"line {event.seq} of the log says that {event.name} was {event.old or 'absent'} before, and it was not."
            )
        if event.old is not None and event.name.startswith(_ONCE):
            done = "deleted" if event.new is None else "moved"
            self.found.problems.append(
                f"line {event.seq} of the log {done} {event.name}, which must stay as it was made."
            )
        if event.new is None:
            self._state.pop(event.name, None)
        else:
            self._state[event.name] = event.new

    def refs(self) -> None:
        """What refs lead to is there and is a record, and the index says of them what the log says."""
        indexed = dict(self.store.refs.names())
        for name in sorted(indexed.keys() ^ self._state.keys()):
            self.found.problems.append(f"ref {name} is in the log and not in the index, or the other way round.")
        for name, digest, data in self._targets():
            self.found.refs += 1
            try:
                parse_record(self.store.get(digest, RECORD_MAX) if data is None else data, None)
            except ObjectRedacted:
                continue
            except StillrunError as error:
                self._damaged(Damage(Needed(digest, f"the record of ref {name}"), str(error)))
        self._tombstones()

    def _targets(self) -> Iterator[tuple[str, Digest, bytes | None]]:
        """Every ref, what it leads to, and the bytes of that where they stand in a pack."""
        refs = sorted(self._state.items())
        for start in range(0, len(refs), _TOGETHER):
            part = refs[start : start + _TOGETHER]
            read = self.store.packed(digest for _, digest in part)
            yield from ((name, digest, read.get(digest)) for name, digest in part)

    def _tombstones(self) -> None:
        verifiers = {keyid: known.public for keyid, known in self.keys.known.items()}
        for name, _ in self.store.refs.names("redactions/"):
            digest = Digest("sha256:" + name.split("/")[1])
            try:
                found = tombstone_of(self.store, digest)
                if found is not None:
                    check_tombstone(self.store, found, verifiers)
                    self._redacted[digest] = found
            except StillrunError as error:
                self.found.problems.append(str(error))
        self.found.redacted = list(self._redacted.values())

    def readable_runs(self) -> Iterator[KeptRun]:
        """The runs whose records can be read; the others were told as refs."""
        for prefix in ("runs/", "spins/"):
            for name, digest in self.store.refs.names(prefix):
                _, flow, run = name.split("/")
                try:
                    yield KeptRun(self.store, Pathspec(flow, run), digest, self.store.get_record(digest, "run"))
                except StillrunError:
                    continue

    def run(self, run: KeptRun, tasks: list[Mapping[str, Any]] | None) -> None:
        """Everything that a run, or some of its tasks, stands on."""
        finding = RunFinding(run.pathspec)
        self.found.runs.append(finding)
        redacted: list[Needed] = []
        count, total, damaged = check_objects(
            self.store, self._fresh(finding, needed_objects(run, tasks)), self.told, redacted.append
        )
        for each in damaged:
            self._seen[each.needed.digest] = each.problem
        for needed in redacted:
            found = self._tombstone(needed.digest)
            if found is not None:
                finding.redacted.append(found)
        finding.objects += count
        finding.damaged += damaged
        self.found.objects += count
        self.found.bytes += total
        finding.problems += list(_contradictions(run))
        finding.signatures = signatures_of(run, self.keys, self.tree)
        if self.keys.trusted is not None and not any(each.standing == "sound" for each in finding.signatures):
            finding.problems.append("no key that you trust has signed it.")

    def _fresh(self, finding: RunFinding, needed: Iterator[Needed]) -> Iterator[Needed]:
        """Those that no run before has needed; of the others what was found then."""
        for each in needed:
            if each.digest not in self._seen:
                self._seen[each.digest] = None
                yield each
                continue
            finding.objects += 1
            problem = self._seen[each.digest]
            if problem is not None:
                finding.damaged.append(Damage(each, problem))

    def _tombstone(self, digest: Digest) -> Tombstone | None:
        if digest not in self._redacted:
            try:
                found = tombstone_of(self.store, digest)
                if found is not None:
                    verifiers = {keyid: known.public for keyid, known in self.keys.known.items()}
                    check_tombstone(self.store, found, verifiers)
                    self._redacted[digest] = found
            except StillrunError as error:
                self.found.problems.append(str(error))
        return self._redacted.get(digest)

    def rest(self) -> None:
        """Every object that is held and that nothing before has needed."""
        if not self.asked.full:
            return
        others = (digest for digest in self.store.digests() if digest not in self._seen)
        needed = (Needed(digest, "an object that no run needs") for digest in others)
        count, total, damaged = check_objects(self.store, needed, self.told)
        self.found.objects += count
        self.found.bytes += total
        for each in damaged:
            self._damaged(each)

    def _damaged(self, damage: Damage) -> None:
        self._seen[damage.needed.digest] = damage.problem
        self.found.damaged.append(damage)

    def say_what_was_not(self, kept: Sequence[KeptRun]) -> None:
        """What this verification leaves open, in words."""
        told = self.found.not_checked
        if not self.asked.full:
            told.append("objects that no run needs (--all --full hashes them)")
        if self.asked.note is None:
            told.append(
                "whether the log's end was cut off, or all of it written anew (--checkpoint FILE, kept elsewhere)"
            )
        signed = sum(1 for run in self.found.runs if run.signatures)
        if signed < len(kept):
            told.append(f"who stands for {len(kept) - signed:,} of {len(kept):,} runs: nobody has signed them")
        if signed and self.keys.trusted is None:
            told.append("whose the signing keys are: they were found in the store itself (--trust FILE)")
        for run in kept:
            for reason in run.record.get("not_kept", ()):
                told.append(f"what {run.pathspec} did not keep: {reason}")
        redacted = {each.digest for run in self.found.runs for each in run.redacted} | set(self._redacted)
        if redacted:
            told.append(f"the content of {len(redacted):,} redacted objects")
        told.append("that clocks were right: every time is what a machine said")


def _contradictions(run: KeptRun) -> Iterator[str]:
    """Where the records of a run do not fit their names, or each other."""
    record, spec = run.record, run.spec
    if (record["flow"], record["run"]) != (spec.flow, spec.run):
        yield f"its record is that of {record['flow']}/{record['run']}."
    refs = dict(run.store.refs.names(f"tasks/{run.pathspec}/"))
    for entry, task in _tasks_of(run):
        name = f"{entry['step']}/{entry['task']}"
        if refs.get(f"tasks/{run.pathspec}/{name}") not in (entry["record"], None):
            yield f"the ref of task {name} leads to another record than the run's."
        if task is None:
            continue  # told as an object
        if (task["flow"], task["run"], task["step"], task["task"]) != (
            spec.flow,
            spec.run,
            entry["step"],
            entry["task"],
        ):
            yield f"the record of task {name} is that of {task['flow']}/{task['run']}/{task['step']}/{task['task']}."
        if task.get("finished") and task.get("started") and task["finished"] < task["started"]:
            yield f"task {name} ended before it began."
    if record.get("finished") and record["finished"] < record["started"]:
        yield "it ended before it began."


def _tasks_of(run: KeptRun) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any] | None]]:
    """What the run's record says of each task, and that task's record where it can be read."""
    entries = run.record.get("tasks", ())
    for start in range(0, len(entries), _TOGETHER):
        part = entries[start : start + _TOGETHER]
        digests = [Digest(entry["record"]) for entry in part]
        try:
            yield from zip(part, run.store.get_records(digests, "task"), strict=True)
        except StillrunError:  # one of them
            yield from ((entry, _task_at(run, digest)) for entry, digest in zip(part, digests, strict=True))


def _task_at(run: KeptRun, digest: Digest) -> Mapping[str, Any] | None:
    try:
        return run.store.get_record(digest, "task")
    except StillrunError:
        return None
