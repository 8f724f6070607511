"""The tags of a run: those that it was started with, and what was made of them since. Format: docs/spec/run.md."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from stillrun.projects import project_facts, project_in
from stillrun_engine.archive import KeptRun
from stillrun_engine.errors import EngineError
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.errors import RefConflict
from stillrun_snapshot.refs import RefChange
from stillrun_snapshot.store import Store

__all__ = ["TAG_MAX", "change_tags", "checked_tag", "first_tags", "refuse_system_tags", "system_tags_of", "tags_of"]

TAG_MAX = 500
"""Bytes of one tag, as Metaflow has it."""


def checked_tag(tag: str) -> str:
    """``tag`` itself. Raises EngineError when it is none: one line of text of at most TAG_MAX bytes."""
    if not tag.strip() or not tag.isprintable() or len(tag.encode("utf-8", "surrogatepass")) > TAG_MAX:
        raise EngineError(f"the tag {tag[:40]!r} cannot be kept: a tag is one line of text of at most {TAG_MAX} bytes.")
    return tag


def first_tags(
    given: Iterable[str], namespace: str | None, description: Mapping[str, Any], user: str | None
) -> dict[str, Any]:
    """What stands in the record of a run that begins: tags given to it, those of its project, and what its steps look through."""
    project = project_in(description["decorators"])
    own = () if project is None else project_facts(project, description["name"], user)["project_tags"]
    chosen = {} if namespace is None else {"namespace": namespace}
    return {"tags": sorted(set(given)), **({"system_tags": sorted(own)} if own else {}), **chosen}


def tags_of(store: Store, flow: str, run: str, record: Mapping[str, Any]) -> frozenset[str]:
    """The tags that a run has now."""
    changed = store.refs.get(f"tags/{flow}/{run}")
    found = record.get("tags", ()) if changed is None else store.get_record(changed, "tags")["tags"]
    return frozenset(found)


def system_tags_of(record: Mapping[str, Any]) -> frozenset[str]:
    """What is known of a run, as tags, as Metaflow has it: who ran it, and its project."""
    known = {f"user:{record['user']}", "runtime:dev", f"stillrun_version:{record['stillrun']}"}
    return frozenset(known.union(record.get("system_tags", ())))


def refuse_system_tags(run: KeptRun, removed: Iterable[str]) -> None:
    """Raise EngineError when one of these tags is every run's."""
    for tag in system_tags_of(run.record).intersection(removed):
        raise EngineError(f"the tag {tag!r} of {run.pathspec} cannot be taken off: every run has it.")


def change_tags(run: KeptRun, add: Iterable[str] = (), remove: Iterable[str] = ()) -> frozenset[str]:
    """Add and remove tags of a finished or running run; the tags that it has then. Each change is an event in the log."""
    flow, name, store = run.spec.flow, str(run.spec.run), run.store
    while True:
        before: Digest | None = store.refs.get(f"tags/{flow}/{name}")
        had = tags_of(store, flow, name, run.record)
        tags = (had - set(remove)) | {checked_tag(tag) for tag in add}
        if tags == had:
            return tags
        record = store.put_record({"schema": "stillrun/tags/1", "run": run.pathspec, "tags": sorted(tags)})
        try:
            store.refs.set([RefChange(f"tags/{flow}/{name}", record, before)])
        except RefConflict:  # somebody else has changed them meanwhile
            continue
        return tags
