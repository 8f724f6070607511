"""What a flow can do while it runs: artifacts, foreach, joins, parameters, constants and current."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from .driver import FACE, HostProcess, python, run_flow, write_flow

WHOLE = """
from stillrun import FlowSpec, Parameter, current, step

class Point:
    def __init__(self, x): self.x = x

class Whole(FlowSpec):
    factor = Parameter("factor", default=2)
    OFFSET = 10

    @step
    def start(self):
        self.items = ["a", "b", "c"]
        self.kept = {"deep": [1, 2]}
        self.gone = 1
        self._private = 2
        self.facts = [current.flow_name, current.run_id, current.step_name, current.task_id, current.retry_count,
                      current.pathspec, current.parameter_names, current.parameters.factor, current.is_running_flow,
                      dict(current.parameters.items()), current.get("nothing", "d"), current.origin_run_id]
        self.next(self.each, foreach="items")

    @step
    def each(self):
        del self.gone
        self.items = None
        self.numbers = [1, 2]
        self.seen = (self.input, self.index, self.foreach_stack())
        self.next(self.inner, foreach="numbers")

    @step
    def inner(self):
        self.value = self.input * self.factor + self.OFFSET
        self.stack = self.foreach_stack()
        self.point = Point(self.value)
        self.next(self.outer)

    @step
    def outer(self, inputs):
        self.values = [each.value for each in inputs]
        self.points = [each.point.x for each in inputs]
        self.joined = [(each.index, each.input) for each in inputs]
        self.before = (self.index, hasattr(self, "seen"), hasattr(self, "factor"))
        self.merge_artifacts(inputs, exclude=["value", "stack", "point"])
        self.next(self.last)

    @step
    def last(self, inputs):
        self.all = [each.values for each in inputs]
        self.letters = [each.seen for each in inputs]
        self.inputs = [each.input for each in inputs]
        self.merge_artifacts(inputs, include=["kept"])
        self.next(self.end)

    @step
    def end(self):
        self.summary = (self.kept, hasattr(self, "gone"), self.input, self.index, self.foreach_stack())
"""


@pytest.mark.parametrize(("version", "fresh"), [("3.8", False), ("3.11", False), ("3.11", True), ("3.13", False)])
def test_a_whole_flow(new_host: Any, tmp_path: Path, version: str, fresh: bool) -> None:
    strict = ("-X", "dev", "-W", "error")  # so that a warning of ours, or about us, fails the flow
    ran = run_flow(new_host(python(version), strict), write_flow(tmp_path, WHOLE), fresh=fresh, factor="3")
    assert {each.stderr for tasks in ran.tasks.values() for each in tasks} == {b""}
    facts = ["Whole", "1", "start", "1", 0, "Whole/1/start/1", ["factor"], 3, True, {"factor": 3}, "d", None]
    assert ran.value("start", "facts") == facts
    assert [ran.value("inner", "value", at) for at in range(6)] == [13, 16] * 3
    assert ran.value("inner", "stack", 3) == [(1, 3, "b"), (1, 2, 2)]
    assert ran.value("outer", "points") == [13, 16]
    assert ran.value("outer", "joined") == [(0, 1), (1, 2)]
    assert ran.value("outer", "before", 2) == (2, False, True)
    assert ran.value("last", "all") == [[13, 16]] * 3
    assert ran.value("last", "inputs") == ["a", "b", "c"]
    assert ran.value("last", "letters")[1] == ("b", 1, [(1, 3, "b")])
    assert ran.value("end", "summary") == ({"deep": [1, 2]}, False, None, None, [])
    assert set(ran.refs["start"][0]) == {"items", "kept", "gone", "facts", "_private"}
    assert ran.tasks["end"][0].artifacts["kept"] == {"same": ran.refs["start"][0]["kept"]["artifact"]}
    following = ran.tasks["start"][0].result["next"]
    assert {**following, "each": None, "item_digests": len(following["item_digests"])} == {
        "steps": ["each"],
        "foreach": "items",
        "count": 3,
        "each": None,
        "item_digests": 3,
    }


BRANCHES = """
class Branches(FlowSpec):
    @step
    def start(self):
        self.shared = {"a", "b"}
        self.untouched = 1
        self.next(self.left, self.right)
    @step
    def left(self):
        self.shared = set(["a", "b"]); self.x = 1; self.only_left = True
        self.next(self.join)
    @step
    def right(self):
        self.shared = set(["b", "a"]); self.x = 2
        self.next(self.join)
    @step
    def join(self, inputs):
        self.by_name = (inputs.left.x, inputs.right.x, inputs[1].x, len(inputs), inputs[0].index, inputs[0].input)
        self.errors = []
        for attempt in (lambda: inputs.middle, lambda: inputs.left.y, lambda: self.x,
                        lambda: self.merge_artifacts(inputs), lambda: self.merge_artifacts(inputs, include=["z"]),
                        lambda: self.merge_artifacts(inputs, include=["x"], exclude=["x"])):
            try:
                attempt()
            except Exception as err:
                self.errors.append((type(err).__name__, str(err)))
        self.x = max(each.x for each in inputs)
        self.merge_artifacts(inputs)
        self.next(self.end)
    @step
    def end(self):
        self.seen = (self.shared, self.untouched, self.x, self.only_left)
"""


def test_static_branches_and_merging(host: HostProcess, tmp_path: Path) -> None:
    ran = run_flow(host, write_flow(tmp_path, BRANCHES))
    assert ran.value("join", "by_name") == (1, 2, 2, 2, None, None)
    assert ran.value("end", "seen") == ({"a", "b"}, 1, 2, True)
    errors = ran.value("join", "errors")
    kinds = ["ArtifactMissing", "ArtifactMissing", "ArtifactMissing", "MergeConflict", "MissingInMerge", "FlowError"]
    assert [kind for kind, _ in errors] == kinds
    texts = [text for _, text in errors]
    assert "left, right" in texts[0] and "only_left" in texts[1] and "inputs[0].x" in texts[2]
    assert "exclude=['x']" in texts[3] and "left/2, right/3" in texts[3] and "'z'" in texts[4]


READ_ONLY = """
class Fixed(FlowSpec):
    alpha = Parameter("alpha", default=1)
    LIMIT = 5
    @property
    def doubled(self): return self.alpha * 2
    def helper(self): return self.LIMIT
    @step
    def start(self):
        self.found = {}
        for name in ("alpha", "LIMIT", "end", "next", "input", "helper"):
            try:
                setattr(self, name, 1)
            except AttributeError as err:
                self.found[name] = str(err)
        try:
            del self.alpha
        except AttributeError as err:
            self.found["del"] = str(err)
        try:
            del self.nothing
        except AttributeError as err:
            self.found["nothing"] = str(err)
        self.helped = (self.helper(), self.doubled)
        self.next(self.end)
    @step
    def end(self):
        self.results = 1
        self.result
"""


def test_what_is_fixed_and_what_is_missing(host: HostProcess, tmp_path: Path) -> None:
    host.load(write_flow(tmp_path, READ_ONLY))
    given = host.parameters()
    start = host.task("start", parameters=given)
    refs = host.kept(start)
    assert sorted(refs) == ["found", "helped"]
    import pickle

    found = pickle.loads(Path(refs["found"]["parts"][0]["path"]).read_bytes())
    assert sorted(found) == ["LIMIT", "alpha", "del", "end", "helper", "input", "next", "nothing"]
    assert "a constant of this flow" in found["LIMIT"] and "same in all steps" in found["alpha"]
    end = host.task("end", parameters=given, inputs=[{"step": "start", "task": "1", "index": None, "artifacts": refs}])
    assert not end.ok
    assert end.error["type"] == "ArtifactMissing"
    assert "step 'end' reads self.result" in end.error["message"]
    assert end.error["cure"] == "Did you mean self.results?"


WRONG_NEXT = [
    ("return", "ended without calling self.next()"),
    ("self.next(self.end); self.next(self.end)", "twice"),
    ("self.next('end')", "not a step"),
    ("self.next(len)", "not a step"),
    ("self.next(self.helper)", "'helper', which is not a step"),
    ("self.next()", "names no step"),
    ("self.next(self.end, condition='x')", "condition"),
    ("self.next(self.end, foreach='nothing')", "there is no artifact self.nothing"),
    ("self.x = []; self.next(self.end, foreach='x')", "has no items"),
    ("self.x = None; self.next(self.end, foreach='x')", "self.x is None"),
    ("self.x = 3; self.next(self.end, foreach='x')", "self.x is a int"),
    ("self.x = iter([]); self.next(self.end, foreach='x')", "has no items"),
    (
        "self.x = 'c'; self.next({'a': self.end, 'b': self.end}, condition='x')",
        "self.x is 'c', and there is no such case",
    ),
    ("self.next(self.end, num_parallel=0)", "num_parallel=0"),
    ("self.next(self.end, foreach=['x'])", "names an artifact as text"),
]


def test_a_wrong_end_of_a_step_is_told(host: HostProcess, tmp_path: Path) -> None:
    steps = "".join(f"    @step\n    def s{at}(self):\n        {line}\n" for at, (line, _) in enumerate(WRONG_NEXT))
    text = f"class F(FlowSpec):\n    def helper(self): pass\n{steps}    @step\n    def end(self): self.next(self.s0)\n"
    host.load(write_flow(tmp_path, text))
    for at, (line, told) in enumerate(WRONG_NEXT):
        done = host.task(f"s{at}")
        assert done.error["kind"] == "next", line
        assert told in done.error["message"]
    assert "step 'end'" in host.task("end").error["message"]


def test_making_a_flow_without_the_command_says_how_to_get_it(tmp_path: Path) -> None:
    file = write_flow(tmp_path, "class F(FlowSpec):\n    pass\nif __name__ == '__main__':\n    F()\n")
    command = [
        sys.executable,
        "-I",
        "-S",
        "-c",
        f"import sys, runpy; sys.path.insert(0, {str(FACE)!r}); runpy.run_path({str(file)!r}, run_name='__main__')",
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("stillrun: ") and done.stderr.count("\n") == 1
    assert "pip install stillrun" in done.stderr


def test_making_a_flow_hands_over_to_the_command(tmp_path: Path) -> None:
    command = tmp_path / "lib" / "stillrun_cli"
    command.mkdir(parents=True)
    (command / "__init__.py").touch()
    (command / "main.py").write_text("import sys, json\ndef main():\n    print(json.dumps(sys.argv[1:]))\n")
    file = write_flow(
        tmp_path,
        "class Fé(FlowSpec):\n    pass\nif __name__ == '__main__':\n    print('first')\n    Fé()\n",
        "mein flöw.py",
    )
    environment = {"PYTHONPATH": f"{FACE}:{command.parent}", "PYTHONIOENCODING": "utf-8", "PYTHONUTF8": "1"}
    done = subprocess.run(
        [sys.executable, "-S", file.name, "run", "--x", "ü"], capture_output=True, cwd=tmp_path, env=environment
    )
    first, second = done.stdout.decode().splitlines()
    assert first == "first"
    import json

    assert json.loads(second) == ["flow", "--file", str(file), "--class", "Fé", "run", "--x", "ü"]


def test_outside_a_task_current_is_empty_and_a_flow_is_a_plain_object() -> None:
    from stillrun import FlowSpec, current

    class Idle(FlowSpec):
        pass

    flow = Idle(use_cli=False)
    flow.x = 1
    assert (flow.x, flow.input, flow.index, flow.foreach_stack()) == (1, None, None, [])
    assert (current.run_id, current.is_running_flow, current.parameter_names) == (None, False, [])
    with pytest.raises(AttributeError):
        flow.y  # noqa: B018
