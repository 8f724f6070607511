"""report.json: what it says of runs of every shape, by docs/spec/report.md."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
from tests.reports.conftest import Reports
from tests.reports.samples import Samples

from stillrun_engine.errors import EngineError
from stillrun_reports.report import is_sound
from stillrun_snapshot.record import canonical_bytes, parse_record

SCHEMA = json.loads((Path(__file__).parents[2] / "docs/spec/schemas/report-1.json").read_text())
SHAPES = ("linear", "branch", "foreach", "failed", "interrupted", "resumed", "different", "unicode")


@pytest.mark.parametrize("shape", SHAPES)
def test_a_report_fits_its_schema_and_is_a_record(reported: Reports, shape: str) -> None:
    report = reported(shape)
    jsonschema.Draft202012Validator(SCHEMA).validate(report)
    data = canonical_bytes(report)
    assert canonical_bytes(parse_record(data, "stillrun/report/1")) == data


def test_two_reports_of_one_run_differ_in_the_time_they_were_made_alone(reported: Reports) -> None:
    first, second = reported("linear", replay=None), reported("linear", replay=None)
    assert {**first, "made": ""} == {**second, "made": ""}


def test_a_run_that_nobody_has_replayed_says_so_and_is_sound(reported: Reports) -> None:
    report = reported("linear")
    assert report["verdict"]["level"] == "not_replayed"
    assert is_sound(report)
    assert any("not been replayed" in one for one in report["not_checked"])
    assert report["integrity"]["objects"] > 10 and report["integrity"]["damaged_count"] == 0


def test_a_replay_that_came_out_otherwise_is_a_finding_with_its_place(reported: Reports) -> None:
    report = reported("different")
    assert report["verdict"]["level"] == "different" and not is_sound(report)
    assert report["verdict"]["counts"]["different"] == 3
    assert "square/1/drawn" in report["findings"][0]["text"]
    node = next(step for step in report["steps"] if step["step"] == "square")
    assert (node["state"], node["states"]) == ("different", {"different": 3, "identical": 5})


def test_a_failed_run_tells_its_error_and_its_attempts(reported: Reports) -> None:
    report = reported("failed")
    assert report["verdict"]["level"] == "failed" and not is_sound(report)
    task = next(task for task in report["tasks"] if task["step"] == "divide")
    assert task["error"]["type"] == "ZeroDivisionError" and len(task["attempts"]) == 1
    assert task["logs"]["stdout"]["end"] == "dividing [1, 2, 0]\n"


def test_an_interrupted_run_is_a_finding_and_what_had_ended_is_told(reported: Reports) -> None:
    report = reported("interrupted")
    assert report["verdict"]["level"] == "interrupted" and not is_sound(report)
    assert [task["step"] for task in report["tasks"] if task["status"] == "ok"] == ["start"]


def test_a_resumed_run_tells_which_tasks_did_not_run(reported: Reports, samples: Samples) -> None:
    report = reported("resumed")
    assert [task["step"] for task in report["tasks"] if task["reused"]] == ["start"]
    note = next(one for one in report["findings"] if one["code"] == "reused")
    assert note["weight"] == "note" and samples.runs["interrupted"] in note["text"]


def test_steps_have_their_source_as_it_was_captured(reported: Reports) -> None:
    source = {step["step"]: step["source"] for step in reported("linear")["steps"]}
    assert source["fit"]["file"] == "linear.py"
    assert source["fit"]["code"].startswith('@step\ndef fit(self):\n    """Least squares, by hand."""')
    assert source["end"]["code"].endswith('print("error", self.error)')


def test_what_a_join_hands_on_was_made_where_it_was_made(reported: Reports) -> None:
    report = reported("branch")
    assert [one["name"] for one in report["artifacts"] if one["step"] == "join"] == ["summary"]
    takes = {step["step"]: {(one["name"], one["step"]) for one in step["takes"]} for step in report["steps"]}
    assert takes["mean"] == {("numbers", "start")}
    assert takes["end"] == {("numbers", "start"), ("summary", "join")}


def test_artifacts_are_told_where_they_were_made(reported: Reports) -> None:
    made = [(one["step"], one["name"]) for one in reported("linear")["artifacts"]]
    assert made == [("start", "data"), ("start", "offset"), ("fit", "model"), ("end", "error")]


def test_files_that_were_read_are_told_with_their_digest(reported: Reports) -> None:
    (file,) = [file for file in reported("linear")["files"] if file["base"] != "system"]
    assert (file["path"], file["kept"], file["steps"]) == ("offset.txt", True, ["start"])


def test_a_damaged_object_is_named_and_goes_above_all(samples: Samples, reported: Reports) -> None:
    report = reported("branch")
    digest = report["environments"][0]["python"]["digest"].removeprefix("sha256:")
    path = samples.store / "objects" / digest[:2] / digest[2:]
    whole = path.read_bytes()
    path.chmod(0o644)
    try:
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        damaged = reported("branch", check=True)
    finally:
        path.write_bytes(whole)
    assert damaged["verdict"]["level"] == "damaged" and not is_sound(damaged)
    assert "interpreter" in damaged["findings"][0]["text"]


def test_without_hashing_the_report_says_that_nothing_was_hashed(reported: Reports) -> None:
    report = reported("linear", check=False)
    assert report["integrity"]["checked"] is False
    assert "not hashed" in report["not_checked"][0]
    altered = next(one for one in report["questions"] if "altered" in one["question"])
    assert altered["state"] == "unknown"


def test_a_comparison_tells_what_differs(reported: Reports) -> None:
    comparison = reported("different", compare="foreach")["comparison"]
    assert [one["name"] for one in comparison["parameters"]] == ["chance"]
    assert comparison["same"] is False and comparison["counts"]["identical"] > 5


def test_a_replay_of_another_run_is_refused(samples: Samples, reported: Reports) -> None:
    samples.make("different")
    with pytest.raises(EngineError, match="is a replay of"):
        reported("foreach", replay=samples.runs["replay_of_different"])


def test_the_control_map_claims_no_more_than_evidence(reported: Reports) -> None:
    report = reported("linear")
    assert all(one["limit"] and one["evidence"] for one in report["controls"])
    assert "complian" not in json.dumps(report).lower()
