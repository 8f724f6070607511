"""Runs read back in Python: the members that Metaflow's users know, on real runs."""

from __future__ import annotations

import pickle
import subprocess
import sys
import time
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
    ((when, _),) = start.loglines("stdout")
    assert start.created_at <= when <= start.finished_at
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
    everywhere = Flow("Study", _namespace_check=False)
    namespace("user:nobody")
    assert list(Metaflow()) == [] and not run.is_in_namespace()
    with pytest.raises(client.NamespaceMismatch, match="no run of Study is in the namespace 'user:nobody'"):
        Flow("Study")
    assert [each.pathspec for each in everywhere] == [other, run.pathspec]  # as when it was made
    assert everywhere[run.id] == run and not list(everywhere.runs("none"))


def test_metaflows_names_of_errors_hold(run: Run) -> None:
    served = subprocess.run(
        [sys.executable, "-c", ERRORS, run.pathspec],
        capture_output=True,
        text=True,
        env={"STILLRUN_STORE": client.get_metadata().removeprefix("local@"), "PATH": "/usr/bin:/bin", "HOME": "/"},
    )
    assert served.stdout.split() == ["found"] * 7, served.stderr
    with pytest.raises(KeyError, match=r"^no step 'fti' in Study/[^']*\.( |$)"):
        run["fti"]


ERRORS = """
import sys
from stillrun.metaflow_names import serve_metaflow
serve_metaflow()
from metaflow import Flow, Run, namespace
from metaflow.exception import (
    MetaflowException, MetaflowInvalidPathspec, MetaflowNamespaceMismatch, MetaflowNotFound, MetaflowTaggingError
)
namespace(None)
run = Run(sys.argv[1])
def refused(kind, call):
    try:
        call()
    except kind as err:
        assert isinstance(err, MetaflowException)
        print("found")
refused(MetaflowNotFound, lambda: Flow("None"))
refused(MetaflowNotFound, lambda: Run("Study/none"))
refused(KeyError, lambda: run["none"])
refused(MetaflowNotFound, lambda: run["fit"]["17"])
refused(MetaflowInvalidPathspec, lambda: Run("Study"))
refused(MetaflowTaggingError, lambda: run.remove_tag("user:ada"))
namespace("user:none")
refused(MetaflowNamespaceMismatch, lambda: Run(sys.argv[1]))
"""


def test_the_members_that_metaflow_has_are_here(run: Run) -> None:
    fit, start = run["fit"], run["start"].task
    assert Flow("Study").created_at == run.created_at and run.created_at <= fit.created_at <= fit.finished_at
    assert Flow("Study").tags == frozenset() and Flow("Study").parent is None and Flow("Study").is_in_namespace()
    assert list(run.steps("nightly")) == list(run) and not list(run.steps("weekly"))
    assert list(fit.tasks("nightly")) == list(fit) and not list(fit.tasks("weekly"))
    assert fit.control_task is None and not list(fit.control_tasks())
    assert start.artifacts._fields == ("alpha", "items") and start.artifacts[1] == start["items"]
    assert start.data._asdict() == {"alpha": 2, "items": ["a", "bb", "ccc"]}
    assert start["items"].created_at == start.finished_at and start.runtime_name == "dev"
    assert start.metadata_dict["script-name"] == "study.py" and start.metadata_dict["runtime"] == "dev"
    with run.code.extract() as folder:
        assert (Path(folder) / "study.py").read_text() == FLOW
    assert run.code.tarball.getnames() == ["study.py"] and run.code.info["script"] == "study.py"
    run.add_tags(["a", "b"])
    run.replace_tags(["a"], ["c"])
    assert run.user_tags == {"nightly", "b", "c"}
    assert list(fit.to_frame("score")["score"]) == [2, 4, 6] and "seconds" in fit.to_frame()
    again = pickle.loads(pickle.dumps([run.parent, run, fit, start, start["items"]]))
    assert again == [run.parent, run, fit, start, start["items"]]


def test_attempts_can_be_looked_at(study: Commands) -> None:
    study.write(
        "tried.py",
        "from stillrun import FlowSpec, current, retry, step\nclass Tried(FlowSpec):\n"
        "    @retry(times=2, minutes_between_retries=0)\n    @step\n    def start(self):\n"
        "        assert current.retry_count == 2, current.retry_count\n        self.x = 1\n",
    )
    name = study.run("tried.py")
    client.use_store(study.store)
    namespace(None)
    task = Run(name)["start"].task
    assert task.current_attempt == 2 and task.successful
    first = Task(task.pathspec, attempt=0)
    assert not first.successful and first.exception.exception == "0" and "x" not in first
    assert Task(task.pathspec, attempt=2).data.x == 1
    with pytest.raises(NotFound, match="has no attempt 3"):
        Task(task.pathspec, attempt=3)


def test_a_run_that_goes_on_is_seen_to_go_on(study: Commands) -> None:
    study.write(
        "slow.py",
        "import time, pathlib\nfrom stillrun import FlowSpec, step\nclass Slow(FlowSpec):\n    @step\n    def start(self):\n"
        "        self.next(self.end)\n    @step\n    def end(self):\n        pathlib.Path('there').touch()\n"
        "        while not pathlib.Path('go').exists():\n            time.sleep(0.01)\n",
    )
    process = study.start("run", "slow.py")
    while not (study.cwd / "there").exists():
        time.sleep(0.01)
    client.use_store(study.store)
    namespace(None)
    run = Flow("Slow").latest_run
    assert run is not None and not run.finished and run.status == "running" and run.end_task is None
    (study.cwd / "go").touch()
    process.communicate(timeout=60)
    assert run.finished and run.successful and run.end_task is not None
    assert [step.id for step in run] == ["start", "end"]


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
