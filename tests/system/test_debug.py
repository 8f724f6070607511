"""A task of a kept run, opened by hand: its inputs are bound, its files are there, and a failure is stood in."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.manager import KernelManager
from tests.conftest import Commands, Done

from stillrun_engine.archive import open_run
from stillrun_engine.caller import Caller
from stillrun_engine.debugging import opened_task
from stillrun_engine.errors import EngineError
from stillrun_engine.notebook import notebook_of, program_for
from stillrun_engine.pathspec import parse_pathspec
from stillrun_engine.reporter import Reporter
from stillrun_snapshot.store import Store

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


def test_a_notebook_has_a_kernel_in_the_environment_of_the_task(study: Commands, tmp_path: Path) -> None:
    study.write("data.txt", "a bb")
    run = study.run("study.py")
    with Store.open(study.store) as store:
        kept = open_run(store, parse_pathspec(f"{run}/fit/1"))
        called = Caller(Path(sys.executable), study.cwd, study.environment())
        with opened_task(kept, called, "python", Reporter()) as task:
            assert subprocess.run([task.python, "-c", "import ipykernel"], capture_output=True).returncode == 1
            made = notebook_of(task, Path(sys.executable), task.folder)
            assert (
                json.loads((task.folder / "task.ipynb").read_text())["metadata"]["kernelspec"]["name"]
                == "stillrun-task"
            )
            manager = KernelManager(kernel_name="stillrun-task", connection_file=str(tmp_path / "connection.json"))
            manager.kernel_spec_manager.kernel_dirs = [str(made.kernels / "kernels")]
            manager.start_kernel()
            try:
                assert said(manager, "print(self.input, self.alpha, open('data.txt').read())") == "bb 2.0 a bb\n"
                assert said(manager, "self.fit(); print(self.score)") == "4.0\n"
                assert said(manager, "import numpy") == "ModuleNotFoundError", "only the kernel is borrowed"
            finally:
                manager.shutdown_kernel(now=True)


def said(manager: KernelManager, code: str) -> str:
    """What a cell prints, or the name of its error."""
    client = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=60)
        found: list[str] = []

        def hear(message: dict[str, Any]) -> None:
            content = message["content"]
            found.append(content.get("text") or content.get("ename") or "")

        client.execute_interactive(code, timeout=60, output_hook=hear)
        return "".join(found)
    finally:
        client.stop_channels()


def test_where_there_is_no_kernel_to_lend_it_is_said(study: Commands, tmp_path: Path) -> None:
    run = study.run("study.py")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True)
    study.variables["VIRTUAL_ENV"] = str(tmp_path / "bare")
    done = typed(study, "", "debug", f"{run}/start", "--notebook")
    assert done.code == 2
    assert "has no Jupyter kernel to lend" in done.err


def test_where_there_is_no_jupyter_it_is_said(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="no jupyter-lab and no jupyter-notebook"):
        program_for(tmp_path / "bin" / "python", str(tmp_path))


def test_there_is_one_way_to_open_a_task(study: Commands) -> None:
    run = study.run("study.py")
    done = typed(study, "", "debug", f"{run}/start", "--shell", "--pdb")
    assert (done.code, "choose one" in done.err) == (2, True)


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
