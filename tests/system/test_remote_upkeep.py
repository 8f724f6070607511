"""Runs taken out of remotes, and what they leave there deleted: beside those who push and pull, and after kills."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Commands
from tests.system.test_remotes import Team, keys_of, killed_at, made, proxy, refused, server, team

from stillrun_engine.archive import open_run
from stillrun_engine.errors import EngineError
from stillrun_engine.pathspec import parse_pathspec
from stillrun_engine.remote_check import check_remote
from stillrun_engine.remote_forget import forget_there
from stillrun_engine.remote_pull import pull_run
from stillrun_engine.remote_push import push_runs
from stillrun_engine.remote_sweep import SWEEP_OVER, Swept, sweep_remote
from stillrun_engine.remotes import OpenRemote, RemoteSettings, add_remote, opened_remote
from stillrun_snapshot.store import Store

__all__ = ["made", "proxy", "server", "team"]

FLOW = """
import random
from stillrun import FlowSpec, step

class Swept(FlowSpec):
    @step
    def start(self):
        self.large = random.Random(1).randbytes(300_000)
        self.next(self.end)
    @step
    def end(self):
        pass
"""


@pytest.mark.slow
def test_what_was_forgotten_in_a_remote_is_gone_from_it_and_nothing_else(team: Team) -> None:
    first, second = team.runs
    team.moved(team.ours, "push", "--all")
    refused(team.ours("forget", first, "--remote", "team"), "is tagged good")
    team.moved(team.ours, "forget", first, "--remote", "team", "--anyway", "--why", "a mistake")
    assert team.theirs("remote", "runs", "team", "--json").json["runs"] == [second]
    before = keys_of(team)
    told = team.moved(team.ours, "remote", "gc", "team", "--grace", "0s", "--json").json
    assert told["dry_run"]
    assert 9_000_000 < told["size"] < 9_500_000  # the interpreter stays: the other run has it too
    assert keys_of(team) == before
    assert team.moved(team.ours, "remote", "gc", "team", "--delete", "--json").json["files"] == 0  # all of it is young
    done = team.moved(team.theirs, "remote", "gc", "team", "--delete", "--grace", "0s", "--json").json
    assert (done["files"], done["size"]) == (told["files"], told["size"])
    assert team.theirs("remote", "check", "team", "--all").code == 0
    team.moved(team.theirs, "pull", second)
    assert team.theirs("verify", second).code == 0
    refused(team.theirs("pull", first), "no run")
    assert team.ours("show", first).code == 0
    team.moved(team.ours, "push", first)  # whoever has it brings it back
    assert team.theirs("remote", "check", "team", "--all").code == 0


@pytest.mark.slow
def test_what_an_interrupted_push_has_left_goes_too_and_strange_files_stay(team: Team) -> None:
    team.moved(team.ours, "push", team.runs[1])
    assert killed_at(team, team.ours, 2, "PUT", ("push", team.runs[0]))
    from tests.system.test_remotes import http

    http("PUT", team.key("notes.txt"), b"by somebody")
    done = team.moved(team.ours, "remote", "gc", "team", "--delete", "--grace", "0s", "--json").json
    assert (done["files"] > 0, done["strange"]) == (True, 1)
    assert "notes.txt" in keys_of(team)
    assert team.moved(team.ours, "remote", "gc", "team", "--grace", "0s", "--json").json["files"] <= 1  # its own list
    team.moved(team.ours, "push", team.runs[0])
    assert team.theirs("remote", "check", "team", "--all").code == 0


@pytest.mark.slow
def test_a_sweep_that_was_killed_is_ended_by_the_next_and_nobody_pushes_into_it(team: Team) -> None:
    run = team.runs[0]
    team.moved(team.ours, "push", "--all")
    team.moved(team.ours, "forget", run, "--remote", "team", "--anyway")
    words = ("remote", "gc", "team", "--delete", "--grace", "0s")
    assert killed_at(team, team.ours, 4, "POST", words)  # S3 deletes by it; two are of probes
    refused(team.theirs(*words), "is being cleaned up")
    team.moved(team.theirs, "pull", team.runs[1])
    assert team.theirs("remote", "check", "team", "--all").code == 0


# -- every order of two that work at the same time ------------------------------------------------------------------


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with one small run."""
    folder = tmp_path_factory.mktemp("small")
    user = Commands(folder, folder / "store")
    user.write("flow.py", FLOW)
    user.run("flow.py", "--keep-packages", "none")
    return folder / "store"


class Stop(BaseException):
    """As a kill: nothing that comes after is done."""


class Hooked:
    """A bucket in which something else happens before one of its operations."""

    def __init__(self, inner: Any, number: int, event: Callable[[], None]) -> None:
        self._inner, self._number, self._event = inner, number, event
        self._lock = threading.RLock()
        self.count = 0

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        return partial(self._asked, found) if callable(found) else found

    def _asked(self, found: Callable[..., Any], *words: Any) -> Any:
        with self._lock:
            self.count += 1
            if self.count == self._number:
                self._event()
        return found(*words)


class Shared:
    """A folder as a remote, and stores that know it."""

    def __init__(self, folder: Path, source: Path) -> None:
        (folder / "remote").mkdir()
        self.folder, self._source = folder, source
        self.users = 0

    def user(self, *, with_run: bool) -> Store:
        """Another store that knows the remote."""
        self.users += 1
        root = self.folder / f"store{self.users}"
        if with_run:
            shutil.copytree(self._source, root, symlinks=True)
        store = Store.open(root)
        add_remote(store, RemoteSettings("team", str(self.folder / "remote")))
        return store

    def remote(self, store: Store, number: int = 0, event: Callable[[], None] = lambda: None) -> OpenRemote:
        """The remote, with something that happens at its operation ``number``."""
        remote = opened_remote(store, "team", {}, create=True)
        remote.prove()
        return OpenRemote(store, remote.settings, Hooked(remote.bucket, number, event), lambda: _now())


def _now() -> Any:
    from datetime import datetime, timezone

    return datetime.now(timezone.utc)


def push(shared: Shared, store: Store, number: int = 0, event: Callable[[], None] = lambda: None) -> int:
    remote = shared.remote(store, number, event)
    push_runs(store, remote, [open_run(store, parse_pathspec("Swept/latest"))], jobs=1)
    return int(remote.bucket.count)  # type: ignore[attr-defined]  # it is a Hooked


def sweep(shared: Shared, store: Store, number: int = 0, event: Callable[[], None] = lambda: None) -> int:
    remote = shared.remote(store, number, event)
    found = sweep_remote(remote, remote.known(), 0, delete=True, jobs=1)
    assert isinstance(found, Swept)
    return int(remote.bucket.count)  # type: ignore[attr-defined]


def forget(shared: Shared, store: Store) -> None:
    forget_there(shared.remote(store), [parse_pathspec(open_run(store, parse_pathspec("Swept/latest")).pathspec)], "x")


def is_whole(shared: Shared, store: Store) -> bool:
    """Whether the run is there and comes out as it was."""
    remote = shared.remote(store)
    assert check_remote(remote, whole=True).problems == ()
    with shared.user(with_run=False) as reader:
        there = shared.remote(reader)
        known = there.known()
        for run in known.runs:
            pull_run(reader, there, known, run)
    return len(known.runs) == 1


@pytest.fixture
def shared(tmp_path: Path, small: Path) -> Iterator[Shared]:
    yield Shared(tmp_path, small)


def test_a_sweep_in_the_middle_of_a_push_takes_nothing_that_it_needs(shared: Shared) -> None:
    with shared.user(with_run=True) as ours:
        push(shared, ours)
        forget(shared, ours)
        push(shared, ours, 12, lambda: sweep(shared, ours) and None)
        assert is_whole(shared, ours)


@pytest.mark.slow
def test_a_sweep_at_any_time_of_a_push_takes_nothing_that_it_needs(shared: Shared) -> None:
    """What the push needs is there already, and is nobody's: the worst that a sweep can meet."""
    with shared.user(with_run=True) as ours, shared.user(with_run=True) as cleaner:
        number, last = 0, 1
        while number < last:
            number += 1
            push(shared, ours)
            forget(shared, ours)
            last = push(shared, ours, number, lambda: sweep(shared, cleaner) and None)
            assert is_whole(shared, ours), number
            forget(shared, ours)


@pytest.mark.slow
def test_a_push_at_any_time_of_a_sweep_is_whole(shared: Shared) -> None:
    with shared.user(with_run=True) as ours, shared.user(with_run=True) as cleaner:
        number, last = 0, 1
        while number < last:
            number += 1
            push(shared, ours)
            forget(shared, ours)
            pushing = threading.Thread(target=push, args=(shared, ours))

            last = sweep(shared, cleaner, number, partial(begun, pushing))
            if pushing.ident is not None:
                pushing.join()
            else:
                push(shared, ours)
            assert is_whole(shared, ours), number
            forget(shared, ours)
        assert last > 10


def begun(thread: threading.Thread) -> None:
    thread.start()
    thread.join(0.3)  # where it waits for the other, that must go on


@pytest.mark.slow
def test_after_a_sweep_that_was_killed_anywhere_pushes_are_whole(
    shared: Shared, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stillrun_engine.remote_sweep._PATIENCE", 0.0)

    def stop() -> None:
        raise Stop

    with shared.user(with_run=True) as ours, shared.user(with_run=True) as cleaner:
        number, ended, waited = 0, False, 0
        while not ended:
            number += 1
            push(shared, ours)
            forget(shared, ours)
            try:
                sweep(shared, cleaner, number, stop)
                ended = True
            except Stop:
                pass
            try:
                push(shared, ours)
            except EngineError as err:
                assert "is being cleaned up" in str(err)
                waited += 1
                for event in (shared.folder / "remote" / "log").iterdir():  # half an hour later
                    when = event.stat().st_mtime - SWEEP_OVER - 10
                    os.utime(event, (when, when))
                push(shared, ours)
            assert is_whole(shared, ours), number
            for event in (shared.folder / "remote" / "log").iterdir():
                when = event.stat().st_mtime - SWEEP_OVER - 10
                os.utime(event, (when, when))
            sweep(shared, cleaner)
            assert is_whole(shared, ours), number
            forget(shared, ours)
        assert waited > 3
