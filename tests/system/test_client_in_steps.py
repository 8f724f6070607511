"""The client inside steps whose environment has no engine: the engine that runs them answers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.conftest import Commands

STUDY = """
import sys
from stillrun import FlowSpec, Parameter, catch, retry, step

class Point:
    def __init__(self, x):
        self.x = x

class Study(FlowSpec):
    alpha = Parameter("alpha", default=2)

    @step
    def start(self):
        print("hello")
        self.items = ["a", "bb", "ccc"]
        self.big = list(range(200_000))
        self.next(self.fit, foreach="items")

    @catch(var="problem", print_exception=False)
    @step
    def fit(self):
        self.score = len(self.input) * self.alpha
        self.point = Point(self.score)
        if self.input == "bb":
            raise ValueError("no bb")
        self.next(self.join)

    @step
    def join(self, inputs):
        self.total = sum(each.score for each in inputs)
        self.next(self.end)

    @step
    def end(self):
        pass
"""

READING = """
from metaflow import DataArtifact, Flow, FlowSpec, Metaflow, Run, Step, Task, current, get_namespace, namespace, step
from metaflow.exception import MetaflowNamespaceMismatch, MetaflowNotFound

class Reading(FlowSpec):
    @step
    def start(self):
        try:
            import stillrun_engine
            self.has_engine = True
        except ImportError:
            self.has_engine = False
        self.mine = get_namespace()
        namespace(None)
        run = Flow("Study").latest_run
        self.run_read = run
        self.total, self.scores = run.data.total, [task["score"].data for task in run["fit"]]
        self.x = run["fit"]["2"].data.point.x
        self.big = sum(run["start"].task.data.big)
        self.said = run["start"].task.stdout
        self.steps = [each.id for each in run]
        self.tags = sorted(run.user_tags)
        self.took = (run.finished_at - run.created_at).total_seconds() > 0
        self.failure = run["fit"]["1"].exception.type
        self.parents = [each.pathspec for each in run["join"].task.parent_tasks]
        self.same = run == Run(run.pathspec) and "fit" in run and len(run["fit"]) == 3
        self.flows = [each.id for each in Metaflow()]
        self.code = run.code.script_name
        self.facts = {each.name for each in run["start"].task.metadata} >= {"attempt_ok", "runtime"}
        self.html = "<table>" in run._repr_html_()
        self.artifact = DataArtifact(run["join"].task.pathspec + "/total").size
        self.refused = []
        for call in (lambda: Flow("Studi"), lambda: run["fti"], lambda: Task("Study/latest/fit/9"), lambda: run.data.tot):
            try:
                call()
            except (MetaflowNotFound, AttributeError) as err:
                self.refused.append(type(err).__name__ + ": " + str(err))
        namespace("user:nobody")
        try:
            Run(run.pathspec)
        except MetaflowNamespaceMismatch:
            self.refused.append("mismatch")
        self.next(self.end)

    @step
    def end(self):
        self.again = self.run_read.data.total
        self.own = current.run.finished
"""


@pytest.fixture
def bare() -> str:
    """An interpreter that has no engine."""
    python = Path(os.path.realpath(sys.executable))
    done = subprocess.run([python, "-c", "import stillrun_engine"], capture_output=True, cwd="/")
    assert done.returncode != 0, "the interpreter behind this one has no engine"
    return str(python)


@pytest.mark.parametrize("fresh", [(), pytest.param(("--fresh-process",), marks=pytest.mark.slow)])
def test_a_step_without_engine_reads_runs(lonely: Commands, bare: str, fresh: tuple[str, ...]) -> None:
    lonely.write("study.py", STUDY)
    lonely.write("reading/reading.py", READING)
    lonely.variables["STILLRUN_USER"] = "ada"
    study = lonely.run("study.py", "--tag", "nightly")
    run = lonely.run("reading/reading.py", "--python", bare, *fresh)
    shown = lonely("show", f"{run}/start/0", "--json").json["tasks"][0]
    found = {name: one["preview"] for name, one in shown["artifacts"].items()}
    assert found["has_engine"] == "False" and found["mine"] == "'user:ada'" and found["total"] == "12"
    assert found["scores"] == "[2, 4, 6]" and found["x"] == "6" and found["big"] == str(sum(range(200_000)))
    assert found["said"] == repr("hello\n") and found["tags"] == "['nightly']" and found["took"] == "True"
    assert found["steps"] == "['start', 'fit', 'join', 'end']" and found["failure"] == "'ValueError'"
    assert found["parents"] == str([f"{study}/fit/{place}" for place in range(3)]) and found["same"] == "True"
    assert found["flows"] == "['Reading', 'Study']" and found["code"] == "'study.py'" and found["facts"] == "True"
    assert found["html"] == "True" and found["artifact"] == "5"
    assert "NotFound: no flow 'Studi'" in found["refused"] and "reached" not in shown
    assert [each["path"] for each in shown["files"]] == []
    assert "12" in lonely("artifact", f"{run}/end/0/again").out
    assert "False" in lonely("artifact", f"{run}/end/0/own").out
    replayed = lonely("replay", f"{run}/start", "--json", *(() if fresh else ("--offline",)))
    assert replayed.code == 0, json.dumps(replayed.json)[:3000]


def test_a_store_that_is_named_is_the_one_that_steps_look_at(lonely: Commands, tmp_path: Path) -> None:
    lonely.write("study.py", STUDY)
    flow = """
from stillrun import FlowSpec, Flow, namespace, step

class Where(FlowSpec):
    @step
    def start(self):
        namespace(None)
        self.total = Flow("Study").latest_run.data.total
"""
    lonely.write("where.py", flow)
    other = tmp_path / "other"
    assert lonely("run", "study.py", "--store", str(other), "--alpha", "3").code == 0
    done = lonely("run", "where.py", "--store", str(other), "--json")
    assert done.code == 0, done.err
    assert lonely("artifact", f"{done.json['run']}/start/0/total", "--store", str(other)).out.strip().endswith("18")


def test_a_step_reads_the_steps_before_it_in_its_own_run(lonely: Commands) -> None:
    """They have ended, so they can be read, however short ago that was."""
    flow = """
from stillrun import FlowSpec, Run, current, namespace, step

class Lineage(FlowSpec):
    @step
    def start(self):
        self.seen = [0]
        self.next(self.middle)

    @step
    def middle(self):
        namespace(None)
        self.seen = [*Run(f"{current.flow_name}/{current.run_id}")["start"].task.data.seen, 1]
        self.next(self.end)

    @step
    def end(self):
        namespace(None)
        run = Run(f"{current.flow_name}/{current.run_id}")
        self.seen = [*run["middle"].task.data.seen, [step.id for step in run]]
"""
    lonely.write("lineage.py", flow)
    run = lonely.run("lineage.py")
    assert lonely("artifact", f"{run}/end/0/seen").out.strip().endswith("[0, 1, ['start', 'middle']]")
