"""The page: rendered from report.json alone, in one file that asks for nothing."""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import DictLoader, Environment, StrictUndefined
from markupsafe import Markup

from stillrun_engine.archive import KeptRun
from stillrun_reports.page import views
from stillrun_reports.page.charts import Axis, draw_histogram, draw_shares
from stillrun_reports.page.graph_drawing import draw_graph
from stillrun_reports.page.listing import diff_lines, python_lines
from stillrun_reports.page.medallion import draw_medallion
from stillrun_reports.page.text import breakable, duration, host_of, moment, plain, size, state
from stillrun_snapshot.digest import digest_of
from stillrun_snapshot.record import canonical_bytes
from stillrun_snapshot.store import Store

__all__ = ["render_page", "write_page"]

Report = Mapping[str, Any]
_POLICY = "default-src 'none'; style-src {}; script-src {}; img-src data:; base-uri 'none'; form-action 'none'"
_PARTS = {
    "run": "Verdict",
    "questions": "Questions",
    "graph": "Flow graph",
    "timeline": "Timeline",
    "data": "Inputs and data",
    "steps": "Steps",
    "environments": "Environments",
    "replay": "Replay",
    "comparison": "Comparison",
    "custody": "Custody",
    "controls": "Control map",
    "check": "Check and words",
}
_OTHER_TITLES = {"code": "captured code", "limits": "what was not checked"}


def write_page(report: Report, store: Store, run: KeptRun, folder: Path) -> list[Path]:  # noqa: ARG001 - a Writer
    """Write ``report.html``."""
    path = folder / "report.html"
    path.write_text(render_page(report), encoding="utf-8")
    return [path]


def render_page(report: Report) -> str:
    """The whole page. Text of the report is escaped wherever it stands; nothing in it becomes a link, a style or a script."""
    style, script, templates = _sources()
    policy = _POLICY.format(_allowed(style), _allowed(script))
    return templates.get_template("page.html.j2").render(
        policy=policy,
        style=Markup(style),  # noqa: S704 - our own file
        script=Markup(script),  # noqa: S704 - our own file
        **_context(report),
    )


@cache
def _sources() -> tuple[str, str, Environment]:
    """The style sheet, the script and the templates, which are compiled once in a process."""
    sources = {path.name: path.read_text("utf-8") for path in (files(__package__) / "templates").iterdir()}
    return sources.pop("page.css"), sources.pop("page.js"), _environment(sources)


def _allowed(text: str) -> str:
    """The source expression of CSP level 2 that allows exactly ``text``."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _environment(sources: Mapping[str, str]) -> Environment:
    made = Environment(
        loader=DictLoader(sources),
        autoescape=True,
        finalize=plain,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"size": size, "duration": duration, "moment": moment, "worst_first": views.worst_first}
    made.filters |= {"middle": views.middle, "counted": views.counted, "effects": views.effects}
    made.filters |= {
        "breakable": breakable,
        "host": host_of,
        "grouped": views.grouped,
        "powers": views.powers,
        "cells": views.cells,
    }
    made.globals |= {"state": state, "python": python_lines, "diff": diff_lines, "shares": draw_shares}
    made.globals |= {"histogram": draw_histogram, "blas": views.blas, "glossary": views.GLOSSARY}
    made.globals |= {"files_max": views.FILES_MAX, "logs_max": views.LOGS_MAX, "differences_max": views.DIFFERENCES_MAX}
    made.globals |= {"takes_max": views.TAKES_MAX}
    return made


def _context(report: Report) -> dict[str, Any]:
    anchors = views.anchors_of(report)
    numbers = {one["environment"]: place for place, one in enumerate(report["environments"], 1)}
    lines = [one["seq"] for one in report["custody"]["events"]]
    return {
        "report": report,
        "run": report["run"],
        "code": report["code"],
        "replay": report["replay"],
        "report_digest": digest_of(canonical_bytes(report)),
        "version": report["run"]["stillrun"],
        "parts_of_page": list(_PARTS.items()),
        "titles": {name: title.lower() for name, title in (_PARTS | _OTHER_TITLES).items()},
        "anchors": anchors,
        "loop_env": numbers,
        "drawing": draw_graph(report["steps"], anchors),
        "graph_is_wide": views.is_wide(report["steps"]),
        "medallion": draw_medallion(report["verdict"]["level"]),
        "axis": Axis(report["run"]["started"], report["tasks"]),
        "tasks_by_step": views.by_step(report, "tasks"),
        "artifacts_by_step": views.by_step(report, "artifacts"),
        "outcomes": _outcomes(report),
        "words_used": views.words_used(report),
        "threads": views.threads(report),
        "beside": views.beside(report),
        "quoted": views.quoted(report["run"]["name"]),
        "sample": views.sample_object(report),
        "line_before": min(lines, default=1),
    }


def _outcomes(report: Report) -> str:
    """How tasks ended, in a few words."""
    ended = Counter("reused" if task["reused"] else task["status"] for task in report["tasks"])
    return ", ".join(f"{count:,} {state(word).word}" for word, count in ended.most_common()) or "none ended"
