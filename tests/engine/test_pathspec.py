"""Names of runs and what is in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from stillrun_engine.errors import EngineError, NotFound
from stillrun_engine.pathspec import Pathspec, parse_pathspec, resolve
from stillrun_snapshot.refs import RefChange
from stillrun_snapshot.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store.open(tmp_path / "store")
    for name, kind in (
        ("Fit/20260101-a", "run"),
        ("Fit/20260102-b", "run"),
        ("Fit/20260103-c", "replay"),
        ("Fun/x", "run"),
    ):
        record = made.put_record({"schema": "stillrun/run/1", "kind": kind})
        made.refs.set([RefChange(f"runs/{name}", record, None)])
    return made


def test_parts_are_named_from_the_outside_in() -> None:
    assert parse_pathspec("F/r/s/1.2/x") == Pathspec("F", "r", "s", "1.2", "x")
    assert str(parse_pathspec("F/r/s/")) == "F/r/s"


@pytest.mark.parametrize("text", ["", "a//b", "/", "a/b/c/d/e/f"])
def test_what_is_no_pathspec_is_refused_with_its_form(text: str) -> None:
    with pytest.raises(EngineError, match="FLOW/RUN"):
        parse_pathspec(text)


@pytest.mark.parametrize(
    ("text", "run"), [("Fit/20260101-a", "20260101-a"), ("Fit/20260102", "20260102-b"), ("Fit/latest", "20260102-b")]
)
def test_a_run_is_found_by_name_by_beginning_and_as_the_latest_that_is_no_replay(
    store: Store, text: str, run: str
) -> None:
    assert resolve(store, parse_pathspec(text)).run == run


@pytest.mark.parametrize(
    ("text", "says"),
    [("Fat/1", "Did you mean Fit"), ("Fit/2026", "beginning of 3 runs"), ("Fit/zzz", "Fit/2026"), ("Fit", "Fit/RUN")],
)
def test_what_is_not_there_offers_what_is(store: Store, text: str, says: str) -> None:
    with pytest.raises((NotFound, EngineError), match=says):
        resolve(store, parse_pathspec(text))
