"""Runner: a flow file run, resumed and spun from Python, as the command line does it."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from stillrun_engine.client.runs import Run
from stillrun_engine.client.session import looked_at, use_store
from stillrun_engine.client.tasks import Task
from stillrun_engine.runner.command import Command
from stillrun_engine.runner.errors import RunnerError
from stillrun_engine.runner.executing import ExecutingRun, ExecutingTask
from stillrun_engine.runner.words import BEFORE, RESUME, RUN, SPIN, words_of

__all__ = ["Runner"]

_BOOT = "import sys; del sys.path[0]; from stillrun_cli.main import main; main()"
"""Not -m, which would put the working directory, and a user's json.py in it, before the standard library."""
_RUN_ID = re.compile(r"\d{8}-\d{6}-\d{3}[a-z2-9]{2}")
_LOOK = 0.01
"""Seconds between two looks for the run's name."""
_SAID = 4000
"""Characters of a command's last words that go into an error."""

Self = TypeVar("Self", bound="Runner")


class Runner:
    """Runs the flow of a file, in processes of its own; ``with Runner("flow.py") as runner: ...`` ends what still runs.

    show_output: print what it writes as it comes. profile: the value of METAFLOW_PROFILE. env: variables besides those of
    this process. cwd: the folder to run in. options: those before a flow file's command, such as ``environment``.
    """

    def __init__(
        self,
        flow_file: str | os.PathLike[str],
        show_output: bool = True,
        profile: str | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        file_read_timeout: int = 3600,
        **options: Any,
    ) -> None:
        self.flow_file = os.fspath(flow_file)
        self.show_output = show_output
        self.cwd = Path.cwd() if cwd is None else Path(cwd).absolute()
        self.file_read_timeout = file_read_timeout
        self.top_level_kwargs = options
        self.env_vars = {**os.environ, **(env or {})}
        if profile is not None:
            self.env_vars["METAFLOW_PROFILE"] = profile
        self._commands: list[Command] = []
        self._file = self._found()
        self._before = words_of(options, BEFORE, (), "Runner")
        self._share_store(env or {})

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.cleanup()

    async def __aenter__(self: Self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.cleanup()

    def run(self, **kwargs: Any) -> ExecutingRun:
        """Run the flow to its end. kwargs: its parameters as values, and the options of ``run``: tags, max_workers..."""
        command, name = self._begin_run(kwargs)
        executing = ExecutingRun(self, command, self._named(command, name))
        command.sync_wait()
        return executing

    async def async_run(self, **kwargs: Any) -> ExecutingRun:
        """Begin to run the flow; returns as soon as the run has its name."""
        command, name = self._begin_run(kwargs)
        return ExecutingRun(self, command, await self._named_later(command, name))

    def resume(self, **kwargs: Any) -> ExecutingRun:
        """Go on from an earlier run, to the end. kwargs: ``origin_run_id``, the latest by default, ``step_to_rerun``, options."""
        command, name = self._begin_resume(kwargs)
        executing = ExecutingRun(self, command, self._named(command, name))
        command.sync_wait()
        return executing

    async def async_resume(self, **kwargs: Any) -> ExecutingRun:
        """Begin to go on from an earlier run; returns as soon as the new run has its name."""
        command, name = self._begin_resume(kwargs)
        return ExecutingRun(self, command, await self._named_later(command, name))

    def spin(self, pathspec: str, **kwargs: Any) -> ExecutingTask:
        """Run one step, named by STEP or a pathspec, on the artifacts of an earlier task; ``persist=True`` keeps its task."""
        command, name = self._begin_spin(pathspec, kwargs)
        command.sync_wait()
        return ExecutingTask(self, command, self._spun(command, name))

    async def async_spin(self, pathspec: str, **kwargs: Any) -> ExecutingTask:
        """As ``spin``, without holding up others meanwhile."""
        command, name = self._begin_spin(pathspec, kwargs)
        await command.wait()
        return ExecutingTask(self, command, self._spun(command, name))

    def cleanup(self) -> None:
        """End what still runs, and remove the files that hold its output."""
        while self._commands:
            self._commands.pop().cleanup()

    # -- the flow ------------------------------------------------------------------------------

    @cached_property
    def _description(self) -> dict[str, Any]:
        """The flow's name, steps and parameters. Raises RunnerError when the file has none."""
        words = self._words("flow", "--file", self._file, *self._before, "show", "--json")
        done = subprocess.run(
            words, cwd=self.cwd, env=self.env_vars, stdin=subprocess.DEVNULL, capture_output=True, text=True
        )
        if done.returncode != 0:
            raise RunnerError(_said(done.stderr) or f"{self.flow_file} cannot be read as a flow.")
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return found

    def _found(self) -> str:
        for folder in (self.cwd, Path.cwd()):
            if (folder / self.flow_file).is_file():
                return str(folder / self.flow_file)
        raise RunnerError(f"there is no flow file {self.flow_file} in {self.cwd}.")

    def _share_store(self, env: Mapping[str, str]) -> None:
        """Have the command look at the store that the client of this process looks at, unless another one is named."""
        named = self.top_level_kwargs.get("store") or env.get("STILLRUN_STORE")
        self.env_vars["STILLRUN_STORE"] = str(looked_at() if named is None else Path(named).absolute())

    # -- commands ------------------------------------------------------------------------------

    def _words(self, *words: str) -> list[str]:
        return [sys.executable, "-c", _BOOT, *words]

    def _start(self, words: list[str], run_id_file: str | None) -> tuple[Command, Path]:
        """Start a command that writes the name of its run to a file."""
        folder = tempfile.mkdtemp(prefix="stillrun-runner-") if run_id_file is None else None
        file = Path(folder) / "run-id" if folder is not None else self.cwd / str(run_id_file)
        file.unlink(missing_ok=True)
        command = Command(
            [*words, "--run-id-file", str(file)], self.env_vars, self.cwd, show=self.show_output, folder=folder
        )
        self._commands.append(command)
        return command, file

    def _begin_run(self, kwargs: Mapping[str, Any]) -> tuple[Command, Path]:
        given = dict(kwargs)
        file = given.pop("run_id_file", None)
        words = words_of(given, RUN, self._description["parameters"], "run")
        return self._start(self._words("flow", "--file", self._file, *self._before, "run", *words), file)

    def _begin_resume(self, kwargs: Mapping[str, Any]) -> tuple[Command, Path]:
        given = dict(kwargs)
        file, step = given.pop("run_id_file", None), given.pop("step_to_rerun", None)
        words = words_of(given, RESUME, self._description["parameters"], "resume")
        steps = [] if step is None else [str(step)]
        name = self._description["name"]
        flow = self._words("flow", "--file", self._file, "--class", name, *self._before)
        return self._start([*flow, "resume", *steps, *words], file)

    def _begin_spin(self, pathspec: str, kwargs: Mapping[str, Any]) -> tuple[Command, Path]:
        given = dict(kwargs)
        file = given.pop("run_id_file", None)
        words = words_of(given, SPIN, self._description["parameters"], "spin")
        flow = self._words("flow", "--file", self._file, "--class", self._description["name"], *self._before)
        return self._start([*flow, "spin", pathspec, *words], file)

    # -- names ---------------------------------------------------------------------------------

    def _named(self, command: Command, file: Path) -> Run:
        """The run of a command, when it has its name."""
        try:
            while (name := _name_in(file)) is None:
                self._refuse_ended(command, file)
                time.sleep(_LOOK)
        except KeyboardInterrupt:
            command.kill()
            raise
        return self._run(name)

    async def _named_later(self, command: Command, file: Path) -> Run:
        while (name := _name_in(file)) is None:
            self._refuse_ended(command, file)
            await asyncio.sleep(_LOOK)
        return self._run(name)

    def _refuse_ended(self, command: Command, file: Path) -> None:
        """Raises RunnerError, with the command's last words, when it has ended without a run."""
        if not command.running and _name_in(file) is None:
            raise RunnerError(_said(command.read("stderr")) or f"no run was made: {' '.join(command.command[3:])}")

    def _spun(self, command: Command, file: Path) -> Task | None:
        if command.process.returncode not in (0, 1):
            raise RunnerError(_said(command.read("stderr")) or f"nothing was spun: {' '.join(command.command[3:])}")
        name = _name_in(file)
        if name is None:
            return None
        run = self._run(name)
        (step,) = run
        return step.task

    def _run(self, name: str) -> Run:
        """The client's object of a run; the client looks at the store of this runner from now on."""
        if looked_at() != Path(self.env_vars["STILLRUN_STORE"]):
            use_store(self.env_vars["STILLRUN_STORE"])
        return Run(f"{self._description['name']}/{name}", _namespace_check=False)


def _name_in(file: Path) -> str | None:
    """The name of a run, when all of it has been written."""
    try:
        text = file.read_text("utf-8").strip()
    except FileNotFoundError:
        return None
    return text if _RUN_ID.fullmatch(text) else None


def _said(text: str) -> str:
    """The last words of a command, without the name that it puts before an error."""
    return text.strip()[-_SAID:].removeprefix("stillrun: ")
