"""A DIFFERENCE of docs/spec/verdict.md beyond its first sentence: lines, rows, sizes, further places."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from stillrun_cli.console import clean

__all__ = ["detail_lines"]

_WIDTH = 150
Record = Mapping[str, Any]


def detail_lines(difference: Record | None, most: int) -> list[str]:
    """What there is to see of a difference in at most ``most`` lines; none where the sentence says it all."""
    if not difference or not difference.get("found"):
        return []
    lines = [clean(line)[:_WIDTH] for line in _lines(difference)]
    if len(lines) <= most:
        return lines
    return [*lines[: most - 1], f"... {len(lines) - most + 1} more; --json has all that was kept"] if most > 1 else []


def _lines(difference: Record) -> Iterator[str]:
    found = difference["found"]
    first = found[0]
    yield from _of_text(first)
    yield from _of_array(first)
    yield from _of_labels(first)
    for one in found[1:]:
        yield _sentence(one)
        yield from _of_labels(one)
    for one in found:
        yield from _of_rows(one)


def _sentence(one: Record) -> str:
    if one["kind"] == "missing":
        return f"{one['place']} is not there any more"
    if one["kind"] == "extra":
        return f"{one['place']} is new: {one['after']}"
    share = f", {one['differing']:,} of {one['of']:,}" if one.get("of", 1) > 1 else ""
    size = f" (relative {float(one['rel']):.1e}{share})" if "rel" in one else ""
    return f"{one['place']}: {one['before']} → {one['after']}{size}"


def _of_text(one: Record) -> Iterator[str]:
    """The lines of the unified diff, without the names of its two sides."""
    yield from (line for line in one.get("diff", ())[2:])


def _of_array(one: Record) -> Iterator[str]:
    """How many numbers differ, by how much."""
    sizes = one.get("histogram")
    if sizes is None or one["differing"] <= 1:
        return
    told = ", ".join(f"{count:,} of {power}" for power, count in sorted(sizes.items(), key=lambda item: float(item[0])))
    yield f"{float(one['share']):.1%} of the numbers; largest: absolute {float(one['abs']):.1e}, relative {float(one['rel']):.1e}"
    if told:
        yield f"relative differences by size: {told}"


def _of_labels(one: Record) -> Iterator[str]:
    """The rows that one side alone has."""
    for name, told in (("gone", "rows that are gone"), ("new", "rows that are new")):
        if one.get(name):
            yield f"{told}: {', '.join(one[name])}"


def _of_rows(one: Record) -> Iterator[str]:
    """The rows of a table in which something changed, before and after."""
    for row in one.get("rows", ()):
        cells = (
            f"{name} {row['before'][name]} → {row['after'][name]}"
            for name in row["before"]
            if row["before"][name] != row["after"][name]
        )
        yield f"row {row['row']}: {', '.join(cells)}"
