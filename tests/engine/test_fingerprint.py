"""What of the code a step stands on: everything that it can reach by name, and nothing else."""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stillrun_engine.fingerprint import CodeOf, Reached
from stillrun_engine.references import references
from stillrun_snapshot.capture import capture_tree
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.store import Store

HEAD = "from stillrun import FlowSpec, step\n"
BODY = (
    "    @step\n    def start(self):\n        {start}\n        self.next(self.end)\n\n"
    "    @step\n    def end(self):\n        pass\n"
)
Changed = Callable[..., list[str]]


def flow(start: str, *, top: str = "", members: str = "", base: str = "FlowSpec") -> str:
    return f"{HEAD}{top}\n\nclass Study({base}):\n{members}{BODY.format(start=start)}"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "store", create=True) as opened:
        yield opened


@pytest.fixture
def reached(store: Store, tmp_path: Path) -> Callable[..., Reached]:
    number = itertools.count()

    def code(
        files: dict[str, str], step: str = "start", flow_file: str = "study.py", **more: frozenset[tuple[str, str]]
    ) -> Reached:
        folder = tmp_path / f"tree{next(number)}"
        for name, text in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        found = CodeOf(store, capture_tree(store, folder, files), flow_file, "Study", strict=False).step(step, **more)
        assert found is not None
        return found

    return code


NESTED = {
    "pkg/__init__.py": "",
    "pkg/a.py": "from .b import deep\n\ndef top():\n    return deep()\n",
    "pkg/b.py": "def deep():\n    return 1\n",
}
COUNTS = {
    "a function": ({"study.py": flow("f()", top="def f():\n    return 1")}, "return 1"),
    "a constant of a function": ({"study.py": flow("f()", top="K = 1\ndef f():\n    return K")}, "K = 1"),
    "a method of the flow": (
        {"study.py": flow("self.help()", members="    def help(self):\n        return 1\n")},
        "return 1",
    ),
    "a method by a made-up name": (
        {"study.py": flow("getattr(self, 'he' + 'lp')()", members="    def help(self):\n        return 1\n")},
        "return 1",
    ),
    "a method by a text": (
        {"study.py": flow("getattr(self, 'help')()", members="    def help(self):\n        return 1\n")},
        "return 1",
    ),
    "a property": (
        {"study.py": flow("self.x = self.p", members="    @property\n    def p(self):\n        return 1\n")},
        "return 1",
    ),
    "a class constant": ({"study.py": flow("self.x = self.K", members="    K = 1\n")}, "K = 1"),
    "a module's function": (
        {"study.py": flow("h.f()", top="import h"), "h.py": "def f():\n    return 1\n"},
        "return 1",
    ),
    "an imported function": (
        {"study.py": flow("g()", top="from h import f as g"), "h.py": "def f():\n    return 1\n"},
        "return 1",
    ),
    "a module handed on": (
        {"study.py": flow("print(h)", top="import h"), "h.py": "def f():\n    return 1\n"},
        "return 1",
    ),
    "an import in the step": (
        {"study.py": flow("from h import f; f()"), "h.py": "def f():\n    return 1\n"},
        "return 1",
    ),
    "a star": ({"study.py": flow("f()", top="from h import *"), "h.py": "def f():\n    return 1\n"}, "return 1"),
    "through a package": ({"study.py": flow("pkg.a.top()", top="import pkg.a"), **NESTED}, "return 1"),
    "through a package's name": ({"study.py": flow("a.top()", top="from pkg import a"), **NESTED}, "return 1"),
    "what an imported module does": (
        {"study.py": flow("pass", top="import h"), "h.py": "import os\nos.environ['A'] = '1'\n"},
        "'1'",
    ),
    "what a module's import does": (
        {"study.py": flow("pass", top="import h"), "h.py": "import g\n", "g.py": "print('1')\n"},
        "'1'",
    ),
    "a call at import": ({"study.py": flow("pass", top="import h"), "h.py": "SEEDED = seed(1)\n"}, "seed(1)"),
    "a registration": (
        {"study.py": flow("pass", top="import h"), "h.py": "@register\ndef f():\n    return 1\n"},
        "return 1",
    ),
    "a base class": (
        {
            "study.py": flow("self.help()", top="from h import Base", base="Base"),
            "h.py": "class Base:\n    def help(self):\n        return 1\n",
        },
        "return 1",
    ),
    "a branch at the top": ({"study.py": flow("f()", top="if True:\n    def f():\n        return 1")}, "return 1"),
    "eval": ({"study.py": flow("eval('h.f()')"), "h.py": "def f():\n    return 1\n"}, "return 1"),
    "importlib": ({"study.py": flow("importlib.import_module(n)", top="import importlib"), "h.py": "x = 1\n"}, "x = 1"),
    "importlib by another name": (
        {"study.py": flow("load(n)", top="from importlib import import_module as load"), "h.py": "x = 1\n"},
        "x = 1",
    ),
    "unpickling by another name": (
        {"study.py": flow("p.loads(b)", top="import pickle as p"), "h.py": "x = 1\n"},
        "x = 1",
    ),
    "unpickling by its own name": (
        {"study.py": flow("loads(b)", top="from pickle import loads"), "h.py": "x = 1\n"},
        "x = 1",
    ),
    "the imported modules": (
        {"study.py": flow("modules['h'].x", top="from sys import modules"), "h.py": "x = 1\n"},
        "x = 1",
    ),
    "a builtin eval": ({"study.py": flow("builtins.eval(t)", top="import builtins"), "h.py": "x = 1\n"}, "x = 1"),
    "a builtin by another name": (
        {"study.py": flow("run(t)", top="from builtins import exec as run"), "h.py": "x = 1\n"},
        "x = 1",
    ),
    "unpickling": ({"study.py": flow("pickle.load(f)", top="import pickle"), "h.py": "x = 1\n"}, "x = 1"),
    "a module found elsewhere": (
        {"study.py": flow("lib.f()", top="import lib"), "src/lib.py": "def f():\n    return 1\n"},
        "return 1",
    ),
    "a path that is changed": (
        {"study.py": flow("pass", top="import sys\nsys.path.append('x')"), "x/y.py": "x = 1\n"},
        "x = 1",
    ),
    "another step's method": (
        {"study.py": flow("self.end()").replace("        pass\n", "        print(1)\n")},
        "print(1)",
    ),
    "a decorator of the step": (
        {
            "study.py": flow("pass")
            .replace("    @step\n    def start", "    @mine\n    @step\n    def start")
            .replace(HEAD, HEAD + "def mine(f):\n    return 1\n")
        },
        "return 1",
    ),
}
DOES_NOT = {
    "another function": ({"study.py": flow("pass", top="def f():\n    return 1")}, "return 1"),
    "another method": ({"study.py": flow("pass", members="    def help(self):\n        return 1\n")}, "return 1"),
    "another function of a module": (
        {"study.py": flow("h.g()", top="import h"), "h.py": "def f():\n    return 1\n\ndef g():\n    return 2\n"},
        "return 1",
    ),
    "a module that nobody imports": ({"study.py": flow("pass"), "h.py": "print(1)\n"}, "print(1)"),
    "where a step goes": ({"study.py": flow("x = 2").replace("        pass\n", "        print(1)\n")}, "print(1)"),
    "a comment": ({"study.py": flow("f()", top="def f():\n    return 2  # 1\n")}, "# 1"),
}


def other(files: dict[str, str], text: str) -> dict[str, str]:
    found = {name: each.replace(text, text.replace("1", "11")) for name, each in files.items()}
    assert found != files
    return found


@pytest.mark.parametrize("case", COUNTS)
def test_what_a_step_can_reach_counts(reached: Callable[..., Reached], case: str) -> None:
    files, text = COUNTS[case]
    why = reached(files).differs(reached(other(files, text)), "start")
    assert why is not None
    assert "start" in why


@pytest.mark.parametrize("case", DOES_NOT)
def test_what_it_cannot_reach_does_not(reached: Callable[..., Reached], case: str) -> None:
    files, text = DOES_NOT[case]
    assert reached(files).differs(reached(other(files, text)), "start") is None


def test_the_class_of_an_input_counts(reached: Callable[..., Reached]) -> None:
    files = {"study.py": flow("self.m.f()"), "h.py": "class M:\n    def f(self):\n        return 1\n"}
    changed, held = other(files, "return 1"), frozenset({("h", "M")})
    assert reached(files).differs(reached(changed), "start") is None
    why = reached(files, classes=held).differs(reached(changed, classes=held), "start")
    assert why == "code that start may use changed: h.py: M"


def test_a_file_that_nobody_can_parse_counts_whole(reached: Callable[..., Reached]) -> None:
    files = {"study.py": flow("pass", top="import h"), "h.py": "def (1\n"}
    assert reached(files).differs(reached(other(files, "1")), "start") == "code that start may use changed: h.py"


def test_names_that_a_step_asks_its_flow_for(reached: Callable[..., Reached]) -> None:
    assert "alpha" in (reached({"study.py": flow("print(self.alpha)")}).attributes or ())
    assert "alpha" in (reached({"study.py": flow("getattr(self, 'alpha')")}).attributes or ())
    assert reached({"study.py": flow("print(self)")}).attributes is None
    assert reached({"study.py": flow("getattr(self, name)")}).attributes is None


class Held:
    """Stands in a pickle."""


@pytest.mark.parametrize("protocol", range(6))
def test_what_a_pickle_refers_to_is_read_off_it(store: Store, protocol: int) -> None:
    value = [Held(), {"x": (Held(), 3, "tests.engine.test_fingerprint")}, Path]
    digest: Digest = store.put(pickle.dumps(value, protocol))
    artifact = {"parts": [{"digest": digest, "size": 1}]}
    assert references(store, artifact, [__name__, "other"]) == {(__name__, "Held")}
    text = {"parts": [{"digest": store.put(pickle.dumps([__name__, "Held"], protocol)), "size": 1}]}
    assert references(store, text, [__name__]) == frozenset()
