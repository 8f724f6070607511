"""`stillrun audit FLOW/RUN -o DIR`: what a run was, and whether it can be relied on, for somebody who doubts everything."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from stillrun_cli.audit_check import checking_options, print_check
from stillrun_cli.audit_sign import signing_options, write_signed
from stillrun_cli.console import clean, common_options, paint, print_json, size, word
from stillrun_cli.key import trusted_keys
from stillrun_cli.progress import hashing_progress
from stillrun_cli.settings import open_store
from stillrun_engine.archive import KeptRun, open_run
from stillrun_engine.errors import EngineError
from stillrun_engine.pathspec import parse_pathspec
from stillrun_reports.evidence.licence import checked_licence
from stillrun_reports.formats import FORMATS, write_formats
from stillrun_reports.report import is_sound, report_of
from stillrun_snapshot.digest import digest_of
from stillrun_snapshot.errors import ObjectCorrupt, ObjectMissing
from stillrun_snapshot.record import canonical_bytes

__all__ = ["audit_command"]

_FINDINGS_SHOWN = 6
_FORMATS_TOLD = "Write only this form of it; may be repeated. One of: " + ", ".join(FORMATS) + "."


@click.command("audit", short_help="Write a report of a run for people who doubt it.")
@click.argument("pathspec", metavar="FLOW/RUN", required=False)
@click.option("--replay", metavar="VERDICT", help="FLOW/RUN of a replay, or a verdict's digest; default: the newest.")
@click.option("--compare", metavar="FLOW/RUN", help="Lay another run beside this one.")
@click.option("-o", "--out", "out", metavar="DIR", type=click.Path(path_type=Path), help="Default: FLOW-RUN-audit.")
@click.option(
    "--format", "formats", type=click.Choice(list(FORMATS)), multiple=True, help=_FORMATS_TOLD, metavar="FORMAT"
)
@click.option(
    "--licence",
    "--license",
    metavar="ID|URL",
    help="The licence of the run's code and data, stated in the crate and the report: an SPDX identifier, or an address.",
)
@click.option("--no-check", is_flag=True, help="Do not hash the run's objects; the report says so.")
@checking_options
@signing_options
@common_options
@click.pass_context
def audit_command(
    ctx: click.Context,
    pathspec: str | None,
    replay: str | None,
    compare: str | None,
    out: Path | None,
    formats: tuple[str, ...],
    licence: str | None,
    no_check: bool,
    evidence: Path | None,
    trusted: tuple[Path, ...],
    sign: bool,
    key_name: str | None,
    as_json: bool,
) -> int:
    """Hash everything that a run stands on and write what is known of it: one page of HTML, and report.json behind it.

    The exit code is 0 when nothing speaks against the run, 1 when there are findings, 2 when the report could not be made.
    """
    if evidence is not None:
        return print_check(ctx, evidence, trusted, as_json)
    if pathspec is None:
        raise click.UsageError("name a run, FLOW/RUN, or with --check a folder of evidence.")
    stated = checked_licence(licence) if licence is not None else None
    store = open_store(ctx)
    run = open_run(store, parse_pathspec(pathspec, least=2, most=2))
    other = open_run(store, parse_pathspec(compare, least=2, most=2)) if compare else None
    with hashing_progress(as_json, "hashing") as told:
        report = report_of(
            store,
            run,
            replay=replay,
            compare=other,
            check=not no_check,
            trusted=trusted_keys(trusted),
            licence=stated,
            told=lambda one, count: told(one.purpose, count),
        )
    folder = out if out is not None else Path(_folder_name(run.pathspec))
    written, unwritten = _written(formats, report, run, folder)
    if sign:
        written["signed"] = write_signed(store, folder, key_name)
    if as_json:
        print_json({**_summary(report, written), "not_written": unwritten})
    else:
        _print(report, written)
        for name, why in unwritten.items():
            click.echo(f"  not written {name}: {clean(_line(why))}")
    return 0 if is_sound(report) else 1


def _folder_name(pathspec: str) -> str:
    return re.sub(r"[^\w.-]+", "-", pathspec) + "-audit"


def _written(
    asked: tuple[str, ...], report: Mapping[str, Any], run: KeptRun, folder: Path
) -> tuple[dict[str, list[Path]], dict[str, str]]:
    """The files of each form, in a folder that is made when it is not there; and of forms that lack an object, why.

    Those that were asked for by name are an error then.
    """
    written: dict[str, list[Path]] = {}
    unwritten: dict[str, str] = {}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in dict.fromkeys(asked or FORMATS):
            try:
                written |= write_formats([name], report, run.store, run, folder)
            except (ObjectMissing, ObjectCorrupt) as err:
                if asked:
                    raise
                unwritten[name] = str(err)
    except OSError as err:
        raise EngineError(
            f"cannot write {err.filename or folder}: {err.strerror}; name another folder with -o."
        ) from err
    return written, unwritten


def _summary(report: Mapping[str, Any], written: Mapping[str, list[Path]]) -> dict[str, Any]:
    integrity = report["integrity"]
    return {
        "run": report["run"]["name"],
        "record": report["run"]["record"],
        "verdict": report["verdict"]["level"],
        "counts": report["verdict"]["counts"],
        "sound": is_sound(report),
        "findings": report["findings"],
        "not_checked": report["not_checked"],
        "objects": integrity["objects"],
        "bytes": integrity["bytes"],
        "damaged": integrity["damaged_count"],
        "report": digest_of(canonical_bytes(report)),
        "files": {name: [str(path) for path in paths] for name, paths in written.items()},
    }


def _print(report: Mapping[str, Any], written: Mapping[str, list[Path]]) -> None:
    verdict, integrity, findings = report["verdict"], report["integrity"], report["findings"]
    counts = ", ".join(f"{count} {level.replace('_', ' ')}" for level, count in verdict["counts"].items())
    head = f"{paint(clean(report['run']['name']), bold=True)}: {word(verdict['level']).replace('_', ' ')}"
    click.echo(head + (f" ({counts})" if counts else ""))
    for one in findings[:_FINDINGS_SHOWN]:
        mark = paint("finding", fg="red") if one["weight"] == "finding" else "note   "
        click.echo(f"  {mark}  {_line(one['text'])}")
    if len(findings) > _FINDINGS_SHOWN:
        click.echo(f"  and {len(findings) - _FINDINGS_SHOWN} more in the report")
    hashed = (
        f"{integrity['objects']:,} objects, {size(integrity['bytes'])} hashed, {integrity['damaged_count']} damaged"
    )
    click.echo(f"  integrity  {hashed if integrity['checked'] else 'not checked'}")
    click.echo(f"  not shown  {len(report['not_checked'])} things that nobody checked; the report lists them")
    for paths in written.values():
        for path in paths[:1]:
            more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
            click.echo(f"  wrote      {clean(str(path))}{more}")


def _line(text: str) -> str:
    return clean(" ".join(text.split()))
