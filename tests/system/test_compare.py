"""How two runs differ: code, parameters, packages, inputs and results, with what came apart first and why."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.conftest import Commands
from tests.system.test_environments import fixture, served

FLOW = """
from stillrun import FlowSpec, Parameter, step

class Study(FlowSpec):
    alpha = Parameter("alpha", default=1.0)

    @step
    def start(self):
        self.data = [float(line) for line in open("data.txt")]
        self.next(self.fit, foreach="data")

    @step
    def fit(self):
        self.score = self.input * self.alpha
        self.next(self.join)

    @step
    def join(self, inputs):
        self.total = sum(each.score for each in inputs)
        self.next(self.end)

    @step
    def end(self):
        self.report = f"total {self.total}"
"""


@pytest.fixture
def study(stillrun: Commands) -> Commands:
    stillrun.write("study.py", FLOW)
    stillrun.write("data.txt", "1\n2\n3\n")
    return stillrun


def why(commands: Commands, before: str, after: str) -> str:
    told: str = commands("why", before, after, "--json").json["why"]
    return told


def test_nothing_differs_between_two_runs_of_the_same(study: Commands) -> None:
    one, other = study.run("study.py"), study.run("study.py")
    done = study("diff", one, other, "--json")
    assert done.code == 0
    assert (done.json["code"], done.json["artifacts"], done.json["origins"]) == ([], [], [])
    assert {task["verdict"] for task in done.json["tasks"]} == {"identical"}
    assert why(study, one, other) == "same code, parameters, input files, environment; no result differs"


def test_another_parameter_is_told_with_what_follows(study: Commands) -> None:
    one, other = study.run("study.py"), study.run("study.py", "--alpha", "2")
    done = study("diff", one, other, "--json")
    assert done.code == 1
    assert done.json["parameters"] == [{"name": "alpha", "before": "1.0", "after": "2.0"}]
    assert [(one["step"], one["task"], one["name"]) for one in done.json["artifacts"]] == [
        ("fit", "0", "score"), ("fit", "1", "score"), ("fit", "2", "score"), ("join", "0", "total"), ("end", "0", "report"),
    ]  # fmt: skip
    assert "other parameters (alpha 1.0 → 2.0); first difference in fit/0 (score)" in why(study, one, other)


def test_other_code_is_shown_line_by_line_and_its_step_is_the_origin(study: Commands) -> None:
    one = study.run("study.py")
    study.write("study.py", FLOW.replace("self.input * self.alpha", "self.input * self.alpha + 0.5"))
    other = study.run("study.py")
    done = study("diff", one, other, "--json")
    (change,) = done.json["code"]
    assert change["path"] == "study.py"
    assert "+        self.score = self.input * self.alpha + 0.5" in change["lines"]
    assert [(each["step"], each["task"]) for each in done.json["origins"]] == [("fit", "0"), ("fit", "1"), ("fit", "2")]
    page = study("diff", one, other).out
    assert "join/0/total: different (inherited): 6.0 became 7.5" in page
    assert "first difference in fit/0 (score), 2 more came apart by themselves" in page


def test_other_data_is_named(study: Commands) -> None:
    one = study.run("study.py")
    study.write("data.txt", "1\n2\n9\n3\n")
    other = study.run("study.py")
    done = study("diff", one, other, "--json")
    assert [change["name"] for change in done.json["inputs"]] == ["data.txt"]
    assert [change["name"] for change in done.json["tasks_of_one"]] == ["fit/3"]
    assert "other input files (data.txt); first difference in start/0 (data)" in why(study, one, other)


@pytest.mark.slow
def test_other_packages_are_named(lonely: Commands, tmp_path: Path) -> None:
    maker, wheels = fixture("wheels/make_wheel.py"), tmp_path / "wheels"
    for version in ("1.0", "2.0"):
        maker.make_wheel(wheels, "tint", version, modules={"tint.py": f"VERSION = {version!r}\n"})
    maker.make_index(wheels, tmp_path / "index")
    flow = """
from stillrun import FlowSpec, pypi, step

class Tinted(FlowSpec):
    @pypi(packages={{"tint": "{}"}})
    @step
    def start(self):
        import tint
        self.version = tint.VERSION
        self.next(self.end)

    @step
    def end(self):
        pass
"""
    with served(tmp_path / "index") as address:
        lonely.variables.update(UV_DEFAULT_INDEX=address, UV_HTTP_RETRIES="0", UV_NO_CONFIG="1")
        runs = []
        for version in ("1.0", "2.0"):
            lonely.write("tinted.py", flow.format(version))
            runs.append(lonely.run("tinted.py"))
    done = lonely("diff", *runs, "--json")
    (environment,) = done.json["environments"]
    assert environment["steps"] == ["start"]
    assert [(one["name"], one["before"], one["after"]) for one in environment["changes"]] == [("tint", "1.0", "2.0")]
    assert "other environment (tint 1.0 → 2.0); first difference in start/0 (version)" in why(lonely, *runs)


def test_steps_and_tasks_are_compared_alone(study: Commands) -> None:
    one, other = study.run("study.py"), study.run("study.py", "--alpha", "3")
    done = study("diff", f"{one}/fit/1", f"{other}/fit/1", "--json")
    assert [(task["step"], task["task"]) for task in done.json["tasks"]] == [("fit", "1")]
    assert study("diff", f"{one}/start", f"{other}/start", "--json").json["artifacts"] == []
    refused = study("diff", f"{one}/fit", f"{other}/join")
    assert refused.code == 2
    assert "are not of one kind" in refused.err


def test_values_are_opened_when_asked(study: Commands) -> None:
    before = study.run("study.py")
    study.write("data.txt", "1\n2\n4\n")
    after = study.run("study.py")
    told = {one["name"]: one["reason"] for one in study("diff", before, after, "--json").json["artifacts"]}
    assert told["data"] == "[1.0, 2.0, 3.0] became [1.0, 2.0, 4.0]", "their previews"
    done = study("diff", before, after, "--values", "--json")
    assert done.code == 1, done.err
    opened = {one["name"]: one for one in done.json["artifacts"]}
    assert opened["data"]["reason"].startswith("data[2]: 3.0 became 4.0")
    assert opened["total"]["reason"].startswith("total: 6.0 became 7.0")
    assert opened["report"]["difference"]["count"] == 1
    with_values, without = (study("diff", before, after, *more).out.splitlines() for more in (["--values"], []))
    assert any("data[2]: 3.0 became 4.0" in line for line in with_values)
    assert [line for line in with_values if line.startswith("results")] == [
        line for line in without if line.startswith("results")
    ]
    assert study("diff", before, before, "--values").code == 0


def test_what_changes_by_declaration_is_no_difference(study: Commands) -> None:
    study.write(
        "stamped.py",
        "import time\nfrom stillrun import FlowSpec, step, volatile\nclass Stamped(FlowSpec):\n    @volatile('at')\n"
        "    @step\n    def start(self):\n        self.at = time.time_ns()\n        self.next(self.end)\n"
        "    @step\n    def end(self):\n        pass\n",
    )
    runs = [study.run("stamped.py") for _ in range(2)]
    assert study("diff", *runs).code == 0
    assert "no result differs" in why(study, *runs)
