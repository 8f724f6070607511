"""Parameters: text becomes values once, and a wrong one is told with its name, its value and the cure."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest

from .driver import HostProcess, write_flow

FLOW = """
import pathlib, decimal
from stillrun import FlowSpec, Parameter, JSONType, step
calls = []
def late(context):
    calls.append(1)
    return context.flow_name + context.parameter_name + str(len(calls))
class F(FlowSpec):
    count = Parameter("count", default=3)
    rate = Parameter("rate", default=0.5)
    whole = Parameter("whole", default=1, type=float)
    name = Parameter("name", default="x")
    flag = Parameter("flag", default=False)
    none = Parameter("none")
    grid = Parameter("grid", default={"a": 1})
    listed = Parameter("listed", type=JSONType, default="[1, 2]")
    path = Parameter("path", type=pathlib.PurePosixPath, default="/a/b")
    money = Parameter("money", type=decimal.Decimal)
    late = Parameter("late", default=late)
    later = Parameter("later", default=lambda: 7, type=int)
    renamed = Parameter("other_name", default=1)
    @step
    def start(self):
        self.seen = (self.count, self.renamed)
        self.next(self.end)
    @step
    def end(self):
        pass
"""


def values(refs: dict[str, Any]) -> dict[str, Any]:
    return {name: pickle.loads(Path(ref["parts"][0]["path"]).read_bytes()) for name, ref in refs.items()}


def test_defaults(host: HostProcess, tmp_path: Path) -> None:
    host.load(write_flow(tmp_path, FLOW))
    found = values(host.parameters())
    assert str(found.pop("path")) == "/a/b"
    assert found == {
        "count": 3,
        "rate": 0.5,
        "whole": 1.0,
        "name": "x",
        "flag": False,
        "none": None,
        "grid": {"a": 1},
        "listed": [1, 2],
        "money": None,
        "late": "Flate1",
        "later": 7,
        "renamed": 1,
    }
    assert type(found["whole"]) is float


def test_text_becomes_values_of_the_type(host: HostProcess, tmp_path: Path) -> None:
    host.load(write_flow(tmp_path, FLOW))
    given = {"count": "-7", "rate": "1e3", "name": "", "flag": "Yes", "grid": "[null]", "money": "1.50", "none": "é"}
    found = values(host.parameters(**given))
    assert {name: found[name] for name in given if name != "money"} == {
        "count": -7,
        "rate": 1000.0,
        "name": "",
        "flag": True,
        "grid": [None],
        "none": "é",
    }
    assert str(found["money"]) == "1.50"


def test_a_step_reads_a_parameter_by_the_attribute_it_was_given(host: HostProcess, tmp_path: Path) -> None:
    host.load(write_flow(tmp_path, FLOW))
    done = host.task("start", parameters=host.parameters(other_name="5"))
    assert values(host.kept(done)) == {"seen": (3, 5)}


@pytest.mark.parametrize(
    ("given", "told", "cure"),
    [
        ({"count": "1.5"}, "'count': the value '1.5' is not of type int", "whole number"),
        ({"flag": "perhaps"}, "'flag': the value 'perhaps' is not of type bool", "true or false"),
        ({"grid": "{a}"}, "'grid': the value '{a}' is not of type JSON (JSONDecodeError", "quoted"),
        ({"money": "much"}, "'money': the value 'much' is not of type Decimal", "Decimal"),
        ({"cuont": "1"}, "has no parameter 'cuont'", "Did you mean count?"),
        ({"zzz": "1"}, "has no parameter 'zzz'", "It has: count, rate"),
    ],
)
def test_wrong_values(host: HostProcess, tmp_path: Path, given: dict[str, str], told: str, cure: str) -> None:
    host.load(write_flow(tmp_path, FLOW))
    refused = host.parameters(**given)
    assert refused["op"] == "refused"
    assert refused["error"]["kind"] == "parameter"
    assert told in refused["error"]["message"]
    assert cure in refused["error"]["cure"]


@pytest.mark.parametrize(
    ("declared", "told"),
    [
        ('"p", type=int, required=True', "'p' (int) is required"),
        ('"p", default=1.5, type=int', "the default 1.5 is not of type int"),
        ('"p", default="x", type=int', "the default 'x' is not of type int"),
        ('"p", default=lambda: 1 / 0', "its default could not be computed (ZeroDivisionError"),
        ('"p", default=lambda: (i for i in ())', "the default <generator"),
        ('"p", type=lambda text: lambda: text, default="x"', "a lambda cannot be pickled"),
    ],
)
def test_wrong_declarations(host: HostProcess, tmp_path: Path, declared: str, told: str) -> None:
    text = f"class F(FlowSpec):\n    p = Parameter({declared})\n    @step\n    def start(self): self.next(self.end)\n"
    text += "    @step\n    def end(self): pass\n"
    host.load(write_flow(tmp_path, text))
    refused = host.parameters()
    assert refused["op"] == "refused"
    assert refused["error"]["kind"] in ("parameter", "not_picklable")
    assert told in refused["error"]["message"]
    assert refused["error"]["cure"]


def test_an_unknown_argument_is_refused_with_its_line(host: HostProcess, tmp_path: Path) -> None:
    answer = host.load(write_flow(tmp_path, "class F(FlowSpec):\n    p = Parameter('p', defualt=1)\n"))
    assert answer["op"] == "refused"
    assert (answer["error"]["kind"], answer["error"]["line"]) == ("parameter", 3)
