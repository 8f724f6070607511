"""What tasks did that artifacts do not show: told beside the verdict, never part of it."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import urlsplit

from tests.conftest import Commands
from tests.system.test_environments import served

FLOW = """
import os
import socket
import subprocess
import tempfile
import urllib.request
from pathlib import Path

from stillrun import FlowSpec, step

class Reaching(FlowSpec):
    @step
    def start(self):
        Path("mine.txt").write_text("in its folder")
        Path(tempfile.gettempdir(), "reaching.tmp").write_text("temporary")
        self.items = [1, 2]
        self.next(self.fetch, foreach="items")

    @step
    def fetch(self):
        urllib.request.urlopen("{address}").read()
        subprocess.run(["true", "--token", "hunter2"])
        with socket.socket(socket.AF_UNIX) as unix:
            unix.connect_ex("{folder}/no.socket")
        Path("{folder}/out.csv").write_text("a,b")
        self.next(self.join)

    @step
    def join(self, inputs):
        os.system("exit 0")
        self.next(self.end)

    @step
    def end(self):
        pass
"""


def test_what_tasks_reach_is_told_beside_the_verdict(stillrun: Commands, tmp_path: Path) -> None:
    away = tmp_path / "away"
    away.mkdir()
    for folder in ("site/simple", "temporary"):
        (tmp_path / folder).mkdir(parents=True)
    stillrun.variables["TMPDIR"] = str(tmp_path / "temporary")
    with served(tmp_path / "site") as address:
        stillrun.write("reaching.py", FLOW.replace("{address}", address).replace("{folder}", str(away)))
        run = stillrun.run("reaching.py")
        done = stillrun("replay", run, "--json")
        told = stillrun("replay", run)
    assert done.code == 0, done.err
    assert {one["verdict"] for one in done.json["artifacts"]} == {"identical"}
    fetch, join = done.json["side_effects"]
    where = urlsplit(address)
    assert fetch == {
        "step": "fetch",
        "tasks": 2,
        "written": [f"{away}/out.csv"],
        "addresses": [f"{where.hostname}:{where.port}", f"unix:{away}/no.socket"],
        "programs": ["true"],
    }
    assert (join["step"], join["tasks"], join["programs"]) == ("join", 1, ["exit"])
    assert f"not judged: fetch wrote {away}/out.csv, connected to" in told.out
    assert "hunter2" not in json.dumps(done.json)


def test_a_quiet_run_has_none(stillrun: Commands) -> None:
    stillrun.write(
        "quiet.py",
        "from stillrun import FlowSpec, step\nclass Quiet(FlowSpec):\n    @step\n    def start(self):\n"
        "        self.next(self.end)\n    @step\n    def end(self):\n        pass\n",
    )
    done = stillrun("replay", stillrun.run("quiet.py"), "--json")
    assert done.json["side_effects"] == []
