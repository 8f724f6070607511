"""Whole flows as Metaflow's users write them: run as they are, replayed to the same, and resumed with little to do."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tests.conftest import Commands

FOLDER = Path(__file__).parents[2] / "fixtures" / "metaflow"
TOLD: dict[str, tuple[list[str], list[str]]] = {
    "films.py": ([], ["1. The Lighthouse Keeper", "2. Salt and Ash", "6 films; a drama takes 117 minutes"]),
    "films.py crime": (
        ["--kind", "crime", "--most-films", "1"],
        ["1. The Quiet Auditor", "6 films; a crime takes 113 minutes"],
    ),
    "sweep.py": ([], ["rate 0.05: line (3.0, 1.0); 2 could not be fitted"]),
    "refine.py": ([], ["roots: 1.4142 after 4 rounds"]),
    "refine.py poor": (
        ["--config-value", "settings", '{"project": "p", "digits": 9, "rounds": {"most": 1}}', "--number", "9"],
        ["p: no root after 1 rounds"],
    ),
}


@pytest.mark.parametrize("name", TOLD)
def test_a_flow_tells_what_it_should_and_is_replayed(stillrun: Commands, name: str) -> None:
    options, told = TOLD[name]
    file = name.split()[0]
    for each in FOLDER.iterdir():
        if each.is_file():
            shutil.copy(each, stillrun.cwd)
    done = stillrun("run", file, "--quiet", "--run-id-file", "id", *options)
    assert done.code == 0, done.err
    lines = [line.partition("] ")[2] for line in done.out.splitlines() if line.startswith("[end/")]
    assert lines == told
    run = f"{file.removesuffix('.py').capitalize()}/{(stillrun.cwd / 'id').read_text()}"
    replayed = stillrun("replay", run, "--json")
    assert (replayed.code, replayed.json["verdict"]) == (0, "identical"), replayed.err
    again = stillrun("resume", run, "--json")
    assert again.code == 0, again.err
    assert again.json["reused"] == again.json["tasks"], "nothing has changed"
