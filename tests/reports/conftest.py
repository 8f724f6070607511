"""Runs of every shape, made once, and their reports."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.reports.samples import Samples

from stillrun_engine.archive import open_run
from stillrun_engine.pathspec import parse_pathspec
from stillrun_reports.report import report_of
from stillrun_snapshot.store import Store

Reports = Callable[..., dict[str, Any]]


@pytest.fixture(scope="session")
def samples(tmp_path_factory: pytest.TempPathFactory, interpreter_store: Path) -> Samples:
    """Flows and a store of their own; a sample is run when it is first asked for."""
    folder = tmp_path_factory.mktemp("samples")
    return Samples(folder / "work", shutil.copytree(interpreter_store, folder / "store")).prepare()


@pytest.fixture
def reported(samples: Samples) -> Iterator[Reports]:
    """The report of a sample, by its name; ``compare``: of another sample to lay beside it."""
    stores: list[Store] = []

    def known(name: str, **options: Any) -> dict[str, Any]:
        if options:
            return report(name, **options)
        if name not in samples.reports:
            samples.reports[name] = report(name)
        return copy.deepcopy(samples.reports[name])

    def report(name: str, *, compare: str | None = None, **options: Any) -> dict[str, Any]:
        run = samples.make(name)
        other = samples.make(compare) if compare else None
        stores.append(Store.open(Path(samples.store)))
        opened = [open_run(stores[-1], parse_pathspec(spec)) if spec else None for spec in (run, other)]
        assert opened[0] is not None
        return report_of(stores[-1], opened[0], compare=opened[1], **options)

    yield known
    for store in stores:
        store.close()
