"""Real runs of every shape that evidence is written of, made once for all tests by the real command."""

from __future__ import annotations

import signal
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.conftest import Commands

from stillrun_engine.archive import KeptRun, open_run
from stillrun_engine.pathspec import parse_pathspec
from stillrun_reports.evidence.bom import environment_bom, run_bom
from stillrun_reports.evidence.crate import write_crate
from stillrun_reports.evidence.dossier import Dossier, dossier_of
from stillrun_reports.evidence.junit import junit_text
from stillrun_reports.evidence.prov import prov_text
from stillrun_reports.evidence.statements import write_statements
from stillrun_reports.evidence.summary import summary_text
from stillrun_snapshot.store import Store

__all__ = ["SHAPES", "Kept", "Shape", "greeted", "made"]

LINEAR = '''
from stillrun import FlowSpec, Parameter, step

class Linear(FlowSpec):
    """Adds things up."""
    amount = Parameter("amount", default=3)
    name = Parameter("name", default="<b>|`x`|</b>")
    RATE = 2
    @step
    def start(self):
        self.table = open("data.txt").read()
        print("begin <script>alert(1)</script>", "\\x1b[31mred")
        self.next(self.end)
    @step
    def end(self):
        self.total = self.amount * self.RATE
'''
BRANCH = """
from stillrun import FlowSpec, step

class Branch(FlowSpec):
    @step
    def start(self):
        self.x = 1
        self.next(self.left, self.right)
    @step
    def left(self):
        self.y = self.x + 1
        self.next(self.join)
    @step
    def right(self):
        self.y = self.x + 2
        self.next(self.join)
    @step
    def join(self, inputs):
        self.y = [one.y for one in inputs]
        self.next(self.end)
    @step
    def end(self):
        pass
"""
FOREACH = """
from stillrun import FlowSpec, step

class Each(FlowSpec):
    @step
    def start(self):
        self.items = ["a", "b", "c"]
        self.big = bytearray(b"z" * 300_000)
        self.next(self.one, foreach="items")
    @step
    def one(self):
        self.made = self.input * 3
        self.next(self.join)
    @step
    def join(self, inputs):
        self.all = [one.made for one in inputs]
        self.next(self.end)
    @step
    def end(self):
        pass
"""
FAILED = """
from stillrun import FlowSpec, step

class Failed(FlowSpec):
    @step
    def start(self):
        self.x = 1
        self.next(self.middle)
    @step
    def middle(self):
        raise ValueError("no <b>good</b> | `today` \\x1b[2J")
        self.next(self.end)
    @step
    def end(self):
        pass
"""
SLEEPS = """
import time
from stillrun import FlowSpec, step

class Sleeps(FlowSpec):
    @step
    def start(self):
        self.x = 1
        self.next(self.long)
    @step
    def long(self):
        open("begun", "w").close()
        time.sleep(100)
        self.next(self.end)
    @step
    def end(self):
        pass
"""
FIRST = """
import time
from stillrun import FlowSpec, step

class First(FlowSpec):
    @step
    def start(self):
        open("begun", "w").close()
        time.sleep(100)
        self.next(self.end)
    @step
    def end(self):
        pass
"""
CONDA = """
from stillrun import FlowSpec, conda, step

class Greets(FlowSpec):
    @conda(packages={{"greet": "<2"}}, channels=["{channel}"])
    @step
    def start(self):
        import greet
        self.said = greet.hello()
        self.next(self.end)
    @step
    def end(self):
        pass
"""
RESUMED = """
import os
from stillrun import FlowSpec, step

class Resumed(FlowSpec):
    @step
    def start(self):
        self.x = 1
        self.next(self.end)
    @step
    def end(self):
        assert os.path.exists("ready")
        self.y = self.x
"""
DIFFERS = """
import os, time
from stillrun import FlowSpec, step, volatile

class Differs(FlowSpec):
    @step
    def start(self):
        self.chance = os.urandom(8).hex()
        self.same = 4
        self.next(self.end)
    @volatile("when")
    @step
    def end(self):
        self.when = time.time()
"""
UNICODE = '''
from stillrun import FlowSpec, Parameter, step

class Größe(FlowSpec):
    """Messung der Größe: 測定 <&>."""
    länge = Parameter("länge", default="naïve 測定 \\u202e")
    @step
    def start(self):
        self.données = "é" * 3
        print("測定 ✓")
        self.next(self.步骤)
    @step
    def 步骤(self):
        setattr(self, "été", {"ключ": 1})
        setattr(self, "<script>alert(1)</script>", "</script><b>`x`")
        setattr(self, "../../up \x1b[2J", "up")
        self.next(self.end)
    @step
    def end(self):
        pass
'''


@dataclass(frozen=True)
class Shape:
    """One run, and the replay that judged it where there is one."""

    name: str
    run: str
    replay: str | None = None


SHAPES = (
    "linear",
    "branch",
    "foreach",
    "failed",
    "interrupted",
    "killed",
    "resumed",
    "replayed",
    "different",
    "unicode",
)


def made(commands: Commands, name: str) -> Shape:
    """Make the run of that name in the commands' store."""
    if name in ("interrupted", "killed", "nothing"):
        return Shape(name, _stopped(commands, name))
    if name == "failed":
        return Shape(name, _ended(commands, "failed.py", FAILED, 1))
    if name == "resumed":
        first = _ended(commands, "resumed.py", RESUMED, 1)
        commands.write("ready", "")
        done = commands("resume", first, "--json")
        assert done.code == 0, done.err
        return Shape(name, done.json["run"])
    commands.write("data.txt", "1,2\n")
    commands.write("übung größe/lies mich #1.txt", "kept with the code\n")
    texts = {"linear": LINEAR, "replayed": LINEAR, "branch": BRANCH, "foreach": FOREACH, "different": DIFFERS}
    file = {"unicode": "größe flow.py"}.get(name, f"{name}.py")
    run = _ended(commands, file, texts.get(name, UNICODE), 0)
    if name not in ("replayed", "different"):
        return Shape(name, run)
    done = commands("replay", run, "--json")
    assert done.code == (1 if name == "different" else 0), done.err
    return Shape(name, run, done.json["run"])


def greeted(commands: Commands, channel: Path) -> str:
    """A run with a conda environment from a channel in a folder; FLOW/RUN."""
    return _ended(commands, "greets.py", CONDA.format(channel=channel.as_uri()), 0)


def _ended(commands: Commands, file: str, text: str, code: int) -> str:
    commands.write(file, text)
    done = commands("run", file, "--json")
    assert done.code == code, done.err
    run: str = done.json["run"]
    return run


def _stopped(commands: Commands, name: str) -> str:
    commands.write("sleeps.py", FIRST if name == "nothing" else SLEEPS)
    begun: Path = commands.cwd / "begun"
    begun.unlink(missing_ok=True)
    process = commands.start("run", "sleeps.py", "--json")
    while not begun.exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    time.sleep(0.6 if name == "killed" else 0)  # by then the first task's ref is durable, as run.md says
    process.send_signal(signal.SIGTERM if name == "interrupted" else signal.SIGKILL)
    process.communicate(timeout=60)
    runs, flow = commands("list", "--json").json["runs"], "First/" if name == "nothing" else "Sleeps/"
    run: str = max(one["run"] for one in runs if one["run"].startswith(flow))
    return run


@dataclass
class Kept:
    """Runs of every shape in one store, each made when it is first asked for."""

    commands: Commands
    store: Store
    shapes: dict[str, Shape] = field(default_factory=dict)

    def shape(self, name: str) -> Shape:
        """The run of that name."""
        if name not in self.shapes:
            self.shapes[name] = made(self.commands, name)
        return self.shapes[name]

    def run(self, name: str) -> KeptRun:
        """The run, read from the store."""
        return open_run(self.store, parse_pathspec(self.shape(name).run, least=2, most=2))

    def dossier(self, name: str) -> Dossier:
        """All that is known of it, with its replay's verdict where there is one."""
        replay = self.shape(name).replay
        replays = [open_run(self.store, parse_pathspec(replay, least=2, most=2))] if replay else []
        return dossier_of(self.run(name), replays)

    def audited(self, name: str, folder: Path) -> Path:
        """All evidence of a run, as an audit writes it."""
        folder.mkdir(parents=True)
        dossier = self.dossier(name)
        write_crate(dossier, folder / "ro-crate")
        write_statements(dossier, folder)
        for one in dossier.environments:
            (folder / f"environment-{one.name.hex[:12]}.cdx.json").write_text(environment_bom(dossier, one))
        texts = {"bom.cdx.json": run_bom, "prov.json": prov_text, "junit.xml": junit_text, "summary.md": summary_text}
        for file, write in texts.items():
            (folder / file).write_text(write(dossier))
        return folder
