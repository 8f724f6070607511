"""Rules choose what to forget, and never what is pinned, going on, or what a run that stays came from."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from stillrun_engine.retention import Rules, RunFacts, choose
from stillrun_snapshot.clock import timestamp

NOW = datetime(2026, 11, 26, tzinfo=timezone.utc)
DAY = 86_400


def run(name: str, days: int, kind: str = "run", **more: object) -> RunFacts:
    flow, _, own = name.partition("/")
    return RunFacts(flow, own, kind, str(more.pop("status", "ok")), timestamp(NOW - timedelta(days=days)), **more)  # type: ignore[arg-type]  # whatever a test says


def goes(known: list[RunFacts], rules: Rules, flow: str | None = None) -> list[str]:
    return [name for name, reason in choose(known, rules, NOW, flow).items() if reason is None]


def test_age_number_and_tags_are_heeded_together() -> None:
    known = [run(f"A/{number}", 100 - number) for number in range(5)] + [run("B/0", 99), run("B/1", 1)]
    assert goes(known, Rules(older_than_s=90 * DAY)) == ["A/0", "A/1", "A/2", "A/3", "A/4", "B/0"]
    assert goes(known, Rules(keep_last=2)) == ["A/0", "A/1", "A/2"]
    assert goes(known, Rules(older_than_s=98 * DAY, keep_last=1)) == ["A/0", "A/1", "B/0"]
    known[0] = run("A/0", 100, tags=frozenset({"prod", "x"}))
    assert goes(known, Rules(keep_last=2, keep_tags=("prod",))) == ["A/1", "A/2"]
    assert goes(known, Rules(keep_last=0), "B") == ["B/0", "B/1"]


def test_what_is_pinned_or_going_on_stays() -> None:
    known = [run("A/0", 100, pinned=True), run("A/1", 100, status="running"), run("A/2", 100, status="damaged")]
    assert goes(known, Rules(older_than_s=1)) == ["A/2"]


def test_what_a_run_that_stays_came_from_stays() -> None:
    known = [run("A/0", 100), run("A/1", 99, origin="A/0"), run("A/2", 98, "replay", origin="A/1", pinned=True)]
    told = choose(known, Rules(older_than_s=DAY), NOW)
    assert told == {"A/0": "A/1 came from it", "A/1": "A/2 came from it", "A/2": "pinned"}
    assert goes([*known[:2], run("A/2", 98, "replay", origin="A/1")], Rules(older_than_s=DAY)) == ["A/0", "A/1", "A/2"]


def test_replays_do_not_count_among_the_last() -> None:
    known = [run("A/0", 9), run("A/1", 8), run("A/2", 1, "replay", origin="A/1")]
    assert goes(known, Rules(keep_last=1)) == ["A/0", "A/2"]


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans(), st.integers(0, 12)), max_size=12), st.integers(0, 5))
def test_nothing_that_stays_came_from_what_goes(drawn: list[tuple[int, bool, int]], keep: int) -> None:
    known = [
        run(f"A/{number:02d}", age, pinned=pinned, origin=f"A/{origin:02d}" if origin < number else None)
        for number, (age, pinned, origin) in enumerate(drawn)
    ]
    gone = set(goes(known, Rules(older_than_s=4 * DAY, keep_last=keep)))
    assert not gone & {one.origin for one in known if one.pathspec not in gone}
    assert not any(one.pathspec in gone for one in known if one.pinned)
