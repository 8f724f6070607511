"""Runs read back in Python: the members that Metaflow's users know, on real runs."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.conftest import Commands

from stillrun_engine import client
from stillrun_engine.client import DataArtifact, Flow, Metaflow, Run, Task, namespace
from stillrun_engine.errors import EngineError, NotFound

FLOW = """
import sys
from stillrun import FlowSpec, Parameter, catch, step

class Point:
    def __init__(self, x):
        self.x = x

class Study(FlowSpec):
    alpha = Parameter("alpha", default=2)

    @step
    def start(self):
        self.items = ["a", "bb", "ccc"]
        print("hello")
        print("trouble ü", file=sys.stderr)
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
        if self.alpha > 9:
            raise RuntimeError("too much")
"""


@pytest.fixture
def study(lonely: Commands) -> Iterator[Commands]:
    lonely.write("study.py", FLOW)
    lonely.variables["STILLRUN_USER"] = "ada"
    yield lonely
    client.use_store(lonely.store)
    namespace(None)


@pytest.fixture
def run(study: Commands) -> Run:
    name = study.run("study.py", "--tag", "nightly")
    client.use_store(study.store)
    namespace(None)
    return Run(name)


def test_a_run_is_read_back(run: Run) -> None:
    assert run.successful and run.finished and run.status == "ok"
    assert run.created_at < run.finished_at
    assert [step.id for step in run] == ["start", "fit", "join", "end"]
    assert run.data.total == 12
    assert run.end_task == run["end"].task
    assert run.data.alpha == 2
    assert run.code.script_name == "study.py"
    assert run.code.flowspec == FLOW
    assert run == Run("Study/latest") == Flow("Study").latest_run == Flow("Study").latest_successful_run
    assert run.parent == Flow("Study") and "fit" in run and "none" not in run
    assert len(run.to_frame()) == 6
    assert pickle.loads(pickle.dumps(run)) == run
    assert "Study/" in run._repr_html_() and "&lt;" not in repr(run)


def test_steps_and_tasks_are_read_back(run: Run) -> None:
    fit = run["fit"]
    assert [task.index for task in fit] == [0, 1, 2]
    assert [task["score"].data for task in fit] == [2, 4, 6]
    assert [step.id for step in fit.parent_steps] == ["start"] and [step.id for step in fit.child_steps] == ["join"]
    task = fit["1"]
    assert task == fit[1] == Task(f"{run.pathspec}/fit/1")
    assert task.successful and task.exception.type == "ValueError" and str(task.exception) == "ValueError: no bb"
    assert fit["0"].exception is None and fit["0"].data.problem is None
    assert sorted(each.id for each in task) == ["alpha", "items", "point", "problem", "score"]
    assert [one.pathspec for one in task.parent_tasks] == [f"{run.pathspec}/start/0"]
    assert list(task.child_task_pathspecs) == [f"{run.pathspec}/join/0"]
    assert [one.id for one in run["start"].task.child_tasks] == ["0", "1", "2"]
    start = run["start"].task
    assert (start.stdout, start.stderr) == ("hello\n", "trouble ü\n")
    assert [text for _, text in start.loglines("stderr")] == ["trouble ü"]
    assert start.metadata_dict["attempt_ok"] == "True"
    assert fit.environment_info["python"] == ".".join(map(str, sys.version_info[:3]))
    assert DataArtifact(f"{run.pathspec}/fit/2/score").data == 6
    assert start["items"].type == "list" and start["items"].size > 0 and len(start["items"].sha) == 64


def test_classes_of_the_flow_are_found_in_its_captured_code(run: Run, study: Commands) -> None:
    (study.cwd / "study.py").unlink()
    assert run["fit"][2].data.point.x == 6


def test_what_is_not_there_is_named_with_what_is_near(run: Run) -> None:
    with pytest.raises(NotFound, match="Study"):
        Flow("Studi")
    with pytest.raises(NotFound, match="fit"):
        run["fti"]
    with pytest.raises(AttributeError, match="score"):
        run["fit"].task.data.scor  # noqa: B018
    with pytest.raises(NotFound):
        Task(f"{run.pathspec}/fit/9")
    with pytest.raises(EngineError, match="of the form FLOW/RUN"):
        Run("Study")


def test_tags_and_namespaces_choose_runs(run: Run, study: Commands) -> None:
    assert run.user_tags == {"nightly"} and "user:ada" in run.system_tags
    study.variables["STILLRUN_USER"] = "bob"
    other = study.run("study.py")
    assert [each.pathspec for each in Flow("Study")] == [other, run.pathspec]
    assert list(Flow("Study").runs("nightly")) == [run]
    namespace("user:bob")
    assert Flow("Study").latest_run == Run(other)
    assert [flow.id for flow in Metaflow()] == ["Study"]
    with pytest.raises(client.NamespaceMismatch, match="user:bob"):
        Run(run.pathspec)
    namespace("user:nobody")
    assert list(Metaflow()) == [] and Flow("Study").latest_run is None


def test_tags_are_changed_and_logged(run: Run, study: Commands) -> None:
    run.add_tag("good")
    run.replace_tag("nightly", "weekly")
    assert Run(run.pathspec).user_tags == {"good", "weekly"}
    assert list(Flow("Study").runs("weekly", "good")) == [run] and not list(Flow("Study").runs("nightly"))
    assert study("tag", "add", run.pathspec, "Ü 1", "--json").json["tags"] == ["good", "weekly", "Ü 1"]
    assert study("tag", "remove", run.pathspec, "good").out.split("\n")[:2] == ["weekly", "Ü 1"]
    assert [one["run"] for one in study("list", "--tag", "weekly", "--json").json["runs"]] == [run.pathspec]
    assert study("list", "--tag", "gone").out == "No run has these tags.\n"
    refused = study("tag", "add", run.pathspec, "two\nlines")
    assert (refused.code, "one line of text" in refused.err) == (2, True)
    assert study("verify", run.pathspec).code == 0
    launcher = (str(study.cwd / "study.py"),)
    study.write("study.py", FLOW + "\n\nif __name__ == '__main__':\n    Study()\n")
    assert study("tag", "list", command=launcher).out == "weekly\nÜ 1\n"
    assert "fit/2/score (int" in study("dump", f"{run.id}/fit", "--include", "score", command=launcher).out
    assert study("logs", f"{run.id}/start", "--stdout", command=launcher).out == "hello\n"


def test_failed_and_replayed_runs(run: Run, study: Commands) -> None:
    failed = study("run", "study.py", "--alpha", "10", "--json").json["run"]
    assert not Run(failed).successful and Run(failed)["end"].task.exception.exception == "too much"
    assert Flow("Study").latest_successful_run == run
    replay = study("replay", run.pathspec, "--json").json["run"]
    assert [each.pathspec for each in Flow("Study")] == [failed, run.pathspec]
    assert Run(replay).origin_pathspec == run.pathspec
    again = study("resume", failed, "--json")
    assert Run(again.json["run"]).origin_run_id == failed.split("/")[1]
    assert Run(again.json["run"])["start"].task.origin_pathspec == f"{failed}/start/0"


def test_a_step_can_use_the_client(study: Commands) -> None:
    first = study.run("study.py")
    study.write(
        "reading.py",
        "from metaflow import FlowSpec, Flow, Run, step, current, namespace\nclass Reading(FlowSpec):\n    @step\n"
        "    def start(self):\n        namespace(None)\n        self.total = Flow('Study').latest_run.data.total\n"
        "        self.me = current.task is not None if False else current.run_id\n        self.next(self.end)\n"
        "    @step\n    def end(self):\n        pass\n",
    )
    run = study.run("reading.py")
    shown = study("artifact", f"{run}/start/0/total").out
    assert shown.strip().endswith("12"), first


def test_nothing_is_there_yet(tmp_path: Path) -> None:
    code = "from stillrun import Flow; Flow('Study')"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={"STILLRUN_STORE": str(tmp_path / "none"), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
    )
    assert "there is no Stillrun store at" in done.stderr
