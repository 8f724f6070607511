"""A task of a kept run, opened by hand: its inputs are bound, its files are there, and a failure is stood in."""

from __future__ import annotations

import subprocess
import sys

import pytest
from tests.conftest import Commands, Done

FLOW = """
from stillrun import FlowSpec, Parameter, step

class Study(FlowSpec):
    alpha = Parameter("alpha", default=2.0)

    @step
    def start(self):
        self.items = open("data.txt").read().split()
        self.next(self.fit, foreach="items")

    @step
    def fit(self):
        secret = len(self.input) * self.alpha
        assert secret < 6, "too long"
        self.score = secret
        self.next(self.join)

    @step
    def join(self, inputs):
        self.total = sum(each.score for each in inputs)
        self.next(self.end)

    @step
    def end(self):
        pass
"""


def typed(commands: Commands, text: str, *arguments: str) -> Done:
    """What a command answers to what is typed."""
    words = [sys.executable, "-m", "stillrun_cli", *arguments]
    done = subprocess.run(
        words, cwd=commands.cwd, env=commands.environment(), input=text, capture_output=True, text=True, timeout=120
    )
    return Done(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def study(stillrun: Commands) -> Commands:
    stillrun.write("study.py", FLOW)
    stillrun.write("data.txt", "a bb")
    return stillrun


def test_a_prompt_has_what_the_step_had(study: Commands) -> None:
    run = study.run("study.py")
    (study.cwd / "data.txt").unlink()
    done = typed(
        study, "print(self.input, self.alpha, self.index)\nself.fit()\nprint(self.score)\n", "debug", f"{run}/fit/1"
    )
    assert "bb 2.0 1" in done.out
    assert "4.0" in done.out
    assert f"{run}/fit/1 with its recorded inputs: current, flow, self." in done.err
    done = typed(study, "print(sum(each.score for each in inputs))\n", "debug", f"{run}/join")
    assert "6.0" in done.out
    done = typed(study, "print(open('data.txt').read())\n", "debug", f"{run}/start")
    assert "a bb" in done.out


def test_a_failure_is_stood_in(study: Commands) -> None:
    study.write("data.txt", "a bbbb")
    failed = study("run", "study.py", "--json")
    assert failed.code == 1
    done = typed(study, "print(secret)\nquit\n", "debug", f"{failed.json['run']}/fit/1", "--pdb")
    assert "8.0" in done.out
    assert "AssertionError: too long" in done.err
    assert done.code == 1


def test_a_step_that_does_not_fail_says_so(study: Commands) -> None:
    run = study.run("study.py")
    done = typed(study, "", "debug", f"{run}/fit/0", "--pdb")
    assert done.code == 0
    assert "ended without a failure" in done.err


def test_a_shell_is_in_the_environment(study: Commands) -> None:
    run = study.run("study.py")
    study.variables["SHELL"] = "/bin/sh"
    done = typed(study, "command -v python; ls\n", "debug", f"{run}/start", "--shell")
    assert str(study.store) in done.out
    assert "data.txt" in done.out


def test_one_task_is_asked_for(study: Commands) -> None:
    run = study.run("study.py")
    done = typed(study, "", "debug", f"{run}/fit")
    assert done.code == 2
    assert "names 2 tasks (0, 1); name one" in done.err


def test_a_failed_run_opens_a_debugger_when_asked(study: Commands) -> None:
    study.write("data.txt", "a bbbb")
    done = typed(study, "print(secret)\nquit\n", "run", "study.py", "--pdb")
    assert done.code == 1
    assert "8.0" in done.out
    assert "AssertionError: too long" in done.err
    study.write("data.txt", "a")
    assert typed(study, "", "run", "study.py", "--pdb").code == 0


def test_replay_debug_is_the_same_prompt(study: Commands) -> None:
    run = study.run("study.py")
    done = typed(study, "print(self.input)\n", "replay", f"{run}/fit/0", "--debug")
    assert ">>> a\n" in done.out
