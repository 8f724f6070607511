"""Flows that say `from metaflow import ...` run as they are, with the options that Metaflow's users type."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.conftest import Commands

HELLO = '''
from metaflow import Config, FlowSpec, IncludeFile, JSONType, Parameter, S3, Flow, card, config_expr, conda_base, current
from metaflow import project, resources, retry, secrets, step
from metaflow.cards import Markdown, Table
from metaflow.exception import MetaflowException
from metaflow.plugins.timeout_decorator import TimeoutException


@project(name=config_expr("cfg.project"))
class HelloFlow(FlowSpec):
    """Says hello."""

    cfg = Config("cfg", default="cfg.json")
    alpha = Parameter("alpha", help="how much", default=0.5)
    names = Parameter("names", default="a,b", separator=",")
    grid = Parameter("grid", type=JSONType, default='{"x": [1, 2]}')
    table = IncludeFile("table", is_text=True, default="t.csv")

    @card
    @resources(cpu=config_expr("cfg.res.cpu"), memory=100)
    @secrets(sources=[{"type": "inline", "options": {"env_vars": {"TOKEN": "hunter2"}}}])
    @step
    def start(self):
        import os

        current.card.append(Markdown("# hi"))
        current.card.append(Table([[1, "b"]], headers=["x", "y"]))
        self.seen = [self.cfg.res.cpu, self.names, self.table, self.grid["x"], current.project_flow_name]
        self.token = len(os.environ["TOKEN"])
        self.tags = sorted(current.tags)
        self.attempt = current.retry_count
        self.next(self.a, self.b)

    @step
    def a(self):
        self.x = 1
        self.next(self.join)

    @step
    def b(self):
        self.x = 2
        self.next(self.join)

    @step
    def join(self, inputs):
        self.most = max(each.x for each in inputs)
        self.merge_artifacts(inputs, exclude=["x"])
        self.next(self.end)

    @step
    def end(self):
        print("done", self.most)


if __name__ == "__main__":
    HelloFlow()
'''


@pytest.fixture
def hello(stillrun: Commands) -> Commands:
    stillrun.write("hello.py", HELLO)
    stillrun.write("cfg.json", '{"project": "mine", "res": {"cpu": 1}}')
    stillrun.write("t.csv", "a,b\n")
    return stillrun


def artifacts(commands: Commands, run: str, step: str) -> dict[str, str]:
    (task,) = commands("show", f"{run}/{step}", "--json").json["tasks"]
    return {name: found["preview"] for name, found in task["artifacts"].items()}


def test_a_flow_for_metaflow_runs_and_is_replayed_as_it_is(hello: Commands) -> None:
    hello.variables["METAFLOW_USER"] = "ada"
    run = hello.run("hello.py", "--tag", "b", "--tag", "a", "--no-pylint")
    start = artifacts(hello, run, "start")
    assert start["seen"] == repr([1, ["a", "b"], "a,b\n", [1, 2], "mine.user.ada.HelloFlow"])
    assert (start["tags"], start["token"]) == ("['a', 'b']", "7")
    shown = hello("show", run, "--json").json
    assert (shown["user"], shown["tags"]) == ("ada", ["a", "b"])
    (hello.cwd / "t.csv").unlink()
    assert hello("replay", run).code == 0
    assert hello("verify", run).code == 0
    assert "hunter2" not in json.dumps([{**each, "logs": None} for each in shown["tasks"]])


def test_options_stand_before_or_after_the_command(hello: Commands) -> None:
    hello.write("other.json", '{"project": "other", "res": {"cpu": 3}}')
    words = [
        "--config",
        "cfg",
        "other.json",
        "--with",
        "retry:times=1,minutes_between_retries=0",
        "--run-id-file",
        "id",
    ]
    done = hello("--no-pylint", "--metadata", "local", "--datastore=local", "run", *words, command=(_launcher(hello),))
    assert done.code == 0, done.err
    run = f"HelloFlow/{(hello.cwd / 'id').read_text()}"
    assert artifacts(hello, run, "start")["seen"].startswith("[3,")
    description = hello("show", run, "--json").json
    assert description["run"] == run
    assert hello("replay", run).code == 0, "with the configuration that was given"
    refused = hello("run", "hello.py", "--datastore", "s3")
    assert (refused.code, "--store" in refused.err) == (2, True)
    assert hello("run", "hello.py", "--with", "retyr").code == 2


def _launcher(commands: Commands) -> str:
    """`python hello.py` where nothing called metaflow is installed: the command that `stillrun` has for a flow file."""
    text = HELLO.replace("from metaflow.cards", "from stillrun.cards").replace(
        "from metaflow import", "from stillrun import"
    )
    text = text.replace("from metaflow.exception import MetaflowException\n", "").replace(" S3,", "")
    text = text.replace("from metaflow.plugins.timeout_decorator import TimeoutException\n", "")
    return str(commands.write("own.py", text))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--config-value", "cfg", "{"], "configuration 'cfg' cannot be read"),
        (["--config", "cfg", "none.json"], "cannot be read"),
        (["--table", "none.csv"], "file 'table': none.csv cannot be read"),
        (["--tag", "x" * 501], "at most 500 bytes"),
        (["--grid", "{"], "not of type JSON"),
        (["--with", "retry:times=many"], "a whole number from 0 to 4"),
    ],
)
def test_what_is_given_wrongly_is_refused(hello: Commands, arguments: list[str], told: str) -> None:
    done = hello("run", "hello.py", *arguments)
    assert done.code == 2, done.out
    assert told in done.err


def test_a_foreach_may_be_limited(stillrun: Commands) -> None:
    stillrun.write(
        "wide.py",
        "from metaflow import FlowSpec, step\nclass Wide(FlowSpec):\n    @step\n    def start(self):\n"
        "        self.items = [1, 2, 3]\n        self.next(self.one, foreach='items')\n    @step\n    def one(self):\n"
        "        self.next(self.join)\n    @step\n    def join(self, inputs):\n        self.next(self.end)\n"
        "    @step\n    def end(self):\n        pass\n",
    )
    assert stillrun("run", "wide.py", "--max-num-splits", "3").code == 0
    done = stillrun("run", "wide.py", "--max-num-splits", "2", "--json")
    assert done.code == 1
    error: dict[str, Any] = done.json["failure"]["error"]
    assert "self.items has 3 items, and --max-num-splits allows 2" in error["message"]
