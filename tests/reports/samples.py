"""Flows whose runs the reports are tried on, each of one shape; made with the real command on a store of its own."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.conftest import Commands

LINEAR = '''
"""Fits a line."""
from stillrun import FlowSpec, Parameter, step


class Linear(FlowSpec):
    """Fits a straight line to a few numbers."""

    slope = Parameter("slope", default=3, help="what the line rises by")
    points = Parameter("points", default=20)

    @step
    def start(self):
        """Make the points."""
        with open("offset.txt") as file:
            self.offset = int(file.read())
        self.data = [(x, self.slope * x + self.offset) for x in range(self.points)]
        self.next(self.fit)

    @step
    def fit(self):
        """Least squares, by hand."""
        n = len(self.data)
        mean_x = sum(x for x, _ in self.data) / n
        mean_y = sum(y for _, y in self.data) / n
        above = sum((x - mean_x) * (y - mean_y) for x, y in self.data)
        self.model = {"slope": above / sum((x - mean_x) ** 2 for x, _ in self.data)}
        print("fitted", self.model)
        self.next(self.end)

    @step
    def end(self):
        self.error = abs(self.model["slope"] - self.slope)
        print("error", self.error)


if __name__ == "__main__":
    Linear()
'''

BRANCH = """
from stillrun import FlowSpec, step


class Branch(FlowSpec):
    @step
    def start(self):
        self.numbers = [4, 8, 15, 16, 23, 42]
        self.next(self.mean, self.median, self.spread)

    @step
    def mean(self):
        self.value = sum(self.numbers) / len(self.numbers)
        self.next(self.join)

    @step
    def median(self):
        self.value = sorted(self.numbers)[len(self.numbers) // 2]
        self.next(self.join)

    @step
    def spread(self):
        self.value = max(self.numbers) - min(self.numbers)
        self.next(self.join)

    @step
    def join(self, inputs):
        self.summary = [branch.value for branch in inputs]
        self.merge_artifacts(inputs, include=["numbers"])
        self.next(self.end)

    @step
    def end(self):
        print(self.summary)


if __name__ == "__main__":
    Branch()
"""

FOREACH = """
import os
from stillrun import FlowSpec, Parameter, step


class Foreach(FlowSpec):
    count = Parameter("count", default=8)
    chance = Parameter("chance", default=0)

    @step
    def start(self):
        self.items = list(range(self.count))
        self.next(self.square, foreach="items")

    @step
    def square(self):
        self.result = self.input ** 2
        if self.chance and self.input % 3 == 1:
            self.drawn = os.urandom(4).hex()
        self.next(self.join)

    @step
    def join(self, inputs):
        self.total = sum(task.result for task in inputs)
        self.next(self.end)

    @step
    def end(self):
        print("total", self.total)


if __name__ == "__main__":
    Foreach()
"""

FAILED = """
from stillrun import FlowSpec, retry, step


class Failed(FlowSpec):
    @step
    def start(self):
        self.rows = [1, 2, 0]
        self.next(self.divide)

    @retry(times=1, minutes_between_retries=0)
    @step
    def divide(self):
        print("dividing", self.rows)
        self.parts = [6 // row for row in self.rows]
        self.next(self.end)

    @step
    def end(self):
        pass


if __name__ == "__main__":
    Failed()
"""

STOPPED = """
import os
import time
from stillrun import FlowSpec, step


class Stopped(FlowSpec):
    @step
    def start(self):
        self.ready = True
        self.next(self.wait)

    @step
    def wait(self):
        if os.path.exists("slow"):
            with open("waiting", "w") as file:
                file.write("yes")
            time.sleep(600)
        self.waited = True
        self.next(self.end)

    @step
    def end(self):
        print("done")


if __name__ == "__main__":
    Stopped()
"""

UNICODE = '''
from stillrun import FlowSpec, Parameter, step


class Größe(FlowSpec):
    """Ελληνικά, עברית, 日本語 and <script>alert(1)</script> in one flow."""

    größe = Parameter("größe", default="<b>π ≈ 3.14159</b> & \\u202eevil")

    @step
    def start(self):
        setattr(self, "данные", ["日本語", "עברית", "<img src=x onerror=alert(1)>"])
        setattr(self, "<script>alert(document.title)</script>", "named to run")
        print("\\x1b[31mred\\x1b[0m \\x1b]0;owned\\x07 <script>alert(2)</script> ünïcödé")
        self.next(self.числа)

    @step
    def числа(self):
        self.сумма = sum(range(7))
        self.next(self.end)

    @step
    def end(self):
        self.note = "</script><script>alert(3)</script> --> | `code` [link](javascript:alert(4))"


if __name__ == "__main__":
    Größe()
'''

FLOWS: Mapping[str, str] = {
    "linear.py": LINEAR,
    "branch.py": BRANCH,
    "foreach.py": FOREACH,
    "failed.py": FAILED,
    "stopped.py": STOPPED,
    "unicode.py": UNICODE,
}


@dataclass
class Samples:
    """A folder of flows and a store; what was run in it by the sample's name, and reports that were made of it."""

    cwd: Path
    store: Path
    runs: dict[str, str] = field(default_factory=dict)
    reports: dict[str, dict[str, Any]] = field(default_factory=dict)

    def prepare(self) -> Samples:
        """Write the flows."""
        self.cwd.mkdir(parents=True, exist_ok=True)
        for name, text in FLOWS.items():
            (self.cwd / name).write_text(text.lstrip(), encoding="utf-8")
        (self.cwd / "offset.txt").write_text("5\n")
        return self

    def command(self, *arguments: str, code: int | None = 0) -> dict[str, object]:
        """What a command answers with --json."""
        done = self.commands(*arguments, "--json")
        assert code is None or done.code == code, done.out + done.err
        return done.json if done.out.strip() else {}

    @property
    def commands(self) -> Commands:
        """The command, there."""
        return Commands(self.cwd, self.store)

    def make(self, name: str) -> str:
        """FLOW/RUN of the sample, run when it has not been."""
        if name not in self.runs:
            self.runs[name] = getattr(self, f"_{name}")()
        return self.runs[name]

    def _linear(self) -> str:
        return str(self.command("run", "linear.py")["run"])

    def _branch(self) -> str:
        return str(self.command("run", "branch.py")["run"])

    def _foreach(self) -> str:
        return str(self.command("run", "foreach.py")["run"])

    def _failed(self) -> str:
        return str(self.command("run", "failed.py", code=1)["run"])

    def _unicode(self) -> str:
        return str(self.command("run", "unicode.py")["run"])

    def _different(self) -> str:
        """A run whose replay came out otherwise: chance that nobody declared."""
        run = str(self.command("run", "foreach.py", "--chance", "1")["run"])
        self.runs["replay_of_different"] = str(self.command("replay", run, code=1)["run"])
        return run

    def _interrupted(self) -> str:
        (self.cwd / "slow").write_text("")
        before = self._names("Stopped")
        process = self.commands.start("run", "stopped.py", "--json")
        while not (self.cwd / "waiting").exists() and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        process.communicate()
        for name in ("slow", "waiting"):
            with contextlib.suppress(FileNotFoundError):
                (self.cwd / name).unlink()
        return (self._names("Stopped") - before).pop()

    def _resumed(self) -> str:
        return str(self.command("resume", self.make("interrupted"))["run"])

    def _names(self, flow: str) -> set[str]:
        found = self.command("list", code=None).get("runs", [])
        assert isinstance(found, list)
        return {str(one["run"]) for one in found if str(one["run"]).startswith(flow + "/")}
