"""Why two results differ, most likely: told from what the differences look like."""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

__all__ = ["hint_of"]

_ROUNDING = 1e-6  # relative; summing a million doubles in another order differs by less
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d|datetime\.datetime\(|Timestamp\(|\b\d{1,2}:\d\d:\d\d\b")
_EPOCH = (1_000_000_000, 4_000_000_000)  # seconds since 1970 of the years 2001 to 2096
_TEMPORARY = re.compile(r"/(?:tmp|var/folders|temp|T)/|[\\/]tmp[\w]{6,}")
_IDENTIFIER = re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b|UUID\(")
_TOKEN = re.compile(r"b?'((?=.*\d)(?=.*[a-f])[0-9a-f]{8,}|(?=.*\d)(?=.*[a-z])(?=.*[A-Z])[\w-]{16,})'")
_WHOLE = re.compile(r"-?\d+")
_ADDRESS = re.compile(r" at 0x[0-9a-f]{6,}")
_PARAMETER = re.compile(r"\.([A-Za-z]\w*)(?<!_)$")  # of an estimator, and what it has learnt
_FITTED = re.compile(r"\.[A-Za-z]\w*_(?:\[[^.]*)?$")
_ADDRESSES = (0x5500_0000_0000, 0x8000_0000_0000)  # where a 64-bit process keeps its objects
_DURATION = re.compile(
    r"(?<![a-z])(?:seconds|secs?|duration|elapsed|took|runtime|wall_?time|fit_time|[a-z_]*_time|time)s?(?![a-z])", re.I
)
_GIVEN = (  # by the system, told from a name
    (re.compile(r"(?<![a-z])p?pid(?:s|_|\b)|process_?id", re.I), "it looks like the id of a process"),
    (re.compile(r"(?<![a-z])ports?(?![a-z])", re.I), "it looks like a port that was free at the time"),
)


def hint_of(found: Sequence[Mapping[str, Any]], worst: Mapping[str, Any], only_numbers: bool, count: int) -> str | None:
    """One sentence about the likeliest cause; None when nothing speaks for one."""
    if not found:
        return None
    texts = [(str(one["before"]), str(one["after"])) for one in found]
    if all(one["kind"] == "order" for one in found):
        return "the same items stand in another order: they come from something without one (a set, threads, a folder's listing)"
    for pattern, told in (
        (_IDENTIFIER, "it holds an identifier that is made anew each time"),
        (_ADDRESS, "it holds the address of an object in memory"),
        (_MOMENT, "it holds a moment in time"),
        (_TEMPORARY, "it holds the path of a temporary folder"),
    ):
        if all(pattern.search(before) and pattern.search(after) for before, after in texts):
            return told
    if any(str(one["place"]).endswith(".random_state") for one in found):
        return "its random_state is another one: none was fixed, or another"
    parameter = next((match[1] for one in found if (match := _PARAMETER.search(str(one["place"])))), None)
    if parameter is not None and any(_FITTED.search(str(one["place"])) for one in found):
        return f"it was made with another {parameter}"
    if all(_TOKEN.fullmatch(before) and _TOKEN.fullmatch(after) for before, after in texts):
        return "it looks like a token or a digest: random, or of something that is another each time"
    if all(one["kind"] == "text" and one.get("share", 0.0) > 0.9 and one["of"] >= 8 for one in found):
        return "nearly every byte is another one: random, compressed or encrypted data look like this"
    drawn = [one for one in found if one["kind"] != "pixels"]  # a figure's pixels follow its numbers
    if only_numbers or (worst and drawn and all(one["kind"] == "number" for one in drawn)):
        return _of_numbers(drawn, worst, [(str(one["before"]), str(one["after"])) for one in drawn], count)
    return None


def _of_numbers(
    found: Sequence[Mapping[str, Any]], worst: Mapping[str, Any], texts: Sequence[tuple[str, str]], count: int
) -> str | None:
    pairs = [(_number(before), _number(after)) for before, after in texts]
    if all(_is_moment(a) and _is_moment(b) for a, b in pairs) and worst["abs"] > 0:
        return "it looks like a moment in time, in seconds"
    if all(_is_address(before) and _is_address(after) for before, after in texts):
        return "it looks like the address of an object in memory, as id() gives"
    if all(_DURATION.search(str(one["place"])) for one in found):
        return "it looks like how long something took"
    whole = all(_WHOLE.fullmatch(before) and _WHOLE.fullmatch(after) for before, after in texts)
    for pattern, told in _GIVEN:
        if whole and all(pattern.search(str(one["place"])) for one in found):
            return told
    share = max((one.get("share") or 0.0 for one in found), default=0.0)
    if 0 < worst["rel"] <= _ROUNDING and not whole:
        ulp = f", {worst['ulp']:,.0f} ULP" if worst["ulp"] < 1e6 else ""
        return (
            f"rounding: the numbers agree to {worst['rel']:.0e}{ulp}, as after summing in another order, "
            "with other threads or on another processor"
        )
    moved = [(name, float(one[name])) for one in found for name in ("factor", "offset") if name in one]
    if len(moved) == len(found) and len(set(moved)) == 1:
        how = "multiplied by" if moved[0][0] == "factor" else "more by"
        return f"all that differs is {how} {moved[0][1]:.6g}: another unit, scale or parameter"
    if (share > 0.9 or count > 3) and worst["rel"] > 0.01:
        more = ", and so do numbers that the system gives (processes, ports)" if whole else ""
        return f"nearly every number is another one: random numbers without a fixed seed look like this{more}"
    return None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def _is_address(text: str) -> bool:
    return text.isdigit() and _ADDRESSES[0] <= int(text) < _ADDRESSES[1] and int(text) % 8 == 0


def _is_moment(value: float) -> bool:
    return any(low < value / unit < high for low, high in [_EPOCH] for unit in (1, 1e3, 1e6, 1e9))
