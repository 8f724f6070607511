"""The step host: imports a flow once and forks a child for each task. Protocol: docs/spec/host-protocol.md.

One thread, one loop. Everything that this package needs is imported here, before a user's folder comes on sys.path.
"""

from __future__ import annotations

import atexit
import gc
import os
import signal
import socket
import sys
import time

import stillrun.canonical_arrays
import stillrun.canonical_classes
import stillrun.canonical_tables
import stillrun.canonical_ways
from stillrun import remote
from stillrun.children import Child, own_session, spawn, usable_output
from stillrun.description import describe, kept_constants, parameters_of
from stillrun.errors import StillrunError
from stillrun.failure import error, error_of
from stillrun.flowfile import LoadedFlow, Refused
from stillrun.forks import unsafe_to_fork
from stillrun.frames import LENGTHS, Connection, pack, unpack
from stillrun.fresh import NOTHING, load_in_place, report, spawn_fresh
from stillrun.metaflow_facts import get_username
from stillrun.parameters import values_of
from stillrun.reader import ArtifactReader
from stillrun.task import run_task
from stillrun.watch import READ, WRITE, Watch
from stillrun.writer import ArtifactWriter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Mapping

__all__ = ["PROTOCOL", "Host", "main"]

PROTOCOL = 1
TAKES = ("item", "inputs_file")  # what a SPEC may have that not every host of this protocol knows
WAITING_MAX = 8 * 1024 * 1024  # output that the engine has not taken yet; beyond, tasks have to wait
POSTED_MAX = 0.01  # seconds that news may wait for more: most tasks have ended by then
LOOK_AGAIN = 1.0  # seconds; only for the case that user code took SIGCHLD away
HEED_TIME = 5.0  # seconds that a step has to heed its time limit before it is killed
REHEARSE_MIN = 16  # tasks of a foreach from which a rehearsal costs less than it saves
EXIT_TIME = 10  # seconds for exit functions of user code when the engine is gone
_PRELOADED = (
    stillrun.canonical_arrays,
    stillrun.canonical_classes,
    stillrun.canonical_tables,
    stillrun.canonical_ways,
)


def main() -> None:
    """Serve the engine at the other end of a socket: ``FACE_DIR FD [SERVICE_FD]`` on the command line."""
    connection = Connection(socket.socket(fileno=int(sys.argv[2])))
    own_session()
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.set_inheritable(connection.fileno(), False)
    remote.serve_from(sys.argv[3:])
    usable_output()
    host = Host(connection)
    try:
        host.serve()
    except EOFError:  # the engine ended, in whatever way
        host.kill_all()
    _exit_functions()
    os._exit(0)


def _exit_functions() -> None:
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(EXIT_TIME)
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()


class _Exit(EOFError):
    """The engine asked for the end."""


class _Task:
    """A running task and what came of it so far."""

    def __init__(self, key: str, child: Child) -> None:
        self.key = key
        self.child = child
        self.result = bytearray()


class Host:
    """The loop between the engine's socket and the pipes of the tasks."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._watch = Watch()
        self._watch.add(connection.fileno(), self._on_socket)
        self._writing = False  # whether room on the socket is waited for
        self._tasks: dict[str, _Task] = {}
        self._loaded: LoadedFlow | None = None
        self._load_message: Mapping[str, Any] = {}
        self._listening = True  # to the tasks' output
        self._wake: tuple[int, int] | None = None
        self._child_handler: Any = signal.SIG_DFL
        self._ended = False  # a child may have
        self._rehearsed = False
        self._unknown = "not looked at"
        self._unsafe: str | None = self._unknown

    # -- the loop ----------------------------------------------------------------------------

    def serve(self) -> None:
        """Serve until the engine is gone or asks for the end; then raises EOFError."""
        while True:
            self._balance()
            ready = self._watch.wait(self._timeout())
            if self._ended or not ready:
                self._ended = False
                self._reap()
            if not ready and self._connection.posted:
                self._connection.flush()
            self._enforce_stops()

    def kill_all(self) -> None:
        """Kill and reap every task."""
        for task in self._tasks.values():
            task.child.signal_group(signal.SIGKILL)
        for task in self._tasks.values():
            os.waitpid(task.child.pid, 0)
            task.child.signal_group(signal.SIGKILL)
        self._tasks.clear()

    def _timeout(self) -> float | None:
        if not self._tasks:
            return None
        if self._connection.posted:
            return POSTED_MAX
        children = [task.child for task in self._tasks.values()]
        deadlines = [at for each in children for at in (each.kill_at, each.limit_at) if at is not None]
        return max(0.0, min([LOOK_AGAIN, *(each - time.monotonic() for each in deadlines)]))

    def _balance(self) -> None:
        """Watch for room on the socket if something waits; stop listening to tasks while too much does."""
        waiting = self._connection.waiting
        writing = bool(waiting) and not self._connection.posted
        if writing != self._writing:
            self._writing = writing
            self._watch.add(self._connection.fileno(), self._on_socket, READ | WRITE if writing else READ)
        listen = waiting < (WAITING_MAX if self._listening else WAITING_MAX // 2)
        if listen == self._listening:
            return
        self._listening = listen
        for task in self._tasks.values():
            for stream in ("stdout", "stderr"):
                if stream in task.child.pipes:
                    self._hear(task, stream) if listen else self._watch.drop(task.child.pipes[stream])

    def _on_socket(self, events: int) -> None:
        if events & WRITE:
            self._connection.flush()
        if events & READ:
            for header, body in self._connection.receive():
                self._handle(header, body)

    # -- what the engine asks for ------------------------------------------------------------

    def _handle(self, header: Mapping[str, Any], body: bytes) -> None:
        handlers: dict[Any, Callable[[Mapping[str, Any], bytes], None]] = {
            "load": self._load,
            "parameters": self._parameters,
            "task": self._start,
            "stop": self._stop,
            "exit": self._exit,
        }
        handler = handlers.get(header.get("op"))
        if handler is None:
            self._refuse(error("protocol", f"this step host does not know the message {header.get('op')!r}."))
        elif self._loaded is None and header["op"] in ("parameters", "task"):
            self._refuse(error("protocol", f"{header['op']!r} came before a flow was loaded."))
        elif header["op"] == "task" and header["key"] in self._tasks:
            self._refuse(error("protocol", f"a task with the key {header['key']!r} is running already."))
        else:
            handler(header, body)

    def _refuse(self, why: Mapping[str, Any]) -> None:
        self._connection.send({"op": "refused", "error": why})

    def _load(self, header: Mapping[str, Any], _: bytes) -> None:
        if header.get("protocol") != PROTOCOL or self._loaded is not None:
            asked = f"protocol {header.get('protocol')}" if self._loaded is None else "a second flow"
            self._refuse(error("protocol", f"this step host speaks protocol {PROTOCOL}, once; it was asked {asked}."))
            return
        try:
            loaded = load_in_place(header)
            description = describe(loaded.flow, header["source"])
        except Refused as refused:
            self._refuse(refused.error)
            return
        except Exception as err:  # a class can be strange in more ways than we know
            self._refuse(error_of(err, None))
            return
        self._loaded, self._load_message = loaded, header
        self._watch_children()
        _freeze()
        self._connection.send(
            {
                "op": "loaded",
                "protocol": PROTOCOL,
                "python": ".".join(map(str, sys.version_info[:3])),
                "description": description,
                "modules": loaded.modules.names(),
                "takes": list(TAKES),
            }
        )

    def _parameters(self, header: Mapping[str, Any], _: bytes) -> None:
        assert self._loaded is not None
        flow, writer = self._loaded.flow, ArtifactWriter(None, 0, ArtifactReader(b""))
        self._unsafe = self._unknown  # defaults may be computed by the flow's own code
        try:
            values = values_of(parameters_of(flow), header["values"], flow.__name__, get_username())
            artifacts = {name: writer.encode(name, value) for name, value in values.items()}
        except StillrunError as err:
            self._refuse(error_of(err, self._loaded.places, file=None, line=None))
            return
        constants = kept_constants(flow, writer)
        self._connection.send({"op": "parameters", "artifacts": artifacts, "constants": constants}, writer.body)

    def _start(self, header: Mapping[str, Any], body: bytes) -> None:
        key, spec = header["key"], header["spec"]
        unsafe = None if header.get("fresh") else self._looked_at()
        try:
            fresh = unsafe is not None or header.get("fresh")
            child = self._spawn_fresh(spec, body) if fresh else self._spawn_fork(spec, body)
        except OSError as err:
            why = error("storage", f"no process can be started for the task ({err.strerror}).", step=spec["step"])
            result = bytearray().join(pack({"ok": False, **NOTHING, "error": why}))
            self._finish(key, {"code": None, "signal": None}, _USAGE, result)
            return
        if spec.get("timeout_ms") is not None:
            child.limit_at = child.started + spec["timeout_ms"] / 1000 + HEED_TIME
        task = self._tasks[key] = _Task(key, child)
        for stream in child.pipes:
            if stream == "result" or self._listening:
                self._hear(task, stream)
        told = {"op": "started", "key": key, "pid": child.pid}
        self._connection.post(told if unsafe is None else {**told, "unsafe_to_fork": unsafe})

    def _spawn_fork(self, spec: Mapping[str, Any], body: bytes) -> Child:
        self._rehearse(spec)

        def run(result: int) -> int:
            assert self._loaded is not None
            return report(run_task(self._loaded, spec, body), result)

        return spawn(run, self._forget)

    def _looked_at(self) -> str | None:
        """Why this process cannot be forked, if so; looked at once for all that the flow's own code has done here."""
        if self._unsafe is self._unknown:
            self._unsafe = unsafe_to_fork()
        return self._unsafe

    def _rehearse(self, spec: Mapping[str, Any]) -> None:
        """Before the first of many tasks, have what they do done once here."""
        if self._rehearsed or not spec["foreach"] or spec["foreach"][-1]["count"] < REHEARSE_MIN:
            return
        from stillrun.rehearsal import rehearse

        assert self._loaded is not None
        self._rehearsed = True
        rehearse(self._loaded)
        _freeze()

    def _spawn_fresh(self, spec: Mapping[str, Any], body: bytes) -> Child:
        return spawn_fresh(self._load_message, spec, body, self._forget)

    def _stop(self, header: Mapping[str, Any], _: bytes) -> None:
        task = self._tasks.get(header["key"])
        if task is not None and task.child.kill_at is None:
            task.child.kill_at = time.monotonic() + header.get("grace_ms", 5000) / 1000
            task.child.signal_group(signal.SIGTERM)

    def _exit(self, _: Mapping[str, Any], __: bytes) -> None:
        raise _Exit

    # -- what the tasks do -------------------------------------------------------------------

    def _hear(self, task: _Task, stream: str) -> None:
        self._watch.add(task.child.pipes[stream], lambda _: self._on_pipe(task, stream))

    def _on_pipe(self, task: _Task, stream: str) -> None:
        data = task.child.read(stream)
        if data:
            self._take(task, stream, data)
        elif data is not None:
            self._watch.drop(task.child.pipes[stream])
            task.child.close(stream)
            self._ended = True  # most likely

    def _take(self, task: _Task, stream: str, data: bytes) -> None:
        if stream == "result":
            task.result += data
        else:
            self._connection.send({"op": "output", "key": task.key, "stream": stream}, data)

    def _reap(self) -> None:
        for task in list(self._tasks.values()):
            ended = task.child.reap()
            if ended is None:
                continue
            del self._tasks[task.key]
            for stream, descriptor in list(task.child.pipes.items()):
                self._watch.drop(descriptor)
                for data in task.child.drain(stream):
                    self._take(task, stream, data)
                task.child.close(stream)
            self._finish(task.key, *ended, task.result)

    def _finish(self, key: str, ended: Any, usage: Any, result: bytearray) -> None:
        """Tell the end of a task. result: the frame that it wrote, of whose lengths the engine may want to hear instead."""
        told = {"op": "finished", "key": key, "exit": ended, "usage": usage}
        sizes = LENGTHS.unpack_from(result) if len(result) >= LENGTHS.size else None
        if sizes is None or len(result) < LENGTHS.size + sum(sizes):
            self._connection.send({**told, "result": None})
        elif self._load_message.get("raw_results"):
            self._connection.send({**told, "result": sizes[0]}, memoryview(result)[LENGTHS.size :])
        else:
            header, body = next(unpack(result))
            self._connection.send({**told, "result": header}, body)

    def _enforce_stops(self) -> None:
        now = time.monotonic()
        for child in [task.child for task in self._tasks.values()]:
            if min(at for at in (child.kill_at, child.limit_at, now + 1) if at is not None) <= now:
                child.signal_group(signal.SIGKILL)
                child.kill_at = child.limit_at = None

    # -- children and signals ----------------------------------------------------------------

    def _watch_children(self) -> None:
        """Be woken when a child ends; after the import, so that the flow's imports cannot undo it."""
        self._wake = os.pipe()
        for descriptor in self._wake:
            os.set_blocking(descriptor, False)
        self._child_handler = signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wake[1], warn_on_full_buffer=False)
        self._watch.add(self._wake[0], self._on_wake)

    def _on_wake(self, _: int) -> None:
        assert self._wake is not None
        os.read(self._wake[0], 4096)
        self._ended = True

    def _forget(self) -> None:
        """In a child: close what belongs to the host, and take signals as a program of its own does."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, self._child_handler or signal.SIG_DFL)
        for descriptor in self._wake or ():
            os.close(descriptor)
        self._connection.socket.close()
        for task in self._tasks.values():
            for stream in list(task.child.pipes):
                task.child.close(stream)


_USAGE = {"wall_us": 0, "user_us": 0, "system_us": 0, "max_rss_kib": 0}


def _freeze() -> None:
    """Children share these pages for good: collecting garbage does not touch them."""
    gc.collect()
    gc.freeze()
