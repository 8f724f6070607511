"""What the client's objects have in common: a pathspec, the run that they belong to, and its tags."""

from __future__ import annotations

import html
from datetime import datetime
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

from stillrun_engine.archive import KeptRun
from stillrun_engine.client.session import NamespaceMismatch, Record, get_namespace, is_visible, session
from stillrun_engine.errors import EngineError
from stillrun_engine.tags import tags_of
from stillrun_snapshot.digest import Digest

__all__ = ["Code", "Named", "OfRun", "local_time", "system_tags_of", "tags_of_run"]


class Code(NamedTuple):
    """The code of a run. info: its stillrun/code/1; flowspec: the text of the flow file; path: where it is laid out."""

    script_name: str
    flowspec: str
    info: Record
    path: str


class Named:
    """What all have in common: a pathspec, by which they are equal."""

    _LEVEL: ClassVar[int] = 0

    def __init__(self, pathspec: str) -> None:
        parts = pathspec.strip("/").split("/")
        if len(parts) != self._LEVEL or not all(parts):
            shape = "/".join(("FLOW", "RUN", "STEP", "TASK", "ARTIFACT")[: self._LEVEL])
            raise EngineError(f"{type(self).__name__}({pathspec!r}): a pathspec of the form {shape} is expected.")
        self._parts = tuple(parts)

    @property
    def pathspec(self) -> str:
        """FLOW/RUN/STEP/TASK/ARTIFACT, as far as it goes."""
        return "/".join(self._parts)

    @property
    def path_components(self) -> list[str]:
        """The parts of the pathspec."""
        return list(self._parts)

    @property
    def id(self) -> str:
        """The last part of the pathspec."""
        return self._parts[-1]

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other._parts == self._parts

    def __hash__(self) -> int:
        return hash((type(self).__name__, self._parts))

    def __reduce__(self) -> Any:
        return type(self), (self.pathspec,)

    def __repr__(self) -> str:
        return f"{type(self).__name__}('{self.pathspec}')"

    def _repr_html_(self) -> str:
        left = "style='text-align:left'"
        cells = [(html.escape(name), html.escape(str(value))) for name, value in self._facts().items()]
        rows = "".join(f"<tr><th {left}>{name}</th><td {left}>{value}</td></tr>" for name, value in cells)
        return f"<table><caption>{html.escape(repr(self))}</caption>{rows}</table>"

    def _facts(self) -> dict[str, Any]:
        return {"pathspec": self.pathspec}


class OfRun(Named):
    """What belongs to a run: its tags are the run's."""

    @cached_property
    def _run(self) -> KeptRun:
        run = session().run(self._parts[0], self._parts[1])
        if not is_visible(tags_of_run(run)):
            raise NamespaceMismatch(
                f"{run.pathspec} is not in the namespace {get_namespace()!r}; namespace(None) looks through all runs."
            )
        return run

    @property
    def user_tags(self) -> frozenset[str]:
        """The tags that the run was given."""
        return given_tags(self._run)

    @property
    def system_tags(self) -> frozenset[str]:
        """The tags that every run has: who ran it, and with what."""
        return system_tags_of(self._run.record)

    @property
    def tags(self) -> frozenset[str]:
        """All tags."""
        return tags_of_run(self._run)

    @property
    def origin_pathspec(self) -> str | None:
        """The run that this one went on from."""
        origin = self._run.record["origin"]
        return None if origin is None else "/".join((origin["run"], *self._parts[2:]))

    @property
    def code(self) -> Code:
        """The code that was captured."""
        from stillrun_snapshot.checkout import checkout

        store = session().store
        record = store.get_record(Digest(self._run.record["code"]), "code")
        tree = checkout(store, Digest(record["tree"]))
        text = (tree / record["flow_file"]).read_text("utf-8", "replace")
        return Code(record["flow_file"], text, record, str(tree))


def given_tags(run: KeptRun) -> frozenset[str]:
    """The tags that a run was given."""
    return tags_of(run.store, run.spec.flow, str(run.spec.run), run.record)


def system_tags_of(record: Record) -> frozenset[str]:
    """What is known of a run, as tags, as Metaflow has it."""
    return frozenset({f"user:{record['user']}", "runtime:local", f"stillrun_version:{record['stillrun']}"})


def tags_of_run(run: KeptRun) -> frozenset[str]:
    """All tags of a run."""
    return given_tags(run) | system_tags_of(run.record)


def local_time(text: str) -> datetime:
    """A kept time as a naive one of this machine's zone, as Metaflow gives it."""
    return datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone().replace(tzinfo=None)
