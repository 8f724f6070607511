"""`stillrun list` where there are many runs: the newest, at once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stillrun_cli.group import run_group
from stillrun_snapshot.refs import RefChange
from stillrun_snapshot.store import Store


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with 60 runs of two flows, in turns."""
    folder = tmp_path_factory.mktemp("many")
    with Store.open(folder) as store:
        for number in range(60):
            flow, run = "AB"[number % 2], f"20260101-{number:06}-000aa"
            record = {
                "schema": "stillrun/run/1",
                "kind": "run",
                "flow": flow,
                "run": run,
                "status": "ok",
                "started": f"2026-01-01T00:{number:02}:00.000Z",
                "origin": None,
                "parameters": {},
                "settings": {"trial": number == 59},
            }
            store.refs.set([RefChange(f"runs/{flow}/{run}", store.put_record(record))])
    return folder


def listed(root: Path, capture: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    assert run_group(["list", "--json", "--store", str(root), *arguments]) == 0
    return [one["run"].split("/")[1][9:15].lstrip("0") for one in json.loads(capture.readouterr().out)["runs"]]


def test_the_newest_come_last_and_older_ones_are_told_of(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_group(["list", "--store", str(root)]) == 0
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 51 and out.splitlines()[-1].startswith("A/20260101-000058")
    assert err == "The 50 newest of all; '--limit 0' lists the others, too.\n"


def test_the_limit_counts_what_is_asked_for(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert listed(root, capsys, "-n", "3") == ["56", "57", "58"]
    assert listed(root, capsys, "-n", "3", "--all") == ["57", "58", "59"]
    assert listed(root, capsys, "B", "-n", "2") == ["55", "57"]
    assert len(listed(root, capsys)) == len(listed(root, capsys, "-n", "0")) == 59
