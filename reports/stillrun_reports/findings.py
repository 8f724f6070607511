"""What speaks against a run, what should be known of it, what nobody looked into, and the one word above all of it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["findings_of", "not_checked_of", "verdict_of"]

Report = Mapping[str, Any]
_TOLD = 5

_WORDS = {
    "identical": "Identical",
    "equivalent": "Equivalent",
    "within_tolerance": "Within tolerance",
    "not_comparable": "Not comparable",
    "different": "Different",
    "error": "Replay failed",
    "not_replayed": "Not replayed",
    "failed": "Failed",
    "interrupted": "Interrupted",
    "running": "Still running",
    "damaged": "Damaged",
}
_MEANINGS = {
    "identical": "Every result of the replay has the same bytes as the original.",
    "equivalent": "Every result of the replay has the same value as the original; some have other bytes.",
    "within_tolerance": "Some numbers differ by no more than the run itself granted before it ran.",
    "not_comparable": "Some results have other bytes, and nothing tells whether their values are the same.",
    "different": "The replay came to other results than the original.",
    "error": "A task of the replay could not be run to its end.",
    "not_replayed": "The run was kept. Nobody has run it again, so whether it gives the same results is not known.",
    "failed": "The run failed, and nobody has run it again.",
    "interrupted": "The run was stopped before its end, and nobody has run it again.",
    "running": "The run has not ended.",
    "damaged": "Objects that the run stands on are missing or are not what they were. Nothing else here can be relied on.",
}


def verdict_of(report: Report) -> dict[str, Any]:
    """The word, what it means in a sentence, and how many artifacts came out in which way."""
    level, replay = _level(report), report["replay"]
    counts: dict[str, int] = dict(replay["counts"]) if replay else {}
    return {"level": level, "word": _WORDS[level], "meaning": _MEANINGS[level], "counts": counts}


def _level(report: Report) -> str:
    if report["integrity"]["damaged_count"]:
        return "damaged"
    if report["run"]["status"] == "running":
        return "running"
    if report["replay"] and not any(report["replay"]["changed"].values()):
        return str(report["replay"]["verdict"])
    return str(report["run"]["status"]) if report["run"]["status"] != "ok" else "not_replayed"


def findings_of(report: Report) -> list[dict[str, Any]]:
    """Each thing that a reviewer should know, the gravest first: a `finding` speaks against the run, a `note` does not."""
    found = [*_damage(report), *_signed(report), *_ending(report), *_replayed(report), *_kept(report), *_around(report)]
    return sorted(found, key=lambda one: one["weight"] != "finding")


def _finding(code: str, where: str, text: str, *, note: bool = False) -> dict[str, Any]:
    return {"code": code, "weight": "note" if note else "finding", "where": where, "text": text}


def _damage(report: Report) -> Iterator[dict[str, Any]]:
    integrity = report["integrity"]
    for one in integrity["damaged"][:_TOLD]:
        yield _finding("damaged", "custody", f"{one['purpose']}: {one['problem']}")
    if integrity["damaged_count"] > _TOLD:
        more = integrity["damaged_count"] - _TOLD
        yield _finding("damaged", "custody", f"{more} more objects are damaged or missing.")


_SIGNATURES = {
    "unsound": ("signature_unsound", "does not hold"),
    "stale": ("signature_of_another", "is of another record"),
    "revoked": ("signature_revoked", "does not count any more"),
    "stranger": ("signature_of_stranger", "is by a key that nobody here vouches for"),
}


def _signed(report: Report) -> Iterator[dict[str, Any]]:
    custody = report["custody"]
    if custody["keys_problem"]:
        yield _finding("keys_unsound", "custody", f"Signatures could not all be checked: {custody['keys_problem']}")
    for one in custody["signatures"]:
        by = f" by {one['signer']}" if one["signer"] else ""
        if one["standing"] in _SIGNATURES:
            code, what = _SIGNATURES[one["standing"]]
            stranger = one["standing"] == "stranger"
            yield _finding(code, "custody", f"The signature {one['ref']}{by} {what}: {one['told']}", note=stranger)
        elif one["told"]:
            yield _finding("key_revoked_later", "custody", f"The signature {one['ref']}{by}: {one['told']}", note=True)
    if custody["trusted"] and not any(one["standing"] == "sound" for one in custody["signatures"]):
        yield _finding("not_signed", "custody", "No key that was handed over for this report has signed the run.")


def _ending(report: Report) -> Iterator[dict[str, Any]]:
    run, failed = report["run"], report["run"]["failure"]
    if run["status"] == "failed":
        where = f" in {failed['step']}/{failed['task']}" if failed else ""
        yield _finding("failed", "steps", f"The run failed{where}.")
    elif run["status"] in ("interrupted", "running"):
        yield _finding(run["status"], "timeline", "The run did not come to its end; what had not ended is not here.")
    passed = [f"{task['step']}/{task['task']}" for task in report["tasks"] if task["caught"]]
    if passed:
        yield _finding("caught", "steps", f"A failure was let pass by @catch in {_some(passed)}.", note=True)
    again = [f"{task['step']}/{task['task']}" for task in report["tasks"] if task["attempts"]]
    if again:
        yield _finding("retried", "timeline", f"Needed more than one attempt: {_some(again)}.", note=True)
    reused = sum(bool(task["reused"]) for task in report["tasks"])
    if reused:
        text = (
            f"{reused} of {len(report['tasks'])} tasks did not run: their results were taken from {_sources(report)}."
        )
        yield _finding("reused", "timeline", text, note=True)


def _sources(report: Report) -> str:
    return _some(sorted({task["reused"].rsplit("/", 2)[0] for task in report["tasks"] if task["reused"]}))


def _replayed(report: Report) -> Iterator[dict[str, Any]]:
    replay = report["replay"]
    if replay is None:
        yield _finding("not_replayed", "replay", "No replay of this run is in the store.", note=True)
        return
    if not replay["of_this_record"]:
        yield _finding("replay_of_another", "replay", f"{replay['run']} replayed another record of this run.")
    if any(replay["changed"].values()):
        text = (
            f"{replay['run']} was asked to do something otherwise; it does not tell whether this run can be repeated."
        )
        yield _finding("replay_changed", "replay", text, note=True)
    elif replay["verdict"] not in ("identical", "equivalent", "within_tolerance"):
        first = replay["first_divergence"]
        place = "/".join(part for part in (first["step"], first["task"], first["artifact"]) if part) if first else ""
        text = f"The replay {replay['run']} came out {_WORDS[replay['verdict']].lower()}"
        yield _finding("replay_" + replay["verdict"], "replay", f"{text}; first at {place}." if place else f"{text}.")
    if replay["not_replayed"]:
        text = f"{len(replay['not_replayed'])} tasks were left out of the replay."
        yield _finding("partly_replayed", "replay", text, note=True)
    others = {one["verdict"] for one in report["replays"] if one["verdict"] and not one["changed"]}
    if len(others) > 1:
        text = f"The {len(report['replays'])} replays in the store do not agree: {', '.join(sorted(others))}."
        yield _finding("replays_disagree", "replay", text)


def _kept(report: Report) -> Iterator[dict[str, Any]]:
    run = report["run"]
    if run["finished"] and not run["captured"]:
        yield _finding("not_captured", "environments", f"Not everything was kept: {_some(run['not_kept'])}.")
    if report["integrity"]["absent"]:
        text = f"{len(report['integrity']['absent'])} objects were left behind when the run was carried here."
        yield _finding("left_behind", "custody", text, note=True)
    redacted = report["integrity"]["redacted"]
    if redacted:
        first, people = redacted[0], _some(sorted({one["by"] for one in redacted}))
        text = f"{len(redacted)} objects were taken out on purpose, signed by {people}: {first['purpose']}"
        yield _finding("redacted", "custody", f"{text} ({first['reason']}){', …' if redacted[1:] else ''}.", note=True)
    carried = report["custody"]["carried"]
    if carried:
        text = "The run was carried here from another store; its times are of that one, and so is the log that came with it."
        yield _finding("carried", "custody", text, note=True)
    loose = [file["path"] for file in report["files"] if not file["kept"] and file["base"] != "system"]
    if loose:
        yield _finding("files_not_kept", "data", f"Files that were read and not kept: {_some(loose)}.", note=True)


def _around(report: Report) -> Iterator[dict[str, Any]]:
    git = report["code"]["git"]
    if git is None:
        yield _finding("no_git", "code", "The code was not in a git repository; it is kept whole.", note=True)
    elif git["dirty"]:
        yield _finding("dirty", "code", "The code had changes that were in no commit; it is kept whole.", note=True)
    for one in report["environments"]:
        edited = [package["name"] for package in one["packages"] if package["edited"]]
        if edited:
            text = f"Files of installed packages had been changed since they were installed: {_some(edited)}."
            yield _finding("edited_packages", "environments", text)
        if one["lock"] is None:
            text = f"The environment of {_some(one['steps'])} is recorded and was not kept."
            yield _finding("environment_not_kept", "environments", text, note=run_kept(report))
    reached = sorted({task["step"] for task in report["tasks"] if task["reached"].get("addresses")})
    if reached:
        yield _finding("network", "steps", f"Connected to other machines or names: {_some(reached)}.", note=True)


def run_kept(report: Report) -> bool:
    """Whether the run says that all it needs is kept, or has not ended to say so."""
    return bool(report["run"]["captured"] or not report["run"]["finished"])


def not_checked_of(report: Report) -> list[str]:
    """What this report does not show, in sentences."""
    found = []
    integrity, replay = report["integrity"], report["replay"]
    if not integrity["checked"]:
        found.append("Objects were not hashed for this report (--no-check); that they are what they were is not shown.")
    if integrity["absent"]:
        found.append(f"{len(integrity['absent'])} objects are not in this store and were not hashed.")
    if integrity["redacted"]:
        found.append(f"The content of {len(integrity['redacted'])} redacted objects: it is gone.")
    if replay is None:
        found.append("Whether the run gives the same results again: it has not been replayed.")
    else:
        if not replay["no_network"]:
            found.append("Whether the replay needed the network: tasks were not cut off from it.")
        if replay["machine"]["same"]:
            found.append("Whether another kind of machine gives the same: the replay ran on the same kind.")
        if replay["scope"] != report["run"]["name"] and replay["run"] != report["run"]["name"]:
            found.append(f"The rest of the run: only {replay['scope']} was replayed.")
    if report["custody"]["trusted"]:
        found.append("Whether the keys that were handed over are their holders' alone: only they can know.")
    elif report["custody"]["signatures"]:
        found.append("Whose the signing keys are: they were found beside what they sign (--trust FILE).")
    else:
        found.append("Who vouches for the run: it has no signature. The user's name is what the machine said.")
    found.append("That the store as a whole was not made anew: only a line of its log kept elsewhere can show that.")
    found.append("Clocks: times are those of the machine that ran it.")
    found.append("Files that C and C++ libraries opened by themselves: only those opened through Python are known.")
    found.append("Known vulnerabilities of the packages, and whether their licences fit your use.")
    found.append("Whether the method is sound and the conclusions follow: that is the reader's work.")
    return found


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:_TOLD])
    return f"{shown} and {len(names) - _TOLD} more" if len(names) > _TOLD else shown or "nothing is named"
