"""Only one process moves or removes objects of a store at a time."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from stillrun_snapshot._presence import closed_gate
from stillrun_snapshot.store import Store
from stillrun_snapshot.upkeep import UpkeepBusy, upkeep

HOLD = """
import sys, pathlib
from stillrun_snapshot.upkeep import upkeep
with upkeep(pathlib.Path(sys.argv[1]), "gc"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    with Store.open(tmp_path / "store") as store:
        return store.root


def test_a_second_one_is_told_who_is_at_work(root: Path) -> None:
    with (
        upkeep(root, "pack"),
        pytest.raises(UpkeepBusy, match=rf"'store pack' of process {os.getpid()} is at work"),
        upkeep(root, "gc"),
    ):
        raise AssertionError("two at once")


def test_it_is_free_again_afterwards_and_after_an_error(root: Path) -> None:
    with pytest.raises(KeyError), upkeep(root, "pack"):
        raise KeyError
    with upkeep(root, "gc"):
        pass


def test_a_process_that_was_killed_lets_go(root: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(UpkeepBusy, match=f"'store gc' of process {holder.pid}"), upkeep(root, "pack"):
            pass
        holder.kill()
    with upkeep(root, "pack"):
        pass


def test_opening_the_store_takes_nothing_for_notes(root: Path) -> None:
    with upkeep(root, "reindex"), Store.open(root):
        assert (root / "locks" / "upkeep").exists()


def test_a_writer_that_ends_while_it_is_asked_after_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by the soak: its file was there and held, and gone when it was read."""
    with Store.open(tmp_path / "s") as store, Store.open(tmp_path / "s") as other:
        other.presence.begin()
        (path,) = (tmp_path / "s" / "locks").glob("writer-*")
        real = fcntl.flock

        def flock(descriptor: int, kind: int) -> None:
            if kind == fcntl.LOCK_SH | fcntl.LOCK_NB:
                path.unlink(missing_ok=True)
            real(descriptor, kind)

        monkeypatch.setattr(fcntl, "flock", flock)
        with closed_gate(store.root, store.presence) as others:
            assert others.since_ns is not None
