"""The sign of a verdict: a seal with a mark that can be told without colour."""

from __future__ import annotations

from collections.abc import Mapping

from markupsafe import Markup

__all__ = ["draw_medallion"]

_CHECK = "M20 33.5 28.5 42 45 24.5"
_CROSS = "M23 23 41 41M41 23 23 41"
_MARKS: Mapping[str, str] = {
    "identical": _CHECK,
    "equivalent": "M21 27c4-4 8-4 11-1s7 3 11-1M21 39c4-4 8-4 11-1s7 3 11-1",
    "within_tolerance": "M32 20v16M24 28h16M24 43h16",
    "different": "M22 27h20M22 38h20M38 19 27 46",
    "not_comparable": "M25.5 26a6.5 6.5 0 1 1 9.6 5.7c-2 1.1-3.1 2.4-3.1 4.6M32 44.2v.1",
    "failed": _CROSS,
    "error": _CROSS,
    "damaged": "M32 19v16M32 43.5v.1",
    "interrupted": "M26 22v20M38 22v20",
    "running": "M32 21v12l8 5",
    "not_replayed": "M22 32h20",
}


def draw_medallion(level: str) -> Markup:
    """The seal for a level of ``report.json``."""
    mark = _MARKS.get(level, _MARKS["not_comparable"])
    return Markup(  # noqa: S704 - our own words
        '<svg viewBox="0 0 64 64" aria-hidden="true"><circle cx="32" cy="32" r="29" fill="none" stroke="currentColor" '
        'stroke-width="2" stroke-dasharray="1.6 3.4" opacity=".55"/><circle cx="32" cy="32" r="24" fill="currentColor"/>'
        f'<path d="{mark}" class="mark" fill="none" stroke-width="4.4" stroke-linecap="round" stroke-linejoin="round"/></svg>'
    )
