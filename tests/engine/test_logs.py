"""What tasks write: kept whole, with times that stay few."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from itertools import pairwise
from pathlib import Path

from stillrun_engine.guard import SecretGuard
from stillrun_engine.logs import TaskLog
from stillrun_snapshot.store import Store


def test_times_are_kept_of_what_is_written(tmp_path: Path) -> None:
    now = datetime(2026, 1, 2, tzinfo=timezone.utc)
    with Store.open(tmp_path / "store") as store:
        log = TaskLog(tmp_path, lambda: now)
        begun = int(now.timestamp() * 1000)
        log.write("stdout", b"one\n")
        now += timedelta(milliseconds=3)
        log.write("stdout", b"two\n")
        now += timedelta(seconds=1)
        log.write("stdout", b"three\n")
        assert log.times() == {"stdout": [[0, begun], [8, begun + 1003]]}
        assert store.get(log.keep(store, SecretGuard(), "start/0")["stdout"]) == b"one\ntwo\nthree\n"


def test_times_stay_few_however_much_is_written(tmp_path: Path) -> None:
    now = datetime(2026, 1, 2, tzinfo=timezone.utc)
    log = TaskLog(tmp_path, lambda: now)
    for _ in range(20_000):
        log.write("stderr", b"line\n")
        now += timedelta(milliseconds=7)
    (marks,) = log.times().values()
    with Store.open(tmp_path / "store") as store:
        log.keep(store, SecretGuard(), "start/0")
    assert len(marks) <= 256 and marks[0][0] == 0
    assert all(a[0] < b[0] and a[1] < b[1] for a, b in pairwise(marks))
    assert marks[-1][0] > 90_000, "the end has times too"


def test_a_silent_task_has_none(tmp_path: Path) -> None:
    assert TaskLog(tmp_path).times() == {}
