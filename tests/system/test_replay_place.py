"""Where a replay happens: tasks see the folders of the original, whatever is there today, and nothing there is touched."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from tests.conftest import Commands

from stillrun_envs.enclosure import Enclosure, too_wide

pytestmark = pytest.mark.skipif(
    Enclosure(network=False).problem() is not None, reason="this system lets nobody see folders at other places"
)
FLOW = """
import os
import stat
from pathlib import Path

from stillrun import FlowSpec, step

class Placed(FlowSpec):
    @step
    def start(self):
        self.here = os.getcwd()
        self.absolute = Path("data.txt").resolve()
        self.text = self.absolute.read_text()
        Path("made.txt").write_text(self.here)
        self.mode = oct(stat.S_IMODE(os.stat("made.txt").st_mode))
        self.next(self.end)

    @step
    def end(self):
        pass
"""


@pytest.fixture
def placed(stillrun: Commands) -> Commands:
    stillrun.write("placed.py", FLOW)
    stillrun.write("data.txt", "as it was")
    return stillrun


def test_a_step_sees_the_folder_it_saw_and_cannot_touch_it(placed: Commands) -> None:
    run = placed.run("placed.py")
    (placed.cwd / "made.txt").write_text("mine")
    (placed.cwd / "data.txt").write_text("another text")
    done = placed("replay", run, "--json")
    assert done.code == 0, done.err
    assert {one["verdict"] for one in done.json["artifacts"]} == {"identical"}
    assert done.json["path"] == {"same": True, "reason": None}
    assert (placed.cwd / "made.txt").read_text() == "mine"
    assert (placed.cwd / "data.txt").read_text() == "another text"


def test_a_folder_that_is_gone_is_seen_again_and_not_made(placed: Commands) -> None:
    run = placed.run("placed.py")
    elsewhere = replace(placed, cwd=placed.cwd.parent)
    shutil.rmtree(placed.cwd)
    done = elsewhere("replay", run, "--json")
    assert done.code == 0, done.out
    assert done.json["path"]["same"] is True
    assert not placed.cwd.exists()


def test_a_working_directory_apart_from_the_code(placed: Commands, tmp_path: Path) -> None:
    away = tmp_path / "away folder ü"
    away.mkdir()
    (away / "data.txt").write_text("far")
    there = replace(placed, cwd=away)
    run = there.run(str(placed.cwd / "placed.py"))
    shutil.rmtree(away)
    done = placed("replay", run, "--json")
    assert done.code == 0, done.out
    assert done.json["path"]["same"] is True


def test_a_store_within_the_project_stays_in_reach(placed: Commands) -> None:
    within = replace(placed, store=placed.cwd / ".stillrun")
    run = within.run("placed.py")
    done = within("replay", run, "--json")
    assert done.code == 0, done.err
    assert done.json["path"]["same"] is True


def test_the_umask_is_the_recorded_one(placed: Commands) -> None:
    before = os.umask(0o027)
    try:
        run = placed.run("placed.py")
    finally:
        os.umask(before)
    assert json.loads(placed("show", run, "--json").out)["umask"] == "027"
    assert placed("replay", run).code == 0


def test_what_depends_on_the_folder_is_still_found(placed: Commands) -> None:
    run = placed.run("placed.py")
    done = placed("replay", run, "--vary", "path", "--json")
    assert sorted(cause["name"] for cause in done.json["causes"]) == ["absolute", "here"]
    assert {tuple(cause["axes"]) for cause in done.json["causes"]} == {("path",)}


def test_where_the_folder_holds_more_than_the_flow_it_is_told(placed: Commands, tmp_path: Path) -> None:
    home = replace(placed, variables={"HOME": str(placed.cwd)})
    run = home.run("placed.py")
    done = home("replay", run, "--json")
    assert done.code == 1
    assert done.json["path"] == {"same": False, "reason": f"{placed.cwd} holds more than the flow"}
    assert "another folder" in home("replay", run).out
    assert too_wide(Path("/")) and not too_wide(tmp_path)


def seen(enclosure: Enclosure, *words: str) -> str:
    return subprocess.run([*enclosure.wrapper, *words], capture_output=True, text=True, check=True).stdout


def test_places_that_are_not_there_are_made_in_memory_only(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "file").write_text("held")
    for place in (Path("/stillrun-nowhere/b"), Path("/usr/stillrun-nowhere/b"), tmp_path / "x" / "y"):
        view = Enclosure(((tmp_path / "a", place),), (Path(sys.prefix),))
        assert view.problem() is None
        assert seen(view, "cat", str(place / "file")) == "held"
        assert seen(view, "ls", "/usr/bin") == seen(Enclosure(), "ls", "/usr/bin")
        assert not place.exists()


def test_what_cannot_be_laid_out_is_told(tmp_path: Path) -> None:
    problem = Enclosure(((tmp_path / "missing", tmp_path),)).problem()
    assert problem is not None
    assert "No such file" in problem
