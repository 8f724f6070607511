"""What flows that were written for Metaflow lean on without saying so: names, constants, private artifacts, the graph."""

from __future__ import annotations

import ast
import json
from typing import Any

import pytest
from tests.conftest import Commands

HEAD = "from metaflow import *\nfrom metaflow import current\n"
LEAN = (
    HEAD
    + """
class Habits(FlowSpec):
    trees = Parameter("num-trees", default=3)
    RATE = 0.5
    names = ["a", "b"]
    lock = __import__("threading").Lock()  # code, and nothing that can be kept

    @retry(times=1)
    @step
    def start(self):
        self._seen = [self.trees]
        self._lock = __import__("threading").Lock()
        self._clock = __import__("time").time_ns()
        self.next(self.a, self.b)

    @step
    def a(self):
        self._seen.append("a")
        self.next(self.join)

    @step
    def b(self):
        self._seen.append("b")
        self.next(self.join)

    @step
    def join(self, inputs):
        self.result = [each._seen for each in inputs]
        self.merge_artifacts(inputs, include=["_clock"])
        self.next(self.end)

    @step
    def end(self):
        namespace(None)
        data = Run(f"{current.flow_name}/{current.run_id}")["start"].task.data
        self.read = (data.RATE, data.names, data.trees, "_seen" in [each.id for each in data])
        place = current.task.pathspec.split("/")[2:]
        self.here = (hasattr(current, "card"), "flow_name" in current, "parallel" in current, place)
        self.graph = current.graph_info
"""
)


def artifact(commands: Commands, run: str, step: str, name: str) -> Any:
    code = f"from stillrun import Run; print(repr(Run('{run}')['{step}'].task.data.{name}))"
    done = commands("-c", code, command=())
    assert done.code == 0, done.err
    return ast.literal_eval(done.out.splitlines()[-1])


def test_constants_private_artifacts_and_parameters_by_another_name(stillrun: Commands) -> None:
    stillrun.write("habits.py", LEAN)
    run = stillrun.run("habits.py", "--num-trees", "7")
    assert artifact(stillrun, run, "join", "result") == [[7, "a"], [7, "b"]]
    assert artifact(stillrun, run, "end", "read") == (0.5, ["a", "b"], 7, False)
    assert artifact(stillrun, run, "end", "here") == (False, True, False, ["end", "0"])
    graph = artifact(stillrun, run, "end", "graph")
    assert graph["graph_structure"] == ["start", [["a"], ["b"]], "join", "end"]
    assert graph["parameters"] == [{"name": "trees", "type": "Parameter"}]
    assert graph["steps"]["start"]["type"] == "split-static"
    assert graph["steps"]["start"]["matching_join"] == "join"
    shown = stillrun("artifact", f"{run}/start/0/names", "--json")
    assert shown.code == 0, shown.err
    replayed = stillrun("replay", run, "--json")
    assert replayed.code in (0, 1), replayed.err
    differ = {one["name"] for one in replayed.json["artifacts"] if one["verdict"] == "different"}
    assert differ <= {"graph"}, "private artifacts are not judged"
    stillrun.variables["METAFLOW_RUN_NUM_TREES"] = "9"
    assert artifact(stillrun, stillrun.run("habits.py"), "join", "result")[0] == [9, "a"]
    other = stillrun("replay", run, "--json", "--set", "num-trees=8")
    assert (other.code < 2, other.json["changed"]["parameters"]) == (True, {"trees": "8"}), other.err
    again = stillrun("resume", run, "--json", "--num-trees", "8")
    assert artifact(stillrun, again.json["run"], "join", "result")[0] == [8, "a"]


PROJECT = (
    HEAD
    + """
@project(name="mine")
class Branched(FlowSpec):
    @step
    def start(self):
        self.where = (current.project_flow_name, current.branch_name, current.is_production, current.is_user_branch)
        self.next(self.end)

    @step
    def end(self):
        pass
"""
)


@pytest.mark.parametrize(
    ("options", "branch", "production"),
    [
        ([], "user.ada", False),
        (["--branch", "new idea"], "test.new idea", False),
        (["--production"], "prod", True),
        (["--production", "--branch", "b"], "prod.b", True),
    ],
)
def test_a_branch_of_the_project_is_chosen(
    stillrun: Commands, options: list[str], branch: str, production: bool
) -> None:
    stillrun.variables["METAFLOW_USER"] = "ada"
    stillrun.write("branched.py", PROJECT)
    run = stillrun.run("branched.py", *options)
    expected = (f"mine.{branch}.Branched", branch, production, branch == "user.ada")
    assert artifact(stillrun, run, "start", "where") == expected
    assert stillrun("replay", run).code == 0


LOOKING = (
    HEAD
    + """
@project(name="mine")
class Looking(FlowSpec):
    @step
    def start(self):
        self.seen = [get_namespace(), default_namespace(), get_namespace(), current.namespace]
        self.next(self.end)

    @step
    def end(self):
        pass
"""
)


def test_a_namespace_is_what_steps_look_through_and_a_project_is_a_tag(stillrun: Commands) -> None:
    stillrun.variables["METAFLOW_USER"] = "ada"
    stillrun.write("looking.py", LOOKING)
    run = stillrun.run("looking.py", "--namespace", "team:red")
    mine = "user:ada"
    assert artifact(stillrun, run, "start", "seen") == ["team:red", mine, mine, mine]
    assert stillrun("replay", run).code == 0, "it looks through the same"
    everything = stillrun.run("looking.py", "--namespace", "", "--branch", "b")
    assert artifact(stillrun, everything, "start", "seen") == [None, mine, mine, mine]
    code = (
        "from stillrun import Flow; print([run.pathspec for run in Flow('Looking').runs('project_branch:test.b')],"
        f"sorted(Flow('Looking')['{run.split('/')[1]}'].system_tags)[:2])"
    )
    done = stillrun("-c", code, command=())
    assert done.out.strip() == f"['{everything}'] ['project:mine', 'project_branch:user.ada']", done.err


def test_a_branch_needs_a_project(stillrun: Commands) -> None:
    stillrun.write("habits.py", LEAN)
    done = stillrun("run", "habits.py", "--branch", "x")
    assert (done.code, "the flow has no @project" in done.err) == (2, True), done.err


REFUSED_MERGE = """
        from metaflow.exception import MissingInMergeArtifactsException, UnhandledInMergeArtifactsException

        try:
            self.merge_artifacts(inputs)
        except UnhandledInMergeArtifactsException as err:
            self.result = err.artifact_names
        try:
            self.merge_artifacts(inputs, include=["no"])
        except MissingInMergeArtifactsException as err:
            self.result += err.artifact_names
"""


def test_a_refused_merge_says_of_which_artifacts(stillrun: Commands) -> None:
    text = LEAN.replace('        self.merge_artifacts(inputs, include=["_clock"])\n', "")
    stillrun.write("merge.py", text.replace("        self.result = [each._seen for each in inputs]\n", REFUSED_MERGE))
    run = stillrun.run("merge.py")
    assert artifact(stillrun, run, "join", "result") == ["_seen", "no"]


def test_a_parameter_with_the_name_of_an_option_is_refused(stillrun: Commands) -> None:
    text = LEAN.replace('Parameter("num-trees"', 'Parameter("tag"')
    stillrun.write("habits.py", text)
    done = stillrun("run", "habits.py", "--json")
    assert done.code == 2
    assert json.loads(done.out.splitlines()[-1])["error"]["problems"][0]["code"] == "parameter_reserved"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("from metaflow.events import Trigger", "Stillrun serves no module 'metaflow.events'"),
        (
            "from metaflow.decorators import StepDecorator",
            "cannot import name 'StepDecorator' from 'metaflow.decorators'",
        ),
    ],
)
def test_what_is_not_served_of_metaflow_is_told(stillrun: Commands, line: str, told: str) -> None:
    stillrun.write("habits.py", LEAN.replace("class Habits", f"{line}\n\n\nclass Habits"))
    done = stillrun("run", "habits.py")
    assert done.code == 2
    assert told in done.err
    assert "docs/from-metaflow.md lists what Stillrun serves" in done.err
    guarded = f"try:\n    {line}\nexcept ImportError:\n    pass\n\n\nclass Habits"
    stillrun.write("habits.py", LEAN.replace("class Habits", guarded))
    assert stillrun("flow", "--file", "habits.py", "check").code == 0


SHARED_NAMES = (
    HEAD
    + """
@project(name=config_expr("config").names["a"].value)
class Shared(FlowSpec):
    config = Config("config", default_value={"rate": 1, "names": {"a": {"value": "x"}}})
    environment = Parameter("environment", default="dev")
    branch = Parameter(name="branch", default="b")
    quiet = Parameter("quiet", default=False)
    reuse = IncludeFile("reuse", required=False)

    @step
    def start(self):
        self.result = (self.config.rate, self.environment, self.branch, self.quiet, self.reuse)
        self.next(self.end)

    @step
    def end(self):
        pass
"""
)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], (1, "dev", "b", False, None)),
        (["--environment", "prod", "--quiet", "true", "--branch=x"], (1, "prod", "x", True, None)),
        (
            ["--config-value", "config", '{"rate": 2, "names": {"a": {"value": "y"}}}', "--reuse", "text.txt"],
            (2, "dev", "b", False, "kept"),
        ),
    ],
)
def test_a_flow_s_own_parameter_goes_before_an_option_of_its_name(
    stillrun: Commands, words: list[str], expected: tuple[Any, ...]
) -> None:
    stillrun.write("shared.py", SHARED_NAMES)
    stillrun.write("text.txt", "kept")
    assert artifact(stillrun, stillrun.run("shared.py", *words), "start", "result") == expected


SMALL_THINGS = (
    HEAD
    + """
from metaflow.exception import MetaflowException, MetaflowNotFound
from metaflow.util import get_username


class OwnError(MetaflowException):
    headline = "Own"


class Small(FlowSpec):
    settings = Config("settings", default_value={"a": 1})

    @step
    def start(self):
        try:
            raise OwnError("oops")
        except MetaflowException as err:
            self.error = (err.headline, err.message, str(err))
        try:
            Flow("NoSuchFlow")
        except MetaflowNotFound as err:
            self.missing = isinstance(err, MetaflowException)
        try:
            self.settings.a = 2
        except TypeError:
            self.refused = True
        self.names = (self.name, self.script_name, [each.name for each in Small(use_cli=False)], get_username())
        self.next(self.end)

    @step
    def end(self):
        self.name = "mine"
"""
)


def test_errors_and_names_are_those_that_flows_expect(stillrun: Commands) -> None:
    stillrun.variables["METAFLOW_USER"] = "ada"
    stillrun.write("small.py", SMALL_THINGS)
    run = stillrun.run("small.py")
    assert artifact(stillrun, run, "start", "error") == ("Own", "oops", "oops")
    assert artifact(stillrun, run, "start", "missing") is True
    assert artifact(stillrun, run, "start", "refused") is True
    assert artifact(stillrun, run, "start", "names") == ("Small", "small.py", ["start", "end"], "ada")
    assert artifact(stillrun, run, "end", "name") == "mine"


def test_a_join_that_reads_what_branches_hold_is_told_which_do(stillrun: Commands) -> None:
    text = LEAN.replace("self.result = [each._seen for each in inputs]", "self.result = self.only")
    stillrun.write("habits.py", text.replace('append("a")', 'append("a")\n        self.only = 1'))
    done = stillrun("run", "habits.py", "--json")
    assert done.code == 1
    message = done.json["failure"]["error"]
    assert "a/0 holds one. A join inherits nothing: read inputs[0].only" in message["message"] + message["cure"]
