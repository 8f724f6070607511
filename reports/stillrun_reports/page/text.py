"""Words, letters, sizes and times as the page shows them, and foreign text without what could drive a reader's screen. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

from markupsafe import Markup, escape

from stillrun_snapshot.deferred import dataclass

__all__ = ["STATES", "State", "breakable", "duration", "host_of", "moment", "plain", "share", "size", "state"]


@dataclass(frozen=True)
class State:
    """How something stands: a word, a letter for those who see no colour, and the colour's name in the style sheet."""

    word: str
    letter: str
    tone: str


STATES: Mapping[str, State] = {
    "identical": State("identical", "I", "good"),
    "equivalent": State("equivalent", "E", "near"),
    "within_tolerance": State("within tolerance", "T", "near"),
    "volatile": State("volatile", "V", "calm"),
    "not_comparable": State("not comparable", "C", "warn"),
    "missing": State("missing", "M", "bad"),
    "extra": State("extra", "X", "bad"),
    "different": State("different", "D", "bad"),
    "error": State("replay failed", "Y", "bad"),
    "ok": State("ran", "R", "calm"),
    "reused": State("reused", "U", "calm"),
    "failed": State("failed", "F", "bad"),
    "interrupted": State("stopped", "S", "warn"),
    "running": State("running", "A", "warn"),
    "not_run": State("did not run", "N", "none"),
    "not_replayed": State("not replayed", "N", "none"),
    "damaged": State("damaged", "B", "bad"),
    "yes": State("yes", "✓", "good"),
    "partly": State("partly", "~", "warn"),
    "no": State("no", "✕", "bad"),
    "unknown": State("not known", "?", "none"),
    "shown": State("shown", "✓", "good"),
    "not_shown": State("not shown", "\N{EN DASH}", "none"),
    "sound": State("holds", "✓", "good"),
    "stranger": State("holds, key not vouched for", "~", "warn"),
    "revoked": State("key revoked", "✕", "bad"),
    "stale": State("of another record", "✕", "bad"),
    "unsound": State("does not hold", "✕", "bad"),
    "finding": State("finding", "!", "bad"),
    "note": State("note", "i", "none"),
}
"""By the words of report.json."""

_NOTHING = "\N{EN DASH}"
_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\ufdd0-\ufdef\ufffe\uffff]"
)


def state(word: str) -> State:
    """How ``word`` of report.json is shown; a word that is not known as it is."""
    return STATES.get(word) or State(word.replace("_", " "), "?", "none")


def plain(value: object) -> object:
    """Foreign text with control characters and those that turn its direction shown by name; everything else as it is."""
    if isinstance(value, str) and not isinstance(value, Markup) and _CONTROL.search(value):
        return _CONTROL.sub(_named, value)
    return value


def _named(match: re.Match[str]) -> str:
    number = ord(match[0])
    return chr(0x2400 + number) if number < 0x20 else f"⟨U+{number:04X}⟩"


def size(count: int | None) -> str:
    """Bytes in decimal units: 1.2 MB."""
    if count is None:
        return _NOTHING
    amount, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if amount < 1000:
            break
        amount, unit = amount / 1000, larger
    return f"{count} B" if unit == "B" else f"{amount:.1f} {unit}"


def duration(microseconds: int | None) -> str:
    """Time as a person says it: 12 ms, 3.4 s, 2 min 5 s, 3 h 20 min."""
    if microseconds is None:
        return _NOTHING
    seconds = microseconds / 1e6
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{int(seconds // 60)} min {int(seconds % 60)} s"
    return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60)} min"


def moment(time: str | None) -> str:
    """A recorded time without its T: 2026-11-23 04:00:00 UTC."""
    return f"{time[:10]} {time[11:19]} UTC" if time else _NOTHING


def share(part: float, whole: float) -> str:
    """A part of the whole in percent, for places in a drawing."""
    return f"{100 * part / whole:.2f}%" if whole > 0 else "0%"


def breakable(name: str) -> Markup:
    """A dotted or slashed name that may be broken behind its dots, strokes and underscores."""
    return Markup(re.sub(r"([./_])(?=.)", r"\1<wbr>", str(escape(plain(name)))))  # noqa: S704 - escaped before


def host_of(address: str) -> str:
    """The host of an address; the address itself where it has none."""
    match = re.match(r"[a-z+]+://([^/]+)", address)
    return match[1] if match else address
