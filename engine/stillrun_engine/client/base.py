"""What the client's objects have in common: a pathspec, the run that they belong to, its tags and its namespace."""

from __future__ import annotations

import html
from datetime import datetime
from typing import Any, ClassVar

from stillrun import client as names
from stillrun_engine.archive import KeptRun
from stillrun_engine.client.code import Code
from stillrun_engine.client.session import (
    InvalidPathspec,
    NamespaceMismatch,
    get_namespace,
    is_visible,
    session,
)
from stillrun_engine.tags import system_tags_of, tags_of

__all__ = ["Named", "OfRun", "local_time", "system_tags_of", "tags_of_run"]


class Named:
    """What all have in common: a pathspec, by which they are equal, and the namespace in which they were made."""

    _LEVEL: ClassVar[int] = 0
    _namespace: str | None

    def __init__(self, pathspec: str, _parent: Named | None = None, _namespace_check: bool = True) -> None:
        parts = pathspec.strip("/").split("/") if isinstance(pathspec, str) else ()
        if len(parts) != self._LEVEL or not all(parts):
            shape = "/".join(("FLOW", "RUN", "STEP", "TASK", "ARTIFACT")[: self._LEVEL])
            raise InvalidPathspec(f"{type(self).__name__}({pathspec!r}): a pathspec of the form {shape} is expected.")
        self._parts = tuple(parts)
        if _parent is not None:
            self._namespace = _parent._namespace
        else:
            self._namespace = get_namespace() if _namespace_check else None

    @classmethod
    def _restored(cls, pathspec: str, of: str | None) -> Any:
        found = cls(pathspec, _namespace_check=False)
        found._namespace = of
        return found

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
        return names.restored, (type(self).__name__, self.pathspec, self._namespace)

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

    _kept: KeptRun | None = None

    @property
    def _run(self) -> KeptRun:
        """The run; read anew for as long as it goes on."""
        kept = self._kept
        if kept is None or kept.record["status"] == "running":
            kept = session().run(self._parts[0], self._parts[1])
            if self._kept is None and not is_visible(tags_of_run(kept), self._namespace):
                raise NamespaceMismatch(
                    f"{kept.pathspec} is not in the namespace {self._namespace!r}; namespace(None) looks through all runs."
                )
            self._kept = kept
        return kept

    def is_in_namespace(self) -> bool:
        """Whether it is in the namespace that is looked through now."""
        return is_visible(self.tags, get_namespace())

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
        return Code(session().store, self._run.record)


def given_tags(run: KeptRun) -> frozenset[str]:
    """The tags that a run was given."""
    return tags_of(run.store, run.spec.flow, str(run.spec.run), run.record)


def tags_of_run(run: KeptRun) -> frozenset[str]:
    """All tags of a run."""
    return given_tags(run) | system_tags_of(run.record)


def local_time(text: str) -> datetime:
    """A kept time as a naive one of this machine's zone, as Metaflow gives it."""
    return datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone().replace(tzinfo=None)
