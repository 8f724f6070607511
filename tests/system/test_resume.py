"""Going on from an earlier run: what was done from the same code, environment and inputs is not done again, and the rest is."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.conftest import Commands

FLOW = """
import os
from stillrun import FlowSpec, Parameter, step

SCALE = 1.0


class Study(FlowSpec):
    alpha = Parameter("alpha", default=1.0)

    @step
    def start(self):
        self.log("start")
        self.items = open("data.txt").read().split()
        self.next(self.fit, foreach="items")

    @step
    def fit(self):
        self.log("fit")
        self.score = len(self.input) * SCALE
        self.next(self.join)

    @step
    def join(self, inputs):
        self.log("join")
        self.total = sum(each.score for each in inputs)
        self.next(self.end)

    @step
    def end(self):
        self.log("end")
        self.report = f"{self.total} {self.alpha}"

    def log(self, name):
        with open(os.environ["RAN"], "a") as file:
            print(name, file=file)


if __name__ == "__main__":
    Study()
"""


@pytest.fixture
def study(stillrun: Commands, tmp_path: Path) -> Commands:
    stillrun.variables["RAN"] = str(tmp_path / "ran")
    stillrun.write("study.py", FLOW)
    stillrun.write("data.txt", "a bb ccc")
    return stillrun


def ran(commands: Commands) -> list[str]:
    """The steps that have run since it was asked last."""
    path = Path(commands.variables["RAN"])
    found = path.read_text().split() if path.exists() else []
    path.unlink(missing_ok=True)
    return sorted(found)


def first(commands: Commands, *arguments: str) -> str:
    run = commands.run("study.py", *arguments)
    ran(commands)
    return run


def resumed(commands: Commands, *arguments: str, code: int = 0) -> tuple[str, list[str], str]:
    """The run, the steps that ran, and what was said."""
    done = commands("resume", *arguments, "--json")
    assert done.code == code, done.err
    return done.json["run"], ran(commands), done.err


def test_nothing_that_is_the_same_runs_again_and_the_result_is_whole(study: Commands) -> None:
    run = first(study)
    again, steps, _ = resumed(study, run)
    assert steps == []
    assert study("diff", run, again, "--json").code == 0
    shown = study("show", again, "--json").json
    assert shown["origin"]["run"] == run
    assert {task["reused"].split("/")[2] for task in shown["tasks"]} == {"start", "fit", "join", "end"}
    assert study("verify", again).code == 0
    replayed = study("replay", again, "--offline", "--json")
    assert (replayed.code, replayed.json["verdict"]) == (0, "identical"), replayed.err


def test_a_changed_step_runs_and_what_comes_out_the_same_stops_there(study: Commands) -> None:
    run = first(study)
    study.write("study.py", FLOW.replace("len(self.input) * SCALE", "SCALE * len(self.input)  # another way"))
    _, steps, said = resumed(study, run)
    assert steps == ["fit", "fit", "fit"]
    assert "fit runs again: code of fit changed: lines 18-21." in said
    study.write("study.py", FLOW.replace("len(self.input) * SCALE", "len(self.input) * SCALE + 1"))
    _, steps, said = resumed(study, run)
    assert steps == ["end", "fit", "fit", "fit", "join"]
    assert "join runs again: its input score is another." in said


def test_comments_and_the_place_in_the_file_do_not_count(study: Commands) -> None:
    run = first(study)
    study.write("study.py", "# a remark\n\n" + FLOW.replace("    def fit(self):", "    def fit(self):\n        # why"))
    assert resumed(study, run)[1] == []


@pytest.mark.parametrize(
    ("old", "new", "again"),
    [
        ("SCALE = 1.0", "SCALE = 2.0", ["end", "fit", "fit", "fit", "join"]),
        ("SCALE = 1.0", "SCALE = 1.0\nUNUSED = 5", []),
        ("print(name, file=file)", "print(name, file=file, flush=True)", ["end", "fit", "fit", "fit", "join", "start"]),
    ],
)
def test_code_that_a_step_may_use_counts_for_it(study: Commands, old: str, new: str, again: list[str]) -> None:
    run = first(study)
    study.write("study.py", FLOW.replace(old, new))
    _, steps, said = resumed(study, run)
    assert steps == again
    if "SCALE = 2.0" in new:
        assert "fit runs again: code that fit may use changed: study.py: SCALE." in said


def test_another_module_counts_where_it_is_used_and_another_text_does_not_unless_strict(study: Commands) -> None:
    study.write("helper.py", "x = 1\n")
    study.write("unused.py", "x = 1\n")
    study.write(
        "study.py", FLOW.replace("import os\n", "import os\nimport helper\n", 1).replace("* SCALE", "* helper.x")
    )
    run = first(study)
    study.write("notes.md", "a note\n")
    study.write("unused.py", "x = 2\n")
    assert resumed(study, run)[1] == []
    assert len(resumed(study, run, "--strict")[1]) == 6
    study.write("helper.py", "x = 2\n")
    _, steps, said = resumed(study, run)
    assert steps == ["end", "fit", "fit", "fit", "join"]
    assert "fit runs again: code that fit may use changed: helper.py: x." in said


MODELS = """
class Model:
    def predict(self, x):
        return x + 1
"""
USING = """
import os
from stillrun import FlowSpec, step

class Using(FlowSpec):
    @step
    def start(self):
        from models import Model
        self.model = [Model()]
        self.next(self.end)

    @step
    def end(self):
        with open(os.environ["RAN"], "a") as file:
            print("end", file=file)
        self.result = sum(map(self.model[0].predict, [1, 2]))
"""


def test_the_class_of_an_input_counts_for_a_step_that_does_not_name_it(study: Commands) -> None:
    study.write("models.py", MODELS)
    study.write("using.py", USING)
    run = study.run("using.py")
    ran(study)
    study.write("models.py", MODELS.replace("x + 1", "x + 2"))
    again, steps, said = resumed(study, run)
    assert steps == ["end"]
    assert "end runs again: code that end may use changed: models.py: Model." in said
    assert study("artifact", f"{again}/end/0/result").out.strip().endswith("value      7")


def test_an_input_file_that_changed_is_read_again_and_kept_items_are_reused(study: Commands) -> None:
    run = first(study)
    study.write("data.txt", "a bb cccc")
    _, steps, said = resumed(study, run)
    assert "start runs again: data.txt changed." in said
    assert steps == ["end", "fit", "join", "start"], "two of the items are the same"


def scores(commands: Commands, run: str) -> list[str]:
    tasks = commands("show", f"{run}/fit", "--json").json["tasks"]
    return [task["artifacts"]["score"]["preview"] for task in tasks]


@pytest.mark.parametrize(
    ("data", "fits", "told"),
    [
        ("zzzz a bb ccc", 1, ["4.0", "1.0", "2.0", "3.0"]),
        ("ccc bb a", 0, ["3.0", "2.0", "1.0"]),
        pytest.param("a a bb", 1, ["1.0", "1.0", "2.0"], marks=pytest.mark.slow),
        pytest.param("ccc", 0, ["3.0"], marks=pytest.mark.slow),
    ],
)
def test_items_that_were_seen_are_not_worked_on_again(study: Commands, data: str, fits: int, told: list[str]) -> None:
    run = first(study)
    study.write("data.txt", data)
    again, steps, _ = resumed(study, run)
    assert steps.count("fit") == fits
    assert scores(study, again) == told
    shown = study("show", f"{again}/fit", "--json").json["tasks"]
    assert all(task["artifacts"]["items"]["preview"] == repr(data.split()) for task in shown), (
        "today's list is passed on"
    )
    assert study("verify", again).code == 0
    assert study("replay", again).code == 0
    fresh = study.run("study.py")
    assert study("diff", again, fresh, "--json").json["artifacts"] == []


def test_a_step_that_asks_for_its_place_runs_again_elsewhere(study: Commands) -> None:
    study.write("study.py", FLOW.replace("len(self.input) * SCALE", "len(self.input) * SCALE + self.index"))
    run = first(study)
    study.write("data.txt", "zz a bb ccc")
    _, steps, said = resumed(study, run)
    assert steps.count("fit") == 4
    assert "fit runs again: it stands elsewhere in a foreach." in said


def test_what_a_step_does_not_read_does_not_count(study: Commands) -> None:
    text = FLOW.replace("        self.items = open", "        self.note = SCALE\n        self.items = open")
    study.write("study.py", text.replace("* SCALE", "* 1.0"))
    run = first(study)
    study.write("study.py", text.replace("* SCALE", "* 1.0").replace("SCALE = 1.0", "SCALE = 5.0"))
    again, steps, said = resumed(study, run)
    assert steps == ["join", "start"] or steps == ["end", "join", "start"], said
    shown = study("show", f"{again}/fit/0", "--json").json["tasks"][0]
    assert shown["artifacts"]["note"]["preview"] == "5.0"


def test_parameters_keep_their_values_and_another_one_counts(study: Commands) -> None:
    run = first(study, "--alpha", "3")
    again, steps, _ = resumed(study, run)
    assert steps == []
    assert study("show", again, "--json").json["parameters"]["alpha"]["text"] == "3.0"
    _, steps, said = resumed(study, run, "--set", "alpha=4")
    assert steps == ["end"], "no other step uses it"
    assert "end runs again: parameter alpha is another" in said


def test_a_failed_task_runs_again_and_its_finished_siblings_do_not(study: Commands) -> None:
    broken = FLOW.replace('self.log("fit")', 'self.log("fit")\n        assert self.input != "bb", "broken"')
    study.write("study.py", broken)
    done = study("run", "study.py", "--max-workers", "1", "--json")
    assert done.code == 1
    ran(study)
    study.write("study.py", broken.replace('!= "bb"', '!= "zz"'))
    _, steps, said = resumed(study, done.json["run"])
    assert steps.count("start") == 0
    assert "fit runs again: code of fit changed" in said
    study.write("study.py", broken)
    _, steps, said = resumed(study, done.json["run"], "--max-workers", "1", code=1)
    assert steps == ["fit"], "the one that failed; the one before it had finished"
    assert "fit runs again: it failed." in said


def test_a_step_can_be_asked_to_run_again_with_all_that_follows(study: Commands) -> None:
    run = first(study)
    assert resumed(study, run, "join")[1] == ["end", "join"]
    assert resumed(study, run, "--force", "end")[1] == ["end"]
    refused = study("resume", run, "jion")
    assert refused.code == 2
    assert "join" in refused.err


def test_a_killed_run_goes_on_from_what_was_finished(study: Commands) -> None:
    slow = FLOW.replace('self.log("fit")', 'import time\n        self.log("fit")\n        time.sleep(0.4)')
    study.write("study.py", slow)
    process = study.start("run", "study.py", "--max-workers", "1", "--json")
    until = time.monotonic() + 60
    while time.monotonic() < until and (
        not Path(study.variables["RAN"]).exists() or ran_so_far(study).count("fit") < 2
    ):
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    ran(study)
    listed = study("list", "Study", "--json").json["runs"]
    (run,) = (each["run"] for each in listed if each["status"] == "interrupted")
    again, steps, _ = resumed(study, run)
    assert "start" not in steps
    assert 1 <= steps.count("fit") <= 2, "one was finished before it was killed"
    assert json.loads(study("show", again, "--json").out.splitlines()[-1])["status"] == "ok"


def ran_so_far(commands: Commands) -> list[str]:
    return Path(commands.variables["RAN"]).read_text().split()


def test_a_run_that_is_still_going_on_is_not_resumed(study: Commands) -> None:
    study.write("slow.py", FLOW.replace('self.log("end")', 'self.log("end"); __import__("time").sleep(600)'))
    process = study.start("run", "slow.py", "--run-id-file", "id")
    try:
        while "end" not in Path(study.variables["RAN"]).read_text() if Path(study.variables["RAN"]).exists() else True:
            assert process.poll() is None
            time.sleep(0.02)
        run = f"Study/{(study.cwd / 'id').read_text().strip()}"
        done = study("resume", run)
        assert (done.code, "is still going on" in done.err) == (2, True), done.err
        for command in ("diff", "why"):
            assert "is still going on: only what has ended is looked at" in study(command, run, run).err
        looked = study("replay", run)
        assert (looked.code, "the original is still going on: only what had ended is judged" in looked.out) == (0, True)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()


def test_a_flow_file_resumes_its_latest_run_and_run_reuses(study: Commands) -> None:
    first(study)
    done = study("resume", "--json", command=(str(study.cwd / "study.py"),))
    assert done.code == 0, done.err
    assert ran(study) == []
    done = study("run", "study.py", "--reuse", "--json")
    assert (done.code, done.json["reused"], ran(study)) == (0, 6, [])
    done = study("run", "study.py", "--reuse", "--alpha", "2", "--json")
    assert (done.code, done.json["reused"], len(ran(study))) == (0, 5, 1)


def test_other_variables_that_tasks_see_count(study: Commands) -> None:
    run = first(study)
    study.variables["TZ"] = "Asia/Tokyo"
    _, steps, said = resumed(study, run)
    assert len(steps) == 6
    assert "the variable TZ is another" in said


def test_a_flow_that_moved_is_asked_for(study: Commands) -> None:
    run = first(study)
    (study.cwd / "study.py").rename(study.cwd / "moved.py")
    refused = study("resume", run)
    assert refused.code == 2
    assert "--file" in refused.err


def test_a_run_goes_on_with_its_recorded_code(study: Commands) -> None:
    run = first(study)
    study.write("study.py", FLOW.replace("SCALE = 1.0", "SCALE = 2.0"))
    _, steps, _ = resumed(study, run, "join", "--code", "as-recorded")
    assert steps == ["end", "join"]
    (study.cwd / "study.py").unlink()
    again, steps, _ = resumed(study, run, "--code", "as-recorded", "--set", "alpha=7")
    assert steps == ["end"]
    assert study("code", again).code == 0


def test_a_run_goes_on_in_its_recorded_environments(study: Commands, tmp_path: Path) -> None:
    run = first(study)
    made = tmp_path / "other"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", made], check=True)
    (made / "lib" / f"python3.{sys.version_info[1]}" / "site-packages" / "more.py").write_text("x = 1\n")
    study.variables["VIRTUAL_ENV"] = str(made)
    _, steps, said = resumed(study, run)
    assert len(steps) == 6
    assert "its environment is another" in said
    again, steps, _ = resumed(study, run, "end", "--env", "as-recorded")
    assert steps == ["end"]
    assert study("show", again, "--json").json["steps"]["end"]["kind"] == "lock"
    assert study("diff", run, again).code == 0, "its packages are the same"
    assert study("replay", again).code == 0


BESIDE = """
import builtins, glob, os, subprocess, sys
from pathlib import Path
from stillrun import Config, FlowSpec, config_expr, environment, inputs, step

TOP = Path("top.txt").read_text()


class Beside(FlowSpec):
    settings = Config("settings", default="settings.json")

    @step
    def start(self):
        self.next(self.imported)
    @step
    def imported(self):
        self.a = TOP
        self.next(self.listing)
    @step
    def listing(self):
        self.b = sorted(glob.glob("data/*.txt"))
        self.next(self.child)
    @step
    def child(self):
        self.c = subprocess.check_output([sys.executable, "tool.py"])
        self.next(self.wanted)
    @step
    def wanted(self):
        try:
            self.d = open(str(self.settings.wanted)).read()
        except FileNotFoundError:
            self.d = None
        self.next(self.neighbours)
    @step
    def neighbours(self):
        self.e = sorted(os.listdir(Path(__file__).parent / "near"))
        self.next(self.declared)
    @inputs("declared/*.bin")
    @step
    def declared(self):
        self.f = 1
        self.next(self.varied)
    @environment(vars={"MODE": config_expr("settings.mode")})
    @step
    def varied(self):
        self.g = os.environ["MODE"]
        self.next(self.end)
    @step
    def end(self):
        '''It has nothing to do with top.txt or data.'''
"""


@pytest.fixture(scope="module")
def beside(tmp_path_factory: pytest.TempPathFactory, warm_store: Path) -> Commands:
    """A run whose steps stand on what is not their code, nor opened by them."""
    made = Commands(tmp_path_factory.mktemp("beside"), warm_store)
    files = {"top.txt": "1", "data/a.txt": "1", "tool.py": "print(1)", "near/a.txt": "1", "declared/a.bin": "1"}
    for name, text in {"beside.py": BESIDE, "settings.json": '{"mode": "1", "wanted": "later"}', **files}.items():
        made.write(name, text)
    made.run("beside.py")
    return made


@pytest.mark.parametrize(
    ("name", "text", "again"),
    [
        ("top.txt", "2", "imported runs again: top.txt changed"),
        ("data/b.txt", "1", "listing runs again: the names in data are others"),
        ("tool.py", "print(2)", "child runs again: tool.py changed, and it starts programs"),
        ("later", "1", "wanted runs again: later is there now"),
        ("near/b.txt", "1", "neighbours runs again: near/b.txt is new"),
        ("declared/b.bin", "1", "declared runs again: b.bin is new"),
    ],
)
def test_what_a_step_stands_on_beside_its_code_counts(beside: Commands, name: str, text: str, again: str) -> None:
    path = beside.cwd / name
    before = path.read_text() if path.exists() else None
    run = beside("list", "Beside", "--json").json["runs"][0]["run"]
    try:
        path.write_text(text)
        done = beside("resume", run)
        assert done.code == 0, done.err
        assert again in done.out
        told = {line.split()[0] for line in done.out.splitlines() if " runs again: " in line}
        cautious = {"child", "neighbours"}  # a program may read anything; a folder beside the code may be any
        everywhere = name == "top.txt"  # it is read while the flow is imported, for whatever step
        assert everywhere or told - cautious <= {again.split()[0]}, done.out
    finally:
        path.unlink()
        if before is not None:
            path.write_text(before)


def test_a_variable_counts_where_its_name_stands(stillrun: Commands) -> None:
    stillrun.variables.update(MODE="secret-1", OTHER="never-told")
    flow = FLOW.replace('self.log("start")', 'self.mode = os.environ.get("MODE")').replace("self.log(", "str(")
    stillrun.write("study.py", flow.replace("class Study", "class Varied").replace("Study()", "Varied()"))
    stillrun.write("data.txt", "a b")
    run = stillrun.run("study.py")
    packs = b"".join(path.read_bytes() for path in (stillrun.store / "packs").iterdir())
    assert b"never-told" not in packs
    stillrun.variables.update(OTHER="another")
    assert " runs again: " not in stillrun("resume", run).out
    for now in ("secret-2", None):
        stillrun.variables.pop("MODE")
        stillrun.variables.update({} if now is None else {"MODE": now})
        done = stillrun("resume", run)
        assert done.code == 0, done.err
        assert "start runs again: the variable MODE is another" in done.out
    stillrun.variables.update(MODE="secret-1")
    (stillrun.store / "cache" / "variables-key").unlink()
    assert "start runs again: the variable MODE is another" in stillrun("resume", run).out


def test_a_configuration_counts_where_a_decorator_takes_it(beside: Commands) -> None:
    beside.write("settings.json", '{"mode": "2", "wanted": "later"}')
    done = beside("run", "beside.py", "--reuse")
    assert done.code == 0, done.err
    assert "varied runs again: its @environment is another" in done.out
    assert "'2'" in beside("artifact", "Beside/latest/varied/g").out


@pytest.fixture
def edited(lonely: Commands, tmp_path: Path) -> Commands:
    """A run that used a package where it is edited, one that was changed in place, and none."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    (site,) = (tmp_path / "venv" / "lib").glob("python3*/site-packages")
    info = site / "edible-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: edible\nVersion: 1.0\n")
    (info / "WHEEL").write_text("Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    url = json.dumps({"url": (tmp_path / "edible").as_uri(), "dir_info": {"editable": True}})
    (info / "direct_url.json").write_text(url)
    (site / "edible.pth").write_text(f"{tmp_path / 'edible'}\n")
    files = ("METADATA", "WHEEL", "direct_url.json", "RECORD")
    (info / "RECORD").write_text("".join(f"{info.name}/{name},,\n" for name in files) + "edible.pth,,\n")
    lonely.variables["VIRTUAL_ENV"] = str(tmp_path / "venv")
    lonely.write("../edible/edible.py", "def f():\n    return 1\n")
    flow = (
        FLOW.replace("import os\n", "import os\nimport edible\n")
        .replace("* SCALE", "* edible.f()")
        .replace("self.log(", "str(")
    )
    lonely.write("study.py", flow)
    lonely.write("data.txt", "a b")
    lonely.run("study.py")
    return lonely


def test_a_package_that_is_edited_where_it_lies_counts(edited: Commands) -> None:
    assert " runs again: " not in edited("resume", "Study/latest").out
    edited.write("../edible/edible.py", "def f():\n    return 2\n")
    done = edited("resume", "Study/latest")
    assert done.code == 0, done.err
    assert "fit runs again: the installed package edible is another" in done.out
    assert edited("artifact", "Study/latest/join/total", "--json").json["value"] == "4"


def test_a_module_that_nobody_installed_and_nobody_kept_counts_each_time(lonely: Commands, tmp_path: Path) -> None:
    lonely.write("../outside/outer.py", "def f():\n    return 1\n")
    lonely.variables["PYTHONPATH"] = str(tmp_path / "outside")
    lonely.write("study.py", FLOW.replace("import os\n", "import os\nimport outer\n").replace("self.log(", "str("))
    lonely.write("data.txt", "a b")
    run = lonely.run("study.py")
    done = lonely("resume", run)
    assert done.code == 0, done.err
    assert "start runs again: the module outer is of no installed package and was not kept" in done.out
