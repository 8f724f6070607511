"""Whatever is changed in evidence is found, by the evidence itself."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from tests.reports.evidence.shapes import SHAPES, Kept

from stillrun_engine.errors import EngineError
from stillrun_reports.evidence.checking import check_evidence
from stillrun_reports.evidence.statements import sign_statements
from stillrun_snapshot.ed25519 import PrivateKey
from stillrun_snapshot.store import Store

Change = Callable[[dict[str, Any], list[dict[str, Any]], Path], None]


def entity(graph: list[dict[str, Any]], name: str) -> dict[str, Any]:
    return next(one for one in graph if one["@id"] == name)


def without(graph: list[dict[str, Any]], kind: str) -> None:
    graph[:] = [one for one in graph if kind not in str(one["@type"])]


def put(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def first_data(crate: Path) -> Path:
    return sorted((crate / "data").iterdir())[0]


CRATE: dict[str, tuple[Change, str]] = {
    "a file is missing": (lambda doc, graph, crate: first_data(crate).unlink(), "is missing"),
    "content is swapped": (lambda doc, graph, crate: first_data(crate).write_bytes(b"x"), "its SHA-256 is"),
    "code is swapped": (lambda doc, graph, crate: (crate / "code/failed.py").write_text("pass"), "its SHA-256 is"),
    "a file is added": (lambda doc, graph, crate: (crate / "extra.txt").write_text("x"), "nothing in the records"),
    "a link": (lambda doc, graph, crate: os.symlink("/etc/passwd", crate / "link"), "neither a file nor a folder"),
    "no control actions": (lambda doc, graph, crate: without(graph, "ControlAction"), "ControlAction) is missing"),
    "no organize action": (lambda doc, graph, crate: without(graph, "OrganizeAction"), "OrganizeAction) is missing"),
    "an action less": (
        lambda doc, graph, crate: graph.remove(entity(graph, "#task/middle/0")),
        "#task/middle/0 (CreateAction) is missing",
    ),
    "an action more": (
        lambda doc, graph, crate: graph.append({"@id": "#task/end/0", "@type": "CreateAction"}),
        "#task/end/0 (CreateAction) is there",
    ),
    "no instrument": (lambda doc, graph, crate: entity(graph, "#task/start/0").pop("instrument"), "instrument is miss"),
    "no licence": (lambda doc, graph, crate: entity(graph, "./").pop("license"), "license is missing"),
    "no date": (lambda doc, graph, crate: entity(graph, "./").pop("datePublished"), "datePublished is missing"),
    "no example": (lambda doc, graph, crate: entity(graph, "#step/start").pop("workExample"), "workExample is missing"),
    "no how-to": (lambda doc, graph, crate: entity(graph, "code/failed.py")["@type"].pop(), "@type has 3 entries"),
    "no type of a parameter": (
        lambda doc, graph, crate: entity(graph, "#output/start/x").pop("additionalType"),
        "additionalType is missing",
    ),
    "an unknown key": (lambda doc, graph, crate: entity(graph, "#run").update(bogus=1), "bogus is 1"),
    "no profile": (lambda doc, graph, crate: entity(graph, "./").pop("conformsTo"), "conformsTo is missing"),
    "no main entity": (lambda doc, graph, crate: entity(graph, "./").pop("mainEntity"), "mainEntity is missing"),
    "an impossible time": (
        lambda doc, graph, crate: entity(graph, "#task/start/0").update(endTime="yesterday"),
        "endTime is 'yesterday'",
    ),
    "another time": (
        lambda doc, graph, crate: entity(graph, "#run").update(startTime="2020-01-01T00:00:00.000Z"),
        "startTime is '2020",
    ),
    "a failure without its error": (
        lambda doc, graph, crate: entity(graph, "#task/middle/0").pop("error"),
        "error is missing",
    ),
    "a failure told as success": (
        lambda doc, graph, crate: entity(graph, "#run").update(
            actionStatus={"@id": "http://schema.org/CompletedActionStatus"}
        ),
        "CompletedActionStatus",
    ),
    "a digest in the metadata": (
        lambda doc, graph, crate: entity(graph, "code/failed.py").update(sha256="0" * 64),
        "sha256 is '0000",
    ),
    "another context": (lambda doc, graph, crate: doc.update({"@context": "https://evil.example/"}), "@context is"),
    "no graph": (lambda doc, graph, crate: doc.pop("@graph"), "no @graph"),
    "entities twice": (lambda doc, graph, crate: graph.append(dict(graph[-1])), "no @graph"),
    "sums": (lambda doc, graph, crate: put(crate / "SHA256SUMS", "a", "b"), "does not list the files"),
    "no records": (lambda doc, graph, crate: (crate / "records.jsonl").unlink(), "it is missing"),
    "a record less": (
        lambda doc, graph, crate: (crate / "records.jsonl").write_bytes(
            b"".join((crate / "records.jsonl").read_bytes().splitlines(keepends=True)[:3])
        ),
        "cannot be read: ObjectMissing",
    ),
    "a record more": (
        lambda doc, graph, crate: (crate / "records.jsonl").write_bytes(
            (crate / "records.jsonl").read_bytes() + b'{"schema":"stillrun/note/1"}\n'
        ),
        "nothing in the run leads to",
    ),
    "a record changed": (
        lambda doc, graph, crate: put(crate / "records.jsonl", '"status":"failed"', '"status":"ok"'),
        "",
    ),
    "a record of a new format": (
        lambda doc, graph, crate: put(crate / "records.jsonl", "stillrun/run/1", "stillrun/run/9"),
        "no run's record",
    ),
}


@pytest.fixture(scope="module")
def evidence(kept: Kept, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The evidence of a run, written once; each test changes a copy of its own."""
    made: dict[str, Path] = {}
    folder = tmp_path_factory.mktemp("evidence")

    def of(name: str) -> Path:
        if name not in made:
            made[name] = kept.audited(name, folder / name)
        copy = folder / f"copy-{len(list(folder.iterdir()))}"
        shutil.copytree(made[name], copy)
        return copy

    return of


QUICK = ("linear", "failed", "different", "unicode")


@pytest.mark.parametrize("name", [pytest.param(one, marks=() if one in QUICK else pytest.mark.slow) for one in SHAPES])
def test_evidence_that_nobody_touched_is_sound(kept: Kept, evidence: Callable[[str], Path], name: str) -> None:
    audit = evidence(name)
    alone = check_evidence(audit)
    assert alone.findings == []
    assert alone.run == kept.shape(name).run
    assert alone.counts["documents"] >= 6
    beside = check_evidence(audit, store=kept.store)
    assert beside.findings == []
    assert beside.counts["objects"] > 10
    assert not any("licences" in one for one in beside.not_checked), "with the store bills are checked whole"


@pytest.mark.parametrize("change", CRATE)
def test_each_change_of_a_crate_is_found(evidence: Callable[[str], Path], change: str) -> None:
    crate = evidence("failed") / "ro-crate"
    path = crate / "ro-crate-metadata.json"
    document = json.loads(path.read_text())
    alter, told = CRATE[change]
    alter(document, document["@graph"], crate)
    path.write_text(json.dumps(document))
    findings = check_evidence(crate).findings
    assert any(told in one.what for one in findings), findings


DOCUMENTS: dict[str, tuple[str, str, str, str]] = {
    "a subject's digest": ("provenance.intoto.json", r'"sha256": "[0-9a-f]{64}"', '"sha256": "abc"', "is no digest"),
    "another subject": (
        "provenance.intoto.json",
        r'"sha256": "[0-9a-f]{64}"',
        f'"sha256": "{"1" * 64}"',
        "subject[0].digest.sha256 is '1111",
    ),
    "the kind of statement": ("provenance.intoto.json", "Statement/v1", "Statement/v9", "_type is"),
    "a parameter": ("provenance.intoto.json", '"flow": "Differs"', '"flow": "Other"', "externalParameters.flow"),
    "the result": ("verdict-*.intoto.json", "FAILED", "PASSED", "verificationResult is 'PASSED'"),
    "the level": ("verdict-*.intoto.json", "REPLAY_DIFFERENT", "REPLAY_IDENTICAL", "verifiedLevels[0]"),
    "the policy": (
        "verdict-*.intoto.json",
        r'(?s)("policy".*?"sha256": ")[0-9a-f]{64}',
        rf"\g<1>{'3' * 64}",
        "policy.digest.sha256 is '3333",
    ),
    "no JSON": ("verdict-*.intoto.json", "{", "", "it is no JSON"),
    "a package's digest": ("bom.cdx.json", r'"content": "[0-9a-f]{64}"', f'"content": "{"2" * 64}"', "hashes[0]"),
    "a digest's form": ("bom.cdx.json", r'"content": "[0-9a-f]{64}"', '"content": "abc"', "is no SHA-256"),
    "a version": ("bom.cdx.json", r'"version": "3\.\d+\.\d+', '"version": "9.9.9', "version is '9.9.9"),
    "an environment's bill": (
        "environment-*.cdx.json",
        r"(?s)(metadata.*?)environment-",
        r"\1place-",
        "neither the run nor one",
    ),
    "what an environment has": ("environment-*.cdx.json", "environment-", "place-", "dependencies"),
    "an activity": ("prov.json", "prov:startTime", "prov:endTime", "prov:startTime is missing"),
    "a test": ("junit.xml", "<failure", "<skipped", "line"),
    "a summary": ("summary.md", "different", "identical", "line"),
}


@pytest.mark.parametrize("change", DOCUMENTS)
def test_each_change_of_a_document_is_found(evidence: Callable[[str], Path], change: str) -> None:
    audit = evidence("different")
    pattern, old, new, told = DOCUMENTS[change]
    path = next(audit.glob(pattern))
    text, count = re.subn(old, new, path.read_text(), count=1)
    assert count == 1
    path.write_text(text)
    findings = check_evidence(audit).findings
    assert any(told in one.what and one.file == path.name for one in findings), findings


def test_a_forged_record_is_found_by_the_statement_and_by_the_store(
    kept: Kept, evidence: Callable[[str], Path]
) -> None:
    """Who writes a crate anew from a record of his own has another run's digest."""
    audit = evidence("linear")
    path = audit / "ro-crate/records.jsonl"
    put(path, '"user":"', '"user":"not ')
    alone = check_evidence(audit)
    assert any(one.file == "provenance.intoto.json" and "subject[0]" in one.what for one in alone.findings)
    beside = check_evidence(audit / "ro-crate", store=kept.store)
    assert any("another than the crate's" in one.what for one in beside.findings)


def test_times_that_no_run_can_have_are_found(evidence: Callable[[str], Path]) -> None:
    audit = evidence("linear")
    early = datetime.now(timezone.utc) - timedelta(days=400)
    assert any("yet to come" in one.what for one in check_evidence(audit, now=early).findings)
    records = audit / "ro-crate/records.jsonl"
    first = json.loads(records.read_text().splitlines()[0])
    first["started"], first["finished"] = first["finished"], first["started"]
    line = json.dumps(first, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    records.write_text("\n".join([line, *records.read_text().splitlines()[1:]]) + "\n")
    findings = [one.what for one in check_evidence(audit).findings]
    assert any("before it started" in one for one in findings)
    assert any("outside of its run" in one for one in findings)


def test_documents_alone_are_checked_for_their_form_and_what_they_cannot_tell_is_said(
    kept: Kept, evidence: Callable[[str], Path], tmp_path: Path
) -> None:
    audit = evidence("different")
    shutil.rmtree(audit / "ro-crate")
    alone = check_evidence(audit)
    assert alone.findings == []
    assert any("no crate and no store" in one for one in alone.not_checked)
    beside = check_evidence(audit, store=kept.store)
    assert beside.run == kept.shape("different").run
    assert beside.findings == []
    with Store.open(tmp_path / "another") as empty:
        assert any("does not hold it" in one for one in check_evidence(audit, store=empty).not_checked)


def test_a_damaged_object_of_the_store_is_found_by_what_names_it(
    kept: Kept, evidence: Callable[[str], Path], tmp_path: Path
) -> None:
    audit = evidence("foreach")
    part = max((audit / "ro-crate/data").iterdir(), key=lambda one: one.stat().st_size)
    copy = tmp_path / "store"
    shutil.copytree(kept.store.root, copy)
    loose = copy / "objects" / part.name[:2] / part.name[2:]
    loose.chmod(0o644)
    with loose.open("r+b") as file:
        file.write(b"X")
    with Store.open(copy) as store:
        findings = check_evidence(audit, store=store).findings
    assert any(part.name in one.what and "damaged" in one.what for one in findings)


def test_signatures_are_checked_with_the_keys_that_are_given(evidence: Callable[[str], Path]) -> None:
    audit, key, other = evidence("different"), PrivateKey.new(), PrivateKey.new()
    sign_statements(audit, key)
    assert any("give the public key" in one for one in check_evidence(audit).not_checked)
    good = check_evidence(audit, verifiers={key.keyid: key.public})
    assert (good.findings, good.counts["signatures"]) == ([], 2)
    assert any(
        "no key that is known" in f.what for f in check_evidence(audit, verifiers={other.keyid: other.public}).findings
    )
    put(audit / "provenance.intoto.json", '"Differs"', '"Another"')
    findings = check_evidence(audit, verifiers={key.keyid: key.public}).findings
    assert any(one.file == "provenance.dsse.json" and "another statement was signed" in one.what for one in findings)


def test_a_folder_without_evidence_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="holds no evidence"):
        check_evidence(tmp_path)


def test_sums_are_read_by_sha256sum(kept: Kept, evidence: Callable[[str], Path]) -> None:
    import subprocess

    crate = evidence("unicode") / "ro-crate"
    done = subprocess.run(
        ["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=crate, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stdout
    line = (crate / "records.jsonl").read_bytes().split(b"\n")[0]
    assert hashlib.sha256(line).hexdigest() == kept.run("unicode").digest.hex
