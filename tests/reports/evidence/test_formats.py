"""What the documents say of runs: subjects, results, tests and rows, and that they are the same whenever they are written."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from tests.reports.evidence.shapes import Kept

from stillrun_engine.archive import open_run
from stillrun_engine.errors import EngineError
from stillrun_engine.pathspec import parse_pathspec
from stillrun_reports.evidence.crate import crate_metadata, write_crate
from stillrun_reports.evidence.crate_files import contents_of
from stillrun_reports.evidence.dossier import dossier_of
from stillrun_reports.evidence.junit import junit_text
from stillrun_reports.evidence.prov import prov_document
from stillrun_reports.evidence.spelling import document
from stillrun_reports.evidence.statements import provenance, replays_of_it, verdict_statement
from stillrun_reports.evidence.summary import summary_text
from stillrun_reports.formats import write_formats
from stillrun_reports.report import report_of
from stillrun_snapshot.digest import digest_of

HEX = 64


def test_provenance_names_the_run_what_it_made_and_all_that_it_was_made_of(kept: Kept) -> None:
    dossier = kept.dossier("linear")
    told = provenance(dossier)
    subjects = {one["name"]: one["digest"]["sha256"] for one in told["subject"]}
    assert subjects[dossier.run.pathspec] == dossier.run.digest.hex
    assert {name.rsplit("/", 1)[1] for name in subjects} >= {"table", "total"}
    needed = {one["digest"]["sha256"] for one in told["predicate"]["buildDefinition"]["resolvedDependencies"]}
    for environment in dossier.environments:
        assert environment.lock is not None
        assert {digest.hex for digest in environment.lock.digests()} <= needed
    assert digest_of(b"1,2\n").hex in needed, "the file that it read"
    assert all(len(one) == HEX for one in needed)
    assert told["predicate"]["buildDefinition"]["externalParameters"]["parameters"]["amount"] == "3"


def test_a_verdict_is_told_with_its_policy_and_what_is_volatile_is_no_subject(kept: Kept) -> None:
    dossier = kept.dossier("different")
    judgement = dossier.judgements[0]
    told = verdict_statement(dossier, judgement)
    assert told["predicate"]["verificationResult"] == "FAILED"
    assert told["predicate"]["verifiedLevels"] == ["STILLRUN_REPLAY_DIFFERENT"]
    assert told["predicate"]["policy"]["digest"]["sha256"] == judgement.verdict["policy"]["digest"].removeprefix(
        "sha256:"
    )
    assert {one["name"].rsplit("/", 1)[1] for one in told["subject"][1:]} == {"chance", "same"}
    capture = digest_of(document(provenance(dossier)).encode()).hex
    assert told["predicate"]["inputAttestations"][0]["digest"]["sha256"] == capture


def test_a_replay_with_other_parameters_verifies_nothing(kept: Kept) -> None:
    run = kept.run("linear")
    done = kept.commands("replay", run.pathspec, "--set", "amount=4", "--json")
    assert done.code == 1, done.err
    replay = open_run(kept.store, parse_pathspec(done.json["run"], least=2, most=2))
    dossier = dossier_of(run, [replay])
    assert len(dossier.judgements) == 1
    assert replays_of_it(dossier) == []


def test_a_replay_of_another_run_is_refused(kept: Kept) -> None:
    with pytest.raises(EngineError, match="is a replay of"):
        dossier_of(kept.run("linear"), [dossier_replay(kept)])
    with pytest.raises(EngineError, match="has no verdict"):
        dossier_of(kept.run("linear"), [kept.run("different")])


def dossier_replay(kept: Kept):
    return open_run(kept.store, parse_pathspec(str(kept.shape("different").replay), least=2, most=2))


def test_a_replay_is_evidence_too_with_its_own_verdict(kept: Kept) -> None:
    dossier = dossier_of(dossier_replay(kept))
    assert [one.verdict["verdict"] for one in dossier.judgements] == ["different"]
    assert replays_of_it(dossier) == [], "it verifies its original, not itself"


def test_tests_of_ci_fail_where_the_run_or_the_replay_did(kept: Kept) -> None:
    suites = ElementTree.fromstring(junit_text(kept.dossier("failed")).encode())
    assert (suites.get("errors"), suites.get("skipped")) == ("1", "1")
    error = suites.find(".//error")
    assert error is not None
    assert "<b>good</b> | `today` \\x1b[2J" in (error.get("message") or "")
    judged = ElementTree.fromstring(junit_text(kept.dossier("different")).encode())
    assert (judged.get("failures"), judged.get("skipped")) == ("1", "1")


def test_a_summary_holds_what_strangers_wrote_as_code(kept: Kept) -> None:
    text = summary_text(kept.dossier("failed"))
    assert "<b>" not in text
    assert "\x1b" not in text
    assert "`today`" not in text
    assert "&#60;b&#62;good" in text


def test_values_have_one_maker_and_no_more(kept: Kept) -> None:
    told = prov_document(kept.dossier("foreach"))
    made = [one["prov:entity"] for one in told["wasGeneratedBy"].values()]
    assert len(made) == len(set(made))
    assert {one["prov:specificEntity"] for one in told["specializationOf"].values()} == set(made)


def test_a_crate_is_the_same_whenever_it_is_written(kept: Kept, tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_crate(kept.dossier("unicode"), tmp_path / name)
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file())
    assert all((tmp_path / "a" / one).read_bytes() == (tmp_path / "b" / one).read_bytes() for one in files)
    assert len(files) > 10


def test_a_licence_is_what_is_stated(kept: Kept) -> None:
    dossier = kept.dossier("linear")
    root = next(
        one
        for one in crate_metadata(dossier, contents_of(dossier), licence="CC-BY-4.0")["@graph"]
        if one["@id"] == "./"
    )
    assert root["license"] == {"@id": "https://spdx.org/licenses/CC-BY-4.0"}


def test_an_audit_writes_all_formats_and_they_are_sound(kept: Kept, tmp_path: Path) -> None:
    from stillrun_reports.evidence.checking import check_evidence

    run = kept.run("different")
    report = report_of(kept.store, run)
    names = ["ro-crate", "cyclonedx", "slsa", "prov", "junit", "markdown"]
    written = write_formats(names, report, kept.store, run, tmp_path)
    assert all(path.is_file() for paths in written.values() for path in paths)
    assert len([path for path in written["slsa"] if path.name.startswith("verdict-")]) == 1
    assert json.loads((tmp_path / "ro-crate/ro-crate-metadata.json").read_text())["@graph"]
    assert check_evidence(tmp_path, store=kept.store).findings == []
    write_formats(["ro-crate"], report, kept.store, run, tmp_path)  # takes the place of the one before
    (tmp_path / "ro-crate/ro-crate-metadata.json").write_text("{}")
    with pytest.raises(EngineError, match="is there already"):
        write_formats(["ro-crate"], report, kept.store, run, tmp_path)
