"""The executor of this machine: one step host for each environment, one forked child for each task."""

from __future__ import annotations

import selectors
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from stillrun_engine.errors import FlowRefused, HostLost, error_of
from stillrun_engine.executor import Event, Finished, TaskWork, events_of
from stillrun_engine.host_process import PROTOCOL, Frame, HostProcess, Launch

__all__ = ["LocalExecutor", "load_request"]


class LocalExecutor:
    """Up to ``workers`` tasks at once. Hosts start when their first task comes and stay warm.

    load: the 'load' request that each host gets first. wake: a descriptor that ends a wait in ``events``.
    """

    def __init__(self, workers: int, load: Mapping[str, Any], *, fresh: bool = False, wake: int | None = None) -> None:
        self._workers = workers
        self._load = load
        self._fresh = fresh
        self._launches: dict[str, Launch] = {}
        self._idle: dict[str, HostProcess] = {}
        self._hosts: dict[str, HostProcess] = {}
        self._running: dict[str, TaskWork] = {}
        self._stillborn: list[Finished] = []
        self._selector = selectors.DefaultSelector()
        if wake is not None:
            self._selector.register(wake, selectors.EVENT_READ, None)

    @property
    def free(self) -> int:
        return self._workers - len(self._running)

    @property
    def running(self) -> list[TaskWork]:
        return list(self._running.values())

    def offer(self, environment: str, launch: Launch, host: HostProcess | None = None) -> None:
        """Say how the host of ``environment`` is started when a task needs it, or hand over one that is started."""
        self._launches[environment] = launch
        if host is not None:
            self._idle[environment] = host

    def host(self, environment: str) -> HostProcess:
        """The running host of ``environment``, started now if need be; HostLost or FlowRefused when it cannot."""
        if environment not in self._hosts:
            self.load(environment)
        return self._hosts[environment]

    def load(self, environment: str) -> Frame:
        """The host's answer to 'load': the flow's description. Starts the host."""
        host = self._idle.pop(environment, None) or HostProcess(self._launches[environment])
        try:
            answer = host.ask(self._load)
        except BaseException:
            host.close()
            raise
        if answer.header["op"] == "refused":
            host.close()
            raise error_of(answer.header["error"])
        self._hosts[environment] = host
        self._selector.register(host, selectors.EVENT_READ, environment)
        return answer

    def submit(self, work: TaskWork) -> None:
        self._running[work.name] = work
        try:
            host = self.host(work.environment)
        except (FlowRefused, HostLost) as err:  # the environment cannot import the flow: the task fails, and so the run
            self._stillborn.append(_failed(work, err))
            return
        host.send({"op": "task", "key": work.name, "spec": work.spec, "fresh": self._fresh}, work.body)
        self._listen(work.environment)

    def events(self, timeout: float | None) -> list[Event]:
        happened: list[Event] = [*self._stillborn]
        for event in self._stillborn:
            del self._running[event.work.name]
        self._stillborn.clear()
        for key, mask in self._selector.select(0 if happened else timeout):
            environment = key.data
            if environment is None:
                continue
            if mask & selectors.EVENT_WRITE:
                self._hosts[environment].flush()
                self._listen(environment)
            if mask & selectors.EVENT_READ:
                happened.extend(self._heard(environment))
        return happened

    def stop(self, grace: float) -> None:
        for work in self._running.values():
            host = self._hosts.get(work.environment)
            if host is not None:
                host.send({"op": "stop", "key": work.name, "grace_ms": int(grace * 1000)})
                self._listen(work.environment)

    def close(self) -> None:
        for host in self._idle.values():
            host.close()
        self._idle.clear()
        for host in self._hosts.values():
            self._selector.unregister(host)
            host.close()
        self._hosts.clear()
        self._selector.close()

    def _listen(self, environment: str) -> None:
        host = self._hosts[environment]
        mask = selectors.EVENT_READ | (selectors.EVENT_WRITE if host.wants_to_write else 0)
        if self._selector.get_key(host).events != mask:
            self._selector.modify(host, mask, environment)

    def _heard(self, environment: str) -> list[Event]:
        host = self._hosts[environment]
        try:
            frames = host.receive()
        except HostLost as lost:
            return self._mourn(environment, lost)
        return [event for frame in frames for event in self._event(host, frame)]

    def _event(self, host: HostProcess, frame: Frame) -> list[Event]:
        name = frame.header["key"]
        work = self._running[name]
        if frame.header["op"] == "started":
            host.children[name] = frame.header["pid"]
        elif frame.header["op"] == "finished":
            host.children.pop(name, None)
            del self._running[name]
        return [events_of(work, frame)]

    def _mourn(self, environment: str, lost: HostLost) -> list[Event]:
        host = self._hosts.pop(environment)
        self._selector.unregister(host)
        host.close()
        orphans = [work for work in self._running.values() if work.environment == environment]
        for work in orphans:
            del self._running[work.name]
        return [_failed(work, lost) for work in orphans]


def _failed(work: TaskWork, reason: Exception) -> Finished:
    """The end of a task whose host is at fault."""
    error = {"kind": "host", "type": type(reason).__name__, "message": str(reason), "traceback": None}
    return Finished(work, {"ok": False, "artifacts": {}, "error": error}, b"", {"code": None, "signal": None})


def load_request(
    tree: Path,
    flow_file: str,
    source: Path,
    class_name: str | None,
    cwd: Path,
    *,
    configs: Mapping[str, str] = MappingProxyType({}),
    decorated: Sequence[str] = (),
) -> dict[str, Any]:
    """The 'load' request of docs/spec/host-protocol.md: import ``flow_file`` of ``tree``, known to its user as ``source``.

    configs: texts of the flow's configurations; decorated: decorators for every step, such as 'retry:times=2'.
    """
    return {
        "op": "load",
        "protocol": PROTOCOL,
        "file": str(tree / flow_file),
        "tree": str(tree),
        "source": str(source),
        "class": class_name,
        "cwd": str(cwd),
        "configs": dict(configs),
        "decorated": list(decorated),
        "raw_results": True,
    }
