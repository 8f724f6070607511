"""The client in a step whose environment has no engine: what is asked is answered by the engine that runs the step.

A task asks over a socket of its own, whose other end it sends through one that its host has inherited. Values come as
references to kept bytes, are checked here, and unpickled here. Protocol: docs/spec/host-protocol.md, "Reading runs".
"""

from __future__ import annotations

import os
import sys

from stillrun import client
from stillrun.errors import FlowError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

__all__ = ["DataArtifact", "Flow", "Metaflow", "Run", "Step", "Task", "is_served", "passed_on", "serve_from"]

_service: int | None = None
_connected: tuple[int, Any] | None = None  # the process that made it, and its socket
_namespace: list[Any] = []  # what namespace() was given in this task; empty before


def serve_from(arguments: list[str]) -> None:
    """Take the descriptor of the engine's service from what is left of a command line, if there is one."""
    global _service
    if arguments:
        _service = int(arguments[0])
        os.set_inheritable(_service, False)


def is_served() -> bool:
    """Whether an engine answers here."""
    return _service is not None


def passed_on() -> list[str]:
    """The words that hand the service to an interpreter that replaces this process."""
    if _service is None:
        return []
    os.set_inheritable(_service, True)
    return [str(_service)]


def _socket() -> Any:
    """This process's own connection: one that a parent made belongs to the parent."""
    global _connected
    if _connected is None or _connected[0] != os.getpid():
        import array
        import socket

        assert _service is not None, "is_served was asked"
        ours, theirs = socket.socketpair()
        service = socket.socket(fileno=os.dup(_service))
        with service, theirs:
            given = array.array("i", [theirs.fileno()])
            service.sendmsg([b"read"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, given)])
        _connected = os.getpid(), ours
    return _connected[1]


def _ask(op: str, on: Any = None, **told: Any) -> tuple[Any, bytes]:
    """The answer to a question, and the bytes beside it. Raises what the engine raised."""
    from stillrun.frames import pack, unpack

    header = {"op": op, "on": on, "namespace": _namespace, **told}
    sock, received = _socket(), bytearray()
    try:
        for piece in pack(header):
            sock.sendall(piece)
        while True:
            for answer, body in unpack(received):
                if "error" in answer:
                    raise _error(answer["error"])
                return answer["answer"], body
            data = sock.recv(1 << 20)
            if not data:
                raise FlowError("the engine that runs this step answers no more.", cure="Look at why it has ended.")
            received += data
    except OSError as err:
        raise FlowError(f"the engine that runs this step cannot be asked ({err.strerror}).") from err


def _error(told: Any) -> Exception:
    kinds: dict[str, Any] = {
        "Absent": client.NotFound,
        "NotFound": client.NotFound,
        "NamespaceMismatch": client.NamespaceMismatch,
        "InvalidPathspec": client.InvalidPathspec,
        "TaggingError": client.TaggingError,
        "AttributeError": AttributeError,
        "TypeError": TypeError,
    }
    found: Exception = kinds.get(told["type"], FlowError)(told["message"])
    return found


class _Object:
    """What flows, runs, steps, tasks and artifacts have in common here: all is asked of the engine."""

    def __init__(self, pathspec: str, _namespace_check: bool = True, **options: Any) -> None:
        told = {"kind": type(self).__name__, "pathspec": pathspec, "check": _namespace_check, "options": options}
        self._place: Any = _ask("find", told)[0]["object"]

    @classmethod
    def _restored(cls, pathspec: str, of: str | None) -> Any:
        found = object.__new__(cls)
        found._place = {"kind": cls.__name__, "pathspec": pathspec, "namespace": of}
        return found

    def __getattr__(self, name: str) -> Any:
        if name[:1] == "_" and name != "_repr_html_":
            raise AttributeError(name)
        answer, _ = _ask("member", self._place, name=name)
        if "method" not in answer:
            return _decoded(answer)

        def call(*arguments: Any, **named: Any) -> Any:
            found, _ = _ask("call", self._place, name=name, arguments=arguments, named=named)
            return _decoded(found)

        return call

    def __iter__(self) -> Iterator[Any]:
        return iter(_decoded(_ask("iterate", self._place)[0]))

    def __len__(self) -> int:
        return int(_decoded(_ask("length", self._place)[0]))

    def __bool__(self) -> bool:
        return True

    def __getitem__(self, key: Any) -> Any:
        return _decoded(_ask("item", self._place, key=key)[0])

    def __contains__(self, key: Any) -> bool:
        return bool(_decoded(_ask("contains", self._place, key=key)[0]))

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.__reduce__()[1][1] == self.__reduce__()[1][1]

    def __hash__(self) -> int:
        return hash((type(self).__name__, self._place["pathspec"]))

    def __reduce__(self) -> Any:
        return client.restored, (type(self).__name__, self._place["pathspec"], self._place["namespace"])

    def __repr__(self) -> str:
        return f"{type(self).__name__}('{self._place['pathspec']}')"


class Flow(_Object):
    """A flow."""


class Run(_Object):
    """A run."""


class Step(_Object):
    """A step of a run."""


class Task(_Object):
    """A task of a step."""

    @property
    def exception(self) -> Any:
        """What made it fail, as a CaughtException."""
        from stillrun.caught import CaughtException

        told = _decoded(_ask("failure", self._place)[0])
        return None if told is None else CaughtException.of(told)


class DataArtifact(_Object):
    """An artifact of a task."""

    @property
    def data(self) -> Any:
        """The value, checked against its digest and unpickled in this process."""
        return _value(self._place)


class Metaflow(_Object):
    """All flows."""

    def __init__(self) -> None:
        self._place = {"kind": "Metaflow", "pathspec": "", "namespace": None}

    def __repr__(self) -> str:
        return "Metaflow()"


class _Members:
    """The artifacts of a task as attributes."""

    def __init__(self, task: Any, what: str) -> None:
        self._task, self._what = task, what

    def __getattr__(self, name: str) -> Any:
        if name[:1] == "_":
            raise AttributeError(name)
        try:
            if self._what == "artifact":
                return self._task[name]
            return _value(self._task._place, name)
        except client.NotFound as err:
            raise AttributeError(str(err)) from None

    def __iter__(self) -> Iterator[Any]:
        return iter(self._task)

    def __contains__(self, name: object) -> bool:
        return name in self._task


def _value(place: Any, name: str | None = None) -> Any:
    """The value of an artifact, or of the artifact ``name`` of a task."""
    from stillrun.reader import ArtifactReader

    answer, body = _ask("value", place, key=name)
    shown = place["pathspec"] if name is None else f"{place['pathspec']}/{name}"
    try:
        return ArtifactReader(body).load(answer["ref"], shown)
    except (ImportError, AttributeError):
        pass
    sys.path.insert(0, _ask("code", place)[0]["plain"])  # classes of its flow are found in its captured code
    try:
        return ArtifactReader(body).load(answer["ref"], shown)
    except (ImportError, AttributeError) as err:
        raise FlowError(f"{shown} cannot be loaded in this step's environment ({err}).") from err
    finally:
        del sys.path[0]


def _decoded(answer: Any) -> Any:
    (kind, value), *_ = answer.items()
    if kind == "object":
        return globals()[value["kind"]]._restored(value["pathspec"], value["namespace"])
    if kind == "list":
        return [_decoded(each) for each in value]
    if kind == "set":
        return frozenset(value)
    if kind == "dict":
        return {name: _decoded(each) for name, each in value.items()}
    if kind == "time":
        from datetime import datetime

        return datetime.fromisoformat(value)
    if kind == "record":
        from types import SimpleNamespace

        return SimpleNamespace(**{name: _decoded(each) for name, each in value.items()})
    if kind == "members":
        return _Members(_decoded({"object": value["task"]}), value["what"])
    return value


def namespace(ns: Any) -> Any:
    """Look through the runs with a tag from now on in this task; through all with None."""
    _namespace[:] = [ns]
    return ns


def get_namespace() -> Any:
    """The tag of the runs that are looked through; None for all."""
    return _decoded(_ask("namespace")[0])


def default_namespace() -> Any:
    """Look through the runs of the user who runs the flow again."""
    _namespace.clear()
    _namespace[:] = [_decoded(_ask("own_namespace")[0])]
    return _namespace[0]


def get_metadata() -> Any:
    """The store that is looked at: the one that the run is kept in."""
    return _decoded(_ask("store")[0])


default_metadata = get_metadata


def metadata(path: str) -> Any:
    """Refused: a step looks at the store that its run is kept in."""
    raise FlowError(f"a step cannot look at {path}: it looks at the store that its run is kept in.")


def inspect_spin(datastore_root: str = ".") -> Any:
    """Refused: a step looks at runs."""
    raise FlowError(f"a step cannot look at the spins of {datastore_root}; name them by their pathspecs.")
