"""Features of flows, each with what it writes into any step and what must then hold of every task."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.system.combined.shapes import ShapedStep

__all__ = ["FEATURES", "Feature", "source_of"]


def _nothing(*_: Any) -> None:
    """Nothing to check."""


@dataclass(frozen=True)
class Feature:
    """One feature. lines, decorators: for one step; holds: checks one task, of_run: the run."""

    head: str = ""
    on_flow: str = ""
    members: str = ""
    decorators: Callable[[ShapedStep], Sequence[str]] = lambda _: ()
    lines: Callable[[ShapedStep], Sequence[str]] = lambda _: ()
    options: Sequence[str] = ()
    files: dict[str, str] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)
    holds: Callable[[Any, ShapedStep], None] = _nothing
    of_run: Callable[[Any], None] = _nothing


def source_of(shape: Sequence[ShapedStep], feature: Feature) -> str:
    """The flow file of a shape and a feature, as a user of Metaflow would write it."""
    parts = ["from metaflow import *\nfrom metaflow import current\n", feature.head, "\n", feature.on_flow]
    parts.append("class Woven(FlowSpec):\n" + _indented(feature.members, 4))
    for step in shape:
        own = [each for each in step.decorators if each.startswith("@step")] or ["@step"]
        others = [each for each in step.decorators if not each.startswith("@step")]
        above = "\n".join([*feature.decorators(step), *others, *own])
        joined = "(self, inputs)" if step.joins else "(self)"
        body = "\n".join([*feature.lines(step), *step.before, step.onward or "pass"])
        parts.append(_indented(f"{above}\ndef {step.name}{joined}:\n{_indented(body, 4)}", 4))
    return "\n".join(parts) + "\n\nif __name__ == '__main__':\n    Woven()\n"


def _indented(text: str, by: int) -> str:
    return "\n".join(" " * by + line if line.strip() else "" for line in text.splitlines()) + "\n"


def _equal(name: str, expected: Callable[[Any, ShapedStep], Any]) -> Callable[[Any, ShapedStep], None]:
    def holds(task: Any, step: ShapedStep) -> None:
        assert getattr(task.data, name) == expected(task, step), task.pathspec

    return holds


def _carried(step: ShapedStep) -> list[str]:
    """Set in the first step, merged in joins, read everywhere."""
    if step.name in ("start", "only", "first"):
        return ["self.carried, self._own = {'deep': [1]}, 'own'"]
    merge = ["self.merge_artifacts(inputs, include=['carried', '_own'])"] if step.joins else []
    return [*merge, "self.seen = (self.carried['deep'], self._own)"]


def _seen(task: Any, step: ShapedStep) -> None:
    assert task.data.carried == {"deep": [1]}
    assert "_own" not in [each.id for each in task]
    if "seen" in task:
        assert task.data.seen == ([1], "own")


def _place(task: Any, step: ShapedStep) -> None:
    depth, stack, index = task.data.place
    assert (depth, len(stack), index is None) == (step.depth, step.depth, step.depth == 0), task.pathspec
    assert all(0 <= at < count for at, count, _ in stack)


def _caught(task: Any, step: ShapedStep) -> None:
    if step.splits:
        return
    assert task.data.problem.type.endswith("ValueError"), task.pathspec
    assert f"no {step.name}" in str(task.data.problem.exception)


def _card(task: Any, step: ShapedStep) -> None:
    from stillrun.cards import get_cards

    (card,) = get_cards(task)
    assert f"<h1>{step.name}</h1>" in card.get()
    assert [each["kind"] for each in card.components] == ["markdown", "table"]


OWN = """
@user_step_decorator
def around(step_name, flow, inputs=None, attributes=None):
    flow.before = (step_name, inputs is not None)
    yield
    flow.after = attributes["word"]


class Everywhere(FlowMutator):
    def pre_mutate(self, flow):
        flow.add_parameter("word", Parameter("word", default="added"))

    def mutate(self, flow):
        for name, each in flow.steps:
            each.add_decorator(around, deco_kwargs={"word": "out of " + name})
            each.add_decorator("environment", deco_kwargs={"vars": {"HERE": name}})
"""
PARAMETERS = """
count = Parameter("count", default=1)
rate = Parameter("learning-rate", type=float, default=1)
flag = Parameter("flag", type=bool, default=False)
names = Parameter("names", separator=",", default="a")
grid = Parameter("grid", type=JSONType, default="{}")
late = Parameter("late", default=lambda context: context.flow_name)
nothing = Parameter("nothing", default=None)
"""
GIVEN = ["--count", "7", "--learning-rate", "0.5", "--flag", "True", "--names", "x,y", "--grid", '{"a": [1]}']
CLASSES = """
import dataclasses, enum


@dataclasses.dataclass
class Point:
    x: int


class Kind(enum.Enum):
    A = 1
"""
RETRY = "if current.retry_count == 0:\n    raise ValueError('not yet')\nself.attempt = current.retry_count"

FEATURES: dict[str, Feature] = {
    "artifacts": Feature(
        lines=lambda step: [f"self.mark = ({step.name!r}, 'ä')"], holds=_equal("mark", lambda _, step: (step.name, "ä"))
    ),
    "carried artifacts": Feature(lines=_carried, holds=_seen),
    "parameters": Feature(
        members=PARAMETERS,
        options=GIVEN,
        lines=lambda _: ["self.got = (self.count, self.rate, self.flag, self.names, self.grid, self.late, self.nothing)"],
        holds=_equal("got", lambda *_: (7, 0.5, True, ["x", "y"], {"a": [1]}, "Woven", None)),
    ),
    "parameters of the environment": Feature(
        members=PARAMETERS,
        variables={"METAFLOW_RUN_COUNT": "3", "METAFLOW_RUN_LEARNING_RATE": "2"},
        lines=lambda _: ["self.got = (self.count, self.rate, sorted(current.parameter_names)[0])"],
        holds=_equal("got", lambda *_: (3, 2.0, "count")),
    ),
    "constants": Feature(
        members="RATE = 0.5\nnames = ['a']",
        lines=lambda _: ["self.got = (self.RATE, self.names)"],
        holds=lambda task, _: _equal("got", lambda *_: (task.data.RATE, task.data.names))(task, _),
    ),
    "files": Feature(
        members="table = IncludeFile('table', default='t.csv')\nraw = IncludeFile('raw', is_text=False, default='t.csv')",
        files={"t.csv": "a,b\n1,2\n"},
        lines=lambda _: ["self.got = (self.table.splitlines()[0], len(self.raw))"],
        holds=_equal("got", lambda *_: ("a,b", 8)),
    ),
    "configurations": Feature(
        members="settings = Config('settings', default='s.json')",
        files={"s.json": '{"who": "ada", "deep": {"n": 2}}'},
        options=["--config-value", "settings", '{"who": "bob", "deep": {"n": 3}}'],
        head="import os",
        decorators=lambda _: ["@environment(vars={'WHO': config_expr('settings.who')})"],
        lines=lambda _: ["self.got = (os.environ['WHO'], self.settings.deep.n, self.settings['who'])"],
        holds=_equal("got", lambda *_: ("bob", 3, "bob")),
    ),
    "retry": Feature(
        decorators=lambda _: ["@retry(times=1, minutes_between_retries=0)"],
        lines=lambda _: RETRY.splitlines(),
        holds=_equal("attempt", lambda task, _: task.current_attempt),
    ),
    "retry from outside": Feature(
        options=["--with", "retry:times=1,minutes_between_retries=0"],
        lines=lambda _: RETRY.splitlines(),
        holds=_equal("attempt", lambda *_: 1),
    ),
    "catch": Feature(
        decorators=lambda step: [] if step.splits else ["@catch(var='problem', print_exception=False)"],
        lines=lambda step: [] if step.splits else [f"raise ValueError('no {step.name}')"],
        holds=_caught,
    ),
    "limits": Feature(
        head="import os",
        decorators=lambda _: [
            "@resources(cpu=1, memory=10)",
            "@timeout(minutes=1)",
            "@secrets(sources=[{'type': 'inline', 'options': {'env_vars': {'TOKEN': 'abc'}}}])",
        ],
        lines=lambda _: ["self.token = len(os.environ['TOKEN'])"],
        holds=_equal("token", lambda *_: 3),
    ),
    "cards": Feature(
        head="from metaflow.cards import Markdown, Table",
        decorators=lambda _: ["@card"],
        lines=lambda step: [
            f"current.card.append(Markdown('# {step.name}'))",
            "current.card.append(Table([[1, Markdown('x')]]))",
        ],
        holds=_card,
    ),
    "own decorators": Feature(
        head="import os\n" + OWN,
        on_flow="@Everywhere",
        lines=lambda _: ["self.got = (os.environ['HERE'], self.word, self.before)"],
        holds=lambda task, step: (
            _equal("got", lambda *_: (step.name, "added", (step.name, step.joins)))(task, step),
            _equal("after", lambda *_: f"out of {step.name}")(task, step),
        )[0],
    ),
    "place": Feature(
        lines=lambda _: ["self.place = (len(self.foreach_stack()), self.foreach_stack(), self.index)"], holds=_place
    ),
    "current": Feature(
        on_flow="@project(name='woven')",
        options=["--tag", "here", "--branch", "b"],
        lines=lambda _: [
            "self.me = (current.pathspec, current.step_name, current.branch_name, sorted(current.tags), current.is_running_flow)"
        ],
        holds=_equal("me", lambda task, step: (task.pathspec, step.name, "test.b", ["here"], True)),
        of_run=lambda run: _tagged(run),
    ),
    "client in steps": Feature(
        lines=lambda _: [
            "namespace(None)",
            "self.known = (Run(f'{current.flow_name}/{current.run_id}').finished, current.run.id == current.run_id)",
        ],
        holds=_equal("known", lambda *_: (False, True)),
    ),
    "output": Feature(
        head="import subprocess, sys",
        lines=lambda step: [
            f"print('out of {step.name}', flush=True)",
            "print('aside', file=sys.stderr)",
            "subprocess.run(['echo', 'child'], check=True)",
        ],
        holds=lambda task, step: _printed(task, step),
    ),
    "classes": Feature(
        head=CLASSES,
        lines=lambda _: ["self.point, self.kind_ = Point(4), Kind.A", "self.same = self.kind_ is Kind.A"],
        holds=lambda task, _: _equal("same", lambda *_: task.data.point.x == 4)(task, _),
    ),
    "arrays": Feature(
        head="import numpy",
        lines=lambda _: ["self.array = numpy.arange(20000)", "self.sum = int(self.array.sum())"],
        holds=lambda task, _: _equal("sum", lambda *_: int(task.data.array.sum()))(task, _),
    ),
}  # fmt: skip


def _tagged(run: Any) -> None:
    assert "here" in run.user_tags


def _printed(task: Any, step: ShapedStep) -> None:
    assert task.stdout.splitlines() == [f"out of {step.name}", "child"]
    assert task.stderr == "aside\n"
