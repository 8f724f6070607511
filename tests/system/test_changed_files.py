"""Files that steps read and then change: each task of a replay finds what the original's found, and verdicts are right."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.conftest import Commands

HEAD = "import json, os\nfrom stillrun import FlowSpec, step\n"

ONE = """
class One(FlowSpec):
    @step
    def start(self):
        with open("state.json") as file:
            state = json.load(file)
        with open("state.json", "w") as file:
            json.dump({"n": state["n"] + 1}, file)
        with open("todo.txt") as file:
            self.todo = file.read()
        os.remove("todo.txt")
        with open("log.txt", "r+") as file:
            self.lines = len(file.readlines())
            file.write("more\\n")
        with open("conf.ini") as file:
            self.conf = file.read()
        with open("conf.ini.new", "w") as file:
            file.write(self.conf + "x")
        os.replace("conf.ini.new", "conf.ini")
        with open("cut.txt") as file:
            self.cut = file.read()
        os.truncate("cut.txt", 0)
        self.n = state["n"]
        self.next(self.end)

    @step
    def end(self):
        pass
"""

TURNS = """
def bump(by):
    with open("state.json") as file:
        state = json.load(file)
    with open("state.json", "w") as file:
        json.dump({"n": state["n"] + by}, file)
    return state["n"]

class Turns(FlowSpec):
    @step
    def start(self):
        self.n = bump(1)
        with open("model.txt", "x") as file:  # refuses when it is there
            file.write("trained")
        self.items = [1, 2, 3, 4]
        self.next(self.work, foreach="items")

    @step
    def work(self):
        self.n = bump(self.input)
        self.next(self.join)

    @step
    def join(self, inputs):
        self.all = [each.n for each in inputs]
        self.next(self.end)

    @step
    def end(self):
        with open("state.json") as file:
            self.last = json.load(file)["n"]
        with open("model.txt") as file:
            self.model = file.read()
        os.remove("model.txt")
"""


def laid_out(folder: Path) -> dict[str, str]:
    texts = {"state.json": '{"n": 1}', "todo.txt": "do\n", "log.txt": "one\n", "conf.ini": "c=1\n", "cut.txt": "long"}
    for name, text in texts.items():
        (folder / name).write_text(text)
    return texts


@pytest.mark.parametrize("fresh", [(), ("--fresh-process",)])
def test_what_a_step_read_is_kept_although_it_changes_it(stillrun: Commands, fresh: tuple[str, ...]) -> None:
    texts = laid_out(stillrun.cwd)
    stillrun.write("one.py", HEAD + ONE)
    done = stillrun("run", "one.py", *fresh, "--json")
    assert done.code == 0, done.err
    task = stillrun("show", f"{done.json['run']}/start/0", "--json").json["tasks"][0]
    assert {file["path"]: (file["kept"], file["size"]) for file in task["files"]} == {
        name: (True, len(text)) for name, text in texts.items()
    }
    replayed = stillrun("replay", done.json["run"], *fresh, "--json")
    assert (replayed.code, replayed.json["verdict"]) == (0, "identical"), replayed.err
    assert json.loads((stillrun.cwd / "state.json").read_text()) == {"n": 2}, "the user's own file is not touched"
    assert not list((stillrun.store / "tmp").glob("*/earlier-*"))


def test_tasks_that_read_and_change_one_file_take_turns_in_a_replay(stillrun: Commands) -> None:
    laid_out(stillrun.cwd)
    stillrun.write("turns.py", HEAD + TURNS)
    done = stillrun("run", "turns.py", "--max-workers", "1", "--json")
    assert done.code == 0, done.err
    for scope in ("", "/work", "/end/0"):
        replayed = stillrun("replay", done.json["run"] + scope, "--json")
        assert (replayed.code, replayed.json["verdict"]) == (0, "identical"), replayed.err


def test_what_was_changed_is_run_again_by_resume(stillrun: Commands) -> None:
    laid_out(stillrun.cwd)
    stillrun.write("turns.py", HEAD + TURNS)
    first = stillrun("run", "turns.py", "--max-workers", "1", "--json").json["run"]
    resumed = stillrun("resume", first, "--max-workers", "1", "--json")
    assert resumed.code == 0, resumed.err
    assert resumed.json["reused"] == 0
    (stillrun.cwd / "state.json").write_text('{"n": 1}')
    again = stillrun("run", "turns.py", "--max-workers", "1", "--json")
    assert again.json["status"] == "ok"
    ends = [stillrun("show", f"{run}/end/0", "--json").json["tasks"][0] for run in (first, again.json["run"])]
    assert ends[0]["artifacts"] == ends[1]["artifacts"]
