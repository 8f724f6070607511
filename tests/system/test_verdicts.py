"""A replay of each flow of the corpus gets the verdict that it must get, and says why."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import jsonschema
import pytest
from tests.conftest import Commands
from tests.system.test_environments import fixture

ROOT = Path(__file__).parents[2]
corpus: ModuleType = fixture("replay/corpus.py")
SCHEMA = json.loads((ROOT / "docs/spec/schemas/verdict-1.json").read_text())
EXIT = {"identical": 0, "equivalent": 0, "within_tolerance": 0, "not_comparable": 1, "different": 1}


@pytest.mark.parametrize("name", corpus.CORPUS)
def test_each_flow_gets_its_verdict(stillrun: Commands, name: str, tmp_path: Path) -> None:
    sample = corpus.CORPUS[name]
    stillrun.write("judged.py", corpus.flow(sample))
    stillrun.write("data.txt", "kept\n")
    stillrun.variables.update(sample.variables, MARK=str(tmp_path / "mark"))
    done = stillrun("run", "judged.py", "--json")
    assert done.code == (1 if sample.fails else 0), done.err
    for variable, _ in sample.variables:
        del stillrun.variables[variable]
    replayed = stillrun("replay", done.json["run"], "--compare-limit", "3", "--json")
    assert replayed.code in EXIT.values(), replayed.err
    verdict = replayed.json["verdict"]
    told = {(one["step"], one["name"]): one for one in replayed.json["artifacts"]}
    assert verdict in sample.verdict.split("|"), told
    assert replayed.code == EXIT[verdict]
    wanted = sample.artifact or ("none" if sample.fails else verdict)
    result = told.get(("start", "result"))
    assert (result["verdict"] if result else "none") == wanted
    if sample.says:
        assert sample.says in (result["reason"] or "")
    record = {key: value for key, value in replayed.json.items() if key not in ("run", "wall_us")}
    jsonschema.validate(record, SCHEMA)
    assert (record["first_divergence"] is None) == (EXIT[verdict] == 0)
    summary = stillrun("replay", f"{done.json['run']}/start", "--quiet", "--compare-limit", "1")
    assert len((summary.out + summary.err).strip().splitlines()) <= 15
