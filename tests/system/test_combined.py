"""Every feature in every shape of graph: run through the command line, read through the client, replayed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Commands
from tests.system.combined.features import FEATURES, source_of
from tests.system.combined.shapes import SHAPES

from stillrun_engine.client import Run, namespace
from stillrun_engine.client.session import use_store

ALL = [(shape, feature) for shape in SHAPES for feature in FEATURES]
FAST = {(shape, feature) for at, (shape, feature) in enumerate(ALL) if at % 4 == 0}
"""A quarter: since the number of features is odd, it has every shape and every feature."""


@pytest.fixture
def read(warm_store: Path) -> Any:
    """The client on the store of the tests."""

    def run_of(pathspec: str) -> Run:
        use_store(warm_store)
        namespace(None)
        return Run(pathspec)

    return run_of


@pytest.mark.parametrize(
    ("shape", "feature"), [pytest.param(*pair, marks=() if pair in FAST else pytest.mark.slow) for pair in ALL]
)
def test_a_feature_in_a_shape(stillrun: Commands, read: Any, shape: str, feature: str) -> None:
    steps, woven = SHAPES[shape], FEATURES[feature]
    stillrun.write("woven.py", source_of(steps, woven))
    for name, text in woven.files.items():
        stillrun.write(name, text)
    stillrun.variables.update(woven.variables, METAFLOW_USER="ada")
    run = read(stillrun.run("woven.py", *woven.options))
    assert run.successful
    assert {step.id for step in run} == {step.name for step in steps if step.tasks}
    for step in steps:
        tasks = list(run[step.name]) if step.tasks else []
        assert len(tasks) == step.tasks, step.name
        for task in tasks:
            assert (task.successful, task.finished) == (True, True)
            woven.holds(task, step)
    woven.of_run(run)
    if (shape, feature) not in FAST or feature == "own decorators":
        replayed = stillrun("replay", run.pathspec, "--json")
        others = {one["name"] for one in replayed.json["artifacts"] if one["verdict"] == "different"}
        assert others <= {"me", "known"}, replayed.err


def test_the_quick_part_has_everything() -> None:
    assert {shape for shape, _ in FAST} == set(SHAPES)
    assert {feature for _, feature in FAST} == set(FEATURES)
    assert len(FAST) >= 60
