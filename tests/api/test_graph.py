"""The graph of a flow and its description: what is told of right flows, and every kind of wrong one by name."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import itertools
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from stillrun.description import describe

from .driver import write_flow

SCHEMA = Path(__file__).resolve().parents[2] / "docs/spec/schemas/description-1.json"
NUMBER = itertools.count()


@pytest.fixture
def described(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    names: list[str] = []

    def load(text: str) -> dict[str, Any]:
        name = f"graph_flow_{next(NUMBER)}"
        file = write_flow(tmp_path, text, f"{name}.py")
        loader = importlib.machinery.SourceFileLoader(name, str(file))
        spec = importlib.util.spec_from_file_location(name, str(file), loader=loader)
        assert spec is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        names.append(name)
        loader.exec_module(module)
        description = describe(module.F, str(file))
        Draft202012Validator(json.loads(SCHEMA.read_text())).validate(json.loads(json.dumps(description)))
        return description

    monkeypatch.setattr("stillrun.flow._as_library", True)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield load
    for name in names:
        del sys.modules[name]


def codes(description: dict[str, Any]) -> list[str]:
    return [each["code"] for each in description["problems"]]


def kinds(description: dict[str, Any]) -> dict[str, str]:
    return {each["name"]: each["kind"] for each in description["steps"]}


FORK = """
class F(FlowSpec):
    @step
    def start(self):
        self.items = [1]
        self.next(
            self.each,
            foreach="items",
        )
    @step
    def each(self):
        self.next(self.left,
                  self.right)
    @step
    def left(self):
        self.next(self.inner)
    @step
    def right(self):
        self.next(self.inner)
    @step
    def inner(self, inputs):
        self.next(self.outer)
    @step
    def outer(self, inputs):
        self.next(self.end)
    @step
    def end(self):
        pass
"""


def test_nested_splits_over_several_lines(described: Any) -> None:
    description = described(FORK)
    assert codes(description) == []
    assert kinds(description) == {
        "start": "foreach",
        "each": "split",
        "left": "linear",
        "right": "linear",
        "inner": "join",
        "outer": "join",
        "end": "end",
    }
    start = description["steps"][0]
    assert (start["next"], start["foreach"]) == (["each"], "items")
    assert description["steps"][1]["next"] == ["left", "right"]


def test_steps_of_base_classes_in_other_files(described: Any, tmp_path: Path) -> None:
    base = (
        "from stillrun import *\nclass Base(FlowSpec):\n    @step\n    def start(self):\n        self.next(self.work)\n"
    )
    (tmp_path / "the_base_of_it.py").write_text(base)
    text = """
    from stillrun import *
    from the_base_of_it import Base
    import functools
    def timed(function):
        @functools.wraps(function)
        def wrapper(self):
            return function(self)
        return wrapper
    class F(Base):
        @step
        @timed
        def work(this):
            this.next(this.end)
        @timed
        @step
        def end(self): pass
    """
    description = described(text)
    assert codes(description) == []
    assert [each["name"] for each in description["steps"]] == ["start", "work", "end"]
    assert description["steps"][0]["line"] == 4


def test_decorators_in_source_order_with_their_lines(described: Any) -> None:
    text = """
    from stillrun import FlowSpec, step, pypi, conda, pypi_base, conda_base
    @conda_base
    @pypi_base(packages={"a": "1"}, python="3.11")
    class F(FlowSpec):
        @pypi(packages={"b": ">=2"})
        @step
        @conda
        def start(self):
            self.next(self.end)
        @step
        def end(self):
            pass
    """
    description = described(text)
    assert codes(description) == []
    assert description["decorators"] == [
        {"name": "conda_base", "attributes": {}, "line": 3},
        {"name": "pypi_base", "attributes": {"packages": {"a": "1"}, "python": "3.11"}, "line": 4},
    ]
    named = [(each["name"], each["attributes"]) for each in description["steps"][0]["decorators"]]
    assert named == [("pypi", {"packages": {"b": ">=2"}}), ("conda", {})]


def test_parameters_constants_and_documentation(described: Any) -> None:
    text = '''
    class F(FlowSpec):
        """What it does.

            Indented.
        And more.
        """
        RATE = 0.5
        _hidden = 1
        alpha = Parameter("alpha", default=1, help="how much")
        names = Parameter("names", type=JSONType, required=True)
        late = Parameter("late", default=lambda: 3, type=int)
        def helper(self): ...
        @property
        def shown(self): ...
        @step
        def start(self):
            """Begins."""
            self.next(self.end)
        @step
        def end(self):
            pass
    '''
    description = described(text)
    assert codes(description) == []
    assert description["constants"] == ["RATE"]
    assert description["doc"] == "What it does.\n\n    Indented.\nAnd more."
    assert description["steps"][0]["doc"] == "Begins."
    first, second, third = description["parameters"]
    assert first == {
        "name": "alpha",
        "type": "int",
        "default": "1",
        "has_default": True,
        "required": False,
        "help": "how much",
        "line": 11,
    }
    assert (second["type"], second["required"], second["has_default"]) == ("JSON", True, False)
    assert (third["type"], third["default"], third["has_default"]) == ("int", None, True)


LINEAR = """
class F(FlowSpec):
    a = Parameter("a", default=1)
    @step
    def start(self):
        {start}
    @step
    def work({work_arguments}):
        {work}
    @step
    def end({end_arguments}):
        {end}
    {more}
"""
FINE = {
    "start": "self.next(self.work)",
    "work": "self.next(self.end)",
    "end": "pass",
    "more": "",
    "work_arguments": "self",
    "end_arguments": "self",
}


def linear(**changes: str) -> str:
    return LINEAR.format(**{**FINE, **changes})


WRONG = [
    ("no_next", {"work": "pass"}),
    ("unknown_step", {"work": "self.next(self.endd)"}),
    ("end_next", {"end": "self.next(self.work)"}),
    ("end_joins", {"end_arguments": "self, inputs"}),
    ("joins_nothing", {"work_arguments": "self, inputs"}),
    ("step_arguments", {"work_arguments": "self, inputs, more"}),
    ("conditional_next", {"work": "if self.a: self.next(self.end)"}),
    ("conditional_next", {"work": "x = self.next(self.end)"}),
    ("several_next", {"work": "self.next(self.end); self.next(self.end)"}),
    ("next_not_last", {"work": "self.next(self.end); self.x = 1"}),
    ("next_argument", {"work": "self.next('end')"}),
    ("next_argument", {"work": "self.next({'a': 'end'}, condition='x')"}),
    ("switch_condition", {"work": "self.next({'a': self.end})"}),
    ("next_keyword", {"work": "self.next({'a': self.end}, condition='x', foreach='y')"}),
    ("next_argument", {"work": "self.next(*[self.end])"}),
    ("next_empty", {"work": "self.next()"}),
    ("next_twice", {"work": "self.next(self.end, self.end)"}),
    ("switch_condition", {"work": "self.next(self.end, condition='a')"}),
    ("next_keyword", {"work": "self.next(self.end, other='a')"}),
    ("foreach_not_text", {"work": "self.next(self.end, foreach=self.a)"}),
    ("foreach_several", {"start": "self.next(self.work, self.end, foreach='a')"}),
    ("never_joined", {"start": "self.next(self.work, foreach='a')"}),
    ("parallel_missing", {"start": "self.next(self.work, num_parallel=2)"}),
    ("cycle", {"work": "self.next(self.start)"}),
    ("artifact_hides_step", {"work": "self.end = 1; self.next(self.end)"}),
    ("unreachable", {"more": "@step\n    def lost(self): self.next(self.end)"}),
    ("step_hides", {"more": "@step\n    def input(self): self.next(self.end)"}),
    ("name_twice", {"more": "@step\n    def work(self): self.next(self.end)"}),
    ("name_twice", {"more": "work = Parameter('work', default=1)"}),
    ("step_async", {"more": "@step\n    async def lost(self): self.next(self.end)"}),
    ("parameter_name", {"more": "p = Parameter('a b', default=1)"}),
    ("parameter_hides", {"more": "p = Parameter('next', default=1)"}),
    ("parameter_hides", {"more": "p = Parameter('start', default=1)"}),
    ("parameter_twice", {"more": "p = Parameter('a', default=1)"}),
    ("decorator_twice", {"more": "@pypi\n    @pypi\n    @step\n    def lost(self): self.next(self.end)"}),
]


@pytest.mark.parametrize(("code", "changes"), WRONG, ids=[f"{code}-{at}" for at, (code, _) in enumerate(WRONG)])
def test_what_is_wrong_is_named_with_place_and_cure(described: Any, code: str, changes: dict[str, str]) -> None:
    found = described(linear(**changes))["problems"]
    (problem, *_) = [each for each in found if each["code"] == code]
    assert problem["line"] > 1
    assert problem["what"].endswith(".")
    assert problem["cure"].endswith((".", "?"))


def test_a_right_flow_has_no_problems(described: Any) -> None:
    assert codes(described(linear())) == []


def test_all_problems_are_told_not_the_first_only(described: Any) -> None:
    found = codes(described(linear(work="pass", end="self.next(self.work)", more="q = Parameter('a b')")))
    assert {"no_next", "end_next", "parameter_name"} <= set(found)


def test_no_start_and_no_end(described: Any) -> None:
    found = codes(described("class F(FlowSpec):\n    @step\n    def begin(self): self.next(self.begin)\n"))
    assert {"no_end", "cycle"} <= set(found)
    assert codes(described("class F(FlowSpec):\n    pass\n")) == ["no_end", "no_start"]


def test_a_method_without_step_is_told_apart_from_an_unknown_name(described: Any) -> None:
    found = described(linear(work="self.next(self.helper)", more="def helper(self): pass"))["problems"]
    assert "Put @step above 'def helper'." in [each["cure"] for each in found]
    found = described(linear(work="self.next(self.ennd)"))["problems"]
    assert "Did you mean self.end?" in [each["cure"] for each in found]


def branches(**changes: str) -> str:
    steps = {
        "start": ("self", "self.a, self.b"),
        "a": ("self", "self.join"),
        "b": ("self", "self.join"),
        "join": ("self, inputs", "self.end"),
    }
    for name, change in changes.items():
        arguments, _, following = change.partition(" -> ")
        steps[name] = (arguments, following)
    text = "class F(FlowSpec):\n"
    for name, (arguments, following) in steps.items():
        text += f"    @step\n    def {name}({arguments}):\n        self.next({following})\n"
    return text + "    @step\n    def end(self): pass\n"


@pytest.mark.parametrize(
    ("code", "changes"),
    [
        ("join_without_inputs", {"join": "self -> self.end"}),
        ("never_joined", {"join": "self -> self.end", "a": "self -> self.end"}),
        ("never_joined", {"join": "self, inputs -> self.end, foreach='x'"}),
        ("empty_branch", {"start": "self -> self.a, self.b, self.join"}),
        ("empty_branch", {"start": "self -> self.join, foreach='x'"}),
        ("partial_join", {"start": "self -> self.a, self.b, self.c", "c": "self -> self.end"}),
        ("mixed_join", {"a": "self -> self.c, self.d", "c": "self -> self.join", "d": "self -> self.join"}),
    ],
)
def test_splits_and_joins_that_do_not_match(described: Any, code: str, changes: dict[str, str]) -> None:
    assert code in codes(described(branches(**changes)))


def test_matching_branches_have_no_problems(described: Any) -> None:
    assert codes(described(branches())) == []


def test_a_wrong_decorator_is_refused_where_it_stands(described: Any) -> None:
    from stillrun import FlowError

    for wrong in (
        "@pypi_base\n    @step\n    def lost(self): pass",
        "@pypi(packages=['numpy'])\n    @step\n    def lost(self): pass",
        "@pypi('numpy')\n    @step\n    def lost(self): pass",
    ):
        with pytest.raises(FlowError):
            described(linear(more=wrong))
    with pytest.raises(FlowError, match="@pypi_base"):
        described("@pypi\n" + linear().strip())
