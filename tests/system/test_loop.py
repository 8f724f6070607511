"""The first whole loop: run, look, replay, judge."""

from __future__ import annotations

import json
import pickle
import sys
from pathlib import Path

from pytest import MonkeyPatch
from tests.conftest import Commands

LINE = """
import random
from stillrun import FlowSpec, Parameter, current, step

class Line(FlowSpec):
    "A line of three."
    seed = Parameter("seed", default=7, help="for the dice")
    scale = 10

    @step
    def start(self):
        print("rolling with", self.seed)
        self.dice = random.Random(self.seed).randrange(10**6)
        self.next(self.double)

    @step
    def double(self):
        self.twice = self.dice * 2 + self.scale
        self.next(self.end)

    @step
    def end(self):
        print("end of", current.pathspec)

if __name__ == "__main__":
    Line()
"""

FAN = """
from stillrun import FlowSpec, step

class Fan(FlowSpec):
    @step
    def start(self):
        self.outer = ["a", "b"]
        self.next(self.row, foreach="outer")

    @step
    def row(self):
        self.letter = self.input
        self.inner = range(3)
        self.next(self.cell, foreach="inner")

    @step
    def cell(self):
        self.text = f"{self.letter}{self.input}@{self.index}"
        self.next(self.join_row)

    @step
    def join_row(self, inputs):
        self.cells = [task.text for task in inputs]
        self.next(self.join_all)

    @step
    def join_all(self, inputs):
        self.rows = [task.cells for task in inputs]
        self.next(self.fork)

    @step
    def fork(self):
        self.next(self.left, self.right)

    @step
    def left(self):
        self.side = "left"
        self.next(self.meet)

    @step
    def right(self):
        self.side = "right"
        self.next(self.meet)

    @step
    def meet(self, inputs):
        self.sides = [task.side for task in inputs]
        self.left_rows = inputs.left.rows
        self.next(self.end)

    @step
    def end(self):
        pass
"""


def value(stillrun: Commands, pathspec: str) -> object:
    """An artifact's value, through the command and a file."""
    out = stillrun.cwd / "value.pickle"
    done = stillrun("artifact", pathspec, "--out", out)
    assert done.code == 0, done.err
    return pickle.loads(out.read_bytes())


def test_a_flow_runs_as_a_command_and_as_a_file(stillrun: Commands) -> None:
    stillrun.write("line.py", LINE)
    run = stillrun.run("line.py", "--seed", "3")
    assert run.startswith("Line/")
    direct = stillrun("run", "--seed", "3", "--json", command=("line.py",))
    assert direct.code == 0, direct.err
    assert value(stillrun, f"{run}/double/twice") == value(stillrun, direct.json["run"] + "/double/twice")


def test_output_is_streamed_with_its_task_in_front_and_kept(stillrun: Commands) -> None:
    stillrun.write("line.py", LINE)
    done = stillrun("run", "line.py")
    assert "[start/0] rolling with 7" in done.out
    assert "[end/0] end of Line/" in done.out
    assert stillrun("logs", "Line/latest/start").out == "rolling with 7\n"
    assert "[start/0] rolling with 7" in stillrun("logs", "Line/latest").out


def test_show_and_check_tell_the_graph(stillrun: Commands) -> None:
    stillrun.write("line.py", LINE)
    shown = stillrun("show", command=("line.py",))
    assert shown.code == 0, shown.err
    assert "double (linear) => end" in shown.out
    assert "--seed int (default 7)" in shown.out
    checked = stillrun("check", command=("line.py",))
    assert (checked.code, checked.out) == (0, "Line: 3 steps, no problem found.\n")


def test_foreach_nested_foreach_branch_and_join_keep_order(stillrun: Commands) -> None:
    stillrun.write("fan.py", FAN)
    run = stillrun.run("fan.py")
    assert value(stillrun, f"{run}/join_all/rows") == [["a0@0", "a1@1", "a2@2"], ["b0@0", "b1@1", "b2@2"]]
    assert value(stillrun, f"{run}/meet/sides") == ["left", "right"]
    assert value(stillrun, f"{run}/cell/1.2/text") == "b2@2"
    assert value(stillrun, f"{run}/end/left_rows") == value(stillrun, f"{run}/join_all/rows")


def test_every_step_in_a_new_interpreter_gives_the_same(stillrun: Commands) -> None:
    stillrun.write("fan.py", FAN)
    forked, fresh = stillrun.run("fan.py"), stillrun.run("fan.py", "--fresh-process")
    assert value(stillrun, f"{forked}/join_all/rows") == value(stillrun, f"{fresh}/join_all/rows")


def test_a_replay_of_everything_a_step_or_a_task_is_identical(stillrun: Commands) -> None:
    stillrun.write("fan.py", FAN)
    run = stillrun.run("fan.py")
    for scope, tasks in ((run, 17), (f"{run}/cell", 6), (f"{run}/cell/1.2", 1)):
        done = stillrun("replay", scope, "--json")
        assert done.code == 0, done.err
        verdict = done.json
        assert verdict["verdict"] == "identical"
        assert len(verdict["tasks"]) == tasks
        for entry in verdict["artifacts"]:
            assert entry["verdict"] == "identical"
            assert entry["original"] == entry["replayed"]
            assert {"step", "task", "name"} <= set(entry)


WHO = """
from stillrun import FlowSpec, current, step


class Who(FlowSpec):
    @step
    def start(self):
        self.seen = (current.run_id, current.username)
        self.next(self.end)

    @step
    def end(self):
        pass


if __name__ == "__main__":
    Who()
"""


def test_it_is_recorded_who_replayed_while_steps_see_who_ran(stillrun: Commands, monkeypatch: MonkeyPatch) -> None:
    stillrun.write("who.py", WHO)
    name, people = "", ("ada", "grace", "alan")
    for place, user in enumerate(people):
        monkeypatch.setenv("LOGNAME", user)
        done = stillrun("replay", name, "--json") if place else stillrun("run", "who.py", "--json")
        assert done.code == 0, done.out
        name = done.json["replay" if place else "run"]
        assert stillrun("show", name, "--json").json["user"] == user


def test_a_replay_runs_the_recorded_code_whatever_the_file_says_now(stillrun: Commands) -> None:
    stillrun.write("line.py", LINE)
    run = stillrun.run("line.py")
    stillrun.write("line.py", LINE.replace("* 2", "* 3"))
    assert stillrun("replay", run).code == 0
    (stillrun.cwd / "line.py").unlink()
    assert stillrun("replay", run).code == 0


def test_a_flow_that_depends_on_chance_is_found_out(stillrun: Commands) -> None:
    stillrun.write("line.py", LINE.replace("random.Random(self.seed)", "random.SystemRandom()"))
    run = stillrun.run("line.py")
    done = stillrun("replay", run, "--json")
    assert done.code == 1
    assert done.json["verdict"] == "different"
    steps = {task["step"]: task["verdict"] for task in done.json["tasks"]}
    assert steps == {"start": "different", "double": "identical", "end": "identical"}
    (entry,) = [a for a in done.json["artifacts"] if a["verdict"] == "different"]
    assert (entry["step"], entry["task"], entry["name"]) == ("start", "0", "dice")
    assert entry["original"] != entry["replayed"]


def test_other_bytes_of_an_equal_value_are_equivalent(stillrun: Commands) -> None:
    stillrun.write(
        "order.py",
        """
import os
from stillrun import FlowSpec, step

class Order(FlowSpec):
    @step
    def start(self):
        self.mapping = {name: 1 for name in ORDER}
        self.next(self.end)
    @step
    def end(self):
        pass

ORDER = ["x", "y"] if os.environ.get("FLIP") else ["y", "x"]
""",
    )
    run = stillrun.run("order.py")
    stillrun.variables["FLIP"] = "1"
    done = stillrun("replay", run, "--json")
    assert (done.code, done.json["verdict"]) == (0, "equivalent")


def test_a_file_that_a_step_reads_is_kept_and_put_back(stillrun: Commands) -> None:
    stillrun.write(
        "reader.py",
        """
from stillrun import FlowSpec, step

class Reader(FlowSpec):
    @step
    def start(self):
        with open("data/numbers.txt") as file:
            self.total = sum(map(int, file))
        self.next(self.end)
    @step
    def end(self):
        pass
""",
    )
    data = stillrun.write("data/numbers.txt", "1\n2\n3\n")
    run = stillrun.run("reader.py")
    task = stillrun("show", f"{run}/start", "--json").json["tasks"][0]
    (file,) = task["files"]
    assert (file["path"], file["size"], file["kept"]) == ("data/numbers.txt", 6, True)
    data.write_text("9\n")
    assert stillrun("replay", run).code == 0
    data.unlink()
    assert stillrun("replay", run).code == 0


def test_an_edit_during_a_run_changes_nothing(stillrun: Commands) -> None:
    stillrun.write("side.py", "VALUE = 1\n")
    stillrun.write(
        "edited.py",
        """
from pathlib import Path
from stillrun import FlowSpec, step

class Edited(FlowSpec):
    @step
    def start(self):
        Path("side.py").write_text("VALUE = 2\\n")
        self.next(self.end)
    @step
    def end(self):
        import side
        self.seen = side.VALUE
""",
    )
    run = stillrun.run("edited.py")
    assert value(stillrun, f"{run}/end/seen") == 1
    assert (stillrun.cwd / "side.py").read_text() == "VALUE = 2\n"


def test_code_comes_back_as_files_and_as_one_deterministic_tar(stillrun: Commands) -> None:
    stillrun.write("line.py", LINE)
    stillrun.write("notes/ünï code.txt", "kept\n")
    run = stillrun.run("line.py")
    out = stillrun.cwd.parent / "out"
    assert stillrun("code", run, "--out", out).code == 0
    assert (out / "line.py").read_text() == LINE
    assert (out / "notes" / "ünï code.txt").read_text() == "kept\n"
    tars = [stillrun.cwd.parent / name for name in ("a.tar", "b.tar")]
    for tar in tars:
        assert stillrun("code", run, "--tar", tar).code == 0
    assert tars[0].read_bytes() == tars[1].read_bytes()
    listed = stillrun("code", run, "--json").json["files"]
    assert [entry["path"] for entry in listed] == ["line.py", "notes/ünï code.txt"]


def test_parameters_come_from_options_the_environment_and_defaults(stillrun: Commands) -> None:
    stillrun.write("line.py", LINE)
    assert value(stillrun, stillrun.run("line.py") + "/start/seed") == 7
    stillrun.variables["STILLRUN_RUN_SEED"] = "11"
    assert value(stillrun, stillrun.run("line.py") + "/start/seed") == 11
    assert value(stillrun, stillrun.run("line.py", "--seed=13") + "/start/seed") == 13


def test_each_reporting_command_prints_one_json_object(stillrun: Commands) -> None:
    stillrun.write("line.py", LINE)
    run = stillrun.run("line.py")
    for words in (
        ("list",),
        ("show", run),
        ("show", f"{run}/start/0"),
        ("logs", run),
        ("artifact", f"{run}/start/dice"),
        ("verify", run),
        ("code", run),
        ("env", "show", f"{run}/start"),
        ("store", "stats"),
        ("store", "reindex"),
    ):
        done = stillrun(*words, "--json")
        assert done.code == 0, (words, done.err)
        assert isinstance(json.loads(done.out), dict)


def test_the_records_of_a_run_fit_their_schemas(stillrun: Commands) -> None:
    import jsonschema

    from stillrun_engine.archive import open_run
    from stillrun_engine.pathspec import parse_pathspec
    from stillrun_snapshot.digest import Digest
    from stillrun_snapshot.store import Store

    stillrun.write("fan.py", FAN)
    run = stillrun.run("fan.py")
    replay = stillrun("replay", run, "--json").json["run"]
    schemas = Path(__file__).parents[2] / "docs" / "spec" / "schemas"

    def check(record: object, name: str) -> None:
        jsonschema.Draft202012Validator(json.loads((schemas / f"{name}-1.json").read_text())).validate(record)

    with Store.open(stillrun.store) as store:
        for name in (run, replay):
            kept = open_run(store, parse_pathspec(name))
            check(kept.record, "run")
            check(store.get_record(Digest(kept.record["code"]), "code"), "code")
            check(kept.description, "description")
            for task in kept.tasks():
                check(task, "task")
                for digest in task["artifacts"].values():
                    check(store.get_record(Digest(digest), "artifact"), "artifact")
        check(store.get_record(Digest(kept.record["verdict"]), "verdict"), "verdict")


def test_the_python_of_another_version_runs_undecorated_steps(stillrun: Commands) -> None:
    stillrun.write(
        "version.py",
        """
import sys
from stillrun import FlowSpec, step

class Version(FlowSpec):
    @step
    def start(self):
        self.version = sys.version_info[:2]
        self.next(self.end)
    @step
    def end(self):
        pass
""",
    )
    run = stillrun.run("version.py", "--python", sys.executable)
    assert value(stillrun, f"{run}/start/version") == sys.version_info[:2]


def test_an_offline_replay_makes_any_use_of_the_network_an_error(stillrun: Commands) -> None:
    stillrun.write(
        "caller.py",
        """
import socket
from stillrun import FlowSpec, step

class Caller(FlowSpec):
    @step
    def start(self):
        with socket.create_server(("127.0.0.1", 0)) as server:
            with socket.create_connection(server.getsockname()):
                self.reached = True
        self.next(self.end)
    @step
    def end(self):
        pass
""",
    )
    run = stillrun.run("caller.py")
    assert stillrun("replay", run).code == 0
    done = stillrun("replay", run, "--offline", "--json")
    assert done.code == 1
    (start,) = [task for task in done.json["tasks"] if task["step"] == "start"]
    assert "offline" in start["reason"]


def test_an_absolute_input_that_changed_is_refused_and_its_copy_can_be_had(stillrun: Commands) -> None:
    data = stillrun.write("../far/numbers.csv", "1,2\n").resolve()
    stillrun.write(
        "far.py",
        f"""
from stillrun import FlowSpec, step

class Far(FlowSpec):
    @step
    def start(self):
        self.text = open({str(data)!r}).read()
        self.next(self.end)
    @step
    def end(self):
        pass
""",
    )
    run = stillrun.run("far.py")
    assert stillrun("replay", run).code == 0
    data.write_text("3,4\n")
    done = stillrun("replay", run)
    assert done.code == 2
    assert "has changed since" in done.err
    assert "stillrun inputs" in done.err
    copy = stillrun.cwd / "copy.csv"
    assert stillrun("inputs", run, "--path", data, "--out", copy).code == 0
    assert copy.read_text() == "1,2\n"
    data.unlink()
    assert stillrun("replay", run).code == 2
    copy.rename(data)
    assert stillrun("replay", run).code == 0
