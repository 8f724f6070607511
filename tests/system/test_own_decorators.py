"""Decorators and mutators that a flow writes itself: what they do, replayed and resumed, and what is refused."""

from __future__ import annotations

import ast
import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Commands

FIXTURE = Path(__file__).parents[2] / "fixtures" / "metaflow" / "own_decorators.py"


def artifact(commands: Commands, run: str, step: str, name: str) -> Any:
    (task,) = commands("show", f"{run}/{step}", "--json").json["tasks"]
    return ast.literal_eval(task["artifacts"][name]["preview"])


@pytest.fixture
def own(stillrun: Commands) -> Commands:
    shutil.copy(FIXTURE, stillrun.cwd / "own.py")
    return stillrun


def test_they_stand_around_steps_replace_them_and_change_the_flow(own: Commands) -> None:
    run = own.run("own.py", "--depth", "5")
    assert artifact(own, run, "start", "got") == (5, "ada")
    assert artifact(own, run, "start", "problem") == "not so bad"
    assert artifact(own, run, "start", "told") == ["into start", "out of start"]
    assert artifact(own, run, "middle", "was_left_out") == "middle"
    assert artifact(own, run, "middle", "told") == ["into start", "out of start"]
    assert artifact(own, run, "end", "told") == ["added to end", "out of end"]
    assert artifact(own, run, "end", "result") == (["xadaxadaxada", "yadayadayada"], ("join", None))
    replayed = own("replay", run, "--json")
    assert replayed.code == 0, replayed.err
    assert replayed.json["verdict"] in ("identical", "equivalent")


def test_a_changed_decorator_is_changed_code(own: Commands) -> None:
    run = own.run("own.py")
    own.write("own.py", (own.cwd / "own.py").read_text().replace('"out of', '"left'))
    done = own("resume", run, "--json")
    assert done.code == 0, done.err
    assert artifact(own, done.json["run"], "start", "told") == ["into start", "left start"]
    assert artifact(own, done.json["run"], "end", "told") == ["added to end", "left end"]


SMALL = """
from metaflow import FlowMutator, FlowSpec, Parameter, StepMutator, UserStepDecorator, step, user_step_decorator

{defined}

{on_flow}
class Small(FlowSpec):
    {on_step}
    @step
    def start(self):
        self.next(self.end)

    @step
    def end(self):
        pass
"""
GENERATOR = "@user_step_decorator\ndef around(step_name, flow, inputs, attributes):\n"
LATE = "class Late(FlowMutator):\n    def mutate(self, flow):\n        "
REFUSED = {
    "it is no generator": ("@user_step_decorator\ndef f(a, b, c):\n    pass", "", "", "which is no generator"),
    "it takes one argument": ("@user_step_decorator\ndef f(a):\n    yield", "", "", "f() takes 1 arguments"),
    "it has no init": (
        "class D(UserStepDecorator):\n    pass",
        "",
        "@D(x=1)",
        "@D was given arguments and has no init()",
    ),
    "positions": (GENERATOR + "    yield", "", "@around(1)", "@around takes named arguments only"),
    "on the flow": (GENERATOR + "    yield", "@around()", "", "@around stands on Small, where it cannot"),
    "a mutator on a step": ("class M(FlowMutator):\n    pass", "", "@M()", "@M stands on start, where it cannot"),
    "a late parameter": (
        LATE + 'flow.add_parameter("a", Parameter("a", default=1))',
        "@Late",
        "",
        "@Late on line 8: parameters cannot be added or removed in mutate()",
    ),
    "an unknown decorator": (LATE + 'flow.start.add_decorator("retyr")', "@Late", "", "there is no decorator 'retyr'"),
    "a wrong argument": (
        LATE + 'flow.start.add_decorator("retry", deco_kwargs={"times": 9})',
        "@Late",
        "",
        "@retry(times=9): a whole number from 0 to 4",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_written_wrongly_is_refused_before_anything_runs(stillrun: Commands, name: str) -> None:
    defined, on_flow, on_step, told = REFUSED[name]
    stillrun.write("small.py", SMALL.format(defined=defined, on_flow=on_flow, on_step=on_step))
    done = stillrun("run", "small.py")
    assert done.code == 2, done.out + done.err
    assert told in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("    yield\n    raise RuntimeError('after it')", "RuntimeError: after it"),
        ("    yield\n    yield", "@around yields more than once"),
        ("    yield 7", "instead of a step"),
    ],
)
def test_a_failing_decorator_fails_its_step(stillrun: Commands, body: str, told: str) -> None:
    stillrun.write("small.py", SMALL.format(defined=GENERATOR + body, on_flow="", on_step="@around"))
    done = stillrun("run", "small.py")
    assert (done.code, told in done.out + done.err) == (1, True), done.out + done.err


def test_one_is_put_on_every_step_from_the_command_line(stillrun: Commands) -> None:
    text = GENERATOR + "    flow.seen = attributes\n    yield"
    stillrun.write("small.py", SMALL.format(defined=text, on_flow="", on_step="@around(level=1)"))
    run = stillrun.run("small.py", "--with", "around:level=2")
    assert artifact(stillrun, run, "start", "seen") == {"level": 1}, "where it stands already it is not put again"
    assert artifact(stillrun, run, "end", "seen") == {"level": 2}
    assert stillrun("replay", run).code == 0
