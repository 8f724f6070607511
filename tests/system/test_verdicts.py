"""A replay of each flow of the corpus gets the verdict that it must get, and says why."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import jsonschema
import pytest
from tests.api.driver import pythons
from tests.conftest import Commands
from tests.system.test_environments import fixture

ROOT = Path(__file__).parents[2]
corpus: ModuleType = fixture("replay/corpus.py")
SCHEMA = json.loads((ROOT / "docs/spec/schemas/verdict-1.json").read_text())
EXIT = {"identical": 0, "equivalent": 0, "within_tolerance": 0, "not_comparable": 1, "different": 1}


LIBRARIES = ("cloudpickle", "numpy", "pandas", "sklearn", "scipy", "matplotlib", "PIL")
PLAIN = [name for name, sample in corpus.CORPUS.items() if not any(library in sample.body for library in LIBRARIES)]


def judged(commands: Commands, name: str, mark: Path, *options: str) -> str:
    """Run and replay a flow of the corpus and hold its verdict to what it must be; FLOW/RUN."""
    sample = corpus.CORPUS[name]
    commands.write("judged.py", corpus.flow(sample))
    commands.write("data.txt", "kept\n")
    commands.variables.update(sample.variables, MARK=str(mark))
    done = commands("run", "judged.py", *options, "--json")
    assert done.code == (1 if sample.fails else 0), done.err
    for variable, _ in sample.variables:
        del commands.variables[variable]
    replayed = commands("replay", done.json["run"], "--compare-limit", "3", "--json")
    assert replayed.code in EXIT.values(), replayed.err
    verdict = replayed.json["verdict"]
    told = {(one["step"], one["name"]): one for one in replayed.json["artifacts"]}
    assert verdict in sample.verdict.split("|"), (name, told)
    assert replayed.code == EXIT[verdict]
    wanted = sample.artifact or ("none" if sample.fails else verdict)
    result = told.get(("start", "result"))
    assert (result["verdict"] if result else "none") == wanted
    if sample.says:
        assert sample.says in (result["reason"] or "")
    record = {key: value for key, value in replayed.json.items() if key not in ("run", "wall_us")}
    jsonschema.validate(record, SCHEMA)
    assert (record["first_divergence"] is None) == (EXIT[verdict] == 0)
    run: str = done.json["run"]
    return run


SLOW = (
    "model",
    "model without a seed",
    "how long a search took",
    "grouped",
    "column",
    "rows",
    "cell",
    "sparse",
    "figure",
    "figure of chance",
    "a distribution",
)
"""Others of their kind are quick enough to be looked at each time."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in corpus.CORPUS]
)
def test_each_flow_gets_its_verdict(stillrun: Commands, name: str, tmp_path: Path) -> None:
    judged(stillrun, name, tmp_path / "mark")


def test_imports_do_not_count_towards_the_time_to_compare(stillrun: Commands, tmp_path: Path) -> None:
    slow = "import sys, time\nif 'stillrun.compare_jobs' in sys.modules:\n    time.sleep(2.5)\n"
    stillrun.write("slow.py", slow + "class Slow:\n    def __init__(self, a):\n        self.a = a\n")
    text = corpus.flow(
        corpus.Sample("import slow\nself.result = slow.Slow(1 + again())", "different"),
    )
    stillrun.write("judged.py", text)
    stillrun.variables["MARK"] = str(tmp_path / "mark")
    done = stillrun("replay", stillrun.run("judged.py"), "--compare-limit", "2", "--json")
    assert done.json["artifacts"][0]["reason"].startswith("result.a: 1 became 2")


def test_the_summary_stays_short(stillrun: Commands, tmp_path: Path) -> None:
    flow = corpus.flow(
        corpus.Sample("import random\nfor n in range(40):\n    setattr(self, f'a{n}', random.random())", "different")
    )
    stillrun.write("judged.py", flow)
    done = stillrun("replay", stillrun.run("judged.py"), "--quiet")
    assert done.code == 1
    assert len(done.out.strip().splitlines()) <= 15
    assert "... and 35 more; --json lists all" in done.out


def test_the_summary_shows_what_there_is_room_for(stillrun: Commands) -> None:
    body = "import random\nlines = [f'line {n}' for n in range(40)]\nlines[20:30] = [str(random.random()) for _ in range(10)]\n"
    body += "self.result = '\\n'.join(lines)\nself.other = 'one\\ntwo\\n' + str(random.random())"
    stillrun.write("judged.py", corpus.flow(corpus.Sample(body, "different")))
    done = stillrun("replay", stillrun.run("judged.py"), "--quiet")
    lines = done.out.strip().splitlines()
    assert done.code == 1 and 10 <= len(lines) <= 15
    assert "      @@ -20,12 +20,12 @@" in lines
    assert any(line.startswith("      ... ") for line in lines)
    assert lines[-1].endswith("exit code 1")


@pytest.mark.slow
@pytest.mark.parametrize("version", ["3.9", "3.10", "3.11", "3.12", "3.13"])
def test_every_python_gets_the_same_verdicts(lonely: Commands, version: str, tmp_path: Path) -> None:
    python = pythons().get(version)
    if python is None:
        pytest.skip(f"Python {version} is not on this machine")
    for number, name in enumerate(PLAIN):
        judged(lonely, name, tmp_path / str(number), "--python", python)
