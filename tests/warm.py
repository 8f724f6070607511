"""Commands forked off a process that has imported Stillrun: what a command is made of is not read again for each of hundreds.

Each is a process of its own, with its own folder, variables, output and exit code; only its start is not looked at. What it
imported, the process it is forked off imports too, for those that come after: the first of a kind reads everything itself.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import io
import json
import os
import select
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

__all__ = ["WarmProcess"]

_READ_AT_START = ("PYTHON", "LC_", "LANG", "LD_", "MALLOC_", "TZ", "GLIBC_", "OPENBLAS_", "OMP_")
"""Variables that an interpreter or its libraries read once, when they begin."""


def _of_start(variables: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in variables.items() if name.startswith(_READ_AT_START)}


class WarmProcess:
    """A process that commands are forked off. Close it."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self._of_start, self._line, self._whole = _of_start(variables), ours, threading.Lock()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno())],
                env=dict(variables),
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )

    def serves(self, variables: Mapping[str, str]) -> bool:
        """Whether a process with these variables would have begun as this one did."""
        return _of_start(variables) == self._of_start

    def run(self, words: list[str], cwd: Path, variables: Mapping[str, str], *, timeout: float) -> tuple[int, str, str]:
        """A command to its end: exit code, output, errors; minus the number of the signal that ended it."""
        order = {"words": words, "cwd": str(cwd), "variables": dict(variables), "umask": _umask()}
        with contextlib.ExitStack() as stack:
            (out, their_out), (err, their_err) = os.pipe(), os.pipe()
            ended, their_ended = socket.socketpair()
            stack.enter_context(ended)
            for each in (out, err):
                stack.callback(os.close, each)
            with their_ended:
                try:
                    given = [their_out, their_err, their_ended.fileno()]
                    data = json.dumps(order).encode()
                    with self._whole:
                        socket.send_fds(self._line, [len(data).to_bytes(8, "big")], given)
                        self._line.sendall(data)
                finally:
                    os.close(their_out)
                    os.close(their_err)
            texts = _read_to_end([out, err, ended.fileno()], timeout)
        assert texts[2], "the process that commands are forked off has ended"
        return int(texts[2]), texts[0].decode(), texts[1].decode()

    def close(self) -> None:
        """Let the process end."""
        self._line.close()
        self._process.wait()


def _umask() -> int:
    now = os.umask(0)
    os.umask(now)
    return now


def _read_to_end(files: list[int], timeout: float) -> list[bytes]:
    read = dict.fromkeys(files, b"")
    until = time.monotonic() + timeout
    with selectors.DefaultSelector() as selector:
        for file in files:
            selector.register(file, selectors.EVENT_READ)
        while selector.get_map():
            if time.monotonic() > until:
                raise TimeoutError(f"a command did not end within {timeout} seconds; it had written {read}")
            for key, _ in selector.select(1):
                data = os.read(key.fd, 1 << 16)
                read[key.fd] += data
                if not data:
                    selector.unregister(key.fd)
    return list(read.values())


# The other side: the process that commands are forked off


def _orders(line: socket.socket, living: dict[int, tuple[int, int]]) -> Iterator[tuple[dict[str, Any], list[int]]]:
    """Each order with its output, errors and the file to tell its end to; what has ended meanwhile is told."""
    while True:
        watched: list[Any] = [line, *living]
        ready, _, _ = select.select(watched, [], [])
        for each in ready:
            if isinstance(each, int):
                _tell_end(each, living.pop(each))
        if line in ready:
            head, files, _, _ = socket.recv_fds(line, 8, 3)
            if not head:
                return
            size, data = int.from_bytes(head, "big"), b""
            while len(data) < size:
                data += line.recv(size - len(data))
            yield json.loads(data), files


def _tell_end(process: int, known: tuple[int, int]) -> None:
    pid, ended = known
    _, status = os.waitpid(pid, 0)
    with contextlib.suppress(OSError):  # who asked has gone
        os.write(ended, str(os.waitstatus_to_exitcode(status)).encode())
    os.close(ended)
    os.close(process)


def _import(names: list[str]) -> None:
    for name in names:
        with contextlib.suppress(Exception):  # parts of what has to be made first
            importlib.import_module(name)
    gc.collect()
    gc.freeze()


def _serve(line: socket.socket) -> dict[str, Any] | None:
    """Fork for each order; in the child what is to be done there, in this process None when no more will come."""
    living: dict[int, tuple[int, int]] = {}
    learned, learner = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    learned.setblocking(False)
    for order, (out, err, ended) in _orders(line, living):
        with contextlib.suppress(BlockingIOError):
            while True:
                _import(json.loads(learned.recv(1 << 20)))
        threads = len(os.listdir("/proc/self/task"))
        assert threads == 1, (
            f"with {threads} threads nothing can be forked off: a module began one when it was imported"
        )
        pid = os.fork()
        if not pid:
            for other in (line, learned):
                other.close()
            for _, file in living.values():
                os.close(file)
            for process in living:
                os.close(process)
            os.close(ended)
            os.dup2(out, 1)
            os.dup2(err, 2)
            os.close(out)
            os.close(err)
            return {**order, "learner": learner, "known": set(sys.modules)}
        os.close(out)
        os.close(err)
        living[os.pidfd_open(pid)] = (pid, ended)
    return None


def _become(order: dict[str, Any]) -> None:
    os.chdir(order["cwd"])
    os.umask(order["umask"])
    os.environ.clear()
    os.environ.update(order["variables"])
    sys.argv = ["stillrun", *order["words"]]
    sys.stdout, sys.stderr = _written(1, sys.stdout), _written(2, sys.stderr)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    from stillrun_cli.main import main

    try:
        main()
    finally:
        names = [name for name in list(sys.modules) if name not in order["known"]]
        with contextlib.suppress(OSError):
            order["learner"].send(json.dumps(names).encode(), socket.MSG_DONTWAIT)


def _written(file: int, before: TextIO) -> TextIO:
    """What an interpreter opens for an output or errors: those of this process may lead to a file, with a place in it."""
    raw = io.FileIO(file, "w", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(raw), encoding=before.encoding, errors=before.errors, line_buffering=file == 2
    )


if __name__ == "__main__":
    del sys.path[0]  # as the command itself does
    todo = _serve(socket.socket(fileno=int(sys.argv[1])))
    if todo is not None:
        _become(todo)
