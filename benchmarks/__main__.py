"""The comparisons, printed as a table of medians and ratios. Metaflow comes from the package index, in a venv of its own."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.audit import audit
from benchmarks.client import client
from benchmarks.environments import environments
from benchmarks.judging import judging
from benchmarks.measure import Command, alternate, median
from benchmarks.remotes import remotes
from benchmarks.store import store
from benchmarks.upkeep import upkeep

ROOT = Path(__file__).parent
CACHE = ROOT.parent / ".cache" / "benchmarks"
ROUNDS = int(os.environ.get("ROUNDS", "5"))
OURS, THEIRS = "stillrun", "metaflow"


@dataclass(frozen=True)
class Bench:
    """Both products, each in a venv of its own with numpy, and a scratch folder."""

    stillrun: Path
    metaflow: Path
    work: Path
    flows: Path

    def variables(self, **more: str) -> dict[str, str]:
        """A quiet environment with folders of our own."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("STILLRUN_", "METAFLOW_", "PYTHONDONT"))}
        return {
            **kept,
            "STILLRUN_STORE": str(self.work / "store"),
            "METAFLOW_DATASTORE_SYSROOT_LOCAL": str(self.work / "metaflow"),
            "USERNAME": "bench",
            **more,
        }

    def flow(self, name: str, *options: str, **variables: str) -> dict[str, Command]:
        """The same flow under both."""
        file = self.flows / f"{name}.py"
        env = self.variables(**variables)
        return {
            OURS: Command([self.stillrun, file, "run", *options], self.work, env),
            THEIRS: Command([self.metaflow, file, "run", *options], self.work, env),
        }


def venv(name: str, *packages: str) -> Path:
    """The interpreter of a venv in the cache, made once."""
    folder = CACHE / name
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        uv = shutil.which("uv") or str(Path(sys.executable).parent / "uv")
        subprocess.run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, folder], check=True)
        subprocess.run(
            [uv, "pip", "install", "--quiet", "--compile-bytecode", "--python", python, *packages], check=True
        )
        (folder / "ready").touch()
    return python


def row(what: str, ours: float, theirs: float, unit: str, goal: str) -> None:
    print(f"| {what} | {ours:.4g} {unit} | {theirs:.4g} {unit} | {theirs / ours:.1f}x | {goal} |", flush=True)


def imports(bench: Bench) -> None:
    env = bench.variables()
    found = alternate(
        {
            "pass": Command([bench.stillrun, "-c", "pass"], bench.work, env),
            OURS: Command([bench.stillrun, "-c", "import stillrun"], bench.work, env),
            THEIRS: Command([bench.metaflow, "-c", "import metaflow"], bench.work, env),
            "click": Command([bench.stillrun, "-c", "import click, rich"], bench.work, env),
            "help": Command([bench.stillrun.parent / "stillrun", "--help"], bench.work, env),
        },
        4 * ROUNDS,
    )
    wall = {name: median(samples, "wall") * 1000 for name, samples in found.items()}
    row("import, whole process", wall[OURS], wall[THEIRS], "ms", "20x")
    row("import, less `python -c pass`", max(wall[OURS] - wall["pass"], 0.1), wall[THEIRS] - wall["pass"], "ms", "20x")
    row(
        "`stillrun --help` (theirs: `import click, rich`)",
        wall["help"],
        wall["click"],
        "ms",
        "help <= 3 x pass + click and rich",
    )
    print(f"| `python -c pass` | {wall['pass']:.4g} ms | | | |")


def linear(bench: Bench) -> None:
    found = alternate(bench.flow("linear_flow"), ROUNDS)
    row("5-step linear flow, wall", median(found[OURS], "wall"), median(found[THEIRS], "wall"), "s", "15x")
    row("5-step linear flow, CPU", median(found[OURS], "cpu"), median(found[THEIRS], "cpu"), "s", "")


def startup(bench: Bench) -> None:
    """From the command to the first line of the first task, of a flow that has run before."""
    begun = bench.work / "begun"
    flow = Command(
        [bench.stillrun, bench.flows / "first_task.py", "run"], bench.work, bench.variables(BEGUN=str(begun))
    )
    least = Command([bench.stillrun, "-c", "import stillrun"], bench.work, bench.variables())
    flow.run()
    waits, imports_ = [], []
    for _ in range(3 * ROUNDS):
        started = time.time()
        flow.run()
        waits.append(float(begun.read_text()) - started)
        imports_.append(least.run().wall)
    ours, floor = statistics.median(waits) * 1000, statistics.median(imports_) * 1000
    print(
        "| command to first task, unchanged flow; beside `python -c 'import stillrun'` "
        f"| {ours:.4g} ms | {floor:.4g} ms | {ours / floor:.1f} of it | at most 5 |"
    )


def foreach(bench: Bench) -> None:
    rounds = max(1, ROUNDS // 3)
    found = alternate(bench.flow("wide_foreach", "--max-workers", "2", WIDTH="100"), rounds, warmups=0)
    row("foreach of 100, wall", median(found[OURS], "wall"), median(found[THEIRS], "wall"), "s", "")
    theirs = median(found[THEIRS], "cpu") / 103
    bare = Command([bench.stillrun, bench.flows / "bare_fork.py"], bench.work, bench.variables(WIDTH="1000"))
    wide = bench.flow("wide_foreach", "--max-workers", "2", WIDTH="1000")[OURS]
    one = bench.flow("wide_foreach", "--max-workers", "2", WIDTH="1")[OURS]
    ours = alternate({OURS: wide, "bare": bare, "one": one}, rounds, warmups=0)
    whole = median(ours[OURS], "cpu") / 1003
    row("foreach of 1000, CPU a task, start-up included (theirs of 100)", whole * 1e3, theirs * 1e3, "ms", "100x")
    task, least = (median(ours[OURS], "cpu") - median(ours["one"], "cpu")) / 999, median(ours["bare"], "cpu") / 1000
    print(
        f"| the same, start-up taken off, beside a bare fork + hash + write | {task * 1e3:.3g} ms | {least * 1e3:.3g} ms "
        f"| {task / least:.1f} of it | at most 3 |"
    )


def hundred_thousand(bench: Bench) -> None:
    """A foreach of 10,000 and one of 100,000 tasks: whether time and memory grow with the number, and how far."""
    small, large = (
        bench.flow("wide_foreach", "--max-workers", "2", WIDTH=width)[OURS].run() for width in ("10000", "100000")
    )
    print(
        f"| foreach of 100,000, wall; beside ten times one of 10,000 | {large.wall:.0f} s | {small.wall * 10:.0f} s "
        f"| {large.wall / small.wall / 10:.2f} of it | linear |"
    )
    print(f"| peak memory of its engine | {large.peak_kib / 1024:.0f} MiB | | | 500 MB |")


def array(bench: Bench) -> None:
    rounds = max(1, ROUNDS // 2)
    floor = Command([bench.stillrun, bench.flows / "floor.py"], bench.work, bench.variables())
    found = alternate({**bench.flow("keep_array"), "floor": floor}, rounds, warmups=1)
    row("200 MB array kept and read, wall", median(found[OURS], "wall"), median(found[THEIRS], "wall"), "s", "40x")
    row("200 MB array kept and read, CPU", median(found[OURS], "cpu"), median(found[THEIRS], "cpu"), "s", "")
    ours, least = median(found[OURS], "wall"), median(found["floor"], "wall")
    print(f"| 200 MB array, wall, beside one plain script that does the same | {ours:.4g} s | {least:.4g} s | | |")
    peaks = [task["usage"]["max_rss_kib"] for task in shown(bench, "ArrayFlow/latest")["tasks"]]
    print(
        f"| peak memory of its tasks | {peaks[0] / 1024:.0f} and {peaks[1] / 1024:.0f} MiB "
        "(the array: 191 MiB) | | | 1.3 x the array + interpreter |"
    )


def disk(bench: Bench) -> None:
    sizes = {}
    for name, folder in ((OURS, "store"), (THEIRS, "metaflow")):
        for width in ("10", "60"):
            shutil.rmtree(bench.work / folder, ignore_errors=True)
            bench.flow("wide_foreach", WIDTH=width)[name].run()
            sizes[name, width] = usage(bench.work / folder)
    per = {
        name: [(b - a) / 50 for a, b in zip(sizes[name, "10"], sizes[name, "60"], strict=True)]
        for name in (OURS, THEIRS)
    }
    row("disk a trivial task, blocks", per[OURS][0] / 1024, per[THEIRS][0] / 1024, "KiB", "<= 4 KB")
    print(f"| files a trivial task | {per[OURS][1]:.2f} | {per[THEIRS][1]:.2f} | | <= 2 |")


def replay(bench: Bench) -> None:
    env = bench.variables()
    bench.flow("linear_flow")[OURS].run()
    command = Command([bench.stillrun, "-m", "stillrun_cli", "replay", "LinearFlow/latest/b"], bench.work, env)
    found = alternate({OURS: command}, ROUNDS)
    print(
        "| replay of one trivial step, environment built, whole command "
        f"| {median(found[OURS], 'wall'):.3f} s | | | step + 0.5 s |"
    )


def built(bench: Bench) -> None:
    environments(bench.work / "environments", ROUNDS)


def judged(bench: Bench) -> None:
    judging(bench.work / "judging", bench.flows, ROUNDS)


def upkept(bench: Bench) -> None:
    upkeep(bench.work / "upkeep", ROUNDS)


def stored(bench: Bench) -> None:
    store(bench.work / "store-beside", ROUNDS)


def client_read(bench: Bench) -> None:
    bench.flow("wide_foreach", WIDTH="10000")[OURS].run()
    bench.flow("wide_foreach", WIDTH="100")[THEIRS].run()
    client((bench.stillrun, bench.variables()), (bench.metaflow, bench.variables()), bench.work, ROUNDS)


def shared(bench: Bench) -> None:
    remotes(bench.work / "remotes", ROUNDS)


def usage(folder: Path) -> tuple[int, int]:
    """Bytes of disk blocks and number of files below ``folder``, built environments and interpreters left out."""
    skipped = {"envs", "pythons", "trees", "cache"}
    files = [p for p in folder.rglob("*") if p.is_file() and p.relative_to(folder).parts[0] not in skipped]
    return sum(p.stat().st_blocks * 512 for p in files), len(files)


def shown(bench: Bench, pathspec: str) -> dict:  # type: ignore[type-arg] # JSON
    words = [bench.stillrun, "-m", "stillrun_cli", "show", pathspec, "--json"]
    return json.loads(subprocess.run(words, env=bench.variables(), check=True, capture_output=True).stdout)  # type: ignore[no-any-return]


ALL: dict[str, Callable[[Bench], None]] = {
    "imports": imports,
    "linear": linear,
    "startup": startup,
    "foreach": foreach,
    "hundred_thousand": hundred_thousand,
    "array": array,
    "disk": disk,
    "replay": replay,
    "environments": built,
    "judging": judged,
    "upkeep": upkept,
    "client": client_read,
    "remotes": shared,
    "store": stored,
}


def main() -> None:
    names = sys.argv[1:] or [
        name for name in ALL if name not in ("hundred_thousand", "store")
    ]  # long, or need other tools
    work = CACHE / "work"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    with project() as flows:
        compare(names, work, flows)


@contextmanager
def project() -> Iterator[Path]:
    """The flows in a folder of their own, as those of a user: what changes in this repository is not their code."""
    with tempfile.TemporaryDirectory(prefix="stillrun-benchmarks-") as folder:
        yield Path(shutil.copytree(ROOT / "flows", Path(folder) / "flows"))


def compare(names: Sequence[str], work: Path, flows: Path) -> None:
    """Print the table of these comparisons."""
    alone: dict[str, Callable[[], None]] = {  # they need neither product in a venv of its own
        "environments": lambda: environments(work / "environments", ROUNDS),
        "audit": lambda: audit(work / "audit", flows, ROUNDS),
        "judging": lambda: judging(work / "judging", flows, ROUNDS),
        "upkeep": lambda: upkeep(work / "upkeep", ROUNDS),
        "remotes": lambda: remotes(work / "remotes", ROUNDS),
        "store": lambda: store(work / "store", ROUNDS),
    }
    if set(names) <= alone.keys():
        print(f"| work (medians, {ROUNDS} rounds, {os.cpu_count()} cores) | {OURS} | other | ratio | goal |")
        print("|---|---|---|---|---|")
        for name in names:
            alone[name]()
        return
    bench = Bench(
        venv("stillrun", "--editable", str(ROOT.parent), "numpy"), venv("metaflow", "metaflow", "numpy"), work, flows
    )
    print(
        f"| work (medians, {ROUNDS} rounds, {os.cpu_count()} cores) | {OURS} | {THEIRS} | ratio | goal |\n|---|---|---|---|---|"
    )
    for name in names:
        ALL[name](bench)


if __name__ == "__main__":
    main()
