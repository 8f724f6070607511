"""Spin: one step with today's code on the artifacts of an earlier task, without a new run."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.conftest import Commands

from stillrun_engine import client

FLOW = """
from stillrun import FlowSpec, Parameter, card, catch, current, environment, retry, step

class Study(FlowSpec):
    alpha = Parameter("alpha", default=2)

    @step
    def start(self):
        self.items = ["a", "bb", "ccc"]
        self.next(self.fit, foreach="items")

    @environment(vars={"SHOWN": "yes"})
    @retry(times=3, minutes_between_retries=0)
    @catch(var="problem", print_exception=False)
    @step
    def fit(self):
        import os
        print("fitting", self.input, current.retry_count, os.environ.get("SHOWN"))
        self.score = len(self.input) * self.alpha
        self.next(self.join)

    @step
    def join(self, inputs):
        self.total = sum(each.score for each in inputs)
        self.next(self.end)

    @step
    def end(self):
        pass

if __name__ == "__main__":
    Study()
"""


@pytest.fixture
def study(lonely: Commands) -> Iterator[Commands]:
    lonely.write("study.py", FLOW)
    lonely.run("study.py")
    yield lonely
    client.use_store(lonely.store)
    client.namespace(None)


def objects(store: Path) -> set[str]:
    """What is kept, packs by name and size."""
    return {f"{path.name} {path.stat().st_size}" for path in (store / "objects").rglob("*") if path.is_file()}


def test_a_step_is_spun_with_the_code_of_today(study: Commands) -> None:
    study.write("study.py", FLOW.replace("self.total = sum", "print('summing'); self.total = 1000 + sum"))
    kept = objects(study.store)
    done = study("spin", "study.py", "join")
    assert done.code == 0 and "[join/0] summing" in done.out and "1012" in done.out, done.err
    assert "spun: ok" in done.out and "then end; nothing was kept" in done.out
    listed = study("list", "--json").json["runs"]
    assert [run["kind"] for run in listed] == ["run"] and objects(study.store) == kept
    own = study("spin", "join", command=("study.py",))
    assert own.code == 0 and "1012" in own.out, own.err


def test_a_spin_is_one_attempt_and_its_failure_is_shown(study: Commands) -> None:
    study.write("study.py", FLOW.replace("self.score = len", "1 / 0; self.score = len"))
    done = study("spin", "study.py", "Study/latest/fit/1", "--json")
    assert done.code == 1 and done.json["failure"]["type"] == "ZeroDivisionError"
    assert done.json["artifacts"] == {} and done.json["origin"].endswith("/fit/1")
    assert "fitting bb 0 yes" in done.err and "@catch does nothing here" in done.err and "@retry" in done.err
    assert "fitting bb 0 None" in study("spin", "study.py", "Study/latest/fit/1", "--skip-decorators").out


def test_artifacts_and_parameters_can_be_others(study: Commands) -> None:
    study.write("other.py", "ARTIFACTS = {'score': 100, 'items': ['x', 'yyyyy']}\n")
    assert "300" in study("spin", "study.py", "join", "--artifacts-module", "other.py").out
    spun = study("spin", "study.py", "Study/latest/fit/1", "--artifacts-module", "other.py", "--alpha", "7", "--json")
    assert spun.json["artifacts"]["score"]["preview"] == "14", spun.err  # the item stays its own
    study.write("other.py", "ARTIFACTS = 5\n")
    refused = study("spin", "study.py", "join", "--artifacts-module", "other.py")
    assert refused.code == 1 and "has no dictionary ARTIFACTS" in refused.out


def test_what_is_persisted_is_read_by_its_pathspec_and_is_no_run(study: Commands) -> None:
    task = study("spin", "study.py", "join", "--persist", "--json").json["task"]
    client.use_store(study.store)
    client.namespace(None)
    assert client.Task(task).data.total == 12 and task.split("/")[1] not in [run.id for run in client.Flow("Study")]
    assert len(study("list", "--json").json["runs"]) == 1
    assert "total" in study("show", task).out
    client.inspect_spin(".")
    assert [run.pathspec for run in client.Flow("Study")] == ["/".join(task.split("/")[:2])]
    assert client.Run("Study/latest")["join"].task.data.total == 12
    client.default_metadata()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["jion"], "no step 'jion' in Study/.*Did you mean join"),
        (["Study/latest"], "names no step"),
        (["Study/latest/fit/9"], "no task"),
        (["join", "--beta", "1"], "beta"),
    ],
)
def test_what_cannot_be_spun_is_said(study: Commands, words: list[str], said: str) -> None:
    done = study("spin", "study.py", *words)
    assert done.code == 2 and __import__("re").search(said, done.err), done.err
    assert "Traceback" not in done.err


def test_a_flow_that_has_not_run_gives_nothing(lonely: Commands) -> None:
    lonely.write("study.py", FLOW)
    lonely.write("other.py", FLOW.replace("Study", "Other"))
    lonely.run("other.py")
    done = lonely("spin", "study.py", "join")
    assert done.code == 2 and "study.py has not run yet" in done.err
    shown = subprocess.run([sys.executable, "-m", "stillrun_cli", "spin", "--help"], capture_output=True, text=True)
    assert "--artifacts-module" in shown.stdout and "--persist" in shown.stdout
