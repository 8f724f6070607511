"""Every shape of a graph, run and replayed: what follows what, what each task is given, and what becomes of it."""

from __future__ import annotations

import ast
from typing import Any

import pytest
from tests.conftest import Commands

SWITCH = """
class Shape(FlowSpec):
    mode = Parameter("mode", default="slow")

    @step
    def start(self):
        self.next({"slow": self.slow, "fast": self.fast}, condition="mode")

    @step
    def slow(self):
        self.way = "slow"
        self.next(self.end)

    @step
    def fast(self):
        self.way = "fast"
        self.next(self.end)

    @step
    def end(self):
        self.result = self.way
"""
LOOP = """
class Shape(FlowSpec):
    @step
    def start(self):
        self.count, self.seen = 0, []
        self.next(self.work)

    @step
    def work(self):
        self.count += 1
        self.seen = [*self.seen, current.task_id]
        self.more = "yes" if self.count < 4 else "no"
        self.next({"yes": self.work, "no": self.end}, condition="more")

    @step
    def end(self):
        self.result = (self.count, self.seen)
"""
FREE = """
class Shape(FlowSpec):
    @step
    def begin(self):
        self.x = 1
        self.next(self.middle)

    @step
    def middle(self):
        self.next(self.finish)

    @step
    def finish(self):
        self.result = self.x + 1
"""
SINGLE = """
class Shape(FlowSpec):
    @step
    def only(self):
        self.result = "alone"
"""
DICT = """
class Shape(FlowSpec):
    @step
    def start(self):
        self.sizes = {"a": 1, "b": 20, "c": 300}
        self.next(self.one, foreach="sizes")

    @step
    def one(self):
        self.value = (self.input, self.sizes[self.input], self.index)
        self.next(self.join)

    @step
    def join(self, inputs):
        self.result = [(each.input, each.value) for each in inputs]
        self.next(self.end)

    @step
    def end(self):
        pass
"""
GENERATED = """
class Shape(FlowSpec):
    @step
    def start(self):
        self.numbers = (n * n for n in range(3))
        self.next(self.one, foreach="numbers")

    @step
    def one(self):
        self.letters = {"b", "a"}
        self.number = self.input
        self.next(self.inner, foreach="letters")

    @step
    def inner(self):
        self.word = f"{self.number}{self.input}{[item for _, _, item in self.foreach_stack()]}"
        self.next(self.join)

    @step
    def join(self, inputs):
        self.words = [each.word for each in inputs]
        self.next(self.join_all)

    @step
    def join_all(self, inputs):
        self.result = [word for each in inputs for word in each.words]
        self.next(self.end)

    @step
    def end(self):
        pass
"""
AGAIN = """
class Shape(FlowSpec):
    @step
    def start(self):
        self.next(self.a, self.b)

    @step
    def a(self):
        self.x = [1, 2]
        self.next(self.join)

    @step
    def b(self):
        self.x = [3]
        self.next(self.join)

    @step
    def join(self, inputs):
        self.all = inputs.a.x + inputs.b.x
        self.next(self.each, foreach="all")

    @step
    def each(self):
        self.y = self.input * 10
        self.next(self.collect)

    @step
    def collect(self, inputs):
        self.result = [one.y for one in inputs]
        self.next(self.end)

    @step
    def end(self):
        pass
"""
GANG = """
class Shape(FlowSpec):
    @step
    def start(self):
        self.next(self.train, num_parallel=3)

    @parallel
    @step
    def train(self):
        self.place = (current.parallel.node_index, current.parallel.num_nodes, current.parallel.main_ip, self.input)
        self.next(self.join)

    @step
    def join(self, inputs):
        self.result = [each.place for each in inputs]
        self.next(self.end)

    @step
    def end(self):
        pass
"""
SWITCH_INSIDE = """
class Shape(FlowSpec):
    @step
    def start(self):
        self.items = [1, 2, 3, 4]
        self.next(self.look, foreach="items")

    @step
    def look(self):
        self.kind = self.input % 2
        self.next({0: self.even, 1: self.odd}, condition="kind")

    @step
    def even(self):
        self.told = f"even {self.input}"
        self.next(self.join)

    @step
    def odd(self):
        self.told = f"odd {self.input}"
        self.next(self.join)

    @step
    def join(self, inputs):
        self.result = [each.told for each in inputs]
        self.next(self.end)

    @step
    def end(self):
        pass
"""
SWITCH_IN_BRANCH = """
class Shape(FlowSpec):
    @step
    def start(self):
        self.kind = "y"
        self.next(self.a, self.b)

    @step
    def a(self):
        self.next({"x": self.x, "y": self.y}, condition="kind")

    @step
    def x(self):
        self.told = "x"
        self.next(self.join)

    @step
    def y(self):
        self.told = "y"
        self.next(self.join)

    @step
    def b(self):
        self.told = "b"
        self.next(self.join)

    @step
    def join(self, inputs):
        self.result = [each.told for each in inputs]
        self.next(self.end)

    @step
    def end(self):
        pass
"""
INHERITED = """
class Base(FlowSpec):
    alpha = Parameter("alpha", default=2)

    @step
    def start(self):
        self.x = self.alpha
        self.next(self.middle)

    @step
    def end(self):
        self.result = self.x


class Shape(Base):
    @step
    def middle(self):
        self.x += 1
        self.next(self.end)
"""
OF_THE_CLASS = """
class Shape(FlowSpec):
    towns = Parameter("towns", default="Ulm,Bonn", separator=",")
    forms = ("a", "b")

    @step
    def start(self):
        self.next(self.one, foreach="towns")

    @step
    def one(self):
        self.town = self.input
        self.next(self.two, foreach="forms")

    @step
    def two(self):
        self.told = self.town + self.input
        self.next(self.join)

    @step
    def join(self, inputs):
        self.told = " ".join(f"{each.told}/{each.input}" for each in inputs)
        self.next(self.all)

    @step
    def all(self, inputs):
        self.result = [(each.told, each.input) for each in inputs]
        self.next(self.end)

    @step
    def end(self):
        pass
"""
SHAPES: dict[str, tuple[str, Any, str]] = {
    "switch": (SWITCH, "slow", "end"),
    "loop": (LOOP, (4, ["0", "0~1", "0~2", "0~3"]), "end"),
    "free names": (FREE, 2, "finish"),
    "a single step": (SINGLE, "alone", "only"),
    "foreach over a dict": (
        DICT,
        [(k, (k, v, n)) for n, (k, v) in enumerate({"a": 1, "b": 20, "c": 300}.items())],
        "join",
    ),
    "foreach over a generator and a set": (
        GENERATED,
        [f"{n * n}{letter}{[n * n, letter]}" for n in range(3) for letter in "ab"],
        "join_all",
    ),
    "a join that splits": (AGAIN, [10, 20, 30], "collect"),
    "num_parallel": (GANG, [(n, 3, "127.0.0.1", n) for n in range(3)], "join"),
    "a switch inside of a foreach": (SWITCH_INSIDE, ["odd 1", "even 2", "odd 3", "even 4"], "join"),
    "a switch inside of a branch": (SWITCH_IN_BRANCH, ["y", "b"], "join"),
    "foreach over a parameter and a constant": (
        OF_THE_CLASS,
        [(f"{town}a/a {town}b/b", town) for town in ("Ulm", "Bonn")],
        "all",
    ),
    "inherited steps": (INHERITED, 3, "end"),
}


def result(commands: Commands, run: str, step: str) -> Any:
    (task,) = commands("show", f"{run}/{step}", "--json").json["tasks"]
    return ast.literal_eval(task["artifacts"]["result"]["preview"])


@pytest.mark.parametrize("name", SHAPES)
def test_a_shape_runs_and_is_replayed_and_resumed(stillrun: Commands, name: str) -> None:
    text, expected, step = SHAPES[name]
    source = stillrun.write("shape.py", "from metaflow import FlowSpec, Parameter, current, parallel, step\n" + text)
    words = ["shape.py:Shape"] if "class Base" in text else [source.name]
    run = stillrun.run(*words)
    assert result(stillrun, run, step) == expected
    replayed = stillrun("replay", run, "--json")
    assert replayed.code == 0, replayed.err or [one["reason"] for one in replayed.json["artifacts"]]
    assert stillrun("verify", run).code == 0
    again = stillrun("run", *words, "--reuse", "--json")
    assert (again.code, again.json["reused"]) == (0, again.json["tasks"]), again.err
    assert result(stillrun, again.json["run"], step) == expected


def test_the_other_case_is_chosen(stillrun: Commands) -> None:
    stillrun.write("shape.py", "from stillrun import FlowSpec, Parameter, step\n" + SWITCH)
    run = stillrun.run("shape.py", "--mode", "fast")
    assert result(stillrun, run, "end") == "fast"
    assert {task["step"] for task in stillrun("show", run, "--json").json["tasks"]} == {"start", "fast", "end"}
    done = stillrun("run", "shape.py", "--mode", "other", "--json")
    assert done.code == 1
    assert "self.mode is 'other', and there is no such case." in done.json["failure"]["error"]["message"]
