"""Runs are forgotten on purpose: what holds them, what is told, what goes, and how they come back."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from tests.conftest import Commands, Done

from stillrun_cli.group import run_group
from stillrun_snapshot.garbage import find_garbage
from stillrun_snapshot.store import Store
from stillrun_snapshot.sweeping import sweep

FLOW = """
from stillrun import FlowSpec, Parameter, step

class Tiny(FlowSpec):
    size = Parameter("size", default=3)
    fail = Parameter("fail", default=False)
    @step
    def start(self):
        self.big = bytes([self.size]) * 100_000
        self.next(self.end)
    @step
    def end(self):
        if self.fail:
            raise ValueError("as asked")
        print("done", self.size)
"""
WAITS = """
import os, time
from stillrun import FlowSpec, step

class Waits(FlowSpec):
    @step
    def start(self):
        self.big = b"w" * 100_000
        self.next(self.end)
    @step
    def end(self):
        open(os.environ["BEGUN"], "w").close()
        while not os.path.exists(os.environ["GO_ON"]):
            time.sleep(0.01)
"""


class Here(Commands):
    """Flows run in processes of their own; what only reads and changes the store is called in this one, which is quicker."""

    capture: pytest.CaptureFixture[str]

    def __call__(self, *arguments: str | Path, command: tuple[str, ...] = ()) -> Done:
        if command or arguments[0] in ("run", "resume", "replay"):
            return super().__call__(*arguments, command=command or ("-m", "stillrun_cli"))
        self.capture.readouterr()
        code = run_group([*map(str, arguments), "--store", str(self.store)])
        return Done(code, *self.capture.readouterr())


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory, interpreter_store: Path) -> Path:
    """A store with a run of another flow, for which an interpreter was kept."""
    folder = tmp_path_factory.mktemp("begun")
    commands = Commands(folder, shutil.copytree(interpreter_store, folder / "store"))
    commands.write("first.py", FLOW.replace("Tiny", "First"))
    commands.run("first.py")
    return folder / "store"


@pytest.fixture
def tiny(tmp_path: Path, begun: Path, capsys: pytest.CaptureFixture[str]) -> Commands:
    cwd = tmp_path / "work"
    cwd.mkdir()
    here = Here(cwd, tmp_path / "store")
    here.capture = capsys
    shutil.copytree(begun, here.store, symlinks=True)
    here.write("tiny.py", FLOW)
    return here


def log(store: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (store / "log").read_text().splitlines()]


def emptied(root: Path) -> int:
    """Remove garbage as if a day had gone by; how many objects went."""
    with Store.open(root) as store:
        return sweep(find_garbage(store, grace_s=-1)).objects


def refused(stillrun: Commands, *arguments: str) -> str:
    done = stillrun(*arguments)
    assert done.code == 2 and done.out == ""
    assert done.err.startswith("stillrun: ") and done.err.count("\n") == 1, done.err
    return done.err


def test_a_forgotten_run_is_gone_and_the_log_says_why(tiny: Commands) -> None:
    first, second = tiny.run("tiny.py"), tiny.run("tiny.py", "--size", "4")
    done = tiny("forget", first, "--why", "a typing error")
    assert done.code == 0 and f"{first}: forgotten" in done.out
    assert [line["note"] for line in log(tiny.store) if line["ref"] == f"runs/{first}" and line["to"] is None] == [
        "a typing error"
    ]
    assert [one["run"] for one in tiny("list", "Tiny", "--json").json["runs"]] == [second]
    assert refused(tiny, "show", first).startswith("stillrun: no run")
    dry = tiny("store", "gc", "--json").json
    assert (dry["dry_run"], dry["objects"]) == (True, 0)
    assert emptied(tiny.store) > 0
    assert tiny("verify", second).code == 0


def test_a_forgotten_run_comes_back_while_its_objects_are_there(tiny: Commands) -> None:
    run = tiny.run("tiny.py")
    before = tiny("show", run, "--json").json
    assert tiny("forget", run).code == 0
    assert tiny("forget", "--undo", run).code == 0
    assert tiny("show", run, "--json").json == before and tiny("verify", run).code == 0
    assert "is not forgotten" in refused(tiny, "forget", "--undo", run)
    assert tiny("forget", run).code == 0
    emptied(tiny.store)
    assert "have gone" in refused(tiny, "forget", "--undo", run)
    assert "was forgotten" in refused(tiny, "forget", "--undo", "Tiny/1")


def test_what_holds_a_run_is_told_in_one_sentence(tiny: Commands) -> None:
    run = tiny.run("tiny.py")
    assert tiny("pin", run, "--note", "in the paper").code == 0
    assert tiny("pin", "--json").json["pins"][0]["note"] == "in the paper"
    assert "in the paper" in tiny("pin").out
    assert f"stillrun unpin {run}" in refused(tiny, "forget", run)
    assert tiny("unpin", run).code == 0
    assert "is not pinned" in refused(tiny, "unpin", run)
    assert "no run" in refused(tiny, "pin", "Tiny/19990101")
    tiny("tag", "add", run, "prod")
    assert "is tagged prod" in refused(tiny, "forget", run)
    tiny("tag", "remove", run, "prod")
    replay = tiny("replay", run, "--json").json["replay"]
    assert f"{replay} replays it" in refused(tiny, "forget", run)
    assert "no run 'Tiny/xyz'" in refused(tiny, "forget", "Tiny/xyz")
    assert "say which" in refused(tiny, "forget")
    assert "is not a time" in refused(tiny, "forget", "--older-than", "soon")
    assert "'Tony'" in refused(tiny, "forget", "Tony", "--keep-last", "1")
    assert tiny("forget", run, replay).code == 0


def test_a_run_that_another_was_resumed_from_stays_unless_told_otherwise(tiny: Commands) -> None:
    assert tiny("run", "tiny.py", "--fail", "True").code == 1
    failed = tiny("list", "Tiny", "--json").json["runs"][0]["run"]
    tiny.write("tiny.py", FLOW.replace("if self.fail", "if False"))
    done = tiny("resume", failed, "--json")
    assert done.code == 0, done.err
    resumed = done.json["run"]
    assert f"{resumed} was made from it" in refused(tiny, "forget", failed)
    assert tiny("forget", failed, "--anyway").code == 0
    assert emptied(tiny.store) > 0
    assert tiny("verify", resumed).code == 0


def test_a_run_that_goes_on_stays_and_so_does_all_it_has_made(tiny: Commands, tmp_path: Path) -> None:
    tiny.write("waits.py", WAITS)
    started, go_on = tmp_path / "begun", tmp_path / "go on"
    tiny.variables.update(BEGUN=str(started), GO_ON=str(go_on))
    process = tiny.start("run", "waits.py", "--json")
    while not started.exists():
        assert process.poll() is None
        os.sched_yield()
    run = tiny("list", "Waits", "--json").json["runs"][0]["run"]
    assert "still going on" in refused(tiny, "forget", run)
    emptied(tiny.store)
    go_on.touch()
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    emptied(tiny.store)
    assert tiny("verify", run).code == 0 and json.loads(out.splitlines()[-1])["run"] == run


def test_rules_tell_first_and_forget_when_told_to(tiny: Commands) -> None:
    runs = [tiny.run("tiny.py", "--size", str(size)) for size in range(1, 4)]
    tiny("tag", "add", runs[0], "prod")
    dry = tiny("forget", "Tiny", "--keep-last", "1", "--keep-tag", "prod", "--json").json
    assert (dry["dry_run"], dry["runs"]) == (True, [runs[1]])
    assert [one["reason"] for one in dry["kept"]] == ["tag prod", "among the last 1"]
    assert f"{runs[1]}" in tiny("forget", "--keep-last", "1", "--keep-tag", "prod").out
    assert len(tiny("list", "--json").json["runs"]) == 4
    assert tiny("forget", "--older-than", "1h").out.startswith("0 runs would be forgotten")
    assert tiny("forget", "--keep-last", "1", "--keep-tag", "prod", "--yes").code == 0
    assert {one["run"] for one in tiny("list", "Tiny", "--json").json["runs"]} == {runs[0], runs[2]}
    assert emptied(tiny.store) > 0 and tiny("verify", runs[0]).code == 0


def test_environments_and_checkouts_go_with_the_last_run_that_had_them(tiny: Commands) -> None:
    run = tiny.run("tiny.py")
    assert tiny("replay", run).code == 0  # which builds the environment
    assert len(list((tiny.store / "envs").glob("*/stillrun-env.json"))) == 1
    replay = tiny("list", "--json").json["runs"]
    assert tiny("forget", *(one["run"] for one in replay)).code == 0
    dry = tiny("store", "gc", "--grace", "0s", "--json").json
    done = tiny("store", "gc", "--grace", "0s", "--delete", "--json").json
    assert (
        done["objects"] > 50
        and done["checkouts"] >= 1
        and {"environment", "python"} <= {one["kind"] for one in done["built"]}
    )
    assert dry["objects"] >= done["objects"] and dry["bytes"] > 10_000_000
    assert list((tiny.store / "envs").glob("*/stillrun-env.json")) == []
    with Store.open(tiny.store) as store:
        assert list(store.refs.names()) == []
    assert tiny("verify", tiny.run("tiny.py")).code == 0
