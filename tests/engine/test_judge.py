"""The verdict on two records of one task."""

from __future__ import annotations

from typing import Any

import pytest

from stillrun_engine.judge import LEVELS, judge_artifact, judge_task, worst
from stillrun_engine.policy import Policy, Tolerance

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
        (artifact(A), artifact(B), "not_comparable"),
        (artifact(A, C), artifact(B), "not_comparable"),
        (artifact(A, C, "int"), artifact(B, None, "str"), "different"),
        (artifact(A), None, "missing"),
        (None, artifact(A), "extra"),
    ],
)
def test_bytes_come_first_then_value(before: dict[str, Any] | None, after: dict[str, Any] | None, verdict: str) -> None:
    assert judge_artifact("x", before, after).verdict == verdict


def test_canonical_digests_of_different_schemes_are_not_compared() -> None:
    newer = artifact(B, C)
    newer["canonical"]["scheme"] = "stillrun-canonical/3"
    found = judge_artifact("x", artifact(A, C), newer)
    assert found.verdict == "not_comparable"
    assert "two schemes" in str(found.reason)


def test_what_a_task_only_passed_on_is_not_judged() -> None:
    records = {A: artifact(A), B: artifact(B)}
    found = judge_task(task({"x": A, "y": B}), task({"x": A, "y": B}), {"x": A}, records.__getitem__)
    assert [a.name for a in found.artifacts] == ["y"]


def test_a_passed_on_artifact_that_the_replay_changed_is_judged() -> None:
    records = {A: artifact(A), B: artifact(B)}
    found = judge_task(task({"x": A}), task({"x": B}), {"x": A}, records.__getitem__)
    assert found.verdict == "not_comparable"


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


def difference(**facts: Any) -> dict[str, Any]:
    first = {
        "kind": "number",
        "place": "x[1]",
        "before": "1.0",
        "after": "2.0",
        "rel": "0.5",
        "abs": "1.0",
        "ulp": "9.0",
    }
    return {
        "first": first,
        "worst": first,
        "count": 1,
        "found": [first],
        "within": False,
        "opaque": None,
        "hint": None,
        **facts,
    }


@pytest.mark.parametrize(
    ("found", "tolerated", "verdict", "says"),
    [
        (difference(), False, "different", "x[1]: 1.0 became 2.0"),
        (difference(within=True), True, "within_tolerance", "worst: x[1]"),
        (difference(within=True), False, "different", "x[1]"),
        (difference(within=False), True, "different", "x[1]"),
        (difference(count=0, first=None, worst=None, found=[]), True, "not_comparable", "no digest"),
        ({"error": "it hung"}, True, "not_comparable", "it hung"),
        (difference(count=3, hint="a moment in time"), False, "different", "3 differences in all; a moment in time"),
    ],
)
def test_what_differs_decides_where_digests_cannot(
    found: dict[str, Any], tolerated: bool, verdict: str, says: str
) -> None:
    judged = judge_artifact("x", artifact(A), artifact(B), records=(C, D)).explained(found, tolerated=tolerated)
    assert judged.verdict == verdict
    assert says in str(judged.reason)


def test_what_is_volatile_counts_neither_way() -> None:
    records = {A: artifact(A, C), B: artifact(B, D)}
    found = judge_task(
        task({"x": A, "y": A}), task({"x": B, "y": A}), {}, records.__getitem__, lambda name: name == "x"
    )
    assert [one.verdict for one in found.artifacts] == ["volatile", "identical"]
    assert found.verdict == "identical"
    assert worst(["volatile"]) == "identical"


def test_a_step_s_policy_wins_over_the_flow_s() -> None:
    def asked(name: str, **attributes: Any) -> dict[str, Any]:
        return {"name": name, "attributes": attributes, "line": 1}

    policy = Policy.of(
        {
            "decorators": [
                asked("tolerance", **{"*": {"rtol": "0.1"}, "a": {"atol": "1.0"}}),
                asked("volatile", names=["t"]),
            ],
            "steps": [
                {"name": "one", "decorators": []},
                {
                    "name": "two",
                    "decorators": [asked("tolerance", a={"rtol": "1e-09"}), asked("volatile", names=["u"])],
                },
            ],
        }
    )
    assert policy.tolerance("one", "a") == Tolerance(0.0, 1.0)
    assert policy.tolerance("two", "a") == Tolerance(1e-9, 0.0)
    assert policy.tolerance("two", "b") == Tolerance(0.1, 0.0)
    assert policy.is_volatile("two", "t") and policy.is_volatile("two", "u") and not policy.is_volatile("one", "u")
    assert policy.to_record()["digest"] != Policy({}, {}).to_record()["digest"]
