"""Source code and differences as marked-up lines. Everything foreign in them is escaped."""

from __future__ import annotations

from collections.abc import Iterable

from markupsafe import Markup, escape
from pygments.lexers.python import PythonLexer
from pygments.token import STANDARD_TYPES

from stillrun_reports.page.text import plain

__all__ = ["diff_lines", "python_lines"]

_WORDS, _TEXTS, _NAMES = (
    ("k", "kn", "kc", "ow", "bp"),
    ("s", "s1", "s2", "sd", "sa", "si", "se"),
    ("nf", "fm", "nc", "nd"),
)
_COLOURED = frozenset((*_WORDS, *_TEXTS, *_NAMES, "c1", "c", "cm", "mi", "mf", "m"))
_HIGHLIGHT_MAX = 100_000  # characters; longer code is shown without colours


def python_lines(code: str, first: int) -> Markup:
    """Python code, a span a line, numbered from ``first``, tokens by pygments' short class names."""
    clean = str(plain(code))
    lines: list[list[str]] = [[]]
    tokens = (
        PythonLexer(stripnl=False, ensurenl=False).get_tokens(clean) if len(clean) < _HIGHLIGHT_MAX else [(None, clean)]
    )
    for kind, value in tokens:
        name = STANDARD_TYPES.get(kind, "") if kind is not None else ""
        for number, part in enumerate(value.split("\n")):
            if number:
                lines.append([])
            if part:
                lines[-1].append(
                    f'<span class="{name}">{escape(part)}</span>' if name in _COLOURED else str(escape(part))
                )
    spans = (
        f'<span class="ln" data-n="{first + number}">{"".join(line)}\n</span>' for number, line in enumerate(lines)
    )
    return Markup("".join(spans))  # noqa: S704 - every piece is escaped above


def diff_lines(lines: Iterable[str]) -> Markup:
    """Lines of a unified diff, added and removed ones told apart by class as well as by their sign."""
    return Markup("".join(f"<span{_kind(line)}>{escape(str(plain(line)))}\n</span>" for line in lines))  # noqa: S704 - escaped


def _kind(line: str) -> str:
    if line.startswith(("+++", "---", "@@", "diff ")):
        return ' class="hunk"'
    return {"+": ' class="add"', "-": ' class="del"'}.get(line[:1], "")
