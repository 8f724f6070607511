"""The answers to what steps ask of runs: the client's own, as JSON. Protocol: docs/spec/host-protocol.md, "Reading runs"."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from stillrun_engine import client
from stillrun_engine.client import session
from stillrun_engine.client.base import Named
from stillrun_engine.client.code import Code
from stillrun_engine.client.tasks import Members, MetaDatum
from stillrun_engine.errors import EngineError
from stillrun_engine.parts import Body, References
from stillrun_snapshot.digest import Digest

__all__ = ["Answers"]

_KINDS = {kind.__name__: kind for kind in (client.DataArtifact, client.Flow, client.Run, client.Step, client.Task)}
_HELD = 20_000
"""Objects that are remembered, so that the tasks of a step that was walked through are read together."""


class Answers:
    """Answers questions about one store."""

    def __init__(self, root: Path, namespace: str | None = None) -> None:
        """namespace: what is looked through until a task chooses; the user's own runs when None, everything when empty."""
        client.use_store(root)
        self._namespace = namespace
        self._references = References(session.session().store)
        self._objects: dict[tuple[str, str, str | None], Any] = {}

    def to(self, question: Mapping[str, Any]) -> tuple[dict[str, Any], bytes]:
        """The header and the body of an answer. Raises what the client raises."""
        if question["namespace"]:
            client.namespace(question["namespace"][0])
        elif self._namespace is None or question["op"] == "own_namespace":
            client.default_namespace()
        else:
            client.namespace(self._namespace or None)
        op = question["op"]
        if op in ("namespace", "own_namespace"):
            return {"answer": {"plain": client.get_namespace()}}, b""
        if op == "store":
            return {"answer": {"plain": client.get_metadata()}}, b""
        on = self._found(question["on"], op)
        if op == "value":
            body = Body()
            artifact = on if question["key"] is None else on[question["key"]]
            return {"answer": {"ref": self._references.of(artifact._digest, body)}}, body.joined()
        return {"answer": self._encoded(_asked(on, question))}, b""

    def _found(self, told: Mapping[str, Any], op: str) -> Any:
        """The client's object that is asked about."""
        if told["kind"] == "Metaflow":
            return client.Metaflow()
        kind = _KINDS[told["kind"]]
        if op == "find":
            options = {name: value for name, value in told["options"].items() if name == "attempt"}
            return kind(told["pathspec"], _namespace_check=told["check"], **options)
        key = (told["kind"], told["pathspec"], told["namespace"])
        found = self._objects.get(key)
        return kind._restored(told["pathspec"], told["namespace"]) if found is None else found

    def _encoded(self, value: Any) -> dict[str, Any]:
        if isinstance(value, Named):
            place = value.__reduce__()[1]
            self._objects[place] = value
            if len(self._objects) > _HELD:
                del self._objects[next(iter(self._objects))]
            return {"object": dict(zip(("kind", "pathspec", "namespace"), place, strict=True))}
        if value is None or isinstance(value, (str, int, float, bool)):
            return {"plain": value}
        if isinstance(value, datetime):
            return {"time": value.isoformat()}
        if isinstance(value, (set, frozenset)):
            return {"set": sorted(value)}
        if isinstance(value, MetaDatum):
            return {"record": {name: self._encoded(each) for name, each in value._asdict().items()}}
        if isinstance(value, Mapping):
            return {"dict": {str(name): self._encoded(each) for name, each in value.items()}}
        if isinstance(value, (list, tuple, Iterator)):
            return {"list": [self._encoded(each) for each in value]}
        if isinstance(value, Members):
            return {"members": {"task": self._encoded(value._task)["object"], "what": value._what}}
        if isinstance(value, Code):
            names = ("script_name", "path", "flowspec", "info")
            return {"record": {name: self._encoded(getattr(value, name)) for name in names}}
        if callable(value):
            return {"method": True}
        raise EngineError(f"a {type(value).__name__} is not given to steps; ask for it where Stillrun is installed.")


def _asked(on: Any, question: Mapping[str, Any]) -> Any:
    op = question["op"]
    if op == "find":
        return on
    if op in ("member", "call"):
        name = question["name"]
        if name.startswith("_") and name != "_repr_html_":
            raise AttributeError(f"{type(on).__name__} has no member {name!r}")
        member = getattr(on, name)
        return member(*question["arguments"], **question["named"]) if op == "call" else member
    if op == "iterate":
        return iter(on)
    if op == "item":
        return on[question["key"]]
    if op == "contains":
        return question["key"] in on
    if op == "length":
        return len(on)
    if op == "failure":
        return on._record["error"] or on._record.get("caught")
    if op == "code":
        record = on._run.record
        flow_file = on._run.store.get_record(Digest(record["code"]), "code")["flow_file"]
        return str((Path(on.code.path) / flow_file).parent)
    raise EngineError(f"this engine does not know the question {op!r}.")
