"""What files ask for, on which platforms."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from stillrun_engine.caller import Caller
from stillrun_engine.environments import requests_in
from stillrun_envs.platforms import PLATFORMS
from stillrun_envs.resolver import target_for
from stillrun_snapshot.store import Store


@pytest.fixture
def caller(tmp_path: Path) -> Caller:
    return Caller(Path(sys.executable), tmp_path, dict(os.environ))


def asked(folder: Path, caller: Caller, names: list[str], *more: str, every: bool = True) -> list[str | None]:
    """The platforms that are locked for; None: here."""
    file = folder / "environment.yml"
    file.write_text(f"platforms: [{', '.join(names)}]\nchannels: [conda-forge]\ndependencies: [python=3.11]\n")
    with Store.open(folder / "store") as store:
        found = requests_in(store, file, caller, platforms=more, every_platform=every)
    return [one.request.platform for one in found]


def test_a_file_is_locked_for_the_platforms_that_it_names(tmp_path: Path, caller: Caller) -> None:
    with Store.open(tmp_path / "store") as store:
        here = target_for(None, caller.python, store, environ=caller.variables).platform
    first, second = [name for name in PLATFORMS if name != here][:2]
    assert asked(tmp_path, caller, []) == [None]
    assert asked(tmp_path, caller, [here, first]) == [None, first]
    assert asked(tmp_path, caller, [first, here], first, second) == [first, None, second]
    assert asked(tmp_path, caller, [first, second]) == [first, second]
    assert asked(tmp_path, caller, [first, second], every=False) == [None]
