"""The flow's graph as a drawing: levels from top to bottom, a step a box, a foreach a stack. Plain SVG, nothing to load."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from markupsafe import Markup, escape

from stillrun_reports.page.text import plain, state
from stillrun_snapshot.deferred import dataclass

__all__ = ["draw_graph"]

_WIDTH, _HEIGHT = 176, 54  # of a box
_ACROSS, _DOWN = 20, 46  # between boxes
_PASSING = 24  # room for a line that passes a level
_MARGIN = 14
_NAME_MAX = 16  # characters that fit into a box
_SMALL_MAX = 17  # or into each of two lines
_STACK = 5
_KINDS = {"foreach": "splits", "split": "branches", "switch": "chooses", "join": "joins"}

Step = Mapping[str, Any]


@dataclass(frozen=True)
class _Place:
    """A box, or the room of a line that passes: its middle, and its top."""

    x: float
    y: float


def draw_graph(steps: Sequence[Step], anchors: Mapping[str, str]) -> Markup:
    """The drawing. anchors: by step the id of the part of the page that shows it."""
    if not steps:
        return Markup("")
    names = {step["step"]: step for step in steps}
    chains = _chains(names)
    rows = _rows(names, chains)
    width = max(sum(_room(one) for one in row) + _ACROSS * (len(row) - 1) for row in rows)
    places = _places(rows, width)
    back = [(name, after) for name, step in names.items() for after in step["next"] if _is_back(names, name, after)]
    total = width + 2 * _MARGIN + (36 if back else 0) + _STACK * 2
    height = len(rows) * (_HEIGHT + _DOWN) - _DOWN + 2 * _MARGIN + _STACK * 2
    lines = [_line([places[one] for one in chain]) for chain in chains]
    lines += [
        _way_back(places[name], places[after], width + _MARGIN + 20, names[after]["tasks"] > 1) for name, after in back
    ]
    boxes = [_box(step, places[name], anchors[name]) for name, step in names.items()]
    head = (
        f'<svg class="graph" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {total:.0f} {height:.0f}" '
        f'width="{total:.0f}" height="{height:.0f}" role="group" aria-label="Graph of the flow">'
    )
    arrow = (
        '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        'orient="auto-start-reverse"><path class="tip" d="M0 .8 7 4 0 7.2Z"/></marker></defs>'
    )
    return Markup(head + arrow + "".join(lines) + "".join(boxes) + "</svg>")  # noqa: S704 - all text in it is escaped


def _is_back(names: Mapping[str, Step], name: str, after: str) -> bool:
    return after in names and names[after]["level"] <= names[name]["level"]


_Node = str | tuple[str, str, int]  # a step, or a line's room on a level


def _chains(names: Mapping[str, Step]) -> list[list[_Node]]:
    """Each way forward as the steps and rooms that it goes through."""
    found: list[list[_Node]] = []
    for name, step in names.items():
        for after in dict.fromkeys(step["next"]):
            if after in names and not _is_back(names, name, after):
                between = range(step["level"] + 1, names[after]["level"])
                found.append([name, *((name, after, level) for level in between), after])
    return found


def _rows(names: Mapping[str, Step], chains: Sequence[Sequence[_Node]]) -> list[list[_Node]]:
    """What stands on each level, in an order in which few lines cross: each below the middle of what leads to it."""
    rows: list[list[_Node]] = [[] for _ in range(max(step["level"] for step in names.values()) + 1)]
    above: dict[_Node, list[_Node]] = {}
    for name, step in names.items():
        rows[step["level"]].append(name)
    for chain in chains:
        for one in chain[1:-1]:
            assert isinstance(one, tuple)  # only rooms stand between the ends
            rows[one[2]].append(one)
        for before, after in pairwise(chain):
            above.setdefault(after, []).append(before)
    for level, row in enumerate(rows[1:], 1):
        place = {one: number / max(1, len(rows[level - 1]) - 1) for number, one in enumerate(rows[level - 1])}
        row.sort(key=lambda one: sum(place.get(up, 0.5) for up in above.get(one, ())) / max(1, len(above.get(one, ()))))
    return rows


def _room(node: _Node) -> int:
    return _WIDTH if isinstance(node, str) else _PASSING


def _places(rows: Sequence[Sequence[_Node]], width: float) -> dict[_Node, _Place]:
    found: dict[_Node, _Place] = {}
    for level, row in enumerate(rows):
        left = _MARGIN + (width - sum(map(_room, row)) - _ACROSS * (len(row) - 1)) / 2
        for one in row:
            found[one] = _Place(left + _room(one) / 2, _MARGIN + level * (_HEIGHT + _DOWN))
            left += _room(one) + _ACROSS
    return found


def _line(through: Sequence[_Place]) -> str:
    parts = [f"M{through[0].x:.1f} {through[0].y + _HEIGHT:.1f}"]
    for before, after in pairwise(through):
        start, end = before.y + _HEIGHT, after.y
        bend = (start + end) / 2
        parts.append(f"C{before.x:.1f} {bend:.1f} {after.x:.1f} {bend:.1f} {after.x:.1f} {end:.1f}")
        if after is not through[-1]:
            parts.append(f"V{end + _HEIGHT:.1f}")
    return f'<path class="edge" d="{" ".join(parts)}" marker-end="url(#arrow)"/>'


def _way_back(start: _Place, end: _Place, right: float, stacked: bool) -> str:
    top, bottom = end.y + _HEIGHT / 2 - 8, start.y + _HEIGHT / 2 + 8
    left, other = start.x + _WIDTH / 2, end.x + _WIDTH / 2 + (2 * _STACK if stacked else 0)
    turn = f"M{left:.1f} {bottom:.1f}C{right:.1f} {bottom:.1f} {right:.1f} {top:.1f} {other:.1f} {top:.1f}"
    return f'<path class="edge back" d="{turn}" marker-end="url(#arrow)"/>'


def _box(step: Step, place: _Place, anchor: str) -> str:
    """A step: its letter, its name, and what it is; other tasks of a foreach stand behind it."""
    told = state(step["state"])
    left, top = place.x - _WIDTH / 2, place.y
    shape = f'width="{_WIDTH}" height="{_HEIGHT}" rx="9"'
    behind = (2, 1) if step["tasks"] > 1 else ()
    stack = "".join(
        f'<rect class="box" x="{left + _STACK * by:.1f}" y="{top + _STACK * by:.1f}" {shape}/>' for by in behind
    )
    name = str(plain(step["step"]))
    label = f"{name}: {told.word}, {step['tasks']:,} task{'' if step['tasks'] == 1 else 's'}"
    return (
        f'<a href="#{anchor}" class="node tone-{told.tone}"><title>{escape(label)}</title>{stack}'
        f'<rect class="box front" x="{left:.1f}" y="{top:.1f}" {shape}/>'
        f'<circle class="dot" cx="{left + 26:.1f}" cy="{top + _HEIGHT / 2:.1f}" r="13"/>'
        f'<text class="letter" aria-hidden="true" x="{left + 26:.1f}" y="{top + _HEIGHT / 2 + 4.6:.1f}">{told.letter}</text>'
        + _written(name, _sub(step), left + 49, top)
        + "</a>"
    )


def _written(name: str, sub: str, left: float, top: float) -> str:
    """The words in a box: a name that is too long for one line takes two."""
    lines = _lines(name)
    places = (24, 41) if len(lines) == 1 else (19, 34, 47)
    kind = "name" if len(lines) == 1 else "name small"
    texts = [(kind, one) for one in lines] + [("sub", sub)]
    return "".join(
        f'<text class="{style}" x="{left:.1f}" y="{top + place:.1f}">{escape(text)}</text>'
        for (style, text), place in zip(texts, places, strict=True)
    )


def _lines(name: str) -> list[str]:
    """A name in one line or two, broken behind a word where there is one; what does not fit is cut."""
    if len(name) <= _NAME_MAX:
        return [name]
    words = name[:_SMALL_MAX].rfind("_") + 1
    first = name[: words or _SMALL_MAX]
    rest = name[len(first) :]
    return [first, rest if len(rest) <= _SMALL_MAX else rest[: _SMALL_MAX - 1] + "…"]


def _sub(step: Step) -> str:
    if not step["tasks"]:
        return "did not run"
    kind = _KINDS.get(step["kind"], "step")
    return f"{kind} · {step['tasks']:,} tasks" if step["tasks"] > 1 else kind
