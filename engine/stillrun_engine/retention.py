"""Which runs to forget, by rules of age, number and tags. Nothing is read or changed here."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import field
from datetime import datetime, timedelta

from stillrun_snapshot.clock import timestamp
from stillrun_snapshot.deferred import dataclass

__all__ = ["Rules", "RunFacts", "choose"]


@dataclass(frozen=True)
class RunFacts:
    """What rules go by."""

    flow: str
    run: str
    kind: str  # run, replay, spin
    status: str  # "damaged": its record cannot be read, and so not known what it is
    started: str
    tags: frozenset[str] = frozenset()
    origin: str | None = None  # FLOW/RUN that it was resumed from, or replays
    pinned: bool = False

    @property
    def pathspec(self) -> str:
        """FLOW/RUN."""
        return f"{self.flow}/{self.run}"


@dataclass(frozen=True)
class Rules:
    """A run goes when it is older than that, not among the last of its flow, and has none of the tags."""

    older_than_s: int | None = None
    keep_last: int | None = None
    keep_tags: Collection[str] = field(default=())

    def __str__(self) -> str:
        told = [
            "" if self.older_than_s is None else f"older than {self.older_than_s} s",
            "" if self.keep_last is None else f"not among the last {self.keep_last} of its flow",
            f"without the tag {' or '.join(sorted(self.keep_tags))}" if self.keep_tags else "",
        ]
        return ", ".join(one for one in told if one)


def choose(known: Sequence[RunFacts], rules: Rules, now: datetime, flow: str | None = None) -> dict[str, str | None]:
    """For each run that the rules are about: why it stays, or None when it goes. Runs that one that stays came from stay.

    flow: the rules are about its runs only.
    """
    about = [one for one in known if flow in (None, one.flow)]
    last = _last(about, rules.keep_last)
    edge = None if rules.older_than_s is None else timestamp(now - timedelta(seconds=rules.older_than_s))
    told: dict[str, str | None] = {one.pathspec: _reason(one, rules, last, edge) for one in about}
    while found := _came_from(known, told):
        told.update(found)
    return told


def _last(about: Iterable[RunFacts], number: int | None) -> set[str]:
    by_flow: dict[str, list[str]] = {}
    for one in about:
        if one.kind == "run":
            by_flow.setdefault(one.flow, []).append(one.pathspec)
    return {run for runs in by_flow.values() for run in sorted(runs, reverse=True)[: number or 0]}


def _reason(one: RunFacts, rules: Rules, last: Collection[str], edge: str | None) -> str | None:
    if one.status == "running":
        return "still going on"
    if one.pinned:
        return "pinned"
    if tags := sorted(one.tags.intersection(rules.keep_tags)):
        return f"tag {tags[0]}"
    if one.pathspec in last:
        return f"among the last {rules.keep_last}"
    if edge is not None and one.started >= edge:
        return "not old enough"
    return None


def _came_from(known: Iterable[RunFacts], told: Mapping[str, str | None]) -> dict[str, str]:
    """Runs that were to go, and that others came from which stay."""
    staying = [one for one in known if told.get(one.pathspec, "") is not None]
    return {
        one.origin: f"{one.pathspec} came from it"
        for one in staying
        if one.origin is not None and one.origin in told and told[one.origin] is None
    }
