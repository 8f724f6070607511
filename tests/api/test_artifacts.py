"""Artifacts: kept once, never copied, back as they were, refused when they cannot be kept or were damaged."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path
from typing import Any

import pytest

from .driver import HostProcess, python, run_flow, write_flow

np = pytest.importorskip("numpy")

BASE = 60_000_000  # what a task of a flow that imports numpy needs when it holds nothing
BIG = """
import numpy as np, resource, mmap
from stillrun import *
class Big(FlowSpec):
    size = Parameter("size", default=25_000_000)
    @step
    def start(self):
        self.array = np.ones(self.size)
        self.array[5] = 7
        self.small = np.arange(3)
        self.text = b"x" * 3_000_000
        self.next(self.look)
    @step
    def look(self):
        self.total = float(self.array[5])
        self.shown = self.text[:2]
        base = self.array
        while isinstance(base, np.ndarray): base = base.base
        self.backing = (self.array.flags.writeable, isinstance(base.obj, mmap.mmap), self.small.flags.writeable)
        self.next(self.alias)
    @step
    def alias(self):
        self.view = self.array
        self.next(self.change)
    @step
    def change(self):
        self.array[-1] = 42
        self.next(self.end)
    @step
    def end(self):
        self.seen = (self.array[-1], self.array[5], self.view[-1])
        self.view[0] = 3
        del self.array
"""


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("big")
    host = HostProcess(folder)
    yield run_flow(host, write_flow(folder, BIG))
    host.close()


def test_a_large_array_is_written_once_and_not_copied(big: Any) -> None:
    start = big.tasks["start"][0]
    stream, data = start.artifacts["array"]["parts"]
    assert "body" in stream and "spill" in data and data["size"] == 200_000_000
    assert start.header["usage"]["max_rss_kib"] * 1024 < BASE + 1.3 * 200_000_000


def test_an_unchanged_array_costs_neither_hashing_nor_writing(big: Any) -> None:
    look = big.tasks["look"][0]
    same = big.refs["start"][0]["array"]
    assert look.artifacts["array"] == {"same": same["artifact"]}
    assert look.artifacts["text"] == {"same": big.refs["start"][0]["text"]["artifact"]}
    assert big.tasks["alias"][0].artifacts["view"]["parts"][1] == {
        "digest": same["parts"][1]["digest"],
        "size": 200_000_000,
        "held": True,
    }


def test_arrays_come_back_mapped_and_writable(big: Any) -> None:
    assert big.value("look", "backing") == (True, True, True)
    assert big.value("look", "total") == 7.0
    assert big.value("look", "shown") == b"xx"


def test_a_change_of_one_element_in_place_is_kept_and_stays_private(big: Any) -> None:
    assert big.refs["change"][0]["array"]["artifact"] != big.refs["start"][0]["array"]["artifact"]
    assert big.refs["change"][0]["view"] == big.refs["alias"][0]["view"]
    assert big.value("end", "seen") == (42.0, 7.0, 1.0)
    assert "array" not in big.refs["end"][0]
    for refs in (each for step in big.refs.values() for task in step for each in task.values()):
        for part in refs["parts"]:
            path = Path(part["path"])
            assert "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest() == part["digest"]


def test_checked_parts_are_not_hashed_and_unchecked_ones_are(big: Any) -> None:
    """An array that counts as checked and of which one item is read never comes into memory as a whole."""
    host = big.host
    refs = {
        name: {**ref, "parts": [{**part, "checked": True} for part in ref["parts"]]}
        for name, ref in big.refs["start"][0].items()
    }
    inputs = [{"step": "start", "task": "1", "index": None, "artifacts": refs}]
    params = host.parameters()
    checked = host.task("look", inputs=inputs, parameters=params)
    unchecked = host.task("look", inputs=[{**inputs[0], "artifacts": big.refs["start"][0]}], parameters=params)
    assert checked.artifacts["array"] == {"same": refs["array"]["artifact"]}
    assert checked.header["usage"]["max_rss_kib"] < unchecked.header["usage"]["max_rss_kib"] - 150_000


@pytest.mark.parametrize("version", ["3.8", "3.13"])
def test_buffers_without_numpy(new_host: Any, tmp_path: Path, version: str) -> None:
    text = """
    import pickle
    from stillrun import *
    class Buffer:
        def __init__(self, data): self.data = data
        def __reduce_ex__(self, protocol): return Buffer, (pickle.PickleBuffer(self.data),)
    class F(FlowSpec):
        @step
        def start(self):
            self.a = Buffer(bytearray(b"a" * 1_000_000)); self.b = Buffer(b"b" * 1_000_000); self.c = Buffer(b"c")
            self.next(self.change)
        @step
        def change(self):
            self.a.data[3] = 66
            self.kinds = [(type(each.data).__name__, memoryview(each.data).readonly) for each in (self.a, self.b, self.c)]
            self.next(self.end)
        @step
        def end(self):
            self.seen = (bytes(self.a.data[:5]), bytes(self.b.data[:2]))
    """
    ran = run_flow(new_host(python(version)), write_flow(tmp_path, text))
    assert ran.value("change", "kinds") == [("memoryview", False), ("memoryview", True), ("bytes", True)]
    assert ran.value("end", "seen") == (b"aaaBa", b"bb")
    assert ran.tasks["change"][0].artifacts["b"] == {"same": ran.refs["start"][0]["b"]["artifact"]}
    assert "same" not in ran.tasks["change"][0].artifacts["a"]


def one(folder: Path, lines: str, more: str = "") -> Path:
    body = "".join(f"        {line}\n" for line in lines.strip().splitlines())
    text = (
        f"import threading\nfrom stillrun import *\n{more}\nclass F(FlowSpec):\n    @step\n    def start(self):\n{body}"
    )
    text += "        self.next(self.end)\n    @step\n    def end(self): pass\n"
    return write_flow(folder, text)


UNPICKLABLE = [
    ("self.bad = lambda: 1", "a lambda cannot be pickled", "top level"),
    ("class Local: pass\nself.bad = Local()", "a Local, whose class is made inside a function", "top level"),
    ("self.bad = open(__file__)", "a TextIOWrapper cannot", "its path"),
    ("self.bad = (x for x in [])", "a generator cannot", "Make it a list"),
    ("self.bad = threading.Lock()", "a lock cannot", "anew in each step"),
    ("self.bad = {'a': [1, {'b': threading.Lock()}]}", "self.bad['a'][1]['b'], a lock", "anew"),
    ("self.bad = threading", "a module cannot", "Import the module"),
    ("self.bad = Nasty()", "ZeroDivisionError", "plain data"),
    ("x = []\nfor _ in range(100000): x = [x]\nself.bad = x", "nested too deeply", "flat"),
]


@pytest.mark.parametrize(("lines", "told", "cure"), UNPICKLABLE)
def test_what_cannot_be_kept_is_told_with_its_line(
    host: HostProcess, tmp_path: Path, lines: str, told: str, cure: str
) -> None:
    nasty = "class Nasty:\n    def __reduce__(self): 1 / 0\n"
    file = one(tmp_path, f"self.good = bytes(100000)\n{lines}\npass", nasty)
    host.load(file)
    done = host.task("start")
    error = done.error
    assert (error["kind"], error["step"], error["file"]) == ("not_picklable", "start", str(file))
    assert "'bad'" in error["message"] and told in error["message"]
    assert cure in error["cure"]
    assert file.read_text().splitlines()[error["line"] - 1].strip().startswith("self.bad = ")
    assert list(done.result["artifacts"]) == ["good"], "what can be kept is there for whoever looks into it"
    assert len(list(host.spill.iterdir())) == 1


def test_damaged_and_missing_parts_are_refused_by_digest(host: HostProcess, tmp_path: Path) -> None:
    host.load(one(tmp_path, "self.x"))
    for size in (100, 200_000):
        data = pickle.dumps(b"x" * size, 5)
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        path = tmp_path / "pack"
        place = {"digest": digest, "size": len(data), "path": str(path), "offset": 11, "checked": False}

        def read(part: dict[str, Any] = place, body: bytes = b"", digest: str = digest) -> Any:
            ref = {"artifact": digest, "parts": [part]}
            inputs = [{"step": "start", "task": "1", "index": None, "artifacts": {"x": ref}}]
            return host.task("start", inputs=inputs, body=body)

        path.write_bytes(b"-" * 11 + data + b"more")
        assert read().artifacts == {"x": {"same": digest}}
        inline = {"digest": digest, "size": len(data), "body": [2, len(data)]}
        assert read(inline, b"--" + data).ok
        damaged = bytearray(data)
        damaged[size // 2] ^= 1
        assert digest in read(inline, b"--" + damaged).error["message"]
        path.write_bytes(b"-" * 11 + damaged)
        assert (read().error["kind"], digest in read().error["message"]) == ("corrupt", True)
        path.write_bytes(data[:50])
        assert "bytes expected" in read().error["message"]
        path.unlink()
        assert "cannot be read" in read().error["message"]


def test_a_full_disk_is_told(host: HostProcess, tmp_path: Path) -> None:
    host.load(
        one(
            tmp_path,
            "import resource, signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\nself.x = bytes(1_000_000)",
        )
    )
    done = host.task("start")
    assert (done.error["kind"], done.error["type"]) == ("storage", "SpillError")
    assert str(host.spill) in done.error["message"]
    assert list(host.spill.iterdir()) == []


def test_what_the_step_left_unread_is_passed_on_unread(host: HostProcess, tmp_path: Path) -> None:
    host.load(one(tmp_path, "pass"))
    nowhere = {
        "artifact": "sha256:" + "0" * 64,
        "parts": [{"digest": "sha256:" + "1" * 64, "size": 10, "path": "/nowhere", "offset": 0}],
    }
    inputs = [{"step": "start", "task": "1", "index": None, "artifacts": {"x": nowhere}}]
    assert host.task("start", inputs=inputs).artifacts == {"x": {"same": nowhere["artifact"]}}


def test_many_inline_parts_overflow_into_files(host: HostProcess, tmp_path: Path) -> None:
    host.load(one(tmp_path, "for n in range(1050): setattr(self, f'a{n:04}', bytes(65000))"))
    done = host.task("start")
    assert len(done.body) < 70_000_000
    assert "spill" in done.artifacts["a1049"]["parts"][0]


PREVIEWS = [
    ("None", "None"),
    ("[1, 2.5, 'é']", "[1, 2.5, 'é']"),
    ("list(range(100))", "list of 100: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, …]"),
    ("{'b', 'a'}", "{'a', 'b'}"),
    ("{'k': [{'x': [1]}]}", "{'k': [{'x': […]}]}"),
    ("'x' * 1000", "'" + "x" * 120 + "'… (1,000)"),
    ("'a\\nb\\udc80'", "'a\\nb\\udc80'"),
    ("10 ** 1000", "int of 3,322 bits"),
    ("__import__('numpy').zeros((2, 3))", "ndarray float64 (2, 3): 0.0, 0.0, 0.0, 0.0, 0.0, 0.0"),
    ("__import__('numpy').float32(1.5)", "float32 1.5"),
    ("Slow()", "flow.Slow"),
    ("[Slow()]", "[flow.Slow]"),
]


def test_previews(host: HostProcess, tmp_path: Path) -> None:
    slow = "class Slow:\n    def __repr__(self): raise SystemExit\n"
    lines = "\n".join(f"self.a{at} = {value}" for at, (value, _) in enumerate(PREVIEWS))
    host.load(one(tmp_path, lines + "\nself.big = [['y' * 50] * 20] * 20", slow))
    artifacts = host.task("start").artifacts
    assert [artifacts[f"a{at}"]["preview"] for at in range(len(PREVIEWS))] == [shown for _, shown in PREVIEWS]
    assert len(artifacts["big"]["preview"]) == 200
    assert artifacts["a10"]["type"] == "flow.Slow" and artifacts["a0"]["type"] == "NoneType"


def test_tables_have_previews() -> None:
    pandas = pytest.importorskip("pandas")
    from stillrun.preview import preview_of

    table = pandas.DataFrame({"n": [1, 2], "x": [0.5, 1.5]})
    assert preview_of(table) == "DataFrame 2 rows x 2 columns: n int64, x float64"
    assert preview_of(table["x"]) == "Series float64 (2,): 0.5, 1.5"
    assert preview_of(table.index) == "RangeIndex int64 (2,): 0, 1"
