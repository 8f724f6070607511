"""The formats of evidence as forms of a report (`stillrun_reports.formats`): each writes its files into a folder."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stillrun_engine.archive import KeptRun, open_run
from stillrun_engine.errors import EngineError
from stillrun_engine.pathspec import parse_pathspec
from stillrun_reports.evidence.dossier import Dossier, dossier_of
from stillrun_snapshot.store import Store

__all__ = ["write_bills", "write_crate_of", "write_junit", "write_prov", "write_slsa", "write_summary"]

Report = Mapping[str, Any]


def write_crate_of(report: Report, store: Store, run: KeptRun, folder: Path) -> list[Path]:
    """Write the crate into `ro-crate`, whole or not at all; one that an earlier audit wrote is replaced."""
    from stillrun_reports.evidence.crate import write_crate

    crate = folder / "ro-crate"
    with tempfile.TemporaryDirectory(prefix=".ro-crate-", dir=folder) as place:
        written = write_crate(_dossier(report, store, run), Path(place) / "ro-crate", licence=report["licence"])
        if crate.is_symlink() or crate.exists():
            _make_room(crate)
        (Path(place) / "ro-crate").rename(crate)
    return [crate / path for path in written]


def _make_room(crate: Path) -> None:
    """Remove a crate that an earlier audit wrote; EngineError when something else is there."""
    from stillrun_reports.evidence.crate import METADATA, VERSION

    metadata = crate / METADATA
    if (
        crate.is_symlink()
        or not metadata.is_file()
        or VERSION.rsplit("/", 1)[0] not in metadata.read_text("utf-8", "replace")
    ):
        raise EngineError(f"{crate} is there already and is no crate of ours; move it, or name another folder with -o.")
    shutil.rmtree(crate)


def write_bills(report: Report, store: Store, run: KeptRun, folder: Path) -> list[Path]:
    """Write `bom.cdx.json` of the run and `environment-DIGITS.cdx.json` of each environment."""
    from stillrun_reports.evidence.bom import environment_bom, run_bom

    dossier = _dossier(report, store, run)
    texts = {f"environment-{one.name.hex[:12]}.cdx.json": environment_bom(dossier, one) for one in dossier.environments}
    return [_write(folder / name, text) for name, text in {"bom.cdx.json": run_bom(dossier), **texts}.items()]


def write_slsa(report: Report, store: Store, run: KeptRun, folder: Path) -> list[Path]:
    """Write `provenance.intoto.json`, and `verdict-DIGITS.intoto.json` of each replay."""
    from stillrun_reports.evidence.statements import write_statements

    return write_statements(_dossier(report, store, run), folder)


def write_prov(report: Report, store: Store, run: KeptRun, folder: Path) -> list[Path]:
    """Write `prov.json`."""
    from stillrun_reports.evidence.prov import prov_text

    return [_write(folder / "prov.json", prov_text(_dossier(report, store, run)))]


def write_junit(report: Report, store: Store, run: KeptRun, folder: Path) -> list[Path]:
    """Write `junit.xml`."""
    from stillrun_reports.evidence.junit import junit_text

    return [_write(folder / "junit.xml", junit_text(_dossier(report, store, run)))]


def write_summary(report: Report, store: Store, run: KeptRun, folder: Path) -> list[Path]:
    """Write `summary.md`."""
    from stillrun_reports.evidence.summary import summary_text

    return [_write(folder / "summary.md", summary_text(_dossier(report, store, run)))]


_read: list[tuple[Report, Dossier]] = []
"""What was read for the last report: an audit writes six formats of one run."""


def _dossier(report: Report, store: Store, run: KeptRun) -> Dossier:
    """The run with all of its replays that the report tells of, whichever it is about."""
    if not _read or _read[0][0] is not report or _read[0][1].run is not run:
        _read[:] = [(report, _dossier_anew(report, store, run))]
    return _read[0][1]


def _dossier_anew(report: Report, store: Store, run: KeptRun) -> Dossier:
    names = {one["run"] for one in report["replays"] if one["verdict_record"]}
    if report["replay"] is not None:
        names.add(report["replay"]["run"])
    names.discard(run.pathspec)
    return dossier_of(run, [open_run(store, parse_pathspec(name, least=2, most=2)) for name in sorted(names)])


def _write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path
