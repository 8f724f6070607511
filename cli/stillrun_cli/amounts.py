"""Amounts as people write them: 12h, 90d, 20GB."""

from __future__ import annotations

import re

from stillrun_engine.errors import EngineError

__all__ = ["bytes_of", "seconds_of"]

_UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_SIZES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_TIME_MAX = 365_000 * 86400  # seconds: what is counted back from today stays a date


def seconds_of(text: str, option: str) -> int:
    """A time such as 12h or 7d, in seconds; EngineError names the option that it was given to."""
    seconds = _amount(text, _UNITS, option, "a time such as 12h or 7d")
    if seconds > _TIME_MAX:
        raise EngineError(f"{option} {text!r} is longer than 1,000 years.")
    return seconds


def bytes_of(text: str, option: str) -> int:
    """A size such as 20GB, in bytes."""
    return _amount(re.sub("[bB]$", "", text), _SIZES, option, "a size such as 20GB")


def _amount(text: str, units: dict[str, int], option: str, shape: str) -> int:
    match = re.fullmatch(r"(\d{1,15}(?:\.\d{1,9})?)\s*([A-Za-z]?)", text.strip())
    if match is None or match[2].lower() not in units:
        raise EngineError(f"{option} {text[:40]!r} is not {shape}.")
    return int(float(match[1]) * units[match[2].lower()])
