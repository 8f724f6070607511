"""The client beside Metaflow's: the tasks of one step listed, and one value of each read, in processes of their own."""

from __future__ import annotations

import json
import statistics
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["client"]

SCRIPT = Path(__file__).parent / "read_values.py"


def client(
    ours: tuple[Path, Mapping[str, str]], theirs: tuple[Path, Mapping[str, str]], work: Path, rounds: int
) -> None:
    """Print the figures as lines of a table. ours, theirs: an interpreter and its variables; their runs are there."""
    found = {"ours": [_read(*ours, work)], "theirs": [_read(*theirs, work)]}
    for _ in range(rounds - 1):
        found["ours"].append(_read(*ours, work))
        found["theirs"].append(_read(*theirs, work))
    middle = {
        who: {name: statistics.median(sample[name] for sample in samples) for name in samples[0]}
        for who, samples in found.items()
    }
    mine, other = middle["ours"], middle["theirs"]
    times = mine["tasks"] / other["tasks"]
    note = f"measured at {other['tasks']:,.0f} tasks, times {times:.0f}"
    for name, what in (("list", "tasks listed"), ("values", "tasks listed and one value of each read")):
        print(
            f"| {mine['tasks']:,.0f} {what} | {mine[name]:.3g} s | {other[name] * times:.3g} s ({note}) "
            f"| {other[name] * times / mine[name]:.0f}x | {'20x, 2 s' if name == 'values' else ''} |"
        )
    print(f"| peak memory of that process | {mine['peak_mib']:.0f} MiB | | | |")


def _read(python: Path, variables: Mapping[str, str], work: Path) -> dict[str, Any]:
    done = subprocess.run([python, SCRIPT], env=dict(variables), cwd=work, check=True, capture_output=True, text=True)
    sample: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return sample
