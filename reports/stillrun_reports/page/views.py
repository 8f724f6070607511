"""What the templates need of a report and it does not hold in that shape. Pure."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from math import inf
from statistics import median_low
from typing import Any

from stillrun_reports.graph import WORST_FIRST
from stillrun_reports.page.text import duration

__all__ = [
    "DIFFERENCES_MAX",
    "FILES_MAX",
    "GLOSSARY",
    "LOGS_MAX",
    "ROWS_MAX",
    "anchors_of",
    "beside",
    "blas",
    "by_step",
    "cells",
    "counted",
    "effects",
    "grouped",
    "is_wide",
    "middle",
    "powers",
    "quoted",
    "sample_object",
    "threads",
    "words_used",
    "worst_first",
]

Report = Mapping[str, Any]
Record = Mapping[str, Any]

ROWS_MAX = 10_000
FILES_MAX = 1000
LOGS_MAX = 20
DIFFERENCES_MAX = 60
_IN_ORDER = 50  # rows that are shown in their own order; of more the worst come first
_NAMES_MAX = 50
_BESIDE = 2  # steps on one level
TAKES_MAX = 12  # names of what a step was handed, of each that made some
_LOOSE = 65_536  # bytes from which an object is a file of its own (docs/spec/store.md)
_THREADS = re.compile(r"_NUM_THREADS$|^OPENBLAS_CORETYPE$")
_BLAS = re.compile(r"openblas|mkl|blis|libblas|accelerate|atlas", re.IGNORECASE)
_BUNDLING = frozenset({"numpy", "scipy"})  # wheels that bring a BLAS inside

GLOSSARY = (
    (
        "Artifact",
        "A value that a step put on itself: a number, a table, a model. Kept as bytes, named by their SHA-256.",
    ),
    ("Digest", "The SHA-256 of bytes. It changes when a single bit does, so that equal digests mean equal bytes."),
    ("Identical", "The replay made the very same bytes."),
    ("Equivalent", "Other bytes, the same value: for example a set in another order."),
    ("Within tolerance", "Numbers differ by no more than the flow granted before it ran."),
    ("Different", "A difference was found. Where, and by how much, is shown under Replay."),
    ("Not comparable", "Other bytes, and nothing tells whether the value is the same. It does not count as a pass."),
    ("Volatile", "Declared before the run to be another one each time, such as a time. It counts as nothing."),
    ("Replay", "Running recorded tasks again: same code, packages, interpreter and inputs, taken from the store."),
    ("Lock", "The list that names every package of an environment by the SHA-256 of its file."),
    ("Captured", "All that a replay needs is in the store: code, packages, interpreter, inputs."),
    ("Log", "The list of every change of every name in the store; each line holds the digest of the line before."),
)
"""Words of the page, for those who have not met them."""


def anchors_of(report: Report) -> dict[str, str]:
    """The ids of steps and environments on the page: our own words, whatever they are called."""
    steps = {step["step"]: f"step-{place}" for place, step in enumerate(report["steps"], 1)}
    return steps | {one["environment"]: f"environment-{place}" for place, one in enumerate(report["environments"], 1)}


def by_step(report: Report, what: str) -> dict[str, list[Record]]:
    """Tasks or artifacts by their step."""
    found: dict[str, list[Record]] = {}
    for one in report[what]:
        found.setdefault(one["step"], []).append(one)
    return found


def worst_first(rows: Sequence[Record]) -> list[Record]:
    """As many of ``rows`` as a table has room for, in their order when they are few, else the worst first."""
    if len(rows) <= _IN_ORDER:
        return list(rows)
    return sorted(rows, key=_badness)[:ROWS_MAX]


def _badness(row: Record) -> int:
    word = row["verdict"] or row.get("status") or "ok"
    return WORST_FIRST.index(word) if word in WORST_FIRST else len(WORST_FIRST)


def middle(tasks: Iterable[Record], field: str) -> int | None:
    """The median of a duration, of those that have one."""
    told = [task[field] for task in tasks if task[field] is not None]
    return median_low(told) if told else None


def grouped(rows: Iterable[Record], field: str) -> list[tuple[str, list[Record]]]:
    """Rows by a field, in the order in which its values are first met."""
    found: dict[str, list[Record]] = {}
    for row in rows:
        found.setdefault(str(row[field]), []).append(row)
    return list(found.items())


def powers(histogram: Mapping[str, int]) -> list[tuple[str, int]]:
    """A histogram by power of ten, the smallest first; what is no number comes last."""
    return sorted(histogram.items(), key=lambda item: _number(item[0]))


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return inf


def cells(row: object) -> str:
    """A row of a table as text: its cells by their columns."""
    if isinstance(row, Mapping):
        return ", ".join(f"{name}: {value}" for name, value in row.items())
    return str(row)


def is_wide(steps: Sequence[Record]) -> bool:
    """Whether a graph is too wide to stand beside its table: with more than two steps on one level."""
    return max(Counter(step["level"] for step in steps).values(), default=0) > _BESIDE


def counted(groups: Iterable[tuple[str, Sequence[object]]]) -> list[tuple[str, int]]:
    """How many stand in each group."""
    return [(name, len(of)) for name, of in groups]


def effects(tasks: Iterable[Record]) -> list[tuple[str, list[str]]]:
    """What tasks did that artifacts do not show: kind, and up to fifty names of it."""
    told: dict[str, set[str]] = {"files written": set(), "connected to": set(), "started": set()}
    for task in tasks:
        told["files written"].update(task["written"])
        told["connected to"].update(task["reached"].get("addresses", ()))
        told["started"].update(task["reached"].get("programs", ()))
    return [(kind, _named(sorted(names))) for kind, names in told.items() if names]


def _named(names: list[str]) -> list[str]:
    more = [f"and {len(names) - _NAMES_MAX:,} more"] if len(names) > _NAMES_MAX else []
    return names[:_NAMES_MAX] + more


def words_used(report: Report) -> list[str]:
    """The states that the graph shows, the worst first."""
    used = {word for step in report["steps"] for word in (step["states"] or {"not_run": 0})}
    return sorted(used, key=lambda word: WORST_FIRST.index(word) if word in WORST_FIRST else len(WORST_FIRST))


def threads(report: Report) -> str:
    """The recorded variables that say how many threads libraries start."""
    return ", ".join(f"{name}={value}" for name, value in report["run"]["variables"].items() if _THREADS.search(name))


def blas(environment: Record) -> str:
    """The linear algebra that the packages bring, as far as their names tell."""
    found = [
        f"{one['name']} {one['version']}"
        if _BLAS.search(one["name"])
        else f"the one inside {one['name']} {one['version']}"
        for one in environment["packages"]
        if _BLAS.search(one["name"]) or (one["name"] in _BUNDLING and one["manager"] == "pypi")
    ]
    return ", ".join(found) or "none among the packages"


def quoted(name: str) -> str:
    """A name as a shell takes it."""
    return shlex.quote(name)


def sample_object(report: Report) -> dict[str, str] | None:
    """An object that is a file of its own, for the reader to hash: the interpreter, else a package."""
    for one in report["environments"]:
        python = one["python"] or {}
        if python.get("digest"):
            hexadecimal = python["digest"].removeprefix("sha256:")
            return {"what": f"The interpreter, Python {python['version']}", "hex": hexadecimal}
        for package in one["packages"]:
            if package["kept"] and (package["size"] or 0) >= _LOOSE:
                hexadecimal = package["digest"].removeprefix("sha256:")
                return {"what": f"The package {package['name']} {package['version']}", "hex": hexadecimal}
    return None


def beside(report: Report) -> list[tuple[str, str, Any, Any]]:
    """Two runs row by row: kind, name, there, here. Equal values are the same on both sides."""
    other = report["comparison"]
    if other is None:
        return []
    return [
        *_parameters(report, other),
        *_code(other),
        *_packages(report, other),
        *_files(report, other),
        *_results(other),
        *_machine(report, other),
        *(("time in", one["step"], duration(one["before_us"]), duration(one["after_us"])) for one in other["times"]),
    ]


def _parameters(report: Report, other: Record) -> list[tuple[str, str, Any, Any]]:
    changed = {one["name"]: one for one in other["parameters"]}
    here = {one["name"]: one["text"] for one in report["parameters"] if one["kind"] == "parameter"}
    rows = []
    for name in sorted(here.keys() | changed.keys()):
        if name in changed:
            rows.append(("parameter", name, changed[name]["before"], changed[name]["after"]))
        else:
            rows.append(("parameter", name, here[name], here[name]))
    return rows


def _code(other: Record) -> list[tuple[str, str, Any, Any]]:
    rows: list[tuple[str, str, Any, Any]] = [
        (
            "code",
            one["path"],
            None if one["kind"] == "added" else "as it was",
            None if one["kind"] == "removed" else one["kind"],
        )
        for one in other["code"]
    ]
    rest = "all files" if not rows else "all other files"
    return [*rows, ("code", rest, "the same bytes", "the same bytes")]


def _packages(report: Report, other: Record) -> list[tuple[str, str, Any, Any]]:
    rows: list[tuple[str, str, Any, Any]] = []
    changed = {step for one in other["environments"] for step in one["steps"]}
    for one in other["environments"]:
        of = f"environment of {', '.join(one['steps'])}"
        if one["changes"] is None:
            rows.append((of, "", one["before"], one["after"]))
        rows += [
            (of, change["name"], change["before"] or None, change["after"] or None) for change in one["changes"] or ()
        ]
    same = [step for one in report["environments"] for step in one["steps"] if step not in changed]
    if same:
        rows.append(("environment of", ", ".join(same), "the same packages", "the same packages"))
    return rows


def _files(report: Report, other: Record) -> list[tuple[str, str, Any, Any]]:
    changed = {one["name"]: one for one in other["inputs"]}
    rows = [("input", name, one["before"], one["after"]) for name, one in changed.items()]
    paths = sorted({one["path"] for one in report["files"] if one["base"] != "system"} - changed.keys())
    return rows + [("input", path, "the same bytes", "the same bytes") for path in paths[:FILES_MAX]]


def _results(other: Record) -> list[tuple[str, str, Any, Any]]:
    identical = f"{other['counts'].get('identical', 0):,} artifacts"
    rows: list[tuple[str, str, Any, Any]] = [("results", "identical", identical, identical)]
    rows += [
        ("results", level.replace("_", " "), None, f"{count:,} artifacts")
        for level, count in other["counts"].items()
        if level != "identical"
    ]
    return rows + [("task", one["name"], one["before"], one["after"]) for one in other["tasks_of_one"]]


def _machine(report: Report, other: Record) -> list[tuple[str, str, Any, Any]]:
    changed = {one["name"] for one in other["machine"]}
    rows = [("machine", one["name"], one["before"], one["after"]) for one in other["machine"]]
    same = report["run"]["machine"].items()
    return rows + [("machine", name, str(value), str(value)) for name, value in same if name not in changed]
