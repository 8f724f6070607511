"""The replays of a run: which there are, which one the report tells of, and what it found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from stillrun_engine.archive import KeptRun, open_run
from stillrun_engine.errors import EngineError
from stillrun_engine.judge import LEVELS
from stillrun_engine.pathspec import parse_pathspec
from stillrun_reports.reading import Record
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.store import Store

__all__ = ["chosen_verdict", "replay_of", "replays_of"]

_NOT_SHOWN = frozenset({"identical"})


def replays_of(run: KeptRun) -> list[dict[str, Any]]:
    """Every replay of the run that the store has, oldest first; trials of a wider question are left out."""
    found = []
    for name, digest in run.store.refs.names(f"runs/{run.spec.flow}/"):
        record = run.store.get_record(digest, "run")
        if record["kind"] != "replay" or not record["origin"] or record["origin"]["run"] != run.pathspec:
            continue
        if record["settings"].get("trial"):
            continue
        verdict = run.store.get_record(Digest(record["verdict"]), "verdict") if record.get("verdict") else None
        found.append(
            {
                "run": name.removeprefix("runs/"),
                "record": digest,
                "started": record["started"],
                "finished": record.get("finished"),
                "user": record["user"],
                "status": record["status"],
                "verdict_record": record.get("verdict"),
                "verdict": verdict["verdict"] if verdict else None,
                "scope": verdict["scope"] if verdict else None,
                "changed": bool(verdict and any(verdict["changed"].values())),
            }
        )
    return found


def chosen_verdict(run: KeptRun, replays: Sequence[Record], wanted: str | None) -> tuple[str, Record] | None:
    """Digest and record of the verdict that the report tells of: the one that is asked for, else the run's own or the newest
    of the whole run with nothing changed, else the newest. replays: as ``replays_of`` tells them; wanted: FLOW/RUN of a replay,
    or the digest of a verdict."""
    if wanted is not None:
        return _asked_for(run, wanted)
    if run.record.get("verdict"):
        digest = run.record["verdict"]
        return digest, run.store.get_record(Digest(digest), "verdict")
    judged = [one for one in replays if one["verdict_record"]]
    whole = [one for one in judged if one["scope"] == run.pathspec and not one["changed"]]
    if not judged:
        return None
    digest = (whole or judged)[-1]["verdict_record"]
    return digest, run.store.get_record(Digest(digest), "verdict")


def _asked_for(run: KeptRun, wanted: str) -> tuple[str, Record]:
    digest = wanted if wanted.startswith("sha256:") else _verdict_of(run.store, wanted)
    verdict = run.store.get_record(Digest.parse(digest), "verdict")
    if verdict["origin"]["run"] != run.pathspec and verdict["replay"] != run.pathspec:
        raise EngineError(
            f"{wanted} is a replay of {verdict['origin']['run']}, not of {run.pathspec}; "
            f"'stillrun list {run.spec.flow}' shows runs and replays."
        )
    return digest, verdict


def _verdict_of(store: Store, name: str) -> str:
    replay = open_run(store, parse_pathspec(name, least=2, most=2))
    digest = replay.record.get("verdict")
    if not digest:
        raise EngineError(f"{replay.pathspec} has no verdict; name a replay that has ended.")
    return str(digest)


def replay_of(run: KeptRun, digest: str, verdict: Record) -> dict[str, Any]:
    """What one replay found: levels counted, and each artifact that is not known to be the same byte for byte."""
    counts = Counter(one["verdict"] for one in verdict["artifacts"])
    return {
        "record": digest,
        "run": verdict["replay"],
        "origin": verdict["origin"],
        "of_this_record": verdict["origin"]["record"] == run.digest or verdict["replay"] == run.pathspec,
        "scope": verdict["scope"],
        "verdict": verdict["verdict"],
        "counts": {level: counts[level] for level in LEVELS if counts[level]},
        "task_counts": dict(sorted(Counter(one["verdict"] for one in verdict["tasks"]).items())),
        "first_divergence": verdict["first_divergence"],
        "policy": verdict["policy"],
        "changed": verdict["changed"],
        "tasks": [one for one in verdict["tasks"] if one["verdict"] not in _NOT_SHOWN or one["reason"]],
        "artifacts": [one for one in verdict["artifacts"] if one["verdict"] not in _NOT_SHOWN],
        "environments": verdict["environments"],
        "path": verdict.get("path"),
        "side_effects": verdict.get("side_effects", []),
        "machine": verdict["machine"],
        "not_replayed": verdict["not_replayed"],
        "offline": verdict["offline"],
        "no_network": verdict["no_network"],
    }
