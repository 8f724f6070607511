"""The questions of who doubts everything, each with an answer, where it is shown, and the command that checks it. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

__all__ = ["questions_of"]

Report = Mapping[str, Any]
_SOUND = ("identical", "equivalent", "within_tolerance")


def questions_of(report: Report) -> list[dict[str, Any]]:
    """One entry a question. state: `yes`, `partly`, `no`, or `unknown`: whether the records answer it well for the run."""
    name = shlex.quote(report["run"]["name"])
    return [
        _entry("Who ran what, and when?", _who(report), "run", f"stillrun show {name}"),
        _entry("With which inputs?", _inputs(report), "data", f"stillrun inputs {name}"),
        _entry("From which code?", _code(report), "code", f"stillrun code {name} --tar code.tar"),
        _entry("In which environment?", _environment(report), "environments", _environment_command(report, name)),
        _entry("Can it be run again?", _again(report), "environments", f"stillrun replay {name} --offline"),
        _entry("When was it last run again, and did it give the same?", _last(report), "replay", _replays(report)),
        _entry("Has anything been altered since?", _altered(report), "custody", f"stillrun verify {name}"),
        _entry(
            "Who approved it, and what for?", _approved(report), "custody", f"stillrun verify {name} --trust KEY.pem"
        ),
        _entry("Was anything left out?", _left_out(report), "limits", f"stillrun show {name}"),
    ]


def _entry(question: str, answer: tuple[str, str], where: str, command: str) -> dict[str, Any]:
    return {"question": question, "state": answer[0], "answer": answer[1], "where": where, "command": command}


def _who(report: Report) -> tuple[str, str]:
    run = report["run"]
    ended = f"ended {_moment(run['finished'])}" if run["finished"] else "it has no end"
    who = run["user"] or "an unknown user"
    machine = run["machine"]
    where = f"{machine['system']} {machine['machine']}"
    text = f"{who} ran {run['flow']} on {where} at {_moment(run['started'])}; {ended} ({run['status']})."
    return ("yes" if run["user"] and run["finished"] else "partly"), text


def _inputs(report: Report) -> tuple[str, str]:
    given = [one for one in report["parameters"] if one["kind"] == "parameter"]
    told = ", ".join(f"{one['name']} = {one['text']}" for one in given[:4])
    files = [file for file in report["files"] if file["base"] != "system"]
    lost = [file for file in files if not file["kept"]]
    text = f"{_count(len(given), 'parameter')}{': ' + told if told else ''}; {_count(len(files), 'file')} read"
    if lost:
        return "partly", f"{text}, of which {len(lost)} not kept."
    return "yes", f"{text}, each by its SHA-256 and kept." if files else f"{text}."


def _code(report: Report) -> tuple[str, str]:
    code, git = report["code"], report["code"]["git"]
    kept = f"{_count(code['file_count'], 'file')} kept whole"
    if git is None:
        return "yes", f"{code['flow_file']} and all beside it, {kept}; not from a git repository."
    commit = (git["commit"] or "no commit")[:12]
    if git["dirty"]:
        return "partly", f"Commit {commit} with changes that were not committed; {kept}, changes included."
    return "yes", f"Commit {commit}, unchanged; {kept}."


def _environment(report: Report) -> tuple[str, str]:
    found = report["environments"]
    locked = [one for one in found if one["lock"]]
    packages = sum(len(one["packages"]) for one in found)
    pythons = sorted({one["python"]["version"] for one in found if one["python"]})
    text = (
        f"{_count(len(found), 'environment')}, Python {', '.join(pythons) or 'unknown'}, {_count(packages, 'package')}"
    )
    edited = sum(bool(package["edited"]) for one in found for package in one["packages"])
    if len(locked) < len(found):
        return "partly", f"{text}; {len(found) - len(locked)} recorded and not kept."
    if edited:
        return (
            "partly",
            f"{text}, all kept; {edited} had been edited after they were installed, and are kept as edited.",
        )
    return "yes", f"{text}, each kept and named by its SHA-256."


def _environment_command(report: Report, name: str) -> str:
    lock = next((one["lock"] for one in report["environments"] if one["lock"]), None)
    return f"stillrun env show {lock.removeprefix('sha256:')[:12]}" if lock else f"stillrun show {name}"


def _again(report: Report) -> tuple[str, str]:
    run = report["run"]
    if report["integrity"]["damaged_count"] or report["integrity"]["absent"]:
        return "no", "Not from this store alone: objects that it needs are damaged or missing."
    if report["integrity"]["redacted"]:
        count = _count(len(report["integrity"]["redacted"]), "object")
        return "no", f"Not where it needs what was taken out on purpose: {count}, named under custody."
    if not run["finished"]:
        return "partly", "What had ended can be; the run has no end."
    if not run["captured"]:
        return "partly", f"Not all of it was kept: {', '.join(run['not_kept'][:3])}."
    hashed = " and was hashed for this report" if report["integrity"]["checked"] else ""
    return "yes", f"Everything it needs is in the store{hashed}: code, interpreter, packages, inputs."


def _last(report: Report) -> tuple[str, str]:
    replay = report["replay"]
    if replay is None:
        return "unknown", "Never, as far as this store knows."
    when = next((one["started"] for one in report["replays"] if one["run"] == replay["run"]), report["run"]["started"])
    counts = ", ".join(f"{count} {level.replace('_', ' ')}" for level, count in replay["counts"].items())
    text = f"{_moment(when)} as {replay['run']}: {counts or 'no result to compare'}"
    if any(replay["changed"].values()):
        return "unknown", f"{text}; but something was changed on purpose."
    whole = replay["scope"] == report["run"]["name"] and not replay["not_replayed"]
    if replay["verdict"] not in _SOUND:
        return "no", f"{text}."
    return ("yes" if whole else "partly"), f"{text}{'' if whole else ', of a part of the run'}."


def _replays(report: Report) -> str:
    name = report["replay"]["run"] if report["replay"] else report["run"]["name"]
    return f"stillrun {'show' if report['replay'] else 'replay'} {shlex.quote(name)}"


def _altered(report: Report) -> tuple[str, str]:
    integrity, log = report["integrity"], report["custody"]["log"]
    if not integrity["checked"]:
        return "unknown", "Nothing was hashed for this report."
    if integrity["damaged_count"]:
        return "no", f"Yes: {integrity['damaged_count']} of {integrity['objects']:,} objects are not what they were."
    lines = f"; the chain of {log['lines']:,} log lines is whole" if log else ""
    if integrity["redacted"]:
        out = _count(len(integrity["redacted"]), "object")
        text = f"{out} taken out on purpose, signed for; {integrity['objects']:,} objects hashed, each is what its name says"
        return "partly", f"{text}{lines}."
    return "yes", f"No: {integrity['objects']:,} objects hashed, each is what its name says{lines}."


def _approved(report: Report) -> tuple[str, str]:
    every, trusted = report["custody"]["signatures"], report["custody"]["trusted"]
    if not every:
        return "unknown", "Nobody: the run has no signature."
    holding = [one for one in every if one["standing"] == "sound" or (one["standing"] == "stranger" and not trusted)]
    if not holding:
        return "no", f"Nobody: of {_count(len(every), 'signature')} none counts."
    told = "; ".join(f"{one['signer']} “{one['meaning']}” at {_moment(one['time'])}" for one in holding[:3])
    if trusted:
        return "yes", f"{told}. Checked with the keys that were handed over for this report."
    return "partly", f"{told}. The signatures hold; whether the keys are theirs is for you to check."


def _left_out(report: Report) -> tuple[str, str]:
    parts = []
    for count, what in (
        (len(report["code"]["left_out"]), "file of the code's folder"),
        (len(report["run"]["not_kept"]), "part of the environments"),
        (sum(not file["kept"] and file["base"] != "system" for file in report["files"]), "input file"),
        (len(report["integrity"]["absent"]), "object"),
        (len(report["integrity"]["redacted"]), "redacted object"),
    ):
        if count:
            parts.append(_count(count, what))
    if parts:
        return (
            "partly",
            f"Not kept, and named in this report: {', '.join(parts)}. What was not checked is listed below.",
        )
    return "yes", "Nothing that the records know of. What was not checked is listed below."


def _moment(time: str) -> str:
    return f"{time[:10]} {time[11:19]} UTC"


def _count(number: int, what: str) -> str:
    if number == 1:
        return f"1 {what}"
    first, _, rest = what.partition(" of ")
    return f"{number:,} {first}s" + (f" of {rest}" if rest else "")
