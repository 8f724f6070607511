"""The canonical digest of functions and classes: by what they do, wherever they were written."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import cloudpickle
import pytest

from stillrun.canonical import canonical_digest as digest

from .driver import FACE, pythons

SOURCE = """
import math
LIMIT = 5
TABLE = [1]
def helper(x):
    return x + LIMIT
def far(x):
    return helper(x)
def f(a, b=2, *, c={"x", "y", "z"}):
    class Inner:
        size = 3
        def area(self):
            self.known = far(a)
            return self.size * math.pi
    return [each for each in (a, b, c) if each in {"p", "q", 1} and TABLE] + [Inner]
def outer(step):
    def inner(x):
        return x + step
    return inner
g = outer(1)
h = lambda x: x.data + 1
"""


def module_of(source: str, folder: Path, name: str = "shapes") -> ModuleType:
    """A module of the user's, from a file in a folder."""
    file = folder / f"{name}.py"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(source)
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def test_functions_are_the_same_whatever_their_file_and_line(tmp_path: Path) -> None:
    one = module_of(SOURCE, tmp_path / "a")
    for lines in (1, 6, 300, 70_000):
        other = module_of("\n" * lines + SOURCE, tmp_path / f"b{lines}")
        for name in ("helper", "far", "f", "outer", "g", "h"):
            assert digest(getattr(one, name)) is not None, name
            assert digest(getattr(one, name)) == digest(getattr(other, name)), name
    one.f(1), one.g(2)
    for _ in range(5000):  # the interpreter has rewritten it by now
        one.helper(1)
    assert digest(one.f) == digest(module_of(SOURCE, tmp_path / "c").f)


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("helper", "x + LIMIT", "x - LIMIT"),
        ("helper", "LIMIT = 5", "LIMIT = 6"),
        ("far", "x + LIMIT", "x - LIMIT"),
        ("far", "LIMIT = 5", "LIMIT = 6"),
        ("f", "LIMIT = 5", "LIMIT = 6"),
        ("f", "size = 3", "size = 4"),
        ("f", "self.size *", "self.size +"),
        ("f", "b=2", "b=3"),
        ("f", '"z"}', '"w"}'),
        ("f", '"q", 1', '"q", 2'),
        ("f", "b=2", "d=2"),
        ("f", "math.pi", "math.e"),
        ("f", "TABLE = [1]", "TABLE = (1,)"),
        ("f", "TABLE = [1]", "TABLE = [2]"),
        ("f", "TABLE = [1]", "TABLE = [True]"),
        ("f", "TABLE = [1]", "TABLE = {1: ['a', {2}]}"),
        ("f", "TABLE = [1]", "TABLE = [print]"),
        ("f", "TABLE = [1]", "TABLE = [0] * 20_000"),
        ("g", "outer(1)", "outer(2)"),
        ("g", "x + step", "x * step"),
        ("h", "x.data + 1", "x.data + 2"),
        ("h", "x.data", "x.date"),
    ],
)
def test_functions_differ_with_what_they_do(name: str, before: str, after: str, tmp_path: Path) -> None:
    assert before in SOURCE
    one = module_of(SOURCE, tmp_path / "a")
    other = module_of(
        SOURCE.replace(before, after).replace("(a, b, c)", "(a, c)" if after == "d=2" else "(a, b, c)"), tmp_path
    )
    assert digest(getattr(one, name)) != digest(getattr(other, name))


@pytest.mark.parametrize(
    "table",
    [
        "{'b': [1], 'a': {2, 'x'}}",
        "[object()]",
        "[[0]] * 6_000",
        "[0] * 20_000",
        "{n: n for n in range(20_000)}",
        "loop",
    ],
)
def test_data_of_a_module_counts_by_value_while_it_is_plain_and_small(table: str, tmp_path: Path) -> None:
    loop = "loop = [1]\nloop.append(loop)\n"
    source = loop + SOURCE.replace("TABLE = [1]", f"TABLE = {table}")
    one, other = module_of(source, tmp_path / "a"), module_of(source, tmp_path / "b")
    assert digest(one.f) == digest(other.f) == digest(cloudpickle.loads(cloudpickle.dumps(one.f))) is not None
    before = digest(other.f)
    other.TABLE.update(z=0) if isinstance(other.TABLE, dict) else other.TABLE.append(0)
    assert digest(other.f) != before


def test_functions_and_classes_by_value_survive_pickling(tmp_path: Path) -> None:
    source = SOURCE + "data = 5\nimport dataclasses, enum\n@dataclasses.dataclass\nclass D:\n    a: int = 1\n"
    source += "class K:\n    '''Doc.'''\n    __slots__ = ('u',)\n    k = {'a'}\n    @property\n    def p(self): return LIMIT\n"
    source += "    @classmethod\n    def c(cls): return super().__init__\n    @staticmethod\n    def s(): return f\n"
    made = module_of(source, tmp_path)
    values = [getattr(made, name) for name in ("helper", "far", "f", "outer", "g", "h", "K", "D")] + [
        made.D(7),
        made.K(),
    ]
    first = [digest(value) for value in values]
    assert None not in first and len(set(first)) == len(first)
    code = "import pickle, sys; sys.path.insert(0, sys.argv[1]); from stillrun.canonical import canonical_digest\n"
    code += "print(*map(canonical_digest, pickle.load(sys.stdin.buffer)))"
    for seed in ("1", "2"):
        shown = subprocess.run(
            [sys.executable, "-c", code, str(FACE)],
            input=cloudpickle.dumps(values),
            capture_output=True,
            check=True,
            env={"PYTHONHASHSEED": seed},
        )
        assert shown.stdout.decode().split() == first
    assert digest(made.D(7)) != digest(made.D(8))


def test_functions_that_refer_to_themselves() -> None:
    def build(step: int) -> Any:
        def down(x: int) -> int:
            return 0 if x < 0 else down(x - step)

        return down

    assert digest(build(1)) == digest(build(1)) is not None
    assert digest(build(1)) != digest(build(2))


def test_a_closure_over_what_has_none_has_none() -> None:
    lock = threading.Lock()
    assert digest(lambda: lock) is None


ACROSS = """
import sys
sys.path[:0] = [sys.argv[1], sys.argv[2]]
from stillrun.canonical import canonical_digest
import shapes
class Tags(set): pass
class Plain: pass
plain = Plain()
plain.tags, plain.f = Tags(["a", "b", "c", "d"]), shapes.g
print(*[canonical_digest(getattr(shapes, name)) for name in ("helper", "far", "f", "outer", "g", "h")], canonical_digest(plain))
"""


@pytest.mark.parametrize("version", ["3.8", "3.9", "3.10", "3.11", "3.12", "3.13", "3.14"])
def test_functions_in_other_processes_and_folders(version: str, tmp_path: Path) -> None:
    if version not in pythons():
        pytest.skip(f"no Python {version} on this machine")
    found = set()
    for seed, lines in (("0", 0), ("1", 3), ("77", 1000)):
        folder = tmp_path / seed
        folder.mkdir()
        (folder / "shapes.py").write_text("\n" * lines + SOURCE)
        command = [pythons()[version], "-c", textwrap.dedent(ACROSS), str(FACE), str(folder)]
        variables = {"PYTHONHASHSEED": seed, "PYTHONDONTWRITEBYTECODE": "1"}
        shown = subprocess.run(command, capture_output=True, text=True, env=variables)
        assert shown.returncode == 0, shown.stderr
        found.add(shown.stdout)
    assert len(found) == 1 and "None" not in found.pop()
