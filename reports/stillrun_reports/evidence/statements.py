"""What is claimed of a run, as in-toto statements: SLSA provenance v1 of the capture, a verification summary of each replay.

Formats and what each field says: docs/spec/evidence.md §5.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from stillrun_reports.evidence.dossier import Dossier, Environment, Judgement
from stillrun_reports.evidence.packages import package_url
from stillrun_reports.evidence.spelling import document
from stillrun_snapshot.digest import Digest, digest_of
from stillrun_snapshot.dsse import Signer, envelope

__all__ = [
    "PASSED",
    "PAYLOAD",
    "content_of",
    "provenance",
    "replays_of_it",
    "sign_statements",
    "verdict_statement",
    "write_statements",
]

PAYLOAD = "application/vnd.in-toto+json"
PASSED = frozenset({"identical", "equivalent", "within_tolerance", "volatile"})
"""Verdicts of a run that stand for the same results; `stillrun replay` ends with 0 for them."""
_STATEMENT = "https://in-toto.io/Statement/v1"
_PROVENANCE = "https://slsa.dev/provenance/v1"
_SUMMARY = "https://slsa.dev/verification_summary/v1"
_JUDGED = frozenset({"identical", "equivalent", "within_tolerance", "different", "missing", "not_comparable"})


def write_statements(dossier: Dossier, folder: Path) -> list[Path]:
    """Write a statement of the capture, and one of each replay that is one of this very run; unsigned."""
    texts = {"provenance.intoto.json": document(provenance(dossier))}
    for one in replays_of_it(dossier):
        texts[f"verdict-{one.digest.hex[:12]}.intoto.json"] = document(verdict_statement(dossier, one))
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    return [folder / name for name in texts]


def sign_statements(folder: Path, *signers: Signer) -> list[Path]:
    """Put every statement in ``folder`` into a DSSE envelope signed by all of ``signers``; the envelopes."""
    found = []
    for path in sorted(folder.glob("*.intoto.json")):
        signed = path.with_name(path.name.replace(".intoto.json", ".dsse.json"))
        signed.write_text(json.dumps(envelope(PAYLOAD, path.read_bytes(), *signers)) + "\n", encoding="utf-8")
        found.append(signed)
    return found


def replays_of_it(dossier: Dossier) -> list[Judgement]:
    """The replays that tried this very record again as it was: one with other code or parameters verifies nothing of it."""
    return [one for one in dossier.judgements if _tried_again(dossier, one.verdict)]


def _tried_again(dossier: Dossier, verdict: Mapping[str, Any]) -> bool:
    changed = verdict["changed"]
    same = verdict["origin"]["record"] == dossier.run.digest
    return bool(same and not changed["code"] and not changed["parameters"])


def content_of(artifact: Mapping[str, Any]) -> Digest:
    """The digest of an artifact's bytes as verdicts tell it: of the single part, or of the parts' digests, one a line."""
    parts = [part["digest"] for part in artifact["parts"]]
    return Digest(parts[0]) if len(parts) == 1 else digest_of("\n".join(parts).encode())


def provenance(dossier: Dossier) -> dict[str, Any]:
    """The statement of the capture."""
    record = dossier.record
    external = {
        "flow": record["flow"],
        "class": record["class"],
        "file": dossier.code["flow_file"],
        "parameters": {name: entry["text"] for name, entry in record["parameters"].items()},
    }
    internal = {
        "constants": {name: entry["text"] for name, entry in record.get("constants", {}).items()},
        "environments": {step: one.name.hex for one in dossier.environments for step in one.steps},
        "machine": {name: str(value) for name, value in record["machine"].items()},
        "settings": dict(record["settings"]),
        "status": dossier.status,
        "variables": dict(record["variables"]),
    }
    definition = {
        "buildType": "urn:stillrun:flow-run:v1",
        "externalParameters": external,
        "internalParameters": internal,
        "resolvedDependencies": list(_dependencies(dossier)),
    }
    details = {
        "builder": {"id": "urn:stillrun:engine", "version": {"stillrun": record["stillrun"]}},
        "metadata": {
            "invocationId": dossier.urn,
            "startedOn": record["started"],
            "finishedOn": dossier.finished,
        },
        "byproducts": list(_byproducts(dossier)),
    }
    subject = [_described(dossier.run.pathspec, dossier.run.digest), *_made(dossier)]
    return _statement(subject, _PROVENANCE, {"buildDefinition": definition, "runDetails": details})


def verdict_statement(dossier: Dossier, judgement: Judgement) -> dict[str, Any]:
    """The statement of one replay: whether the results came out again, and by which policy that was judged."""
    verdict = judgement.verdict
    passed = verdict["verdict"] in PASSED
    level = f"STILLRUN_REPLAY_{verdict['verdict'].upper()}"
    other = "_IN_ANOTHER_ENVIRONMENT" if verdict["changed"]["environment"] else ""
    capture = digest_of(document(provenance(dossier)).encode())
    predicate = {
        "verifier": {"id": "urn:stillrun:replay"},
        "timeVerified": judgement.replay.get("finished") or judgement.replay["started"],
        "resourceUri": dossier.urn,
        "policy": {"uri": "urn:stillrun:policy", "digest": _sha256(verdict["policy"]["digest"])},
        "inputAttestations": [
            {"uri": "provenance.intoto.json", "digest": _sha256(capture)},
            {"uri": f"urn:stillrun:verdict:{judgement.digest.hex}", "digest": _sha256(judgement.digest)},
            {"uri": f"urn:stillrun:run:{judgement.replay_digest.hex}", "digest": _sha256(judgement.replay_digest)},
        ],
        "verificationResult": "PASSED" if passed else "FAILED",
        "verifiedLevels": [level + other],
    }
    return _statement(list(_judged(dossier, judgement)), _SUMMARY, predicate)


def _statement(subject: list[dict[str, Any]], kind: str, predicate: Mapping[str, Any]) -> dict[str, Any]:
    return {"_type": _STATEMENT, "subject": subject, "predicateType": kind, "predicate": predicate}


def _sha256(digest: str) -> dict[str, str]:
    return {"sha256": Digest(digest).hex}


def _described(name: str, digest: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "digest": _sha256(digest), **more}


def _made(dossier: Dossier) -> Iterator[dict[str, Any]]:
    for task in dossier.tasks:
        for name, digest in task.made.items():
            about = {"type": dossier.artifacts[digest]["type"], "record": digest.hex}
            place = f"{dossier.run.pathspec}/{task.name}/{name}"
            yield _described(place, content_of(dossier.artifacts[digest]), annotations=about)


def _judged(dossier: Dossier, judgement: Judgement) -> Iterator[dict[str, Any]]:
    """The run, and every artifact that the verdict speaks of and that is not declared to be another one each time."""
    yield _described(dossier.run.pathspec, dossier.run.digest)
    for one in judgement.verdict["artifacts"]:
        if one["verdict"] in _JUDGED and one["original"]:
            place = f"{dossier.run.pathspec}/{one['step']}/{one['task']}/{one['name']}"
            yield _described(place, one["original"], annotations={"verdict": one["verdict"]})


def _dependencies(dossier: Dossier) -> Iterator[dict[str, Any]]:
    git = dossier.code["git"] or {}
    if git.get("commit"):
        remote = next(iter(git["remotes"].values()), None)
        address = {"uri": f"git+{remote}@{git['commit']}"} if remote and "://" in remote else {}
        yield {
            "name": "commit",
            **address,
            "digest": {"gitCommit": git["commit"]},
            "annotations": {"dirty": git["dirty"]},
        }
    yield _described("code", dossier.code["tree"], mediaType="application/vnd.stillrun.tree+json")
    yield _described("face", dossier.record["face"], mediaType="application/vnd.stillrun.tree+json")
    seen: set[Digest] = set()
    for environment in dossier.environments:
        yield _described(f"environment {environment.name.hex[:12]}", environment.name)
        yield from _packages(environment, seen)
    for task in dossier.tasks:
        for file in task.record["files"]:
            if file["digest"] and file["base"] != "system" and file["digest"] not in seen:
                seen.add(Digest(file["digest"]))
                yield _described(f"input {file['path']}", file["digest"])


def _packages(environment: Environment, seen: set[Digest]) -> Iterator[dict[str, Any]]:
    lock = environment.lock
    if lock is None:
        return
    if lock.python.digest is not None and lock.python.digest not in seen:
        seen.add(lock.python.digest)
        yield _described(f"{lock.python.implementation} {lock.python.version}", lock.python.digest)
    for one in lock.packages:
        if one.digest not in seen:
            seen.add(one.digest)
            yield _described(one.file, one.digest, uri=package_url(one))


def _byproducts(dossier: Dossier) -> Iterator[dict[str, Any]]:
    yield _described("description", dossier.record["description"])
    for task in dossier.tasks:
        yield _described(f"record of {task.name}", task.digest)
        for stream, digest in task.record["logs"].items():
            yield _described(f"{stream} of {task.name}", digest)
