"""Evidence checked by what it says itself: without a store, and against one where there is one (docs/spec/evidence.md §9).

Nothing in a folder of evidence is trusted, followed or run. What the records in a crate say is written anew as every format
that stands there, and compared; so whatever was changed in one of them shows, whether or not its own tools look at it.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from stillrun_engine.archive import KeptRun, open_run
from stillrun_engine.errors import EngineError, NotFound
from stillrun_engine.pathspec import parse_pathspec
from stillrun_reports.evidence.checking_crate import check_crate, files_of, hashed
from stillrun_reports.evidence.checking_documents import check_document, check_envelope, read_json, stated_digests
from stillrun_reports.evidence.checking_records import implausible, read_records, retold
from stillrun_reports.evidence.crate import METADATA
from stillrun_reports.evidence.crate_files import RECORDS
from stillrun_reports.evidence.dossier import Dossier, dossier_of
from stillrun_reports.evidence.findings import Checked
from stillrun_reports.evidence.statements import content_of
from stillrun_snapshot.digest import Digest, digest_of_file
from stillrun_snapshot.dsse import Verifier
from stillrun_snapshot.errors import ObjectCorrupt, ObjectMissing
from stillrun_snapshot.store import Store

__all__ = ["check_evidence"]

_RUN = re.compile(r"urn:stillrun:run:([0-9a-f]{64})")
_VERDICT = re.compile(r"(?:urn:stillrun:verdict:|sr:verdict-)([0-9a-f]{64})")
_KNOWN = (".intoto.json", ".cdx.json", ".dsse.json", "prov.json", "junit.xml", "summary.md")


def check_evidence(
    folder: Path,
    *,
    store: Store | None = None,
    verifiers: Mapping[str, Verifier] | None = None,
    now: datetime | None = None,
) -> Checked:
    """Check a folder of evidence: a crate, or what an audit wrote: documents, and a crate in a folder of its own.

    store: where the run may be; every object that the evidence names is then hashed there too.
    verifiers: keys whose signatures count, by their names. Raises EngineError when there is no evidence in the folder.
    """
    checked = Checked()
    crate = next((one for one in (folder, folder / "ro-crate") if (one / METADATA).is_file()), None)
    outside = [
        one for one in sorted(folder.iterdir()) if crate != folder and one.is_file() and one.name.endswith(_KNOWN)
    ]
    if crate is None and not outside:
        raise EngineError(f"{folder} holds no evidence: no {METADATA} and no document that 'stillrun audit' writes.")
    with tempfile.TemporaryDirectory(prefix="stillrun-check-") as place, Store.open(Path(place) / "store") as scratch:
        told = None if crate is None else _check_crate(crate, folder, scratch, checked)
        if told is not None:
            with checked.reading(RECORDS):
                for sentence in implausible(told, now or datetime.now(timezone.utc)):
                    checked.find(RECORDS, sentence)
        kept = None if store is None else _of_store(store, told, outside, checked)
        dossier = kept or told
        if dossier is None:
            checked.not_checked.append(
                "whether it is true of the run: no crate and no store here holds the run's record"
            )
        _check_outside(outside, dossier, kept is not None, verifiers or {}, checked)
        _tell_others(folder, crate, outside, checked)
        if store is not None:
            _check_objects(store, dossier, crate, outside, checked)
    if store is None:
        checked.not_checked.append("objects that are named and not here: that takes the store")
    return checked


def _check_crate(crate: Path, folder: Path, scratch: Store, checked: Checked) -> Dossier | None:
    """The run as the crate's own records tell it."""
    inner = Checked()
    files = hashed(crate, files_of(crate, inner), inner)
    metadata = read_json(crate / METADATA, METADATA, inner)
    records = read_records(crate / RECORDS, inner) if RECORDS in files else None
    if RECORDS not in files:
        inner.find(RECORDS, "it is missing, and with it all that the rest is checked by")
    dossier = None
    if records is not None:
        dossier = retold(records, scratch, inner)
    if dossier is not None and metadata is not None:
        with inner.reading(METADATA):
            check_crate(dossier, metadata, files, inner)
    prefix = "" if crate == folder else f"{crate.relative_to(folder).as_posix()}/"
    for finding in inner.findings:
        checked.find(prefix + finding.file, finding.what)
    for what, number in inner.counts.items():
        checked.count(what, number)
    checked.not_checked += inner.not_checked
    checked.run, checked.record = inner.run, inner.record
    return dossier


def _of_store(store: Store, told: Dossier | None, outside: list[Path], checked: Checked) -> Dossier | None:
    """The run as the store tells it, when it is the one that the evidence speaks of."""
    run = _run_in(store, told, outside)
    if run is None:
        checked.not_checked.append("the run in the store: this store does not hold it")
        return None
    if told is not None and run.digest != told.run.digest:
        checked.find(RECORDS, f"the store's record of {run.pathspec} is {run.digest}, another than the crate's")
        return None
    checked.run, checked.record = run.pathspec, run.digest
    if told is not None:
        verdicts = {one.digest for one in told.judgements}
    else:
        verdicts = {Digest(f"sha256:{one}") for path in outside for one in _VERDICT.findall(_text(path))}
    return dossier_of(run, [one for one in _replays(run) if one.record["verdict"] in verdicts])


def _run_in(store: Store, told: Dossier | None, outside: list[Path]) -> KeptRun | None:
    if told is not None:
        try:
            return open_run(store, parse_pathspec(told.run.pathspec, least=2, most=2))
        except NotFound:
            return None
    named = {found for path in outside for found in _RUN.findall(_text(path))}
    for name, digest in store.refs.names("runs/"):
        if digest.hex in named and store.get_record(digest, "run")["kind"] != "replay":
            return open_run(store, parse_pathspec(name.removeprefix("runs/"), least=2, most=2))
    return None


def _replays(run: KeptRun) -> Iterator[KeptRun]:
    for name, digest in run.store.refs.names(f"runs/{run.spec.flow}/"):
        record = run.store.get_record(digest, "run")
        if record.get("verdict") and record["origin"]["run"] == run.pathspec:
            yield open_run(run.store, parse_pathspec(name.removeprefix("runs/"), least=2, most=2))


def _text(path: Path) -> str:
    return path.read_bytes().decode("utf-8", "replace")


def _check_outside(
    outside: list[Path], dossier: Dossier | None, whole: bool, verifiers: Mapping[str, Verifier], checked: Checked
) -> None:
    for path in outside:
        if path.is_symlink():
            checked.find(path.name, "it is a link; evidence holds none")
        elif path.name.endswith(".dsse.json"):
            checked.count("documents")
            check_envelope(path, path.name, verifiers, checked)
        else:
            with checked.reading(path.name):
                check_document(path, path.name, dossier, whole, checked)


def _tell_others(folder: Path, crate: Path | None, outside: list[Path], checked: Checked) -> None:
    """Name what lies beside the evidence and is none, such as the page for people."""
    known = {folder / "ro-crate", *outside, *folder.glob("key-*.pem")}
    others = sorted(one.name for one in folder.iterdir() if one not in known) if crate != folder else []
    if others:
        checked.not_checked.append(f"{', '.join(others)}: no evidence of a kind that can be held to the records")


def _check_objects(
    store: Store, dossier: Dossier | None, crate: Path | None, outside: list[Path], checked: Checked
) -> None:
    """Hash every object of the store that a document names by its SHA-256."""
    named: dict[Digest, str] = {}
    documents = [*([crate / METADATA] if crate is not None else []), *outside]
    for path in documents:
        if path.name.endswith(".json") and not path.is_symlink():
            value: Any = read_json(path, path.name, Checked())
            for digest in stated_digests(value):
                named.setdefault(digest, path.name)
    files = [path for path in (*outside, *(crate.rglob("*") if crate is not None else ())) if path.is_file()]
    made_here = {digest_of_file(path)[0] for path in files if not path.is_symlink()}
    if dossier is not None:  # digests of several objects, and of a policy, which is part of a record
        made_here |= {content_of(one) for one in dossier.artifacts.values()}
        made_here |= {Digest(one.verdict["policy"]["digest"]) for one in dossier.judgements}
    absent = 0
    for digest, name in named.items():
        try:
            store.verify(digest)
            checked.count("objects")
        except ObjectMissing:
            absent += digest not in made_here
        except ObjectCorrupt as err:
            checked.find(name, f"it names {digest}, and the store's object is damaged: {err}")
    if absent:
        checked.not_checked.append(f"{absent} digests that are named and whose objects this store does not hold")
