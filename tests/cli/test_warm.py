"""A command that is forked off is what a command that was started is: a process with its own folder, variables and end."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.conftest import Commands
from tests.warm import WarmProcess

FLOW = """
import os
from stillrun import FlowSpec, step

class Tiny(FlowSpec):
    @step
    def start(self):
        self.told = (os.getcwd(), os.environ["TOLD"])
        os.{end}
"""


@pytest.fixture(scope="module")
def process() -> Iterator[WarmProcess]:
    warm = WarmProcess(Commands(Path(), Path("nowhere")).environment())
    yield warm
    warm.close()


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="commands are forked off on Linux alone")
def test_it_says_and_returns_what_one_that_was_started_does(stillrun: Commands, process: WarmProcess) -> None:
    stillrun.variables["TOLD"] = "über"
    stillrun.write("good.py", FLOW.format(end="getpid()"))
    stillrun.write("bad.py", FLOW.format(end="abort()"))
    run = stillrun.run("good.py")
    for words in (["show", run, "--json"], ["show", "Tiny/none"], ["run", "absent.py"], ["--version"], ["show", run]):
        begun = stillrun.start(*words)
        out, err = begun.communicate(timeout=60)
        found = [process.run(words, stillrun.cwd, stillrun.environment(), timeout=60) for _ in range(2)]
        assert found == [(begun.returncode, out, err)] * 2
    assert process.run(["run", "bad.py"], stillrun.cwd, stillrun.environment(), timeout=60)[0] == 1
    assert str(stillrun.cwd) in stillrun("artifact", f"{run}/start/0/told").out


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="commands are forked off on Linux alone")
def test_some_at_once_are_answered_each(stillrun: Commands, process: WarmProcess) -> None:
    stillrun.write("slow.py", FLOW.format(end="system('sleep 1')"))
    found: dict[str, int] = {}

    def call(*words: str) -> None:
        variables = {**stillrun.environment(), "TOLD": words[0]}
        found[words[0]] = process.run([*words], stillrun.cwd, variables, timeout=60)[0]

    threads = [threading.Thread(target=call, args=words) for words in (("run", "slow.py"), ("show", "X/1"), ("list",))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {"run": 0, "show": 2, "list": 0}


def test_variables_that_an_interpreter_reads_at_its_start_want_a_start(process: WarmProcess) -> None:
    variables = Commands(Path(), Path("nowhere")).environment()
    assert process.serves({**variables, "STILLRUN_STORE": "there", "HOME": "/"})
    assert not process.serves({**variables, "PYTHONHASHSEED": "1"}) and not process.serves({**variables, "TZ": "UTC"})
