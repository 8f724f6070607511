"""Runner and NBRunner: flows run, resumed and spun from Python, in scripts and in a real Jupyter kernel."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from jupyter_client.manager import start_new_kernel
from tests.conftest import Commands

from stillrun.errors import FlowError
from stillrun_engine import client
from stillrun_engine.client import session
from stillrun_engine.runner import Runner, RunnerError

FLOW = """
from stillrun import FlowSpec, JSONType, Parameter, current, step

class Study(FlowSpec):
    alpha = Parameter("alpha", default=2)
    towns = Parameter("towns", default="Ulm", separator=",")
    grid = Parameter("grid", type=JSONType, default="{}")
    loud = Parameter("loud", default=False)

    @step
    def start(self):
        print("started", self.towns, self.grid, self.loud)
        self.next(self.end)

    @step
    def end(self):
        import pathlib, time
        self.tags = sorted(current.tags)
        if self.alpha == 7:
            pathlib.Path("there").touch()
            time.sleep(600)
        if self.alpha > 9:
            raise ValueError("too much")
        self.total = self.alpha * 10
"""


@pytest.fixture
def study(lonely: Commands) -> Iterator[Commands]:
    lonely.write("study.py", FLOW)
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update(lonely.environment())
    session._session = None  # as in a process that has not looked at any store
    yield lonely
    os.environ.clear()
    os.environ.update(before)


def runner(study: Commands, **options: object) -> Runner:
    return Runner("study.py", show_output=False, cwd=study.cwd, **options)


def test_a_run_takes_parameters_as_values(study: Commands) -> None:
    with runner(study) as made:
        ran = made.run(alpha=4, towns=["Bonn", "Jena"], grid={"a": [1]}, loud=True, tags=["x", "y z"], max_workers=1)
        assert (ran.status, ran.returncode) == ("successful", 0)
        assert ran.run.data.total == 40 and ran.run.data.towns == ["Bonn", "Jena"] and ran.run.data.grid == {"a": [1]}
        assert ran.run.data.tags == ["x", "y z"] and ran.run.user_tags == {"x", "y z"}
        assert "started ['Bonn', 'Jena'] {'a': [1]} True" in ran.stdout and ran.stderr == ""
        assert ran.command_obj.command[0] == sys.executable and not ran.command_obj.running
    assert "started" in ran.stdout, "what was read stays"


def test_arguments_that_do_not_fit_are_refused_before_anything_runs(study: Commands) -> None:
    with runner(study) as made:
        with pytest.raises(TypeError, match="'alpha' is an int; 'four' is a str"):
            made.run(alpha="four")
        with pytest.raises(ValueError, match=r"run takes no argument 'alpah'.*alpha"):
            made.run(alpah=4)
        with pytest.raises(ValueError, match="Runner takes no argument 'colour'"):
            runner(study, colour="red")
        with pytest.raises(RunnerError, match="has not run yet"):
            made.spin("beta")
    with pytest.raises(RunnerError, match=r"there is no flow file none\.py"):
        Runner("none.py", cwd=study.cwd)
    study.write("study.py", "x = 1 +\n")
    with pytest.raises(RunnerError, match=r"study\.py:1"):
        runner(study).run()


def test_a_failed_run_is_resumed_and_a_step_spun(study: Commands) -> None:
    with runner(study) as made:
        failed = made.run(alpha=10)
        assert (failed.status, failed.returncode, failed.run.successful) == ("failed", 1, False)
        study.write("study.py", FLOW.replace("> 9", "> 99"))
        resumed = made.resume(origin_run_id=failed.run.id)
        assert resumed.status == "successful" and resumed.run.data.total == 100
        assert resumed.run["start"].task.origin_pathspec == f"{failed.run.pathspec}/start/0"
        spun = made.spin("end", persist=True, alpha=3)
        assert spun.status == "successful" and spun.task.data.total == 30
        with pytest.raises(RunnerError, match="persist=True"):
            made.spin(f"{resumed.run.pathspec}/end").task  # noqa: B018
        assert [run.pathspec for run in client.Flow("Study", _namespace_check=False)] == [
            resumed.run.pathspec,
            failed.run.pathspec,
        ]


def test_a_run_can_be_followed_while_it_goes_on(study: Commands) -> None:
    async def follow() -> None:
        async with runner(study) as made:
            first, second = await asyncio.gather(made.async_run(alpha=1), made.async_run(alpha=2))
            lines = [line async for _, line in first.stream_log("stdout")]
            assert any("started" in line for line in lines)
            await first.wait()
            await second.wait(timeout=60)
            assert [first.run.data.total, second.run.data.total] == [10, 20]
            place, _ = await anext(second.stream_log("stdout"))
            rest = [line async for _, line in second.stream_log("stdout", place)]
            assert rest == second.stdout.splitlines()[1:]

    asyncio.run(follow())


def test_a_timeout_ends_the_run(study: Commands) -> None:
    async def follow() -> None:
        async with runner(study) as made:
            slow = await made.async_run(alpha=7)
            assert slow.status == "running" and slow.returncode is None
            while not (study.cwd / "there").exists():
                await asyncio.sleep(0.02)
            with pytest.raises(TimeoutError, match=r"more than 0\.05 seconds"):
                await slow.wait(timeout=0.05)
            assert slow.status == "timeout" and slow.run.finished and slow.run.status == "interrupted"

    asyncio.run(follow())


def test_leaving_the_block_ends_what_runs(study: Commands) -> None:
    async def leave() -> subprocess.Popen[bytes]:
        async with runner(study) as made:
            return (await made.async_run(alpha=7)).command_obj.process

    assert asyncio.run(leave()).returncode is not None


def test_ctrl_c_ends_the_run_too(study: Commands) -> None:
    study.write("drive.py", "from stillrun import Runner\nwith Runner('study.py') as made:\n    made.run(alpha=7)\n")
    driver = study.start(command=("drive.py",))
    while not (study.cwd / "there").exists():
        time.sleep(0.02)
    driver.send_signal(signal.SIGINT)
    out, err = driver.communicate(timeout=60)
    assert "KeyboardInterrupt" in err and "[start/0] started" in out
    assert client.Flow("Study", _namespace_check=False).latest_run.status == "interrupted"


def test_a_deployer_says_that_it_is_not_there(study: Commands) -> None:
    from stillrun import client as names

    with pytest.raises(FlowError, match="production schedulers come later"):
        names.Deployer("study.py")


CELLS = [
    "import math\nfrom metaflow import FlowSpec, Parameter, step\nBASE = 40\nprint('not for the flow')",
    "def helped(x):\n    # a comment that stays\n    return BASE + math.floor(x)",
    """
class Noted(FlowSpec):
    alpha = Parameter("alpha", default=1)

    @step
    def start(self):
        self.total = helped(self.alpha)
        print("in the flow")
        self.next(self.end)

    @step
    def end(self):
        pass
""",
    """
from metaflow import NBRunner
run = NBRunner(Noted, show_output=True).nbrun(alpha=2)
print(run.data.total, run.successful)
""",
    """
ran = NBRunner(Noted, show_output=False)
again = ran.nbresume(origin_run_id=run.id)
print(again["start"].task.origin_pathspec is not None)
""",
    """
made = NBRunner(Noted, show_output=False)
started = await made.async_run(alpha=3)
await started.wait()
print(started.run.data.total)
made.cleanup()
""",
    "import os\nprint(sorted(os.listdir('.')))\nprint(run.code.flowspec)\nrun",
]


def test_a_flow_of_a_notebook_is_run(study: Commands) -> None:
    served = "from stillrun.metaflow_names import serve_metaflow\nserve_metaflow()"
    manager, kernel = start_new_kernel(
        kernel_name="python3",
        env={**study.environment(), "IPYTHONDIR": str(study.cwd / ".ipython")},
        cwd=str(study.cwd),
    )
    said: list[str] = []
    shown: list[dict[str, str]] = []

    def hear(message: dict[str, object]) -> None:
        content = message["content"]
        assert isinstance(content, dict)
        if message["msg_type"] == "stream":
            said.append(content["text"])
        elif message["msg_type"] == "execute_result":
            shown.append(content["data"])
        elif message["msg_type"] == "error":
            raise AssertionError("\n".join(content["traceback"]))

    try:
        for cell in (served, *CELLS):
            kernel.execute_interactive(textwrap.dedent(cell), timeout=120, output_hook=hear)
    finally:
        kernel.stop_channels()
        manager.shutdown_kernel(now=True)
    text = "".join(said)
    assert "[start/0] in the flow" in text and "42 True" in text and "\n43\n" in text and "True\n" in text
    assert "nb_Noted.py" not in text.split("[start/0]")[0].replace("not captured", "")
    assert "# a comment that stays" in text and text.count("not for the flow") == 1
    assert shown and "<table>" in shown[-1]["text/html"]
    assert not list(Path(study.cwd).glob("nb_*"))
