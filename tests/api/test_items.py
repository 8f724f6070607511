"""What the tasks of a foreach, and a wide join, are told of their items and inputs."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from tests.api.driver import HostProcess, write_flow

LOOP = """
class Loop(FlowSpec):
    @step
    def start(self):
        self.items = {items}
        self.next(self.each, foreach="items")
    @step
    def each(self):
        self.seen = (self.input, self.foreach_stack())
        self.next(self.join)
    @step
    def join(self, inputs):
        self.found = [(each.index, each.input, each.x) for each in inputs]
        self.last, self.some = inputs[-1].x, [each.x for each in inputs[1:3]]
        self.count = len(inputs)
        self.next(self.end)
    @step
    def end(self): ...
"""


def split(host: HostProcess, folder: Path, items: str) -> Any:
    host.load(write_flow(folder, LOOP.replace("{items}", items)))
    return host.task("start")


@pytest.mark.parametrize(
    "items", ["[1, 'two', None]", "('a', 'b')", "range(5, 9)", "'text'", "[[i] * i for i in range(90)]"]
)
def test_each_item_comes_by_itself(host: HostProcess, tmp_path: Path, items: str) -> None:
    assert [pickle.loads(each) for each in split(host, tmp_path, items).items()] == list(eval(items))


def test_a_few_large_items_are_not_kept_twice(host: HostProcess, tmp_path: Path) -> None:
    assert "each" not in split(host, tmp_path, "['x' * 1_000_000, 'y' * 1_000_000]").result["next"]


def test_items_that_only_pickle_together_stay_together(host: HostProcess, tmp_path: Path) -> None:
    text = """
    class Part:
        alone = True
        def __reduce__(self):
            if Part.alone:
                raise TypeError("not by itself")
            return Part, ()
    class Whole(list):
        def __reduce__(self):
            Part.alone = False
            try:
                return Whole, (), None, iter([pickle.dumps(each) for each in self])
            finally:
                Part.alone = True
    """
    flow = LOOP.replace("{items}", "Whole([Part(), Part()])")
    import textwrap

    host.load(write_flow(tmp_path, "import pickle\nfrom stillrun import *\n" + textwrap.dedent(text) + flow))
    following = host.task("start").result["next"]
    assert (following["count"], "each" in following) == (2, False)


def test_a_task_reads_its_own_item_only(host: HostProcess, tmp_path: Path) -> None:
    done = split(host, tmp_path, "list(range(100))")
    nowhere = {"artifact": "sha256:" + "0" * 64, "parts": [{"digest": "?", "size": 9, "path": "/nowhere", "offset": 0}]}
    item = done.items()[42]
    frame = {"step": "start", "variable": "items", "index": 42, "count": 100, "items": nowhere}
    ran = host.task("each", foreach=[{**frame, "item": {"body": [0, len(item)]}}], body=item)
    assert ran.artifacts["seen"]["preview"] == "(42, [(42, 100, 42)])"
    assert ran.result["reads"] == []


def test_the_inputs_of_a_wide_join_are_read_from_a_file(host: HostProcess, tmp_path: Path) -> None:
    items = host.kept(split(host, tmp_path, "list('abcdefgh')"))["items"]
    value = pickle.dumps("x")
    (tmp_path / "value").write_bytes(value)
    import hashlib

    digest = "sha256:" + hashlib.sha256(value).hexdigest()
    part = {"digest": digest, "size": len(value), "path": str(tmp_path / "value"), "offset": 0, "checked": False}
    artifacts = {"x": {"artifact": digest, "parts": [part]}, "items": items}
    lines = [{"step": "each", "task": str(at), "index": at, "artifacts": artifacts} for at in range(8)]
    (tmp_path / "inputs").write_bytes(b"".join(json.dumps(line).encode() + b"\n" for line in lines))
    done = host.task("join", join=True, inputs_file=str(tmp_path / "inputs"))
    assert done.artifacts["count"]["preview"] == "8"
    assert done.artifacts["last"]["preview"] == "'x'"
    assert done.artifacts["some"]["preview"] == "['x', 'x']"
    assert done.artifacts["found"]["preview"].startswith("[(0, 'a', 'x'), (1, 'b', 'x')")
    assert done.result["reads"] == []


def test_results_pass_through_as_they_came_when_asked_for(host: HostProcess, tmp_path: Path) -> None:
    host.load(write_flow(tmp_path, LOOP.replace("{items}", "[1]")), raw_results=True)
    done = host.task("start")
    size = done.header["result"]
    result = json.loads(done.body[:size])
    assert result["ok"]
    offset, length = result["artifacts"]["items"]["parts"][0]["body"]
    assert pickle.loads(done.body[size:][offset : offset + length]) == [1]


MANY = """
import os, sys
from stillrun import *
class Many(FlowSpec):
    @step
    def start(self):
        self.next(self.each, foreach="items")
    @step
    def each(self):
        import stillrun
        self.known = sorted(vars(self)), current.task_id, os.getcwd(), sorted(os.environ)
        self.modules = "stillrun.rehearsal" in sys.modules
        self.next(self.join)
    @step
    def join(self, inputs):
        self.next(self.end)
    @step
    def end(self): ...
"""


def test_a_rehearsal_leaves_no_trace_in_tasks(host: HostProcess, tmp_path: Path) -> None:
    """The first tasks of few and of many are alike, and so is one that comes when no foreach is open."""
    host.load(write_flow(tmp_path, MANY))
    found = []
    for count in (2, 1000):
        item = pickle.dumps(5)
        frame = {"step": "start", "variable": "items", "index": 0, "count": count, "items": None}
        done = host.task("each", foreach=[{**frame, "item": {"body": [0, len(item)]}}], body=item)
        found.append((done.artifacts["known"], done.artifacts["modules"]["preview"]))
    assert found[0][0] == found[1][0]
    assert [modules for _, modules in found] == ["False", "True"]
    assert (host.task("join", join=True).stderr, host.task("join", join=True).stdout) == (b"", b"")
