"""Whether a store is sound: damage in it, and for each damaged or missing object the runs that need it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import field
from pathlib import Path

from stillrun_engine.archive import KeptRun
from stillrun_engine.closure import Needed, Walked, needed_objects
from stillrun_engine.evidence import evidence_ref
from stillrun_engine.pathspec import Pathspec
from stillrun_engine.signing import keys_held
from stillrun_envs.upkeep import changed_folders
from stillrun_snapshot.checkout import changed_checkout, checkouts
from stillrun_snapshot.deferred import dataclass
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.errors import ObjectCorrupt, ObjectMissing, StillrunError, StoreError
from stillrun_snapshot.inspection import Finding, Inspection, Remembered, inspect, remembered
from stillrun_snapshot.redaction import check_tombstone, tombstone_of
from stillrun_snapshot.store import STORE_MARK, Store
from stillrun_snapshot.upkeep import upkeep

__all__ = ["Problem", "Soundness", "ask_runs", "check_store", "opened_to_check"]

_TOGETHER = 500  # records of runs that are read at once
_CARRIED = ("package", "artifact", "input")  # kinds of objects that a bundle may leave out


@dataclass
class Problem:
    """Something that is not as it should be, and what rests on it: FLOW/RUN, with what the run has it for."""

    finding: Finding
    needed_by: dict[str, str] = field(default_factory=dict)


@dataclass
class Soundness:
    """All problems of a store."""

    problems: list[Problem]
    inspection: Inspection
    runs: int = 0
    redacted: int = 0  # objects that were taken out on purpose

    @property
    def lost(self) -> dict[Digest, Problem]:
        """Objects of which no sound copy is here, and that were here or are needed."""
        found: dict[Digest, Problem] = {}
        for one in self.problems:
            digest = one.finding.digest
            if digest is not None and not self.inspection.has(digest):
                found.setdefault(digest, one)
        return found


@contextmanager
def opened_to_check(root: Path) -> Iterator[tuple[Store, Remembered]]:
    """The store at ``root`` with its upkeep held, and what its index said before it was opened; StoreError for what is none."""
    if not (root / STORE_MARK).is_file():
        Store.open(root, create=False)  # which says what is there instead
    held = upkeep(root, "fsck") if os.access(root, os.W_OK) else nullcontext()
    with held:
        before = remembered(root)
        with Store.open(root, create=False) as store:
            yield store, before


def check_store(
    store: Store, before: Remembered, *, full: bool, told: Callable[[str, int], None] = lambda _what, _size: None
) -> Soundness:
    """Look through a store, then ask every run what it needs. before, told: as of ``inspect``. Hold the upkeep meanwhile."""
    inspection = inspect(store, before, full=full, told=told)
    found = Soundness([Problem(one) for one in inspection.findings], inspection)
    ask_runs(store, found)
    found.problems = [one for one in found.problems if one.needed_by or not _went(store, one.finding)]
    found.problems += [Problem(one) for one in _caches(store, inspection, full=full)]
    return found


def _went(store: Store, finding: Finding) -> bool:
    """Whether this, if no run needs it, is of a pack that was removed as garbage and that the index still knew."""
    return finding.kind == "missing" and finding.digest is not None and not (store.root / finding.place).exists()


def ask_runs(store: Store, found: Soundness) -> None:
    """Add what runs need and is not sound here, as far as that can be read by now."""
    redacted = _redacted(store)
    found.redacted = len(redacted)
    if _all_have_all(store, found):
        return
    found.runs = 0
    by_digest = found.lost
    for run, needed, problem in list(_needs(store, found, by_digest)):
        if needed.digest in redacted:
            continue
        known = by_digest.get(needed.digest)
        if known is None:
            known = by_digest[needed.digest] = Problem(Finding("missing", f"runs/{run}", problem, needed.digest))
            found.problems.append(known)
        known.needed_by.setdefault(run, needed.purpose)
    for one in found.problems:  # an object may be damaged in several places
        if one.finding.digest in by_digest:
            one.needed_by = by_digest[one.finding.digest].needed_by


def _all_have_all(store: Store, found: Soundness) -> bool:
    """Whether every object that any run needs is sound here: most stores are, and what runs share is gone through once."""
    found.runs, walked, sizes = 0, Walked(), found.inspection.sizes
    refs = found.inspection.refs
    names = [name for name in refs if name.startswith(("runs/", "spins/"))]
    if found.lost or not all(digest.raw in sizes for digest in refs.values()):
        return False
    try:
        for start in range(0, len(names), _TOGETHER):
            part = names[start : start + _TOGETHER]
            records = store.get_records((refs[name] for name in part), "run")
            for name, record in zip(part, records, strict=True):
                _, flow, own = name.split("/")
                found.runs += 1
                for needed in needed_objects(KeptRun(store, Pathspec(flow, own), refs[name], record), walked=walked):
                    size = sizes.get(needed.digest.raw)
                    if size is None or needed.size not in (None, size):
                        return False
    except (StoreError, KeyError, TypeError, ValueError):
        return False  # who is asked one by one says what is wrong
    return True


def _needs(store: Store, found: Soundness, lost: Mapping[Digest, Problem]) -> Iterator[tuple[str, Needed, str]]:
    """Every object that a run needs and that is not sound here; refs that lead nowhere."""
    for name, digest in found.inspection.refs.items():
        kind, _, run = name.partition("/")
        if not found.inspection.has(digest):
            yield run, Needed(digest, f"what the ref {name} leads to"), "no sound copy of it is here"
        elif kind in ("runs", "spins"):
            found.runs += 1
            yield from _needs_of(store, run, digest, found.inspection, lost)


def _needs_of(
    store: Store, name: str, digest: Digest, inspection: Inspection, lost: Mapping[Digest, Problem]
) -> Iterator[tuple[str, Needed, str]]:
    """lost: objects of which there is a damaged copy, so that they were not left out when the run was carried here."""
    flow, _, own = name.partition("/")
    carried = evidence_ref(name) in inspection.refs
    try:
        run = KeptRun(store, Pathspec(flow, own), digest, store.get_record(digest, "run"))
        for needed in needed_objects(run):
            size = inspection.sizes.get(needed.digest.raw)
            if size is None and not (carried and needed.kind in _CARRIED and needed.digest not in lost):
                yield name, needed, "no sound copy of it is here"
            elif needed.size is not None and size not in (None, needed.size):
                yield name, needed, f"it has {size:,} bytes, and should have {needed.size:,}"
    except (ObjectMissing, ObjectCorrupt) as err:
        yield name, Needed(err.digest, "a record that names others"), "it cannot be read"
    except (StoreError, KeyError, TypeError, ValueError) as err:
        if any(one.kind == "log" for one in inspection.findings):
            return  # refs cannot be asked for, which is told already
        yield name, Needed(digest, "its records"), f"they are not what they should be ({err})"


def _redacted(store: Store) -> set[Digest]:
    """The objects that are not here because somebody took them out and signed for it."""
    found = set()
    try:
        verifiers = {keyid: known.public for keyid, known in keys_held(store)[0].known.items()}
        names = [name for name, _ in store.refs.names("redactions/")]
    except StoreError:  # the log is damaged, which is told already
        return set()
    for name in names:
        digest = Digest("sha256:" + name.split("/")[1])
        with suppress(StillrunError):  # which makes it a missing object
            tombstone = tombstone_of(store, digest)
            if tombstone is not None:
                check_tombstone(store, tombstone, verifiers)
                found.add(digest)
    return found


def _caches(store: Store, inspection: Inspection, *, full: bool) -> Iterator[Finding]:
    for tree in checkouts(store) if store.writable else ():
        try:
            problem = changed_checkout(store, tree, full=full) if inspection.has(tree) else None
        except StoreError as err:
            problem = str(err)
        if problem:
            yield Finding("cache", f"trees/{tree.hex}", f"{problem}; it is made anew when it is used")
    for path, problem in changed_folders(store, full=full) if store.writable else ():
        yield Finding("cache", _within(store.root, path), f"{problem}; it is built again when it is used")


def _within(root: Path, path: Path) -> str:
    return str(path.relative_to(root.resolve()) if path.is_relative_to(root.resolve()) else path)
