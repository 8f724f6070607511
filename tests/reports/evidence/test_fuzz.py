"""No single change of evidence goes unseen, and nothing that stands in a file of evidence makes the checker fall over."""

from __future__ import annotations

import copy
import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.reports.evidence.shapes import Kept

from stillrun_reports.evidence.checking import check_evidence

DOCUMENTS = ("ro-crate/ro-crate-metadata.json", "provenance.intoto.json", "prov.json", "bom.cdx.json")
VALUES: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    1.5,
    "",
    "x",
    [],
    {},
    [[]],
    {"@id": "x"},
    {"a": {"b": []}},
    [None, {}],
    "\x1b[2J",
)
FREE = {"licenses", "description", "externalReferences", "purl"}
"""Of a bill without its store: what is read from packages' own files."""


def places(value: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every node of a JSON value."""
    yield before
    if isinstance(value, dict):
        for name, one in value.items():
            yield from places(one, (*before, name))
    elif isinstance(value, list):
        for number, one in enumerate(value):
            yield from places(one, (*before, number))


def put(value: Any, place: tuple[Any, ...], new: Any) -> Any:
    """A copy of ``value`` with another value at ``place``."""
    if not place:
        return new
    changed = copy.deepcopy(value)
    inner = changed
    for step in place[:-1]:
        inner = inner[step]
    inner[place[-1]] = new
    return changed


def seen(place: tuple[Any, ...], document: str) -> bool:
    """Whether a change there must be found: not of a licence that is stated, nor of what a bill has from packages' files."""
    if document == "bom.cdx.json":
        indirect = "dependencies" in place and len(place) > 1
        return not (FREE & set(map(str, place)) or indirect)
    return "license" not in place


@pytest.fixture(scope="module")
def audit(kept: Kept, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return kept.audited("failed", tmp_path_factory.mktemp("fuzz") / "audit")


@pytest.mark.parametrize("document", DOCUMENTS)
@pytest.mark.parametrize("count", [8, pytest.param(250, marks=pytest.mark.slow)])
def test_any_node_that_is_changed_is_found(audit: Path, document: str, count: int) -> None:
    path, chance = audit / document, random.Random(count)
    text = path.read_text()
    whole = json.loads(text)
    every = list(places(whole))
    try:
        for _ in range(count):
            place, new = chance.choice(every), chance.choice(VALUES)
            changed = put(whole, place, new)
            path.write_text(json.dumps(changed))
            findings = check_evidence(audit).findings
            assert findings or changed == whole or not seen(place, document), (place, new)
    finally:
        path.write_text(text)


@pytest.mark.parametrize("count", [8, pytest.param(250, marks=pytest.mark.slow)])
def test_any_forged_record_of_a_run_is_found(audit: Path, count: int) -> None:
    """Whoever writes the record anew changes its digest, which is the run's name."""
    path, chance = audit / "ro-crate/records.jsonl", random.Random(count)
    data = path.read_bytes()
    first, rest = data.split(b"\n", 1)
    whole = json.loads(first)
    every = [place for place in places(whole) if place and place != ("schema",)]
    try:
        for _ in range(count):
            changed = put(whole, chance.choice(every), chance.choice(VALUES))
            line = json.dumps(changed, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
            path.write_bytes(line + b"\n" + rest)
            assert check_evidence(audit).findings or line == first
    finally:
        path.write_bytes(data)


@pytest.mark.parametrize("count", [8, pytest.param(300, marks=pytest.mark.slow)])
def test_any_byte_of_any_file_of_a_crate_that_is_changed_is_found(audit: Path, tmp_path: Path, count: int) -> None:
    crate, chance = tmp_path / "crate", random.Random(count)
    shutil.copytree(audit / "ro-crate", crate)
    files = sorted(path for path in crate.rglob("*") if path.is_file() and path.stat().st_size)
    for number in range(count):
        path = files[number % len(files)]
        data = path.read_bytes()
        at = chance.randrange(len(data))
        changed = data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :]
        path.write_bytes(changed)
        findings = check_evidence(crate).findings
        space = path.name.endswith(".json") and _reads_alike(data, changed)
        assert findings or space, (path, at)
        path.write_bytes(data)
    assert check_evidence(crate).findings == []


def _reads_alike(data: bytes, changed: bytes) -> bool:
    try:
        return bool(json.loads(data) == json.loads(changed))
    except ValueError:
        return False


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a":' * 50_000, '{"@graph": ' + "[" * 900 + "]" * 900 + "}", "\xff", ""]
)
def test_what_is_nested_without_end_is_a_finding(audit: Path, tmp_path: Path, text: str) -> None:
    copy_of = tmp_path / "audit"
    shutil.copytree(audit, copy_of)
    for document in DOCUMENTS:
        (copy_of / document).write_text(text, encoding="latin-1")
    files = {one.file for one in check_evidence(copy_of).findings}
    assert set(DOCUMENTS) <= files
