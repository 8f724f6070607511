"""Messages over a socket that never blocks: header and body lengths, JSON header, body. docs/spec/host-protocol.md."""

from __future__ import annotations

import json
import socket
import struct
from collections import deque

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Iterator, Mapping

__all__ = ["LENGTHS", "Connection", "pack", "unpack"]

LENGTHS = struct.Struct(">II")
CHUNK = 1024 * 1024
JOINED_MAX = 64 * 1024  # a body up to this size is sent together with its header: one call instead of two


def pack(header: Mapping[str, Any], body: Any = b"") -> list[Any]:
    """The pieces of a frame. ASCII escapes: a path that is no Unicode still makes a header that is."""
    text = json.dumps(header).encode("ascii")
    head = LENGTHS.pack(len(text), len(body)) + text
    return [head, body] if len(body) > JOINED_MAX else [head + body]


def unpack(data: bytearray) -> Iterator[tuple[dict[str, Any], bytes]]:
    """The whole frames at the beginning of ``data``, each taken out of it."""
    while len(data) >= LENGTHS.size:
        header_size, body_size = LENGTHS.unpack_from(data)
        end = LENGTHS.size + header_size + body_size
        if len(data) < end:
            return
        with memoryview(data) as view:
            header = json.loads(bytes(view[LENGTHS.size : LENGTHS.size + header_size]))
            body = bytes(view[LENGTHS.size + header_size : end])
        del data[:end]
        yield header, body


class Connection:
    """One end of the socket to the engine, with what waits to be sent."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.socket = sock
        self.waiting = 0  # bytes that wait to be sent
        self.posted = False  # some of them were not tried yet
        self._in = bytearray()
        self._out: deque[memoryview] = deque()

    def fileno(self) -> int:
        """The socket's descriptor."""
        return self.socket.fileno()

    def receive(self) -> list[tuple[dict[str, Any], bytes]]:
        """Frames that have come in whole. Raises EOFError when the other end is gone."""
        try:
            data = self.socket.recv(CHUNK)
        except BlockingIOError:
            return []
        except ConnectionError as err:
            raise EOFError from err
        if not data:
            raise EOFError
        self._in += data
        return list(unpack(self._in))

    def send(self, header: Mapping[str, Any], body: Any = b"") -> None:
        """Queue a frame, and send what can be sent at once."""
        self.post(header, body)
        self.flush()

    def post(self, header: Mapping[str, Any], body: Any = b"") -> None:
        """Queue a frame that goes with the next one that is sent."""
        for piece in pack(header, body):
            if len(piece):
                self._out.append(memoryview(piece))
                self.waiting += len(piece)
        self.posted = True

    def flush(self) -> None:
        """Send what the socket takes now. Raises EOFError when the other end is gone."""
        self.posted = False
        if len(self._out) > 1 and self.waiting <= JOINED_MAX:
            self._out = deque([memoryview(b"".join(self._out))])
        while self._out:
            view = self._out[0]
            try:
                sent = self.socket.send(view[:CHUNK])
            except BlockingIOError:
                return
            except ConnectionError as err:
                raise EOFError from err
            self.waiting -= sent
            if sent == len(view):
                self._out.popleft()
            else:
                self._out[0] = view[sent:]
