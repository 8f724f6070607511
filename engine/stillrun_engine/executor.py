"""What runs tasks: the seam between the scheduler and a machine, or many."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any, Protocol

from stillrun_engine.host_process import Frame
from stillrun_engine.plan import TaskKey
from stillrun_snapshot.deferred import dataclass

__all__ = ["Event", "Executor", "Finished", "Output", "Started", "TaskWork"]


@dataclass(frozen=True)
class TaskWork:
    """One attempt at one task: where it runs and what it is told (SPEC of docs/spec/host-protocol.md)."""

    key: TaskKey
    attempt: int
    environment: str
    spec: Mapping[str, Any]
    body: bytes = b""

    @property
    def name(self) -> str:
        """Unique in its run: 'train/2#0'."""
        return f"{self.key.step}/{self.key.task}#{self.attempt}"


@dataclass(frozen=True)
class Started:
    """A process has begun on the task. unsafe_to_fork: why it is a new interpreter, where it could not be forked."""

    work: TaskWork
    unsafe_to_fork: str | None = None


@dataclass(frozen=True)
class Output:
    """Bytes that the task wrote to 'stdout' or 'stderr'."""

    work: TaskWork
    stream: str
    data: bytes


@dataclass(frozen=True)
class Finished:
    """The task has ended, in whatever way. ``result`` is None when its process died before it could answer."""

    work: TaskWork
    result: Mapping[str, Any] | None
    body: bytes
    exit: Mapping[str, Any]
    usage: Mapping[str, Any] = field(default_factory=dict)


Event = Started | Output | Finished


class Executor(Protocol):
    """Runs tasks; the scheduler does not know where."""

    @property
    def free(self) -> int:
        """How many more tasks may be submitted now."""

    @property
    def running(self) -> Sequence[TaskWork]:
        """The tasks that were submitted and have not finished."""

    def submit(self, work: TaskWork) -> None:
        """Begin on ``work`` as soon as may be."""

    def events(self, timeout: float | None) -> list[Event]:
        """What has happened since the last call; waits up to ``timeout`` seconds for something to."""

    def stop(self, grace: float) -> None:
        """Ask every running task to end, and kill after ``grace`` seconds. Their ends still come as events."""

    def close(self) -> None:
        """End everything that this executor started."""


def events_of(work: TaskWork, frame: Frame) -> Event:
    """The event that a step host's frame tells of ``work``."""
    header = frame.header
    if header["op"] == "started":
        return Started(work, header.get("unsafe_to_fork"))
    if header["op"] == "output":
        return Output(work, header["stream"], frame.body)
    return Finished(work, header["result"], frame.body, header["exit"], header["usage"])
