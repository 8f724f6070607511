"""Printing: aligned tables, sizes and times for people, JSON for programs, colour only where it is wanted."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import click

__all__ = [
    "VERDICT_STYLES",
    "clean",
    "common_options",
    "duration",
    "paint",
    "print_json",
    "print_table",
    "short",
    "size",
    "store_option",
    "word",
]

VERDICT_STYLES: Mapping[str, dict[str, Any]] = {
    "identical": {"fg": "green"},
    "equivalent": {"fg": "green"},
    "within_tolerance": {"fg": "green"},
    "volatile": {"fg": "blue"},
    "not_comparable": {"fg": "yellow", "bold": True},
    "ok": {"fg": "green"},
    "running": {"fg": "blue"},
    "different": {"fg": "red", "bold": True},
    "missing": {"fg": "red"},
    "extra": {"fg": "red"},
    "failed": {"fg": "red", "bold": True},
    "interrupted": {"fg": "yellow"},
    "error": {"fg": "red", "bold": True},
}


def common_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options that every reporting command has: --json and --store."""
    as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object for programs.")
    return as_json(store_option(function))


def store_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """The --store option, which may stand before or after a command."""
    told = "The store; default: STILLRUN_STORE, or the user's data folder."
    return click.option("--store", metavar="DIR", expose_value=False, callback=_use_store, help=told)(function)


def _use_store(ctx: click.Context, _: click.Parameter, value: str | None) -> None:
    if value is not None:
        ctx.find_root().obj = value


def print_json(value: Mapping[str, Any]) -> None:
    """One JSON object on one line of standard output."""
    click.echo(json.dumps(value, ensure_ascii=False))


def paint(text: str, **style: Any) -> str:
    """``text`` in colour when standard output is a terminal and NO_COLOR is not set."""
    if os.environ.get("NO_COLOR") or not sys.stdout.isatty():
        return text
    return click.style(text, **style)


def word(text: str) -> str:
    """A status or verdict in its colour."""
    return paint(text, **VERDICT_STYLES.get(text, {}))


def clean(text: str) -> str:
    """``text`` without control characters: names and previews cannot drive the terminal."""
    return "".join(ch if ch.isprintable() or ch in "\n\t" else "\N{REPLACEMENT CHARACTER}" for ch in text)


def print_table(head: Sequence[str], rows: Iterable[Sequence[str]], indent: str = "") -> None:
    """Columns as wide as their widest cell; statuses and verdicts in colour."""
    cells = [[clean(str(cell)).replace("\n", " ") for cell in row] for row in rows]
    widths = [max([len(title), *(len(row[i]) for row in cells)]) for i, title in enumerate(head)]
    click.echo(indent + paint("  ".join(t.ljust(w) for t, w in zip(head, widths, strict=True)).rstrip(), dim=True))
    for row in cells:
        padded = [word(cell) + " " * (width - len(cell)) for cell, width in zip(row, widths, strict=True)]
        click.echo(indent + "  ".join(padded).rstrip())


def size(count: int) -> str:
    """Bytes in decimal units: 1.2 MB."""
    amount, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if amount < 1000:
            break
        amount, unit = amount / 1000, larger
    return f"{count} B" if unit == "B" else f"{amount:.1f} {unit}"


def duration(microseconds: int) -> str:
    """Time as a person says it: 12 ms, 3.4 s, 2 min 5 s."""
    seconds = microseconds / 1e6
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{int(seconds // 60)} min {int(seconds % 60)} s"


def short(digest: str | None) -> str:
    """The beginning of a digest, enough to tell it apart."""
    return digest.removeprefix("sha256:")[:12] if digest else "-"
