"""Shapes of graphs that any feature can be woven into."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["SHAPES", "ShapedStep"]


@dataclass(frozen=True)
class ShapedStep:
    """One step of a shape. before: what the shape itself needs done; tasks: how many run; depth: foreachs around it."""

    name: str
    onward: str = ""
    joins: bool = False
    before: tuple[str, ...] = ()
    decorators: tuple[str, ...] = ()
    tasks: int = 1
    depth: int = 0

    @property
    def splits(self) -> bool:
        """Whether its failure would leave open what follows."""
        return "foreach" in self.onward or "condition" in self.onward or "num_parallel" in self.onward


def _to(*names: str, **words: str) -> str:
    told = [f"self.{name}" for name in names] + [f"{key}={value}" for key, value in words.items()]
    return f"self.next({', '.join(told)})"


def _each(name: str, to: str, items: str, **more: int) -> ShapedStep:
    return ShapedStep(name, _to(to, foreach="'items'"), before=(f"self.items = {items}",), **more)


_END = ShapedStep("end")
SHAPES: dict[str, list[ShapedStep]] = {
    "single": [ShapedStep("only")],
    "linear": [ShapedStep("start", _to("middle")), ShapedStep("middle", _to("end")), _END],
    "free names": [
        ShapedStep("first", _to("then"), decorators=("@step(start=True)",)),
        ShapedStep("then", _to("finally_")),
        ShapedStep("finally_", decorators=("@step(end=True)",)),
    ],
    "branch": [
        ShapedStep("start", _to("a", "b")),
        ShapedStep("a", _to("join")),
        ShapedStep("b", _to("join")),
        ShapedStep("join", _to("end"), joins=True),
        _END,
    ],
    "nested branch": [
        ShapedStep("start", _to("a", "b")),
        ShapedStep("a", _to("c", "d")),
        ShapedStep("c", _to("inner")),
        ShapedStep("d", _to("inner")),
        ShapedStep("inner", _to("join"), joins=True),
        ShapedStep("b", _to("join")),
        ShapedStep("join", _to("end"), joins=True),
        _END,
    ],
    "foreach": [
        _each("start", "one", "['x', 'y', 'z']"),
        ShapedStep("one", _to("join"), tasks=3, depth=1),
        ShapedStep("join", _to("end"), joins=True),
        _END,
    ],
    "nested foreach": [
        _each("start", "outer", "(1, 2)"),
        _each("outer", "one", "{'k': 1, 'l': 2}", tasks=2, depth=1),
        ShapedStep("one", _to("inner"), tasks=4, depth=2),
        ShapedStep("inner", _to("join"), joins=True, tasks=2, depth=1),
        ShapedStep("join", _to("end"), joins=True),
        _END,
    ],
    "foreach in branch": [
        ShapedStep("start", _to("a", "b")),
        _each("a", "one", "range(2)"),
        ShapedStep("one", _to("inner"), tasks=2, depth=1),
        ShapedStep("inner", _to("join"), joins=True),
        ShapedStep("b", _to("join")),
        ShapedStep("join", _to("end"), joins=True),
        _END,
    ],
    "branch in foreach": [
        _each("start", "look", "'ab'"),
        ShapedStep("look", _to("a", "b"), tasks=2, depth=1),
        ShapedStep("a", _to("inner"), tasks=2, depth=1),
        ShapedStep("b", _to("inner"), tasks=2, depth=1),
        ShapedStep("inner", _to("join"), joins=True, tasks=2, depth=1),
        ShapedStep("join", _to("end"), joins=True),
        _END,
    ],
    "switch": [
        ShapedStep("start", "self.next({'a': self.a, 'b': self.b}, condition='kind')", before=("self.kind = 'b'",)),
        ShapedStep("a", _to("end"), tasks=0),
        ShapedStep("b", _to("end")),
        _END,
    ],
    "switch in foreach": [
        _each("start", "look", "[1, 2, 3]"),
        ShapedStep(
            "look",
            "self.next({0: self.even, 1: self.odd}, condition='kind')",
            before=("self.kind = self.input % 2",),
            tasks=3,
            depth=1,
        ),
        ShapedStep("even", _to("join"), tasks=1, depth=1),
        ShapedStep("odd", _to("join"), tasks=2, depth=1),
        ShapedStep("join", _to("end"), joins=True),
        _END,
    ],
    "recursive switch": [
        ShapedStep("start", _to("again")),
        ShapedStep(
            "again",
            "self.next({'on': self.again, 'off': self.end}, condition='more')",
            before=("self.n = getattr(self, 'n', 0) + 1", "self.more = 'on' if self.n < 3 else 'off'"),
            tasks=3,
        ),
        _END,
    ],
    "parallel": [
        ShapedStep("start", _to("gang", num_parallel="2")),
        ShapedStep("gang", _to("join"), decorators=("@parallel",), tasks=2, depth=1),
        ShapedStep("join", _to("end"), joins=True),
        _END,
    ],
    "a join that splits": [
        ShapedStep("start", _to("a", "b")),
        ShapedStep("a", _to("join")),
        ShapedStep("b", _to("join")),
        ShapedStep("join", _to("one", foreach="'items'"), joins=True, before=("self.items = [5, 6]",)),
        ShapedStep("one", _to("all"), tasks=2, depth=1),
        ShapedStep("all", _to("end"), joins=True),
        _END,
    ],
}  # fmt: skip
