"""Is a replayed result the same? Pure comparison of records: nothing is unpickled, nothing is read but digests.

Levels, best first (docs/spec/verdict.md): ``identical`` bytes; ``equivalent`` canonical digests; ``different``;
``missing`` and ``extra`` artifacts count as different. A task that ended otherwise than the original is different.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from stillrun_engine.parts import content_digest

__all__ = ["LEVELS", "ArtifactVerdict", "TaskVerdict", "judge_artifact", "judge_task", "worst"]

LEVELS = ("identical", "equivalent", "missing", "extra", "different", "error")
"""From the best to the worst."""

Record = Mapping[str, Any]


@dataclass(frozen=True)
class ArtifactVerdict:
    """One artifact, before and after. Digests are of its bytes; canonical ones of its value, where its type has one."""

    name: str
    verdict: str
    original: str | None
    replayed: str | None
    original_canonical: str | None
    replayed_canonical: str | None
    reason: str | None
    type: str

    def entry(self, step: str, task: str) -> dict[str, Any]:
        """The verdict as docs/spec/verdict.md writes it."""
        return {"step": step, "task": task, **self.__dict__}


@dataclass(frozen=True)
class TaskVerdict:
    """One task and its artifacts; ``reason`` tells what else differs."""

    step: str
    task: str
    verdict: str
    reason: str | None
    artifacts: tuple[ArtifactVerdict, ...]


def worst(verdicts: Iterable[str]) -> str:
    """The worst of ``verdicts`` as a verdict of the whole: what is missing or extra makes it different."""
    level = max(verdicts, key=LEVELS.index, default="identical")
    return "different" if level in {"missing", "extra"} else level


def judge_artifact(name: str, original: Record | None, replayed: Record | None) -> ArtifactVerdict:
    """Compare two artifact records; None stands for an artifact that is not there."""
    verdict, reason = _compare(original, replayed)
    shown = original or replayed
    assert shown is not None
    return ArtifactVerdict(
        name,
        verdict,
        content_digest(original) if original else None,
        content_digest(replayed) if replayed else None,
        _canonical(original),
        _canonical(replayed),
        reason,
        shown["type"],
    )


def _compare(original: Record | None, replayed: Record | None) -> tuple[str, str | None]:
    if replayed is None:
        return "missing", "the replay did not set it"
    if original is None:
        return "extra", "only the replay set it"
    if original["parts"] == replayed["parts"]:
        return "identical", None
    ours, theirs = original["canonical"], replayed["canonical"]
    if ours and theirs and ours["scheme"] == theirs["scheme"]:
        if ours["digest"] == theirs["digest"]:
            return "equivalent", "other bytes, equal value"
        if original["type"] != replayed["type"]:
            return "different", f"{original['type']} became {replayed['type']}"
        return "different", _change(original, replayed)
    if original["type"] != replayed["type"]:
        return "different", f"{original['type']} became {replayed['type']}"
    return "different", "other bytes; this type has no canonical digest to compare by value"


def _change(original: Record, replayed: Record) -> str:
    before, after = original["preview"], replayed["preview"]
    return f"{before} became {after}" if before != after and len(before) + len(after) < 160 else "other value"


def _canonical(record: Record | None) -> str | None:
    return record["canonical"]["digest"] if record and record["canonical"] else None


def judge_task(
    original: Record, replayed: Record, given: Mapping[str, str], read: Callable[[str], Record]
) -> TaskVerdict:
    """Compare what two records of one task hold.

    given: the artifacts that the task was handed; what it only passed on unchanged, both times, is left out.
    read: the artifact record of a digest.
    """
    before, after = original["artifacts"], replayed["artifacts"]
    names = [name for name in sorted({*before, *after}) if not before.get(name) == after.get(name) == given.get(name)]
    reason = _ending(original, replayed)
    if replayed["status"] != "ok":
        names = []
    artifacts = tuple(
        judge_artifact(
            name, read(before[name]) if name in before else None, read(after[name]) if name in after else None
        )
        for name in names
    )
    verdict = worst([*(a.verdict for a in artifacts), "different" if reason else "identical"])
    return TaskVerdict(original["step"], original["task"], verdict, reason, artifacts)


def _ending(original: Record, replayed: Record) -> str | None:
    if original["status"] != replayed["status"]:
        told = f": {replayed['error']['message']}" if replayed["error"] else ""
        return f"it was '{original['status']}' and the replay is '{replayed['status']}'{told}"
    if original["next"] != replayed["next"]:
        return f"it went on to {_onward(original['next'])} and the replay to {_onward(replayed['next'])}"
    if original["error"] and (original["error"]["type"] != replayed["error"]["type"]):
        return f"it failed with {original['error']['type']} and the replay with {replayed['error']['type']}"
    return None


def _onward(next_: Record | None) -> str:
    if next_ is None:
        return "nothing"
    count = f" x {next_['count']}" if next_.get("count") is not None else ""
    return ", ".join(next_["steps"]) + count
