"""The written history of one run: its record, its tasks' records, and the refs that make them last (docs/spec/run.md)."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from stillrun_engine.plan import TaskKey
from stillrun_snapshot.clock import Clock, timestamp
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.lease import Lease
from stillrun_snapshot.refs import RefChange
from stillrun_snapshot.store import Store

__all__ = ["History", "lease_name", "new_run_id"]

_COMMIT_EVERY = 0.5
"""Seconds of finished tasks that a power cut may cost while others still run. A killed engine loses none: they are noted."""
_ALPHABET = "abcdefghjkmnpqrstvwxyz23456789"


def new_run_id(now: datetime) -> str:
    """A name that sorts by time, to the millisecond, and is unique on its own: 20261123-040000-123x7."""
    chance = "".join(secrets.choice(_ALPHABET) for _ in range(2))
    return now.strftime("%Y%m%d-%H%M%S-") + f"{now.microsecond // 1000:03d}{chance}"


def lease_name(flow: str, run: str) -> str:
    """The lock that is held while the run goes on."""
    return f"run-{flow}-{run}"


class History:
    """Writes one run. Tasks are committed in groups; ``end`` writes the final record."""

    def __init__(self, store: Store, head: Mapping[str, Any], clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self.record: dict[str, Any] = {"schema": "stillrun/run/1", **head, "started": timestamp(clock())}
        self.flow, self.run = str(head["flow"]), str(head["run"])
        self.tasks: dict[TaskKey, Digest] = {}
        self._pending: list[RefChange] = []
        self._committed = time.monotonic()
        self._lease: Lease | None = None
        self._head: Digest | None = None

    def begin(self) -> None:
        """Make the run visible, as running."""
        self._lease = Lease.take(self._store.root, lease_name(self.flow, self.run))
        self._point(self._state("running"))

    def attempt(self, key: TaskKey, record: Mapping[str, Any]) -> Digest:
        """Keep the record of an attempt that is followed by another; the task's last record names it."""
        assert (record["step"], record["task"]) == (key.step, key.task), "it tells its own name"
        return self._store.put_record({"schema": "stillrun/task/1", **record}, new=True)

    def task(self, key: TaskKey, record: Mapping[str, Any]) -> Digest:
        """Keep a finished task; durable at the next commit."""
        digest = self._store.put_record({"schema": "stillrun/task/1", **record}, new=True)
        change = RefChange(f"tasks/{self.flow}/{self.run}/{key.step}/{key.task}", digest, None)
        self._pending.append(change)
        if self._lease is not None:
            self._lease.note([change])
        self.tasks[key] = digest
        return digest

    def commit(self, *, only_if_due: bool = False) -> None:
        """Make all finished tasks durable and reachable."""
        if self._pending and not (only_if_due and time.monotonic() - self._committed < _COMMIT_EVERY):
            pending, self._pending = self._pending, []
            self._store.refs.set(pending)
            if self._lease is not None:
                self._lease.clear()
            self._committed = time.monotonic()

    def end(self, status: str, facts: Mapping[str, Any]) -> Digest:
        """Write the final record; 'ok', 'failed' or 'interrupted'."""
        self.commit()
        tasks = [
            {"step": key.step, "task": key.task, "record": digest}
            for key, digest in sorted(
                self.tasks.items(), key=lambda item: (item[0].step, item[0].position, item[0].iteration)
            )
        ]
        self._point({**self._state(status), **facts, "tasks": tasks, "finished": timestamp(self._clock())})
        self.close()
        assert self._head is not None
        return self._head

    def close(self) -> None:
        """Let go of the run. Without ``end`` before, it shows as interrupted."""
        if self._lease is not None:
            self._lease.release()
            self._lease = None

    def _state(self, status: str) -> dict[str, Any]:
        return {**self.record, "status": status}

    def _point(self, record: Mapping[str, Any]) -> None:
        digest = self._store.put_record(record)
        self._store.refs.set([RefChange(f"runs/{self.flow}/{self.run}", digest, self._head)])
        self._head = digest
