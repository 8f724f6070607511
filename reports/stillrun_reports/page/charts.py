"""Bars and small charts as plain SVG: when tasks waited and ran, how many at once, and how far numbers are apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from markupsafe import Markup

from stillrun_reports.page.text import duration, share, state

__all__ = ["Axis", "draw_histogram", "draw_shares"]

Record = Mapping[str, Any]
_BUCKETS = 120
_BARS = 12  # that a histogram has room for at least, so that one bar is not a block
_TICKS = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 28800, 86400)  # seconds


class Axis:
    """The time of a run, from its begin to its last task's end; what it draws is as wide as its place on the page."""

    def __init__(self, started: str, tasks: Sequence[Record]) -> None:
        """tasks: those that ran in this run; reused ones ran at another time."""
        own = [task for task in tasks if not task["reused"]]
        self._begin = _seconds(started)
        self.length = max([_seconds(task["finished"]) - self._begin for task in own], default=0.0) or 1e-3

    def ticks(self) -> list[tuple[str, str]]:
        """Place in percent and label of three to eight round times."""
        if self.length < 2:
            step = next(one / 1000 for one in (1, 2, 5, 10, 20, 50, 100, 200, 500) if self.length / (one / 1000) <= 6)
        else:
            step = next((float(one) for one in _TICKS if self.length / one <= 7), self.length / 6)
        return [
            (share(step * number, self.length), duration(round(step * number * 1e6)) if number else "0")
            for number in range(int(self.length / step) + 1)
        ]

    def bar(self, task: Record) -> Markup:
        """One task: a thin part where it waited, a full one where it ran; earlier attempts before it."""
        if task["reused"]:
            return Markup(
                '<svg class="bar" aria-hidden="true"><rect class="reused" x="0" y="5" width="100%" height="4"/></svg>'
            )
        parts = [self._part("wait", _seconds(task["started"]) - (task["queue_us"] or 0) / 1e6, task["started"], 6, 2)]
        for attempt in task["attempts"]:
            parts.append(self._part("again", _seconds(attempt["started"]), attempt["finished"], 1, 12))
        tone = state(task["verdict"] or task["status"]).tone
        parts.append(self._part(f"ran tone-{tone}", _seconds(task["started"]), task["finished"], 1, 12))
        return Markup(f'<svg class="bar" aria-hidden="true">{"".join(parts)}</svg>')  # noqa: S704 - numbers and our own words

    def _part(self, name: str, start: float, end: str, top: int, height: int) -> str:
        left, width = start - self._begin, max(0.0, _seconds(end) - start)
        if name != "wait":
            width = max(width, self.length / 400)  # what took no time is still to be seen
        place = f'x="{share(left, self.length)}" width="{share(width, self.length)}"'
        return f'<rect class="{name}" {place} y="{top}" height="{height}" rx="2"/>'

    def crowd(self, tasks: Sequence[Record]) -> Markup:
        """Many tasks of one step: how many of them ran at each time."""
        counts = [0] * _BUCKETS
        for task in tasks:
            if not task["reused"]:
                first = self._bucket(task["started"])
                for place in range(first, max(first, self._bucket(task["finished"])) + 1):
                    counts[place] += 1
        most = max(counts) or 1
        rects = "".join(
            f'<rect x="{share(place, _BUCKETS)}" y="{26 - 24 * count / most:.1f}" width="{100 / _BUCKETS:.2f}%" '
            f'height="{24 * count / most:.1f}"/>'
            for place, count in enumerate(counts)
            if count
        )
        return Markup(f'<svg class="bar crowd" aria-hidden="true">{rects}</svg>')  # noqa: S704 - numbers

    def _bucket(self, time: str) -> int:
        return min(_BUCKETS - 1, max(0, int((_seconds(time) - self._begin) / self.length * _BUCKETS)))


def _seconds(time: str) -> float:
    return datetime.fromisoformat(time.removesuffix("Z") + "+00:00").timestamp()


def draw_shares(counts: Mapping[str, int]) -> Markup:
    """How many of each level as one bar, in the levels' colours."""
    whole, left, parts = sum(counts.values()), 0, []
    for level, count in counts.items():
        place = f'x="{share(left, whole)}" width="{share(count, whole)}"'
        parts.append(f'<rect class="tone-{state(level).tone}" {place} y="0" height="10"/>')
        left += count
    return Markup(f'<svg class="shares" aria-hidden="true">{"".join(parts)}</svg>')  # noqa: S704 - numbers and our own words


def draw_histogram(found: Sequence[tuple[str, int]]) -> Markup:
    """How many relative differences there are of each power of ten, the smallest first."""
    most = max((count for _, count in found), default=0) or 1
    room = max(len(found), _BARS)
    rects = "".join(
        f'<rect x="{share(place, room)}" y="{36 - 34 * count / most:.1f}" width="{88 / room:.2f}%" '
        f'height="{34 * count / most:.1f}"/>'
        for place, (_, count) in enumerate(found)
    )
    return Markup(f'<svg class="histogram" aria-hidden="true">{rects}</svg>')  # noqa: S704 - numbers
