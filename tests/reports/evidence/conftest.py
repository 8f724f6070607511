"""One store for all tests of evidence, with runs of every shape."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.conftest import Commands
from tests.reports.evidence.shapes import Kept

from stillrun_snapshot.store import Store


@pytest.fixture(scope="session")
def kept(tmp_path_factory: pytest.TempPathFactory, warm_store: Path) -> Iterator[Kept]:
    """Runs of every shape, made by the real command."""
    cwd = tmp_path_factory.mktemp("shapes") / "work"
    cwd.mkdir()
    Commands(cwd, warm_store)("list", "--json")
    with Store.open(warm_store) as store:
        yield Kept(Commands(cwd, warm_store), store)
