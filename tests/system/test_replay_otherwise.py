"""A replay with something changed on purpose: steps, parameters, code, environment; and the package that is to blame."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tests.conftest import Commands
from tests.system.test_environments import fixture, served

from stillrun_engine.archive import open_run
from stillrun_engine.pathspec import parse_pathspec
from stillrun_envs.enclosure import Enclosure
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.refs import RefChange
from stillrun_snapshot.store import Store

STUDY = """
from stillrun import FlowSpec, Parameter, step

class Study(FlowSpec):
    alpha = Parameter("alpha", default=1.0)
    word = Parameter("word", required=True)

    @step
    def start(self):
        self.base = 10 * self.alpha
        self.next(self.end)

    @step
    def end(self):
        self.report = f"{self.word} {self.alpha}"
"""
MIXED = """
from stillrun import FlowSpec, pypi, step

class Mixed(FlowSpec):
    @pypi(packages={packages})
    @step
    def start(self):
        import cloth, dye, tint
        self.result = cloth.VALUE + dye.VALUE * 100
        self.next(self.end)

    @step
    def end(self):
        pass
"""


@pytest.fixture
def run(stillrun: Commands) -> str:
    stillrun.write("study.py", STUDY)
    return stillrun.run("study.py", "--word", "it's")


def test_only_the_named_steps_are_replayed(stillrun: Commands, run: str) -> None:
    done = stillrun("replay", run, "--only", "end", "--json")
    assert done.code == 0, done.err
    assert [task["step"] for task in done.json["tasks"]] == ["end"]
    assert stillrun("replay", run, "--only", "middle").code == 2


def test_another_parameter_is_replayed_and_told(stillrun: Commands, run: str) -> None:
    done = stillrun("replay", run, "--set", "alpha=2", "--json")
    assert done.code == 1, done.err
    assert done.json["changed"] == {"environment": None, "code": None, "parameters": {"alpha": "2.0"}, "granted": None}
    reasons = {one["name"]: one["reason"] for one in done.json["artifacts"]}
    assert reasons["base"].startswith("base: 10.0 became 20.0")
    assert "it's 1.0" in reasons["report"] and "it's 2.0" in reasons["report"]
    assert stillrun("verify", done.json["run"]).code == 0
    refused = stillrun("replay", run, "--set", "alhpa=2")
    assert refused.code == 2
    assert "alpha" in refused.err


def test_todays_code_can_be_replayed_on_recorded_inputs(stillrun: Commands, run: str) -> None:
    stillrun.write("study.py", STUDY.replace("10 * self.alpha", "self.alpha * 10.0"))
    done = stillrun("replay", run, "--code", "study.py", "--json")
    assert (done.code, done.json["verdict"]) == (0, "identical"), done.err
    assert done.json["changed"]["code"] is not None
    stillrun.write("study.py", STUDY.replace("10 * self.alpha", "11 * self.alpha"))
    assert stillrun("replay", run, "--code", "study.py").code == 1
    assert stillrun("replay", run, "--code", ".").code == 1
    assert stillrun("replay", run, "--code", "as-recorded").code == 0
    (stillrun.cwd / "empty").mkdir()
    refused = stillrun("replay", run, "--code", "empty")
    assert (refused.code, "no study.py in it" in refused.err) == (2, True)
    assert stillrun("replay", run).code == 0, "the recorded code is what it was"


def test_a_parameter_is_set_under_the_name_that_is_typed(stillrun: Commands) -> None:
    stillrun.write("study.py", STUDY.replace('Parameter("alpha"', 'Parameter("how_much"'))
    run = stillrun.run("study.py", "--word", "x", "--how_much", "2")
    for name in ("how_much", "alpha"):
        done = stillrun("replay", run, "--set", f"{name}=3", "--json")
        assert (done.code, done.json["changed"]["parameters"]) == (1, {"alpha": "3.0"}), done.err
    assert stillrun("replay", run, "--set", "how_much=2").code == 0


@pytest.mark.parametrize("text", ["x = (", "x = 1", "import a_module_that_is_nowhere"])
def test_code_that_is_no_flow_gives_no_verdict(stillrun: Commands, run: str, text: str) -> None:
    stillrun.write("other/study.py", text)
    done = stillrun("replay", run, "--code", "other")
    assert (done.code, "Verdict" in done.out, "Traceback" in done.err) == (2, False, False), done.err
    assert "study.py" in done.err


def test_a_tolerance_that_other_code_grants_is_told_and_counts_for_nothing(stillrun: Commands, run: str) -> None:
    granting = STUDY.replace("import FlowSpec", "import tolerance, FlowSpec")
    granting = granting.replace(
        "    @step\n    def start", "    @tolerance(base={'rtol': 0.5})\n    @step\n    def start"
    )
    stillrun.write("study.py", granting.replace("10 * self.alpha", "10.1 * self.alpha"))
    done = stillrun("replay", run, "--code", "study.py", "--json")
    assert (done.code, done.json["verdict"], done.json["policy"]["tolerance"]) == (1, "different", {})
    assert list(done.json["changed"]["granted"]["tolerance"]) == ["start"]
    told = stillrun("replay", run, "--code", "study.py").out
    assert "this code grants tolerance start/base: what was granted before the run counts" in told


@pytest.fixture
def mixed(lonely: Commands, tmp_path: Path) -> Iterator[tuple[Commands, str, str]]:
    """Two runs whose packages differ in three ways, one of which changes the result."""
    maker, wheels = fixture("wheels/make_wheel.py"), tmp_path / "wheels"
    for name, values in (("cloth", (1, 1)), ("dye", (1, 2)), ("tint", (1, 1))):
        for version, value in zip(("1.0", "2.0"), values, strict=True):
            maker.make_wheel(wheels, name, version, modules={f"{name}.py": f"VALUE = {value}\n# {version}\n"})
    maker.make_index(wheels, tmp_path / "index")
    with served(tmp_path / "index") as address:
        lonely.variables.update(UV_DEFAULT_INDEX=address, UV_HTTP_RETRIES="0", UV_NO_CONFIG="1")
        runs = []
        for version in ("1.0", "2.0"):
            packages = repr(dict.fromkeys(("cloth", "dye", "tint"), version))
            lonely.write("mixed.py", MIXED.replace("{packages}", packages))
            runs.append(lonely.run("mixed.py"))
    yield lonely, *runs


def test_a_step_is_replayed_in_another_environment(mixed: tuple[Commands, str, str]) -> None:
    commands, good, bad = mixed
    done = commands("replay", f"{good}/start", "--env", f"{bad}/start", "--json")
    assert done.code == 1, done.err
    assert [place["how"] for place in done.json["environments"]] == ["another"]
    (result,) = (one for one in done.json["artifacts"] if one["name"] == "result")
    assert result["reason"].startswith("result: 101 became 201")
    refused = commands("replay", f"{good}/start", "--env", "ambient")
    assert refused.code in (1, 2), "these packages are not in the caller's environment"


def test_the_package_that_is_to_blame_is_found_offline(mixed: tuple[Commands, str, str]) -> None:
    commands, good, bad = mixed
    commands.variables["UV_DEFAULT_INDEX"] = "http://127.0.0.1:9/simple"
    done = commands("bisect", f"{good}/start", bad, "--json")
    assert done.code == 0, done.err
    assert (done.json["culprit"]["name"], done.json["culprit"]["before"], done.json["culprit"]["after"]) == (
        "dye",
        "1.0",
        "2.0",
    )
    assert [trial["equal"] for trial in done.json["trials"]][:2] == [True, False]
    page = commands("bisect", f"{good}/start", f"{bad}/start")
    assert "dye 1.0 → 2.0 makes the difference" in page.out
    refused = commands("bisect", f"{good}/start", good)
    assert refused.code == 2
    assert "the same packages" in refused.err


CALLING = """
import subprocess, sys
from stillrun import FlowSpec, step

class Calling(FlowSpec):
    @step
    def start(self):
        program = "import socket; socket.create_connection(('127.0.0.1', {port}), 5)"
        self.code = subprocess.run([sys.executable, "-c", program], capture_output=True).returncode
        self.next(self.end)

    @step
    def end(self):
        pass
"""


def test_programs_that_a_step_starts_have_no_network_either(stillrun: Commands, tmp_path: Path) -> None:

    with served(tmp_path) as address:
        stillrun.write("calling.py", CALLING.replace("{port}", str(urlsplit(address).port)))
        run = stillrun.run("calling.py")
        assert stillrun("replay", run, "--offline").code == 0, "Python itself opens nothing"
        done = stillrun("replay", run, "--no-network", "--json")
    if Enclosure(network=False).problem() is not None:
        assert (done.code, "--offline" in done.err) == (2, True)
        return
    assert done.code == 1, done.err
    assert done.json["no_network"] is True
    assert done.json["artifacts"][0]["reason"].startswith("code: 0 became 1")


READING = """
import subprocess
from stillrun import FlowSpec, inputs, step

class Reading(FlowSpec):
    @inputs("data/**/*.txt", "nothing/*.here")
    @step
    def start(self):
        self.text = subprocess.run("cat data/one.txt data/deep/two.txt", shell=True, capture_output=True).stdout
        self.next(self.end)

    @step
    def end(self):
        pass
"""


def test_files_that_a_step_declares_are_kept_and_put_back(stillrun: Commands) -> None:
    stillrun.write(".gitignore", "data/\n")
    stillrun.write("data/one.txt", "one")
    stillrun.write("data/deep/two.txt", "two")
    stillrun.write("data/other.csv", "x")
    stillrun.write("reading.py", READING)
    run = stillrun.run("reading.py")
    task = stillrun("show", f"{run}/start/0", "--json").json["tasks"][0]
    assert [file["path"] for file in task["files"]] == ["data/deep/two.txt", "data/one.txt"]
    for name in ("data/one.txt", "data/deep/two.txt"):
        (stillrun.cwd / name).unlink()
    done = stillrun("replay", run, "--json")
    assert (done.code, done.json["verdict"]) == (0, "identical"), done.err


KEPT_IN_PART = """
from pathlib import Path
from stillrun import FlowSpec, step

class Partly(FlowSpec):
    @step
    def start(self):
        self.text = Path("{file}").read_text()
        self.next(self.end)

    @step
    def end(self):
        self.done = True
"""


def test_keep_going_leaves_out_what_cannot_be_replayed(stillrun: Commands, tmp_path: Path) -> None:
    far = tmp_path / "far.txt"
    far.write_text("here")
    stillrun.write("partly.py", KEPT_IN_PART.replace("{file}", str(far)))
    run = stillrun.run("partly.py")
    far.unlink()
    assert stillrun("replay", run).code == 2
    done = stillrun("replay", run, "--keep-going", "--json")
    assert done.code == 0, done.err
    assert [task["step"] for task in done.json["tasks"]] == ["end"]
    (left,) = done.json["not_replayed"]
    assert left["step"] == "start"
    assert f"{far} cannot be read" in left["reason"]
    assert "not replayed: 1 task: " in stillrun("replay", run, "--keep-going").out
    alone = stillrun("replay", f"{run}/start", "--keep-going")
    assert alone.code == 2
    assert "none of the 1 tasks" in alone.err


@pytest.mark.slow
def test_keep_going_leaves_out_the_tasks_whose_results_are_damaged(lonely: Commands) -> None:
    lonely.write("study.py", STUDY.replace("10 * self.alpha", "bytes(100_000)"))
    run = lonely.run("study.py", "--word", "x")
    digest = lonely("artifact", f"{run}/start/0/base", "--json").json["digest"].removeprefix("sha256:")
    path = lonely.store / "objects" / digest[:2] / digest[2:]
    path.chmod(0o644)
    path.write_bytes(bytes([1]) + path.read_bytes()[1:])
    refused = lonely("replay", run, "--keep-going")
    assert (refused.code, digest in refused.err) == (2, True), "both tasks have it"
    lonely.write(
        "study.py", STUDY.replace("10 * self.alpha", "10").replace("self.report =", "self.late = bytes(200_000) or")
    )
    run = lonely.run("study.py", "--word", "x")
    digest = lonely("artifact", f"{run}/end/0/late", "--json").json["digest"].removeprefix("sha256:")
    path = lonely.store / "objects" / digest[:2] / digest[2:]
    path.chmod(0o644)
    path.write_bytes(bytes([1]) + path.read_bytes()[1:])
    assert lonely("replay", run).code == 2
    done = lonely("replay", run, "--keep-going", "--json")
    assert (done.code, [task["step"] for task in done.json["tasks"]]) == (0, ["start"]), done.err
    (left,) = done.json["not_replayed"]
    assert (left["step"], digest in left["reason"]) == ("end", True)


def for_another_machine(commands: Commands, pathspec: str) -> None:
    """Change what is recorded of a run: its packages are those of a Mac."""
    with Store.open(commands.store) as store:
        run = open_run(store, parse_pathspec(pathspec))
        environments = {}
        for environment, entry in run.record["environments"].items():
            lock = json.loads(store.get(Digest(entry["lock"])))
            lock["python"]["platform"] = "macosx-11.0-arm64"
            environments[environment] = {**entry, "lock": store.put_record(lock)}
        record = store.put_record({**run.record, "environments": environments})
        store.sync()
        store.refs.set([RefChange(f"runs/{run.pathspec}", record, run.digest)])


def test_a_run_of_another_machine_is_refused_with_the_way_out(lonely: Commands) -> None:
    lonely.write("study.py", STUDY)
    run = lonely.run("study.py", "--word", "x")
    for_another_machine(lonely, run)
    for words in (("replay", run), ("replay", run, "--keep-going"), ("debug", f"{run}/start")):
        done = lonely(*words)
        assert (done.code, "Traceback" in done.err) == (2, False), done.err
        assert f"{run}/start ran on osx-arm64 and this machine is" in done.err
        assert "--env ambient" in done.err
    assert lonely("replay", run, "--env", "ambient").code == 0


def test_runs_of_two_flows_are_not_bisected(stillrun: Commands, run: str) -> None:
    stillrun.write("other.py", STUDY.replace("Study", "Other"))
    other = stillrun.run("other.py", "--word", "x")
    for words in ((), ("--code",)):
        done = stillrun("bisect", f"{run}/start", other, *words)
        assert (done.code, "runs of two flows" in done.err) == (2, True), done.err
