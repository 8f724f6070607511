"""What a result depends on, in a sentence: told from what was changed, and from what then differed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stillrun_snapshot.deferred import dataclass

__all__ = ["ITSELF", "TOLD", "UNRECORDED", "Cause", "Key", "cause_of"]

ITSELF = "itself"
UNRECORDED = "unrecorded"
TOLD: Mapping[str, str] = {
    "hashseed": "the hash seed",
    "threads": "the number of threads",
    "timezone": "the time zone",
    "locale": "the locale",
    "time": "the time",
    "path": "the folder it runs in",
    "order": "the order of a folder's listing",
    "cpu": "the processor's instructions",
}
"""What a result can depend on, by the word for it."""

_WHY: Mapping[str, str] = {
    ITSELF: "chance without a seed, the time, the order of threads, or what the system gives anew",
    "hashseed": "something in it follows the order of a set, or hash()",
    "threads": "it holds their number, or work is divided by it",
    "timezone": "it holds a local time",
    "locale": "it is sorted, parsed or written by local rules",
    "time": "it holds a date, a time of day or a duration",
    "path": "it holds a path",
    "order": "sort what os.listdir or glob give",
    "cpu": "its rounding differs between kinds of processors",
}
_ROUNDED: Mapping[str, str] = {
    "hashseed": "numbers are added up in the order of a set",
    "threads": "sums are made in another order",
    "order": "numbers are added up in the order of a listing: sort what os.listdir or glob give",
}

Key = tuple[str, str, str | None]
"""Step, task and artifact; None for how the task itself ended."""


@dataclass(frozen=True)
class Cause:
    """One artifact and what it depends on; ``itself`` stands for an axis when it differs with nothing changed."""

    step: str
    task: str
    name: str | None  # None: the task itself ends otherwise
    axes: tuple[str, ...]  # or UNRECORDED: all replays agree, and the original run does not
    sentence: str

    def to_record(self) -> dict[str, Any]:
        """The cause as JSON tells it."""
        return {**self.__dict__, "axes": list(self.axes)}


def cause_of(key: Key, names: Sequence[str], verdict: Mapping[str, Any]) -> Cause:
    """The cause that ``names`` are. verdict: of the replay in which it showed first, a verdict/1 record."""
    step, task, name = key
    what = f"{step}/{task}/{name}" if name else f"{step}/{task}"
    if UNRECORDED in names:
        why = "it depends on something that was not recorded: a variable, a service, or what lay outside of the run"
        return Cause(
            step, task, name, tuple(names), f"{what} is the same in all replays but not as in the original run: {why}"
        )
    told = " and on ".join(TOLD[axis] for axis in names if axis != ITSELF)
    begins = f"{what} depends on {told}" if told else f"{what} differs by itself from one replay to the next"
    return Cause(step, task, name, tuple(names), f"{begins}: {_why(key, names[0], verdict)}")


def _why(key: Key, axis: str, verdict: Mapping[str, Any]) -> str:
    step, task, name = key
    if name is None:
        reasons = (one["reason"] for one in verdict["tasks"] if (one["step"], one["task"]) == (step, task))
        return next(filter(None, reasons), _WHY[axis])
    found = next(
        (one["difference"] for one in verdict["artifacts"] if (one["step"], one["task"], one["name"]) == key), None
    )
    if not found or not found.get("first"):
        return _WHY[axis]
    first, hint = found["first"], found["hint"] or ""
    is_order = first["kind"] == "order"
    if axis == ITSELF and is_order:
        return f"{_whole(first['place'], name)} is in the order in which threads, processes or coroutines end"
    if axis in (ITSELF, "time"):
        return hint or _WHY[axis]
    if axis == "hashseed" and is_order:
        return f"{_whole(first['place'], name)} is in the order of a set"
    is_sum = hint.startswith("rounding") or (axis == "threads" and "." in first["before"] and first["kind"] == "number")
    return _ROUNDED.get(axis, _WHY[axis]) if is_sum else _WHY[axis]


def _whole(place: str, name: str) -> str:
    """What is ordered, from the place of the first item that is not where it was."""
    whole = place[: place.rindex("[")] if place.endswith("]") else place
    return "it" if whole == name else whole
