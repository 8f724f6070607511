"""The items of foreach splits by what they are: which task of an earlier run was for the item that a task of today is for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from stillrun_engine.plan import TaskKey, WaitingTask
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.store import Store

__all__ = ["ItemIndex"]

Record = Mapping[str, Any]


class ItemIndex:
    """records: the tasks of the earlier run. Items are the same when their canonical digests are."""

    def __init__(self, store: Store, records: Mapping[TaskKey, Record]) -> None:
        self._store, self._records = store, records
        self._now: dict[TaskKey, list[str]] = {}
        self._then: dict[TaskKey, dict[str, list[int]]] = {}
        self._places: dict[tuple[TaskKey, TaskKey], list[int | None]] = {}

    def today(self, key: TaskKey, next_: Record) -> None:
        """Hear of a foreach of today's run."""
        digests = self._digests(next_)
        if digests is not None:
            self._now[key] = digests

    def task_of(self, waiting: WaitingTask) -> TaskKey | None:
        """The earlier run's task for the same items of the same splits; None when there is none, or it cannot be told.

        Of items that are there several times, the first of today is the first of then.
        """
        then: tuple[int, ...] = ()
        for depth, split in enumerate(waiting.foreach):
            now = TaskKey(split.step, waiting.key.position[:depth])
            place = self._place(now, TaskKey(split.step, then), split.index)
            if place is None:
                return None
            then = (*then, place)
        return TaskKey(waiting.key.step, then, waiting.key.iteration)

    def _place(self, now: TaskKey, then: TaskKey, index: int) -> int | None:
        """Where the item at ``index`` of a foreach of today stood in the one of then."""
        digests = self._now.get(now)
        if digests is None:
            return None
        if (now, then) not in self._places:
            self._places[now, then] = self._matched(digests, then)
        return self._places[now, then][index]

    def _matched(self, digests: list[str], then: TaskKey) -> list[int | None]:
        """For each item of today its place in the foreach of then."""
        if then not in self._then:
            self._then[then] = self._index(then)
        rest = {digest: iter(places) for digest, places in self._then[then].items()}
        return [next(rest[digest], None) if digest in rest else None for digest in digests]

    def _index(self, key: TaskKey) -> dict[str, list[int]]:
        record = self._records.get(key)
        digests = self._digests(record["next"]) if record is not None and record["next"] else None
        found: dict[str, list[int]] = {}
        for place, digest in enumerate(digests or ()):
            found.setdefault(digest, []).append(place)
        return found

    def _digests(self, next_: Record) -> list[str] | None:
        digest = next_.get("item_digests")
        if digest is None:
            return None
        found: list[str] = json.loads(self._store.get(Digest(digest)))
        return found
