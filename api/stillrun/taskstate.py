"""What a flow instance knows inside a task: what it inherits, where it stands, where it goes."""

from __future__ import annotations

from stillrun.errors import ArtifactMissing, NextError
from stillrun.items import item_of
from stillrun.nearest import did_you_mean, listed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from stillrun.flow import FlowSpec
    from stillrun.reader import ArtifactReader

__all__ = ["TaskState"]


class TaskState:
    """The state of one task behind ``self``.

    inherited: references to artifacts of the step before, by name; loaded: those of them that were read.
    next: what self.next() said, as in a RESULT of the host protocol, or None.
    """

    def __init__(
        self,
        *,
        step: str,
        steps: Mapping[str, Any],
        reader: ArtifactReader,
        inherited: Mapping[str, Any],
        parameters: Mapping[str, Any],
        foreach: Sequence[Mapping[str, Any]],
        joins: bool,
        splits_max: int | None = None,
        last: bool = False,
        joined: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        self.step = step
        self.steps = steps  # name of every step -> its function
        self.reader = reader
        self.inherited = {name: ref for name, ref in inherited.items() if name not in parameters}
        self.loaded: dict[str, Any] = {}
        self.foreach = foreach
        self.joins = joins
        self.splits_max = splits_max
        self.last = last
        self.joined = joined  # the inputs of a join, as in a SPEC
        self.items: list[Any] | None = None  # what a foreach is over, when the artifact has no items by position
        self.next: dict[str, Any] | None = None
        self.overridden: dict[str, Any] = {}  # values that stand for artifacts of the inputs, in a spin
        self._parameters = parameters
        self._parameter_values: dict[str, Any] = {}
        # where the items of each foreach are; the engine may say, or else what is inherited under that name now
        self._item_refs = [frame.get("items") or self.ref_of(frame["variable"]) for frame in foreach]
        self._items: dict[str, Any] = {}  # digest of an artifact -> its value
        self._own_items: dict[int, Any] = {}  # depth -> the item, where it came by itself

    # -- artifacts -------------------------------------------------------------------------

    def parameter(self, name: str) -> Any:
        """The value of a parameter, loaded once."""
        if name not in self._parameter_values:
            if name not in self._parameters:
                raise ArtifactMissing(f"this run has no value for the parameter {name!r}.")
            self._parameter_values[name] = self.reader.load(self._parameters[name], name)
        return self._parameter_values[name]

    def set_parameter(self, name: str, value: Any) -> bool:
        """Let a value stand for a parameter's; False when there is none of that name."""
        if name in self._parameters:
            self._parameter_values[name] = value
        return name in self._parameters

    def knows(self, name: str) -> bool:
        """Whether there is an artifact of that name to read."""
        return name in self.inherited

    def read(self, flow: FlowSpec, name: str) -> Any:
        """Load an inherited artifact and keep it on the instance."""
        ref = self.inherited.get(name)
        if ref is None:
            raise self._missing(flow, name)
        value = self.reader.load(ref, name)
        self.loaded[name] = ref
        if any(held is not None and held["artifact"] == ref["artifact"] for held in self._item_refs):
            self._items[ref["artifact"]] = value  # they stay the items when the step assigns a new value
        object.__setattr__(flow, name, value)
        return value

    def forget(self, name: str) -> bool:
        """Drop an inherited artifact; False when there was none of that name."""
        return self.inherited.pop(name, None) is not None

    def _missing(self, flow: FlowSpec, name: str) -> ArtifactMissing:
        there = sorted({*self.inherited, *(key for key in vars(flow) if key[:1] != "_")})
        if self.joins:
            held = [f"{each['step']}/{each['task']}" for each in self.joined if name in each["artifacts"]]
            where = f"{listed(held, most=4)} {'hold' if len(held) > 1 else 'holds'} one. " if held else ""
            cure = f"{where}A join inherits nothing: read inputs[0].{name}, or call self.merge_artifacts(inputs) first."
        else:
            near = did_you_mean(name, [*there, *self._parameters], "self.")
            cure = near or f"There is: {listed(there)}."
        return ArtifactMissing(
            f"step {self.step!r} reads self.{name}, which neither it nor a step before it has set.", cure=cure
        )

    # -- foreach ---------------------------------------------------------------------------

    def item(self, flow: FlowSpec, depth: int) -> Any:
        """The item of the foreach at that depth of the stack."""
        frame, ref = self.foreach[depth], self._item_refs[depth]
        variable = frame["variable"]
        if not variable:
            return frame["index"]  # of so many tasks, over no items
        if frame.get("item") is not None:
            return self._own_item(depth % len(self.foreach), frame["item"])
        if ref is None:
            raise self._missing(flow, variable)
        if ref["artifact"] not in self._items:
            inherited = self.inherited.get(variable)
            if inherited is not None and inherited["artifact"] == ref["artifact"] and variable not in vars(flow):
                self.read(flow, variable)
            else:
                self._items[ref["artifact"]] = self.reader.load(ref, variable)
        return self._items[ref["artifact"]][frame["index"]]

    def _own_item(self, depth: int, place: Mapping[str, Any]) -> Any:
        if depth not in self._own_items:
            self._own_items[depth] = item_of(place, self.reader)
        return self._own_items[depth]

    def ref_of(self, name: str) -> Any:
        """Where an artifact that was inherited, or a parameter, is kept; None for others."""
        return self.inherited.get(name) or self._parameters.get(name)

    # -- next ------------------------------------------------------------------------------

    def go_on(self, flow: FlowSpec, targets: Sequence[Any], foreach: Any, other: Mapping[str, Any]) -> None:
        """Check and keep what self.next() was called with."""
        if self.next is not None:
            raise NextError(f"step {self.step!r} called self.next() twice.", cure="Call it once, at the end.")
        if self.last:
            raise NextError(
                f"step {self.step!r} called self.next().", cure=f"Nothing comes after {self.step!r}: take it out."
            )
        condition, parallel = other.get("condition"), other.get("num_parallel")
        unknown = sorted(set(other) - {"condition", "num_parallel"})
        if unknown:
            raise NextError(
                f"step {self.step!r}: self.next() does not know {listed(unknown)}.",
                cure="It takes steps and foreach= or num_parallel=, or cases and condition=.",
            )
        if len(targets) == 1 and isinstance(targets[0], dict):
            targets = [self._chosen(flow, targets[0], condition)]
        elif condition is not None:
            raise NextError(
                f"step {self.step!r}: self.next() names a condition and no cases.",
                cure='Give cases: self.next({"a": self.x, "b": self.y}, condition="artifact").',
            )
        names = [self._name_of(flow, each) for each in targets]
        if not names:
            raise NextError(f"step {self.step!r}: self.next() names no step.", cure="Call self.next(self.STEP).")
        count = None if foreach is None else self._count(flow, names, foreach)
        if parallel is not None:
            if isinstance(parallel, bool) or not isinstance(parallel, int) or parallel < 1:
                raise NextError(f"step {self.step!r}: num_parallel={parallel!r}: a number of tasks is expected.")
            count = parallel
        self.next = {"steps": names, "foreach": foreach, "count": count}

    def _chosen(self, flow: FlowSpec, cases: Mapping[Any, Any], condition: Any) -> Any:
        """The step of the case that the condition's artifact names."""
        if not isinstance(condition, str):
            raise NextError(
                f"step {self.step!r}: self.next() with cases needs the artifact that decides.",
                cure='Name it as text: condition="artifact".',
            )
        value = getattr(flow, condition)
        try:
            return cases[value]
        except (KeyError, TypeError):
            raise NextError(
                f"step {self.step!r}: self.{condition} is {value!r}, and there is no such case.",
                cure=f"There are: {listed(map(repr, cases))}.",
            ) from None

    def _name_of(self, flow: FlowSpec, target: Any) -> str:
        function = getattr(target, "__func__", None)
        if getattr(target, "__self__", None) is flow:
            for name, known in self.steps.items():
                if known is function:
                    return name
        raise NextError(
            f"step {self.step!r}: self.next() was given {_spelled(target)}, which is not a step of this flow.",
            cure="Give steps as self.NAME, each marked with @step.",
        )

    def _count(self, flow: FlowSpec, names: Sequence[str], foreach: Any) -> int:
        if not isinstance(foreach, str) or len(names) != 1:
            raise NextError(
                f"step {self.step!r}: a foreach goes to one step and names an artifact as text.",
                cure='Write self.next(self.STEP, foreach="items").',
            )
        items: Any = getattr(flow, foreach, None)
        if items is None and foreach not in vars(flow) and foreach not in self._parameters:
            raise NextError(
                f"step {self.step!r}: foreach={foreach!r}, but there is no artifact self.{foreach}.",
                cure=did_you_mean(foreach, vars(flow), "self.") or f"Set self.{foreach} before self.next().",
            )
        is_kept = foreach in vars(flow) or foreach in self._parameters
        if not _has_positions(items) or not is_kept:
            items = self.items = _listed(self.step, foreach, items)
            if iter(getattr(flow, foreach)) is getattr(flow, foreach):
                object.__setattr__(flow, foreach, items)  # an iterator cannot be kept, and is used up
                self.items = None
        if len(items) == 0:
            raise NextError(
                f"step {self.step!r}: foreach={foreach!r}, but self.{foreach} has no items, so no task would run.",
                cure="Check where it is made, or give it at least one item.",
            )
        if self.splits_max is not None and len(items) > self.splits_max:
            raise NextError(
                f"step {self.step!r}: self.{foreach} has {len(items):,} items, and --max-num-splits allows {self.splits_max:,}.",
                cure="Allow more, or split less.",
            )
        return len(items)


def _has_positions(items: Any) -> bool:
    kind = type(items)
    tabular = kind.__module__.split(".")[0] in ("pandas", "polars")
    return hasattr(kind, "__getitem__") and hasattr(kind, "__len__") and not tabular and not hasattr(kind, "keys")


def _listed(step: str, name: str, items: Any) -> list[Any]:
    """The items of what has none by position: the keys of a dict, a set in its natural order, whatever an iterator gives."""
    kind = type(items)
    if kind.__name__ == "DataFrame":
        raise NextError(
            f"step {step!r}: foreach={name!r}, but self.{name} is a DataFrame, which has columns and rows.",
            cure=f'Use a list, such as self.{name}.to_dict("records").',
        )
    if not hasattr(kind, "__iter__"):
        raise NextError(
            f"step {step!r}: foreach={name!r}, but self.{name} is {'None' if items is None else 'a ' + kind.__name__}.",
            cure="Set it to a list of what the tasks are for.",
        )
    found = list(items)
    if isinstance(items, (set, frozenset)):
        try:
            found.sort()
        except TypeError:
            found.sort(key=lambda each: (type(each).__name__, repr(each)))
    return found


def _spelled(target: Any) -> str:
    name = getattr(target, "__name__", None)
    return repr(name) if isinstance(name, str) else f"a {type(target).__name__}"
