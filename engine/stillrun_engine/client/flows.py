"""Flows as objects: what has run, found by tags and namespaces."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from itertools import islice
from typing import Any

from stillrun_engine.archive import KeptRun
from stillrun_engine.client.base import Named, local_time, system_tags_of
from stillrun_engine.client.runs import Run
from stillrun_engine.client.session import Absent, NamespaceMismatch, get_namespace, is_visible, session
from stillrun_engine.pathspec import Pathspec, nearest
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.record import parse_record

__all__ = ["Flow", "Metaflow"]

_GROUP = 256
"""Most runs whose records are read at once."""
_TAGS = "stillrun/tags/1"


class _InNamespace(Named):
    """Hands a namespace down to flows that are known to be there."""

    def __init__(self, of: str | None) -> None:
        self._namespace = of


class Metaflow:
    """All flows of the store that have runs in the namespace."""

    @property
    def flows(self) -> list[Flow]:
        """The flows, by name."""
        return list(self)

    def __iter__(self) -> Iterator[Flow]:
        for name in _flows():
            flow = Flow(name, _InNamespace(get_namespace()))
            if next(iter(flow), None) is not None:
                yield flow

    def __getitem__(self, name: str) -> Flow:
        return Flow(name)

    def __repr__(self) -> str:
        return "Metaflow()"


class Flow(Named):
    """A flow: ``Flow("Study")``; its runs, the newest first."""

    _LEVEL = 1
    parent = None
    origin_pathspec = None
    tags: frozenset[str] = frozenset()
    user_tags: frozenset[str] = frozenset()
    system_tags: frozenset[str] = frozenset()

    def __init__(self, pathspec: str, _parent: Named | None = None, _namespace_check: bool = True) -> None:
        super().__init__(pathspec, _parent, _namespace_check)
        if _parent is not None:
            return
        known = _flows()
        if self.id not in known:
            raise Absent(f"no flow '{self.id}' in {session().store.root}.{nearest(self.id, known)}")
        if self._namespace is not None and not self._is_seen(self._namespace):
            raise NamespaceMismatch(
                f"no run of {self.id} is in the namespace {self._namespace!r}; namespace(None) looks through all runs."
            )

    def is_in_namespace(self) -> bool:
        """Whether a run is in the namespace that is looked through now."""
        return self._is_seen(get_namespace())

    def _is_seen(self, of: str | None) -> bool:
        """Whether a run is in a namespace; a flow that has only replays is in every one."""
        tags = [found for _, found in self._kept_runs()]
        return not tags or any(is_visible(each, of) for each in tags)

    @property
    def created_at(self) -> datetime | None:
        """When its first run began, in local time."""
        begun = [run.record["started"] for run, _ in self._kept_runs()]
        return local_time(begun[-1]) if begun else None

    @property
    def latest_run(self) -> Run | None:
        """The newest run in the namespace."""
        return next(iter(self), None)

    @property
    def latest_successful_run(self) -> Run | None:
        """The newest run in the namespace that ended well."""
        return next((run for run in self if run.successful), None)

    def runs(self, *tags: str) -> Iterator[Run]:
        """The runs that have all of ``tags``, the newest first; replays are not among them."""
        for kept, found in self._kept_runs():
            if is_visible(found, self._namespace) and found.issuperset(tags):
                yield Run(kept.pathspec, self, _kept=kept)

    def _kept_runs(self) -> Iterator[tuple[KeptRun, frozenset[str]]]:
        """The runs with all their tags, the newest first; read in groups that grow, for most look at few."""
        store = session().store
        changed = dict(store.refs.names(f"tags/{self.id}/"))
        known = store.refs.newest(f"{session().runs}/{self.id}/")
        count = 1
        while group := list(islice(known, count)):
            count = min(count * 4, _GROUP)
            data = store.get_many([*(digest for _, digest in group), *_tags_in(group, changed)])
            for name, digest in group:
                record = parse_record(data[digest], "stillrun/run/1")
                if record["kind"] != "replay":
                    other = changed.get(_tags_ref(name))
                    given = record.get("tags", ()) if other is None else parse_record(data[other], _TAGS)["tags"]
                    run = KeptRun(store, Pathspec(self.id, record["run"]), digest, record)
                    yield run, frozenset(given) | system_tags_of(record)

    def __iter__(self) -> Iterator[Run]:
        return self.runs()

    def __getitem__(self, run: str) -> Run:
        return Run(f"{self.id}/{run}", self)

    def __contains__(self, run: object) -> bool:
        return session().store.refs.get(f"{session().runs}/{self.id}/{run}") is not None

    def _facts(self) -> dict[str, Any]:
        return {"latest run": self.latest_run, "latest successful run": self.latest_successful_run}


def _tags_in(group: Iterable[tuple[str, Digest]], changed: Mapping[str, Digest]) -> list[Digest]:
    names = (_tags_ref(name) for name, _ in group)
    return [changed[name] for name in names if name in changed]


def _tags_ref(run: str) -> str:
    """Where the changed tags are of the run at a ref."""
    return "tags/" + run.split("/", 1)[1]


def _flows() -> list[str]:
    """Names of the flows that have run."""
    looked_at = session()
    return looked_at.store.refs.parts(f"{looked_at.runs}/")
