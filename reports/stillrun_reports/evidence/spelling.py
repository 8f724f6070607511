"""Text of strangers in files of ours: names, previews, logs and messages, so that no reader takes them for anything else.

What could steer a terminal or turn text around is never written as it is: control characters (C0, C1), marks that turn the
direction of writing, line and paragraph separators, surrogates, and invisible characters that join or part nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import quote

__all__ = ["document", "identifier", "markdown", "plain", "xml"]

_STEERING = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ud800-\udfff\ufeff\ufff9-\uffff]|[\U000e0000-\U000e007f]"
)
_STEERING_LINE = re.compile(_STEERING.pattern.replace("\x00-\x1f", "\x00-\x09\x0b-\x1f"))  # \n parts lines of ours
_ENCODER = json.JSONEncoder(ensure_ascii=False)  # made once, and without indents: then it is the one of C
_WIDTH = 110
_MARKS = re.compile(r"[^\w /,;.-]|_|(?<=[wW]{3})\.", re.ASCII)


def plain(text: str, limit: int = 2000) -> str:
    r"""``text`` on one line: what steers is shown as an escape such as \x1b; cut after ``limit`` characters."""
    cut = text if len(text) <= limit else text[: limit - 1] + "…"
    return _STEERING.sub(lambda found: ascii(found[0])[1:-1], cut)


def document(value: Mapping[str, Any]) -> str:
    """JSON for people and tools: keys in the order they were given, nothing in it that steers a terminal.

    What fits on a line stands on one; all else has its parts on lines of their own, two spaces further in.
    """
    pieces: list[str] = []
    _write(value, "\n", pieces.append)
    return _STEERING_LINE.sub(_escape, "".join(pieces)) + "\n"


def _write(value: Any, line: str, put: Callable[[str], None]) -> None:
    text = _ENCODER.encode(value)
    if len(text) <= _WIDTH or not isinstance(value, dict | list):
        put(text)
        return
    inner, named = line + "  ", isinstance(value, dict)
    before = ("{" if named else "[") + inner
    for part in value:
        put(before)
        if named:
            put(_ENCODER.encode(part) + ": ")
        _write(value[part] if named else part, inner, put)
        before = "," + inner
    put(line + ("}" if named else "]"))


def _escape(found: re.Match[str]) -> str:
    return json.dumps(found[0])[1:-1]


def markdown(text: str, limit: int = 300) -> str:
    """``text`` as code within a line or a cell: no mark in it means anything, it names nobody and links nowhere.

    Every mark is a character reference; those cannot stand for structure (CommonMark 0.31, 2.5).
    """
    escaped = _MARKS.sub(lambda found: f"&#{ord(found[0])};" if ord(found[0]) < 128 else found[0], plain(text, limit))
    return f"<code>{escaped}</code>" if escaped else ""


def xml(text: str, limit: int = 100_000) -> str:
    r"""``text`` without what XML 1.0 cannot hold or what steers; lines stay. Marks are escaped by whoever writes it."""
    cut = text if len(text) <= limit else text[: limit - 1] + "…"
    return "\n".join(_STEERING.sub(lambda found: ascii(found[0])[1:-1], line) for line in cut.split("\n"))


@lru_cache(1 << 16)  # the same few steps and names, for each of many tasks
def identifier(*parts: str) -> str:
    """Parts of a name as one that stands in an IRI: all but letters, digits and '.-_~' in percent form, joined by '/'."""
    return "/".join(quote(part, safe="") for part in parts)
