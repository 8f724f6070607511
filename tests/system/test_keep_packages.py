"""Runs that leave packages to their index: said everywhere, replayed by fetching them again, refused when they changed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.conftest import Commands
from tests.system.test_environments import fixture, served, tinted


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An index with tint 1.0, of a size that is stored as a file and of one that is not."""
    maker, wheels = fixture("wheels/make_wheel.py"), tmp_path / "wheels"
    bulk = {"tint.py": "VERSION = '1.0'\n", "tint_bulk.py": "".join(f"x{n} = {n * n}\n" for n in range(40_000))}
    maker.make_wheel(wheels, "tint", "1.0", requires=["dye"], modules=bulk)
    maker.make_wheel(wheels, "dye", "1.0")
    maker.make_index(wheels, tmp_path / "index")
    return tmp_path / "index"


@pytest.fixture
def user(lonely: Commands, folder: Path) -> Iterator[Commands]:
    with served(folder) as address:
        lonely.variables.update(UV_DEFAULT_INDEX=address, UV_HTTP_RETRIES="0", UV_NO_CONFIG="1")
        lonely.write("painting.py", tinted("{'tint': '1.0'}"))
        yield lonely


def forget(user: Commands) -> None:
    for name in ("envs", "cache"):
        shutil.rmtree(user.store / name, ignore_errors=True)


@pytest.mark.parametrize("which", ["missing-from-index", pytest.param("none", marks=pytest.mark.slow)])
def test_a_run_that_left_packages_to_the_index_says_so_and_is_replayed_from_it(user: Commands, which: str) -> None:
    done = user("run", "painting.py", "--keep-packages", which, "--json")
    assert done.code == 0, done.err
    assert done.json["captured"] is False
    left = f"dye 1.0, tint 1.0: --keep-packages is {which}; a replay fetches them again"
    assert left in done.json["not_kept"]
    run = done.json["run"]
    assert left in user("show", run).out
    assert user("verify", run).code == 0
    assert (offline := user("replay", run, "--offline", "--json")).code == 0, offline.err
    forget(user)
    assert user("verify", run).code == 0, "what was left out on purpose is no damage"
    refused = user("replay", run, "--offline")
    assert refused.code == 2
    assert "2 of its packages are not here" in refused.err
    replayed = user("replay", run, "--json")
    assert (replayed.code, replayed.json["verdict"]) == (0, "identical"), replayed.err
    assert user("verify", replayed.json["replay"]).code == 0


@pytest.mark.slow
def test_a_later_run_that_keeps_all_keeps_what_lies_there(user: Commands, folder: Path) -> None:
    user("run", "painting.py", "--keep-packages", "none", "--json")
    shutil.rmtree(folder)
    done = user("run", "painting.py", "--python", "python3", "--json")
    assert not any("tint" in reason for reason in done.json["not_kept"]), done.json["not_kept"]
    forget(user)
    assert user("replay", done.json["run"], "--offline").code == 0


@pytest.mark.slow
def test_a_package_that_was_replaced_on_the_index_is_refused(user: Commands, folder: Path) -> None:
    run = user("run", "painting.py", "--keep-packages", "none", "--json").json["run"]
    forget(user)
    (wheel,) = folder.rglob("tint-*.whl")
    wheel.write_bytes(wheel.read_bytes()[:-1] + b"?")
    refused = user("replay", run)
    assert refused.code == 2
    assert "expected sha256:" in refused.err
    assert "received sha256:" in refused.err


@pytest.mark.slow
def test_with_all_nothing_lies_in_the_cache(user: Commands) -> None:
    run = user("run", "painting.py", "--json").json["run"]
    assert not list((user.store / "cache").glob("objects/*/*"))
    forget(user)
    assert user("replay", run, "--offline").code == 0
