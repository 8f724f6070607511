"""A run, or a spun task, that was started from Python: its state and its output while it goes on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from stillrun_engine.client.runs import Run
from stillrun_engine.client.tasks import Task
from stillrun_engine.runner.command import Command
from stillrun_engine.runner.errors import RunnerError

if TYPE_CHECKING:
    from stillrun_engine.runner.runner import Runner

__all__ = ["Executing", "ExecutingRun", "ExecutingTask"]

Self = TypeVar("Self", bound="Executing[Any]")
Result = TypeVar("Result")


class Executing(Generic[Result]):
    """What a run and a spun task have in common."""

    def __init__(self, runner: Runner, command_obj: Command, result: Result) -> None:
        self.runner = runner
        self.command_obj = command_obj
        self._result = result

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.runner.__exit__(*_)

    async def __aenter__(self: Self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.runner.__exit__(*_)

    @property
    def returncode(self) -> int | None:
        """The command's exit code (docs/spec/exit-codes.md); None while it runs, negative when a signal ended it."""
        return self.command_obj.process.poll()

    @property
    def status(self) -> str:
        """'running', 'successful', 'failed' or 'timeout'."""
        if self.command_obj.timed_out:
            return "timeout"
        code = self.returncode
        return "running" if code is None else "failed" if code else "successful"

    @property
    def stdout(self) -> str:
        """What the command has written to standard output so far."""
        return self.command_obj.read("stdout")

    @property
    def stderr(self) -> str:
        """What the command has written to standard error so far."""
        return self.command_obj.read("stderr")

    async def wait(self: Self, timeout: float | None = None, stream: str | None = None) -> Self:
        """Wait for the end. timeout: seconds after which it is ended, and TimeoutError raised. stream: printed meanwhile."""
        await self.command_obj.wait(timeout, stream)
        return self

    async def stream_log(self, stream: str, position: int | None = None) -> AsyncIterator[tuple[int, str]]:
        """The lines of 'stdout' or 'stderr' as they come, each with the position to go on from."""
        async for place, line in self.command_obj.stream_log(stream, position):
            yield place, line

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._result!r}: {self.status}>"


class ExecutingRun(Executing[Run]):
    """A run that was started. run: the client's object of it."""

    @property
    def run(self) -> Run:
        """The client's object of the run, there as soon as it has begun."""
        return self._result


class ExecutingTask(Executing["Task | None"]):
    """A spun task. task: the client's object of it."""

    @property
    def task(self) -> Task:
        """The client's object of what was kept. Raises RunnerError when nothing was."""
        if self._result is None:
            raise RunnerError("nothing of this spin was kept; spin with persist=True to have its task.")
        return self._result
