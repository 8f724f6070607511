"""What a join is given: the branches, in order, and how their artifacts are merged."""

from __future__ import annotations

import json
from array import array

from stillrun.errors import ArtifactMissing, FlowError, MergeConflict, MissingInMerge
from stillrun.nearest import did_you_mean, listed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from typing import Any

    from stillrun.flow import FlowSpec
    from stillrun.reader import ArtifactReader

__all__ = ["Input", "Inputs", "merge", "records_of"]


class Input:
    """One branch that a join joins; its artifacts are attributes, loaded when they are first read."""

    def __init__(
        self, record: Mapping[str, Any], reader: ArtifactReader, parameters: Mapping[str, Any], items: _Items
    ) -> None:
        self._step = record["step"]
        self._task = record["task"]
        self._position = record.get("index")
        self._items = record.get("items")
        self._all_items = items
        self._reader = reader
        self._parameters = parameters
        self._refs = {name: ref for name, ref in record["artifacts"].items() if name not in parameters}

    @property
    def index(self) -> int | None:
        """The branch's position in its foreach; None for a static branch."""
        return self._position

    @property
    def input(self) -> Any:
        """The item that the branch was for; None for a static branch."""
        if self._position is None:
            return None
        ref = self._items or self._refs.get(self._all_items.variable) or self._parameters.get(self._all_items.variable)
        return None if ref is None else self._all_items.of(ref)[self._position]

    def __getattr__(self, name: str) -> Any:
        if name[:1] == "_" and name not in self.__dict__.get("_refs", ()):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        ref = self._refs.get(name) or self._parameters.get(name)
        if ref is None:
            raise ArtifactMissing(
                f"step {self._step!r}, task {self._task}, has no artifact {name!r}.",
                cure=did_you_mean(name, self._refs) or f"It has: {listed(sorted(self._refs))}.",
            )
        value = self._reader.load(ref, name)
        self.__dict__[name] = value
        return value

    def __repr__(self) -> str:
        return f"<input {self._step}/{self._task}: {listed(sorted(self._refs))}>"


class Inputs:
    """The branches of a join: by position, by iteration, and static ones by the name of their last step.

    variable: the artifact whose items the branches were for; None for static ones. overridden: values that stand for
    artifacts of all branches.
    """

    def __init__(
        self,
        records: Sequence[Mapping[str, Any]],
        reader: ArtifactReader,
        parameters: Mapping[str, Any],
        variable: str | None,
        overridden: Mapping[str, Any],
    ) -> None:
        self._records = records
        self._overridden = overridden
        self._reader = reader
        self._parameters = parameters
        self._items = _Items(reader, variable)
        self._made: dict[int, Input] = {}

    def __iter__(self) -> Iterator[Input]:
        return (self._at(place) for place in range(len(self._records)))

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, position: Any) -> Any:
        places = range(len(self._records))[position]  # as a list takes them: negative ones, slices
        return self._at(places) if isinstance(places, int) else [self._at(place) for place in places]

    def _at(self, place: int) -> Input:
        if place not in self._made:
            made = Input(self._records[place], self._reader, self._parameters, self._items)
            vars(made).update(self._overridden)
            self._made[place] = made
        return self._made[place]

    def __getattr__(self, name: str) -> Input:
        if name[:1] == "_":
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        named = [each for each in self if each._step == name]
        if len(named) == 1:
            return named[0]
        if named:
            raise ArtifactMissing(
                f"inputs.{name} is not one branch but {len(named)} tasks of a foreach.",
                cure="Take them by position, inputs[0], or one after the other: for each in inputs.",
            )
        steps = sorted({each._step for each in self})
        raise ArtifactMissing(
            f"no branch that is joined here ends with a step {name!r}.",
            cure=did_you_mean(name, steps, "inputs.") or f"They end with: {listed(steps)}.",
        )

    def __repr__(self) -> str:
        return f"<inputs {listed(each._step for each in self)}>"


class _Items:
    """What the joined tasks of a foreach were for; loaded once for all of them."""

    def __init__(self, reader: ArtifactReader, variable: str | None) -> None:
        self.variable = variable or ""
        self._reader = reader
        self._loaded: dict[str, Any] = {}

    def of(self, ref: Mapping[str, Any]) -> Any:
        """The items of an artifact."""
        if ref["artifact"] not in self._loaded:
            self._loaded[ref["artifact"]] = self._reader.load(ref, self.variable or "items")
        return self._loaded[ref["artifact"]]


class _Lines:
    """The records of many inputs, one JSON line each in a file; each is read when it is asked for."""

    def __init__(self, path: str) -> None:
        with open(path, "rb") as file:
            self._text = file.read()
        self._starts = array("Q", [0])
        at = self._text.find(b"\n")
        while at >= 0:
            self._starts.append(at + 1)
            at = self._text.find(b"\n", at + 1)

    def __len__(self) -> int:
        return len(self._starts) - 1

    def __getitem__(self, place: int) -> Any:
        return json.loads(self._text[self._starts[place] : self._starts[place + 1]])


def records_of(spec: Mapping[str, Any], reader: ArtifactReader) -> Any:
    """What a SPEC says of the inputs of a task."""
    path = spec.get("inputs_file")
    return spec["inputs"] if path is None else reader.quietly(lambda: _Lines(path))


def merge(flow: FlowSpec, inputs: Inputs, include: Iterable[str] | None, exclude: Iterable[str] | None) -> None:
    """Take over into ``flow`` what the branches agree on; see FlowSpec.merge_artifacts."""
    state = flow._stillrun
    if state is None or not state.joins or not isinstance(inputs, Inputs):
        raise FlowError("self.merge_artifacts() works in a join only, on the inputs that it was given.")
    if include is not None and exclude is not None:
        raise FlowError("self.merge_artifacts() was given include and exclude.", cure="Give one of them.")
    held = _held_by_branches(inputs)
    _refuse_missing(include, held)
    own = set(vars(flow)) | set(state.inherited)
    left_out = own if exclude is None else own | set(exclude)
    wanted = [name for name in held if name not in left_out] if include is None else list(include)
    chosen = {name: held[name][0]._refs[name] for name in wanted if name not in own}
    conflicts = [name for name in chosen if not _agree(name, held[name])]
    if conflicts:
        raise MergeConflict(
            f"the branches do not agree on {listed(sorted(conflicts))}: "
            f"{_origins(held[conflicts[0]])} hold different values of {conflicts[0]!r}.",
            cure=f"Set it in this step before merging, such as self.{conflicts[0]} = inputs[0].{conflicts[0]}, "
            f"or leave it out with exclude=[{conflicts[0]!r}].",
            artifact_names=sorted(conflicts),
        )
    state.inherited.update(chosen)


def _held_by_branches(inputs: Inputs) -> dict[str, list[Input]]:
    held: dict[str, list[Input]] = {}
    for each in inputs:
        for name in each._refs:
            held.setdefault(name, []).append(each)
    return held


def _refuse_missing(include: Iterable[str] | None, held: Mapping[str, Any]) -> None:
    missing = [name for name in include or () if name not in held]
    if missing:
        raise MissingInMerge(
            f"no branch has an artifact {listed(repr(name) for name in missing)}, which include asks for.",
            cure=did_you_mean(missing[0], held) or f"They have: {listed(sorted(held))}.",
            artifact_names=missing,
        )


def _agree(name: str, branches: Sequence[Input]) -> bool:
    """True when all branches hold the same bytes, or values with the same canonical digest."""
    first, others = branches[0], branches[1:]
    return all(_same(name, first, other) for other in others)


def _same(name: str, one: Input, other: Input) -> bool:
    from stillrun.canonical import canonical_digest

    a, b = one._refs[name], other._refs[name]
    if a["artifact"] == b["artifact"]:
        return True
    if [part["digest"] for part in a["parts"]] == [part["digest"] for part in b["parts"]]:
        return True
    digest = canonical_digest(getattr(one, name))
    return digest is not None and digest == canonical_digest(getattr(other, name))


def _origins(branches: Sequence[Input]) -> str:
    return listed((f"{each._step}/{each._task}" for each in branches), most=4)
