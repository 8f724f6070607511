"""The forms that a report is written in. Each is imported when it is asked for."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from stillrun_engine.archive import KeptRun
from stillrun_snapshot.deferred import dataclass
from stillrun_snapshot.store import Store

__all__ = ["FORMATS", "Format", "Writer", "write_formats"]

Writer = Callable[[Mapping[str, Any], Store, KeptRun, Path], list[Path]]
"""Given the report (docs/spec/report.md), the store, the run and an existing folder: the files that it wrote there."""


@dataclass(frozen=True)
class Format:
    """One form, and where its writer is found."""

    module: str
    function: str
    about: str

    def write(self, report: Mapping[str, Any], store: Store, run: KeptRun, folder: Path) -> list[Path]:
        """Write this form of the report into ``folder``; the files."""
        writer: Writer = getattr(importlib.import_module(self.module), self.function)
        return writer(report, store, run, folder)


FORMATS: Mapping[str, Format] = {
    "html": Format("stillrun_reports.page.writing", "write_page", "one page for people"),
    "json": Format("stillrun_reports.report", "write_report", "the report itself, which all others are made from"),
    "ro-crate": Format("stillrun_reports.evidence.writers", "write_crate_of", "a Provenance Run Crate, RO-Crate 1.1"),
    "cyclonedx": Format("stillrun_reports.evidence.writers", "write_bills", "bills of materials, CycloneDX 1.6"),
    "slsa": Format("stillrun_reports.evidence.writers", "write_slsa", "in-toto statements: SLSA provenance, verdicts"),
    "prov": Format("stillrun_reports.evidence.writers", "write_prov", "who used and made what, PROV-JSON"),
    "junit": Format("stillrun_reports.evidence.writers", "write_junit", "tasks and judgements as tests, JUnit XML"),
    "markdown": Format("stillrun_reports.evidence.writers", "write_summary", "a summary for the page of a CI job"),
}
"""By the word of --format, in the order in which they are written."""


def write_formats(
    names: Iterable[str], report: Mapping[str, Any], store: Store, run: KeptRun, folder: Path
) -> dict[str, list[Path]]:
    """Write each of the named forms into ``folder``, which is there; the files of each."""
    return {name: FORMATS[name].write(report, store, run, folder) for name in names}
