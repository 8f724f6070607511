"""Indexes that are busy, slow, or will not have us."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.envs.conftest import Site, _served

from stillrun_envs import fetch as fetching
from stillrun_envs.errors import FetchError
from stillrun_envs.fetch import Wanted, fetch
from stillrun_envs.network import Network
from stillrun_snapshot.digest import digest_of
from stillrun_snapshot.store import Store


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    (tmp_path / "files").mkdir()
    for name in ("one.whl", "two.whl"):
        (tmp_path / "files" / name).write_bytes(name.encode() * 30_000)
    yield from _served(tmp_path / "files")


def wanted(site: Site) -> list[Wanted]:
    files = sorted(site.folder.iterdir())
    return [Wanted(f"{site.url}/{path.name}", digest_of(path.read_bytes()), path.stat().st_size) for path in files]


def test_a_busy_index_is_asked_again_when_it_says(site: Site, lonely: Store) -> None:
    site.busy["one.whl"] = 2
    begun = time.monotonic()
    found = fetch(wanted(site), lonely, Network({}), progress=print)
    assert all(lonely.has(one.digest) for one in found)
    assert site.requests.count("/one.whl") == 3
    assert time.monotonic() - begun >= 2, "Retry-After was one second, twice"


def test_an_index_that_stays_busy_is_named(site: Site, lonely: Store) -> None:
    site.busy["one.whl"] = 9
    with pytest.raises(FetchError, match=r"one\.whl answered HTTP 429; try again later"):
        fetch(wanted(site), lonely, Network({"UV_HTTP_RETRIES": "1"}), progress=print)
    assert site.requests.count("/one.whl") == 2


def test_a_slow_index_is_told_of_while_it_lasts(site: Site, lonely: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "_SLOW_S", 0.2)
    site.slow["two.whl"] = 0.7
    told: list[str] = []
    fetch(wanted(site), lonely, Network({}), progress=told.append)
    assert told[0].startswith("Fetching 2 packages")
    assert len(told) >= 3
    assert all(line.startswith("Still fetching two.whl from 127.0.0.1 (0.") for line in told[1:]), told


def test_a_silent_index_is_given_up(site: Site, lonely: Store) -> None:
    site.slow["two.whl"] = 3
    environ = {"UV_HTTP_TIMEOUT": "1", "UV_HTTP_RETRIES": "0"}
    with pytest.raises(FetchError, match=r"two\.whl cannot be fetched: .*Read timed out"):
        fetch(wanted(site), lonely, Network(environ), progress=print)
