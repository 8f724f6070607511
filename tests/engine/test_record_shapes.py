"""Records are held against their schemas as JSON Schema's own reader does it, but that more keys may be there."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # it ships no types
from tests.carrying import members_of

from stillrun_engine.record_shapes import misfit

ROOT = Path(__file__).parents[2]
RECORDS = [
    json.loads(data) for _, data in members_of(ROOT / "fixtures/formats/bundle/v1/tiny.bundle")[1:] if data[:1] == b"{"
]
LONG = ("environment", "description", "log-excerpt")
STRANGE: tuple[Any, ...] = (None, True, -1, 7, "", "x", [], {}, [None], "sha256:" + "0" * 64)


def of_kind(kind: str) -> dict[str, Any]:
    return next(record for record in RECORDS if record["schema"].split("/")[1] == kind)


@pytest.mark.parametrize(
    "kind",
    ["run", "task", "artifact", "code", "tree", *(pytest.param(kind, marks=pytest.mark.slow) for kind in LONG)],
)
def test_what_it_says_is_what_the_schema_says(kind: str) -> None:
    """Sound records fit, and of those with one value changed it refuses those that a validator refuses for that value."""
    record, chance = of_kind(kind), random.Random(kind)
    schema = json.loads((ROOT / f"docs/spec/schemas/{kind}-1.json").read_text())
    validator = Draft202012Validator(schema)
    assert misfit(record) is None
    refused = 0
    for _ in range(60):
        changed = json.loads(json.dumps(record))
        at = changed
        while isinstance(at, (dict, list)) and at:
            key = chance.choice(sorted(at) if isinstance(at, dict) else range(len(at)))
            if key == "schema" or chance.random() < 0.4 or not isinstance(at[key], (dict, list)) or not at[key]:
                break
            at = at[key]
        if key != "schema":
            at[key] = chance.choice(STRANGE)
        assert (misfit(changed) is None) == validator.is_valid(changed), (misfit(changed), changed)
        refused += misfit(changed) is not None
    assert refused > 10


def test_more_keys_and_kinds_without_a_schema_are_no_fault() -> None:
    assert misfit({**of_kind("task"), "later": 1}) is None
    assert misfit({"schema": "stillrun/never-heard-of/7"}) is None
