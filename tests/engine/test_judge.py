"""The verdict on two records of one task."""

from __future__ import annotations

from typing import Any

import pytest

from stillrun_engine.judge import LEVELS, judge_artifact, judge_task, worst

A, B, C, D = ("sha256:" + letter * 64 for letter in "abcd")


def artifact(part: str, canonical: str | None = None, type_: str = "int", preview: str = "1") -> dict[str, Any]:
    return {
        "parts": [{"digest": part, "size": 1}],
        "type": type_,
        "preview": preview,
        "canonical": {"scheme": "stillrun-canonical/2", "digest": canonical} if canonical else None,
    }


def task(artifacts: dict[str, str], status: str = "ok", **facts: Any) -> dict[str, Any]:
    return {"step": "s", "task": "0", "artifacts": artifacts, "status": status, "next": None, "error": None, **facts}


@pytest.mark.parametrize(
    ("before", "after", "verdict"),
    [
        (artifact(A, C), artifact(A, C), "identical"),
        (artifact(A), artifact(A), "identical"),
        (artifact(A, C), artifact(B, C), "equivalent"),
        (artifact(A, C), artifact(B, D), "different"),
        (artifact(A), artifact(B), "different"),
        (artifact(A, C), artifact(B), "different"),
        (artifact(A), None, "missing"),
        (None, artifact(A), "extra"),
    ],
)
def test_bytes_come_first_then_value(before: dict[str, Any] | None, after: dict[str, Any] | None, verdict: str) -> None:
    assert judge_artifact("x", before, after).verdict == verdict


def test_canonical_digests_of_different_schemes_are_not_compared() -> None:
    newer = artifact(B, C)
    newer["canonical"]["scheme"] = "stillrun-canonical/3"
    assert judge_artifact("x", artifact(A, C), newer).verdict == "different"


def test_what_a_task_only_passed_on_is_not_judged() -> None:
    records = {A: artifact(A), B: artifact(B)}
    found = judge_task(task({"x": A, "y": B}), task({"x": A, "y": B}), {"x": A}, records.__getitem__)
    assert [a.name for a in found.artifacts] == ["y"]


def test_a_passed_on_artifact_that_the_replay_changed_is_judged() -> None:
    records = {A: artifact(A), B: artifact(B)}
    found = judge_task(task({"x": A}), task({"x": B}), {"x": A}, records.__getitem__)
    assert found.verdict == "different"


def test_a_replay_that_fails_differs_and_says_why() -> None:
    failed = task({}, "failed", error={"type": "ValueError", "message": "no"})
    found = judge_task(task({"x": A}), failed, {}, {A: artifact(A)}.__getitem__)
    assert found.verdict == "different"
    assert "no" in str(found.reason)


def test_another_number_of_splits_differs() -> None:
    first = task({}, next={"steps": ["a"], "foreach": "v", "count": 3})
    second = task({}, next={"steps": ["a"], "foreach": "v", "count": 4})
    assert judge_task(first, second, {}, {}.__getitem__).verdict == "different"


def test_missing_and_extra_make_the_whole_different() -> None:
    assert worst(["identical", "missing"]) == "different"
    assert worst(["equivalent", "extra"]) == "different"
    assert worst(["identical", "equivalent"]) == "equivalent"
    assert worst([]) == "identical"
    assert all(worst([level]) in LEVELS for level in LEVELS)
