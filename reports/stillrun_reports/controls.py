"""What a run is evidence of, clause by clause of texts that reviewers go by, and where that evidence ends. Pure.

The short forms of the clauses are ours. A run of a program can be evidence; it cannot make an organisation follow a rule.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from stillrun_snapshot.deferred import dataclass

__all__ = ["controls_of"]

Report = Mapping[str, Any]


@dataclass(frozen=True)
class _Clause:
    """One clause: what it asks in short, what here speaks to it, and what it asks that no record can show."""

    text: str
    clause: str
    asks: str
    evidence: Callable[[Report], tuple[str, str]]  # state and sentence
    where: str  # the section of the report
    limit: str


def controls_of(report: Report) -> list[dict[str, Any]]:
    """The control map. state: `shown`, `partly` or `not_shown` by this report."""
    found = []
    for one in _CLAUSES:
        state, evidence = one.evidence(report)
        told = {"text": one.text, "clause": one.clause, "asks": one.asks, "state": state, "evidence": evidence}
        found.append({**told, "where": one.where, "limit": one.limit})
    return found


def _reproduced(report: Report) -> tuple[str, str]:
    replay = report["replay"]
    if replay is None or any(replay["changed"].values()):
        return "not_shown", "No replay of the run as it was."
    word = report["verdict"]["word"].lower()
    if replay["verdict"] in ("identical", "equivalent", "within_tolerance"):
        return "partly", f"Replayed as {replay['run']}: {word}."
    return "not_shown", f"Replayed as {replay['run']}, and the result was: {word}."


def _independent(report: Report) -> tuple[str, str]:
    """A replay by somebody else on another machine shows it; one by the same people is half of it."""
    state, text = _reproduced(report)
    replay = report["replay"]
    if state != "partly":
        return state, text
    who = next((one["user"] for one in report["replays"] if one["run"] == replay["run"]), None)
    others = who is not None and who != report["run"]["user"]
    if others and not replay["machine"]["same"]:
        return "shown", f"{text[:-1]}, by {who} on another machine."
    return "partly", f"{text[:-1]}, {f'by {who}' if others else 'not known to be by somebody else'}."


def _copies(report: Report) -> tuple[str, str]:
    text = "This page for people, report.json for programs, and 'stillrun export' for all that was kept."
    return ("shown" if report["run"]["captured"] else "partly"), text


def _protected(report: Report) -> tuple[str, str]:
    integrity = report["integrity"]
    if not integrity["checked"]:
        return "not_shown", "Nothing was hashed for this report."
    if integrity["damaged_count"]:
        return "not_shown", f"{integrity['damaged_count']:,} objects are damaged or missing."
    return "shown", f"{integrity['objects']:,} objects were hashed, and each is what its name says."


def _trail(report: Report) -> tuple[str, str]:
    log = report["custody"]["log"]
    if log is None:
        return "not_shown", "There is no log."
    own = sum(one["count"] for one in report["custody"]["events"])
    return (
        "partly",
        f"{own:,} lines of a hash-chained log of {log['lines']:,} tell when each record of this run was made.",
    )


def _holding(report: Report) -> list[Mapping[str, Any]]:
    return [one for one in report["custody"]["signatures"] if one["standing"] in ("sound", "stranger")]


def _signed(report: Report) -> tuple[str, str]:
    holding, every = _holding(report), report["custody"]["signatures"]
    if not every:
        return "not_shown", "The run has no signature."
    if not holding:
        return "not_shown", f"Of {len(every)} signatures none counts."
    return "partly", f"Signatures that hold: {len(holding)} of {len(every)}, each with signer, time and meaning."


def _bound(report: Report) -> tuple[str, str]:
    holding, every = _holding(report), report["custody"]["signatures"]
    if not every:
        return "not_shown", "The run has no signature."
    text = f"{len(holding)} of {len(every)} signatures were checked to be over the digest of this run's record."
    return ("shown" if len(holding) == len(every) else "partly" if holding else "not_shown"), text


def _logged(report: Report) -> tuple[str, str]:
    tasks = len(report["tasks"])
    return "shown", f"{tasks:,} tasks with begin, end, inputs, results and what they wrote, recorded as they ran."


def _kept_since(report: Report) -> tuple[str, str]:
    return "partly", f"Kept since {report['run']['started'][:10]}; records are never changed in place."


def _documented(report: Report) -> tuple[str, str]:
    told = sum(bool(step["doc"]) for step in report["steps"])
    own = f"{told} of {len(report['steps'])} steps say in their own words what they do"
    return "partly", f"{own}; code, data, parameters and tools are recorded."


def _available(report: Report) -> tuple[str, str]:
    if report["run"]["captured"]:
        return "partly", "Code, data, packages and results are kept and travel in one file ('stillrun export')."
    return "not_shown", "Not everything was kept."


def _functional(report: Report) -> tuple[str, str]:
    if report["run"]["status"] == "ok" and report["run"]["captured"]:
        return "partly", "It ran to its end, and all it needs is kept and listed."
    return (
        "not_shown",
        f"The run is {report['run']['status']}{'' if report['run']['captured'] else ' and not fully kept'}.",
    )


_PART_11, _AI_ACT, _SR, _ACM, _NISO = "21 CFR Part 11", "EU AI Act", "SR 11-7", "ACM badges", "NISO RP-31"
_CLAUSES = (
    _Clause(
        _PART_11,
        "11.10(a)",
        "Systems are validated: accurate, reliable, able to discern altered records.",
        _reproduced,
        "replay",
        "A replay shows that this run repeats. Validation of the system for its use is yours.",
    ),
    _Clause(
        _PART_11,
        "11.10(b)",
        "Accurate and complete copies, readable by people and in electronic form.",
        _copies,
        "check",
        "What was not kept cannot be copied; it is named under limits.",
    ),
    _Clause(
        _PART_11,
        "11.10(c)",
        "Records are protected and retrievable for as long as they must be kept.",
        _protected,
        "custody",
        "Backups, access and how long is kept are outside of this report.",
    ),
    _Clause(
        _PART_11,
        "11.10(e)",
        "Secure, computer-generated, time-stamped audit trail that does not obscure earlier entries.",
        _trail,
        "custody",
        "Times are that machine's. Whoever may write to the store can write a new log; a checkpoint kept elsewhere shows it.",
    ),
    _Clause(
        _PART_11,
        "11.50",
        "Signatures tell the signer's name, the time, and the meaning.",
        _signed,
        "custody",
        "That a name belongs to a person is not checked here.",
    ),
    _Clause(
        _PART_11,
        "11.70",
        "Signatures are linked to their records so that they cannot be moved to others.",
        _bound,
        "custody",
        "Holds as long as the key is its owner's alone.",
    ),
    _Clause(
        _AI_ACT,
        "Article 12",
        "Events are recorded automatically over the lifetime of the system.",
        _logged,
        "timeline",
        "Tells of this run. Operation of a system in use is not covered.",
    ),
    _Clause(
        _AI_ACT,
        "Article 19",
        "Automatically generated logs are kept, for six months at least.",
        _kept_since,
        "custody",
        "Nothing here makes anybody keep the store; that is a matter of your retention.",
    ),
    _Clause(
        _AI_ACT,
        "Annex IV, 2",
        "How it was developed: methods, design, data, computing resources, validation and testing.",
        _documented,
        "steps",
        "Purpose, risks, human oversight and provenance of the data before it was read are not in a run.",
    ),
    _Clause(
        _SR,
        "Documentation",
        "Detailed enough that others can understand how the model works, its limits and assumptions.",
        _documented,
        "steps",
        "Assumptions and intended use are only here where the code's own words tell them.",
    ),
    _Clause(
        _SR,
        "Validation",
        "Independent parties can repeat and challenge it.",
        _independent,
        "replay",
        "Who replayed is a user's name. Challenge, benchmarks and outcome analysis are people's work.",
    ),
    _Clause(
        _ACM,
        "Artifacts Available",
        "Placed in a public archive with a lasting identifier.",
        _available,
        "check",
        "Publishing it in an archive is still to be done.",
    ),
    _Clause(
        _ACM,
        "Artifacts Evaluated",
        "Documented, consistent, complete, exercisable.",
        _functional,
        "questions",
        "Reviewers judge that.",
    ),
    _Clause(
        _ACM,
        "Results Reproduced",
        "Others got the main results with the authors' artifacts.",
        _independent,
        "replay",
        "Counts only when somebody else replayed it, on their own machine.",
    ),
    _Clause(
        _NISO,
        "ORO / ROR-R",
        "Open research objects; results reproduced by others with them.",
        _independent,
        "replay",
        "As for ACM: availability and independence are outside of this report.",
    ),
)
