"""The names that somebody may have meant."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["did_you_mean", "listed"]


def did_you_mean(name: str, names: Iterable[str], before: str = "", after: str = "") -> str | None:
    """A question such as "Did you mean 'alpha'?", or None when no name is near."""
    import difflib

    near = difflib.get_close_matches(name, sorted(names), n=3, cutoff=0.6)
    if not near:
        return None
    return "Did you mean " + " or ".join(f"{before}{each}{after}" for each in near) + "?"


def listed(names: Iterable[str], none: str = "nothing", most: int = 20) -> str:
    """Names as a readable list, cut after ``most`` of them."""
    ordered = list(names)
    if not ordered:
        return none
    more = f" and {len(ordered) - most} more" if len(ordered) > most else ""
    return ", ".join(ordered[:most]) + more
