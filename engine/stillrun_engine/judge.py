"""Is a replayed result the same? Pure comparison of records: nothing is unpickled, nothing is read but digests.

Levels, best first (docs/spec/verdict.md): ``identical`` bytes; ``equivalent`` canonical digests; ``within_tolerance``, which
was granted before the run; ``not_comparable``; ``different``, and ``missing`` and ``extra`` artifacts, which count as that.
``volatile`` artifacts count as nothing. A task that ended otherwise than the original is different.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from stillrun_engine.parts import content_digest
from stillrun_snapshot.deferred import dataclass

__all__ = ["LEVELS", "ArtifactVerdict", "TaskVerdict", "judge_artifact", "judge_task", "worst"]

LEVELS = (
    "identical",
    "volatile",
    "equivalent",
    "within_tolerance",
    "not_comparable",
    "missing",
    "extra",
    "different",
    "error",
)
"""From the best to the worst."""

Record = Mapping[str, Any]
_ULP_TOLD = 1e6  # more units in the last place say nothing that the relative difference does not


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
    difference: Record | None = None  # DIFFERENCE of docs/spec/verdict.md, where one was looked for
    records: tuple[str, str] | None = None  # of the original and of the replayed artifact, where both are there

    def entry(self, step: str, task: str) -> dict[str, Any]:
        """The verdict as docs/spec/verdict.md writes it."""
        said = {name: value for name, value in self.__dict__.items() if name != "records"}
        return {"step": step, "task": task, **said}

    def explained(self, found: Record, *, tolerated: bool) -> ArtifactVerdict:
        """The verdict when it is known what differs. tolerated: the run granted a tolerance, which ``found`` heeds."""
        if "error" in found:
            why = f"what differs cannot be told: {found['error']}"
            return replace(self, difference=found, reason=f"{self.reason}; {why}" if self.reason else why)
        if tolerated and found["within"]:
            worst = found["worst"]
            told = f"within what was granted before the run; worst: {_number_told(worst)}" if worst else None
            return replace(self, verdict="within_tolerance", difference=found, reason=told)
        if found["count"]:
            return replace(self, verdict="different", difference=found, reason=_told(found))
        return replace(self, difference=found, reason=f"{self.reason}; {_not_found(found)}")


@dataclass(frozen=True)
class TaskVerdict:
    """One task and its artifacts; ``reason`` tells what else differs."""

    step: str
    task: str
    verdict: str
    reason: str | None
    artifacts: tuple[ArtifactVerdict, ...]

    def with_artifacts(self, artifacts: Iterable[ArtifactVerdict]) -> TaskVerdict:
        """The task with other verdicts on its artifacts."""
        found = tuple(artifacts)
        return replace(self, artifacts=found, verdict=_worst_of(found, self.reason))


def worst(verdicts: Iterable[str]) -> str:
    """The worst of ``verdicts`` as a verdict of the whole: what is missing or extra makes it different."""
    level = max(verdicts, key=LEVELS.index, default="identical")
    return {"missing": "different", "extra": "different", "volatile": "identical"}.get(level, level)


def judge_artifact(
    name: str,
    original: Record | None,
    replayed: Record | None,
    *,
    volatile: bool = False,
    records: tuple[str, str] | None = None,
) -> ArtifactVerdict:
    """Compare two artifact records; None stands for an artifact that is not there. volatile: it was said to change."""
    verdict, reason = _compare(original, replayed)
    if volatile and verdict != "identical":
        verdict, reason = "volatile", "said before the run to be another one each time"
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
        records=records,
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
    if ours and theirs:
        told = f"{ours['scheme']}, recorded, and {theirs['scheme']}, replayed"
        return "not_comparable", f"other bytes, and the digests of its value are of two schemes: {told}"
    return "not_comparable", f"other bytes, and a value of {original['type']} as this has no digest to compare it by"


def _told(found: Record) -> str:
    """A difference in one sentence."""
    first = found["first"]
    if first["kind"] == "number":
        text = _number_told(first)
    elif first["kind"] in ("missing", "extra"):
        text = f"{first['place']} is {'not there any more' if first['kind'] == 'missing' else 'new'}"
    elif first["kind"] == "pixels":
        text = f"{first['place']}: {first['differing']:,} of {first['of']:,} pixels {first['after']}"
    else:
        text = f"{first['place']}: {first['before']} became {first['after']}"
    if found["count"] > 1:
        text += f"; {found['count']:,} differences in all"
    return text + (f"; {found['hint']}" if found["hint"] else "")


def _not_found(found: Record) -> str:
    """Why no difference is named where the bytes differ."""
    if found["opaque"]:
        return f"it cannot be looked into: {found['opaque']}"
    return "nothing that can be looked into differs, but code that it refers to may"


def _number_told(one: Record) -> str:
    share = f", {one['differing']:,} of {one['of']:,} numbers" if one.get("of", 1) > 1 else ""
    most = "at most " if share else ""
    sizes = f"{most}absolute {float(one['abs']):.1e}, relative {float(one['rel']):.1e}"
    ulp = f", {float(one['ulp']):,.0f} ULP" if float(one["ulp"]) < _ULP_TOLD and "." in one["before"] else ""
    return f"{one['place']}: {one['before']} became {one['after']} ({sizes}{ulp}{share})"


def _change(original: Record, replayed: Record) -> str:
    before, after = original["preview"], replayed["preview"]
    return f"{before} became {after}" if before != after and len(before) + len(after) < 160 else "other value"


def _canonical(record: Record | None) -> str | None:
    return record["canonical"]["digest"] if record and record["canonical"] else None


def judge_task(
    original: Record,
    replayed: Record,
    given: Mapping[str, str],
    read: Callable[[str], Record],
    is_volatile: Callable[[str], bool] = lambda _: False,
) -> TaskVerdict:
    """Compare what two records of one task hold.

    given: the artifacts that the task was handed; what it only passed on unchanged, both times, is left out.
    read: the artifact record of a digest. is_volatile: whether an artifact was said to change.
    """
    before, after = original["artifacts"], replayed["artifacts"]
    names = [name for name in sorted({*before, *after}) if not before.get(name) == after.get(name) == given.get(name)]
    reason = _ending(original, replayed)
    if replayed["status"] != "ok":
        names = []
    artifacts = tuple(
        judge_artifact(
            name,
            read(before[name]) if name in before else None,
            read(after[name]) if name in after else None,
            volatile=is_volatile(name),
            records=(before[name], after[name]) if name in before and name in after else None,
        )
        for name in names
    )
    return TaskVerdict(original["step"], original["task"], _worst_of(artifacts, reason), reason, artifacts)


def _worst_of(artifacts: Iterable[ArtifactVerdict], reason: str | None) -> str:
    return worst([*(one.verdict for one in artifacts), "different" if reason else "identical"])


def _ending(original: Record, replayed: Record) -> str | None:
    if original["status"] != replayed["status"]:
        told = f": {replayed['error']['message']}" if replayed["error"] else ""
        return f"it was '{original['status']}' and the replay is '{replayed['status']}'{told}"
    if _where(original["next"]) != _where(replayed["next"]):
        return f"it went on to {_onward(original['next'])} and the replay to {_onward(replayed['next'])}"
    if original["error"] and (original["error"]["type"] != replayed["error"]["type"]):
        return f"it failed with {original['error']['type']} and the replay with {replayed['error']['type']}"
    return None


def _where(next_: Record | None) -> Record | None:
    """The steps and their number; what a foreach is over is judged as an artifact, where it is one."""
    return (
        None
        if next_ is None
        else {name: value for name, value in next_.items() if name not in ("each", "items", "item_digests")}
    )


def _onward(next_: Record | None) -> str:
    if next_ is None:
        return "nothing"
    count = f" x {next_['count']}" if next_.get("count") is not None else ""
    return ", ".join(next_["steps"]) + count
