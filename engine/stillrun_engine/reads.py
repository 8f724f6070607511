"""Answers what steps ask of earlier runs, so that the client works where no engine is installed.

Protocol: docs/spec/host-protocol.md, "Reading runs". A thread waits for tasks that want to read; each gets a thread of its
own. Answers are made by the client itself; nothing is unpickled here.
"""

from __future__ import annotations

import array
import json
import socket
import struct
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stillrun_engine.read_answers import Answers

__all__ = ["ReadService"]

_LENGTHS = struct.Struct(">II")
_QUESTION_MAX = 1 << 20  # bytes of a question


class ReadService:
    """Serves the store at ``root`` to the tasks of this process's hosts, for as long as the process lives."""

    def __init__(self, root: Path, namespace: str | None = None) -> None:
        """namespace: what tasks look through until they choose; everything when empty, the user's own runs when None."""
        self._root = root
        self._namespace = namespace
        self._lock = threading.RLock()
        self._answers: Answers | None = None
        self._ours, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        threading.Thread(target=self._accept, name="stillrun-reads", daemon=True).start()

    @property
    def descriptor(self) -> int:
        """What a host inherits."""
        return self._theirs.fileno()

    def _accept(self) -> None:
        room = socket.CMSG_SPACE(array.array("i").itemsize)
        while True:
            _, ancillary, _, _ = self._ours.recvmsg(16, room)
            for level, kind, data in ancillary:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    (descriptor,) = array.array("i", data[: array.array("i").itemsize])
                    asking = socket.socket(fileno=descriptor)
                    threading.Thread(target=self._serve, args=(asking,), daemon=True).start()

    def _serve(self, asking: socket.socket) -> None:
        """Answer one task until it is gone."""
        with asking, asking.makefile("rb") as questions:
            while True:
                head = questions.read(_LENGTHS.size)
                if len(head) < _LENGTHS.size:
                    return
                size, more = _LENGTHS.unpack(head)
                if size + more > _QUESTION_MAX:
                    return
                question = json.loads(questions.read(size + more)[:size])
                try:
                    asking.sendall(self._frame(question))
                except OSError:  # it is gone
                    return

    def _frame(self, question: Mapping[str, Any]) -> bytes:
        try:
            with self._lock:
                if self._answers is None:
                    from stillrun_engine.read_answers import Answers  # the client is loaded when it is first asked

                    self._answers = Answers(self._root, self._namespace)
                header, body = self._answers.to(question)
        except Exception as err:  # whatever is wrong is told to who asked, by name
            header, body = {"error": {"type": type(err).__name__, "message": _message(err)}}, b""
        text = json.dumps(header).encode("ascii")
        return _LENGTHS.pack(len(text), len(body)) + text + body


def _message(err: Exception) -> str:
    return str(err) or type(err).__name__
