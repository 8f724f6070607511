"""One step host seen from the engine: started, spoken to, ended. Protocol: docs/spec/host-protocol.md, version 1."""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import subprocess
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from stillrun_engine.errors import HostLost
from stillrun_snapshot.deferred import dataclass

__all__ = ["PROTOCOL", "Frame", "HostProcess", "Launch", "settled"]

PROTOCOL = 1
_HEADER = struct.Struct(">II")
_READ = 1 << 20
_JOINED_MAX = 64 * 1024
_ENCODER = json.JSONEncoder()
_BOOT = (
    "import sys; sys.path[0] = sys.argv[1]; asked = sys.dont_write_bytecode; sys.dont_write_bytecode = False; "
    "from stillrun.host import main; sys.dont_write_bytecode = asked; main()"
)
"""The face is a checkout of ours: its bytecode may be kept beside it whatever the caller wants for his own folders."""


@dataclass(frozen=True)
class Launch:
    """How a step host is started: an interpreter, the face it runs, and its environment variables."""

    python: Path
    face: Path
    variables: Mapping[str, str]
    cwd: Path
    user_site: bool = True
    wrapper: tuple[str, ...] = ()  # a command that runs the interpreter, such as one that takes the network away
    umask: int | None = None  # of the files that it makes; ours when None
    reads: int | None = None  # a descriptor through which its tasks ask for kept runs


@dataclass(frozen=True)
class Frame:
    """One message: a JSON header and the bytes it speaks of."""

    header: dict[str, Any]
    body: bytes = b""


class HostProcess:
    """A step host and the socket to it. Nothing here blocks but ``ask`` and ``close``."""

    def __init__(self, launch: Launch) -> None:
        ours, theirs = socket.socketpair()
        self._stderr = _unnamed_file()  # what the interpreter says when it cannot even start
        flags = [] if launch.user_site else ["-s"]
        given = [theirs.fileno(), *([] if launch.reads is None else [launch.reads])]
        try:
            self._process = subprocess.Popen(
                [*launch.wrapper, launch.python, *flags, "-c", _BOOT, launch.face, *map(str, given)],
                pass_fds=given,
                env=dict(launch.variables),
                cwd=launch.cwd,
                stdin=subprocess.DEVNULL,
                stdout=self._stderr,
                stderr=self._stderr,
                umask=-1 if launch.umask is None else launch.umask,
                start_new_session=True,  # Ctrl-C in the terminal reaches the engine alone
            )
        except OSError as err:
            ours.close()
            raise HostLost(f"cannot start {launch.python}: {err.strerror}.") from err
        finally:
            theirs.close()
        ours.setblocking(False)
        self._launch = launch
        self._socket = ours
        self._unsent: deque[memoryview] = deque()
        self._received = bytearray()
        self._begun: Mapping[str, Any] | None = None  # the request that was sent and not asked for yet
        self.children: dict[str, int] = {}
        """Process groups of the tasks that run now, by key, so that they can be ended if the host is lost."""

    def fileno(self) -> int:
        """The socket's descriptor, for a selector."""
        return self._socket.fileno()

    @property
    def wants_to_write(self) -> bool:
        """True while frames wait for room in the socket."""
        return bool(self._unsent)

    def send(self, header: Mapping[str, Any], body: bytes = b"") -> None:
        """Queue one frame and send what the socket takes now."""
        head = _ENCODER.encode(header).encode()
        frame = _HEADER.pack(len(head), len(body)) + head
        if body and len(body) <= _JOINED_MAX:
            frame += body  # the host wakes up once
        self._unsent.append(memoryview(frame))
        if len(body) > _JOINED_MAX:
            self._unsent.append(memoryview(body))
        self.flush()

    def flush(self) -> None:
        """Send as much of the queue as the socket takes without blocking."""
        while self._unsent:
            try:
                sent = self._socket.send(self._unsent[0])
            except BlockingIOError:
                return
            except OSError:  # the host is gone; receive() tells so
                self._unsent.clear()
                return
            rest = self._unsent[0][sent:]
            if rest:
                self._unsent[0] = rest
            else:
                self._unsent.popleft()

    def receive(self) -> list[Frame]:
        """The frames that have arrived; HostLost when the host has closed its end."""
        while True:
            try:
                data = self._socket.recv(_READ)
            except BlockingIOError:
                return self._frames()
            except OSError:
                data = b""
            if not data:
                frames = self._frames()
                if frames:
                    return frames  # the loss is told at the next call
                raise self._lost()
            self._received += data
            if len(data) < _READ:
                return self._frames()

    def begin(self, header: Mapping[str, Any]) -> None:
        """Send a request and go on; ``ask`` with the same header waits for its answer."""
        self._begun = header
        self.send(header)

    def ask(self, header: Mapping[str, Any], body: bytes = b"") -> Frame:
        """Send a request and wait for the next frame, its answer. Only before tasks run."""
        self._socket.setblocking(True)
        try:
            if header is not self._begun:
                self.send(header, body)
            self._begun = None
            self.flush()
            while True:
                frames = self.receive()
                if frames:
                    return frames[0]
        finally:
            self._socket.setblocking(False)

    def close(self) -> None:
        """End the host and every task in it; returns when it is gone."""
        self._socket.close()  # the host ends its tasks and exits when it reads the end
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._end_children()
        self._stderr.close()

    def _frames(self) -> list[Frame]:
        frames, start, data = [], 0, self._received
        while len(data) - start >= _HEADER.size:
            head, body = _HEADER.unpack_from(data, start)
            end = start + _HEADER.size + head + body
            if len(data) < end:
                break
            middle = start + _HEADER.size + head
            frames.append(_frame(json.loads(data[start + _HEADER.size : middle]), bytes(data[middle:end])))
            start = end
        if start:
            del data[:start]
        return frames

    def _lost(self) -> HostLost:
        code = self._process.wait(timeout=10)
        self._end_children()
        self._stderr.seek(0)
        said = self._stderr.read()[-2000:].decode(errors="replace").strip()
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        return HostLost(f"the step host {self._launch.python} {how}." + (f" It said: {said}" if said else ""))

    def _end_children(self) -> None:
        for group in self.children.values():
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(group, signal.SIGKILL)
        self.children.clear()


def _unnamed_file() -> IO[bytes]:
    """A file in memory, or on disk where there are none in memory."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("stillrun-host"), "w+b")
    import tempfile

    return tempfile.TemporaryFile()


def _frame(header: dict[str, Any], body: bytes) -> Frame:
    """A frame in which the result of a task is read where the host passed it on as it came."""
    size = header.get("result")
    if header.get("op") != "finished" or not isinstance(size, int):
        return Frame(header, body)
    try:
        return Frame({**header, "result": json.loads(body[:size])}, body[size:])
    except ValueError:  # the step wrote into what is not its own
        return Frame({**header, "result": None})


def settled(variables: Mapping[str, str]) -> dict[str, str]:
    """``variables`` with the hash seed fixed unless the caller chose one: sets then iterate alike at replay."""
    return {"PYTHONHASHSEED": "0", **variables}
