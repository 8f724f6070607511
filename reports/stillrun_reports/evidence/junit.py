"""A run and its replays as JUnit XML, which CI pages show: a test case for each task and judgement (docs/spec/evidence.md §7)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from stillrun_reports.evidence.dossier import Dossier, Judgement
from stillrun_reports.evidence.spelling import xml

__all__ = ["junit_text"]

_FAILS = {
    "different": "came out different",
    "missing": "did not come out",
    "extra": "came out and was not there before",
    "not_comparable": "cannot be compared",
}
_SKIPPED = {"volatile": "declared before the run to be another one each time"}


def junit_text(dossier: Dossier) -> str:
    """The XML document: a suite of the run's tasks, and one of each replay's judgements."""
    root = Element("testsuites", name=xml(f"stillrun {dossier.run.pathspec}"))
    _suite(root, f"run {dossier.run.pathspec}", dossier.record["started"], _tasks(dossier))
    for judgement in dossier.judgements:
        name = f"replay {judgement.verdict['replay']} of {judgement.verdict['scope']}"
        _suite(root, name, judgement.replay["started"], _judged(dossier, judgement))
    for what in ("tests", "failures", "errors", "skipped"):
        root.set(what, str(sum(int(suite.get(what, "0")) for suite in root)))
    indent(root)
    text: bytes = tostring(root, encoding="utf-8", xml_declaration=True)
    return text.decode() + "\n"


def _suite(root: Element, name: str, started: str, cases: Iterator[Element]) -> None:
    suite = SubElement(root, "testsuite", name=xml(name), timestamp=started.removesuffix("Z"))
    suite.extend(cases)
    counts = {"tests": "testcase", "failures": "testcase/failure", "errors": "testcase/error"}
    for what, path in {**counts, "skipped": "testcase/skipped"}.items():
        suite.set(what, str(len(suite.findall(path))))
    suite.set("time", _seconds(sum(round(float(case.get("time", "0")) * 1000) for case in suite) * 1000))


def _tasks(dossier: Dossier) -> Iterator[Element]:
    """Every task that ended; what the run never came to is a case that was skipped."""
    ran = set()
    for task in dossier.tasks:
        ran.add(task.record["step"])
        case = _case(f"{dossier.record['flow']}.{task.record['step']}", task.name, task.record)
        error = task.record["error"]
        if error:
            told = SubElement(case, "error", type=xml(error["type"]), message=xml(error["message"], 500))
            told.text = xml(error.get("traceback") or f"{error['type']}: {error['message']}")
        elif task.record["status"] != "ok":
            SubElement(case, "error", type=xml(task.record["status"]), message="it was asked to end")
        yield case
    for step in dossier.description["steps"]:
        if step["name"] not in ran:
            case = _case(f"{dossier.record['flow']}.{step['name']}", step["name"], {})
            SubElement(case, "skipped", message="no task of this step ended")
            yield case


def _judged(dossier: Dossier, judgement: Judgement) -> Iterator[Element]:
    flow, verdict = dossier.record["flow"], judgement.verdict
    for one in verdict["tasks"]:
        if one["reason"]:
            case = _case(f"{flow}.{one['step']}", f"{one['step']}/{one['task']}", {})
            SubElement(case, "failure", type=one["verdict"], message=xml(one["reason"], 500))
            yield case
    for one in verdict["artifacts"]:
        case = _case(f"{flow}.{one['step']}", f"{one['step']}/{one['task']}/{one['name']}", {})
        level = one["verdict"]
        if level in _FAILS:
            told = SubElement(case, "failure", type=level, message=xml(one["reason"] or _FAILS[level], 500))
            told.text = xml(f"original {one['original']}\nreplayed {one['replayed']}")
        elif level in _SKIPPED:
            SubElement(case, "skipped", message=xml(one["reason"] or _SKIPPED[level], 500))
        yield case
    for one in verdict["not_replayed"]:
        case = _case(f"{flow}.{one['step']}", f"{one['step']}/{one['task']}", {})
        SubElement(case, "skipped", message=xml(f"not replayed: {one['reason']}", 500))
        yield case


def _case(group: str, name: str, record: Mapping[str, Any]) -> Element:
    wall = record.get("usage", {}).get("wall_us", 0)
    return Element("testcase", classname=xml(group), name=xml(name), time=_seconds(wall))


def _seconds(microseconds: int) -> str:
    return f"{microseconds / 1_000_000:.3f}"
