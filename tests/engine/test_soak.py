"""Many writers and readers in one store while garbage is removed and packs are made: nothing needed is ever missing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.engine.soak import whole

from stillrun_engine.soundness import check_store, opened_to_check
from stillrun_snapshot.store import Store

LONG_S = int(os.environ.get("SOAK_SECONDS", "120"))


def soaked(root: Path, writers: int, readers: int, seconds: int) -> None:
    Store.open(root).close()
    kinds = ["write"] * writers + ["read"] * readers + ["gc", "pack"]
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.engine.soak", str(root), kind, str(number), str(seconds)],
            cwd=Path(__file__).parents[2],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number, kind in enumerate(kinds)
    ]
    done: dict[str, int] = {}
    for kind, process in zip(kinds, processes, strict=True):
        out, err = process.communicate()
        assert process.returncode == 0, f"{kind}: {err}"
        done[kind] = done.get(kind, 0) + int(out)
    print(f"in {seconds} s: {done}")
    with opened_to_check(root) as (store, before):
        assert check_store(store, before, full=True).problems == []
        refs = list(store.refs.names("soak/"))
        assert len(refs) >= writers
        for _, digest in refs:
            whole(store, digest)


def test_some_writers_and_a_reader_beside_a_collector_and_a_packer_miss_nothing(tmp_path: Path) -> None:
    soaked(tmp_path / "s", 3, 1, 3)


@pytest.mark.slow
def test_eight_writers_and_four_readers_beside_a_collector_and_a_packer_miss_nothing(tmp_path: Path) -> None:
    """SOAK_SECONDS says for how long."""
    soaked(tmp_path / "s", 8, 4, LONG_S)
