"""Whole processes timed from outside: wall clock, CPU of the process and all it waited for, peak memory."""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Command", "Sample", "alternate", "median"]


@dataclass(frozen=True)
class Sample:
    """One run of one command, in seconds and KiB."""

    wall: float
    cpu: float
    peak_kib: int


@dataclass(frozen=True)
class Command:
    """What is run, where, and what is done before each run, untimed."""

    words: Sequence[str | Path]
    cwd: Path
    variables: Mapping[str, str]
    before: Callable[[], None] = lambda: None

    def run(self) -> Sample:
        """Run it once; it must succeed."""
        self.before()
        begun = time.perf_counter()
        process = subprocess.Popen(
            [str(w) for w in self.words],
            cwd=self.cwd,
            env=dict(self.variables),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert process.stdout is not None
        said = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - begun
        if status != 0:
            raise SystemExit(f"{' '.join(map(str, self.words))} failed:\n{said.decode(errors='replace')}")
        process.returncode = 0
        return Sample(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss)


def alternate(commands: Mapping[str, Command], rounds: int, warmups: int = 1) -> dict[str, list[Sample]]:
    """A B A B ...: what slows the machine for a while slows both."""
    for _ in range(warmups):
        for command in commands.values():
            command.run()
    samples: dict[str, list[Sample]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            samples[name].append(command.run())
    return samples


def median(samples: Sequence[Sample], figure: str) -> float:
    """The median of one figure: 'wall', 'cpu' or 'peak_kib'."""
    return statistics.median(getattr(sample, figure) for sample in samples)
