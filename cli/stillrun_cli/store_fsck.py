"""`stillrun store fsck`: whether the store is sound, and what to do about it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from stillrun_cli.console import clean, common_options, paint, print_json, size
from stillrun_cli.narrator import counted
from stillrun_cli.progress import hashing_progress
from stillrun_cli.settings import store_path
from stillrun_engine.soundness import Problem, Soundness, check_store, opened_to_check

if TYPE_CHECKING:
    from stillrun_engine.repair import Repaired

__all__ = ["fsck_command"]

_RUNS = 3  # that a line names


@click.command("fsck", short_help="Look through the store for damage, and mend it.")
@click.option(
    "--full", is_flag=True, help="Hash every byte; without this, sizes, headers, index, log and links are looked at."
)
@click.option(
    "--repair",
    "sources",
    multiple=True,
    metavar="FROM",
    type=click.Path(path_type=Path),
    help="Take sound copies from another store's folder or from a bundle; may be repeated.",
)
@common_options
@click.pass_context
def fsck_command(ctx: click.Context, full: bool, sources: tuple[Path, ...], as_json: bool) -> int:
    """Look through the store for damage. Each damaged or missing object is named, with every run that needs it.

    The exit code is 0 when the store is sound, or is after --repair; 2 when something is damaged or missing.
    Runs may go on meanwhile.
    """
    root = store_path(ctx)
    with opened_to_check(root) as (store, before):
        with hashing_progress(as_json, "hashing" if full else "looking") as told:
            found = check_store(store, before, full=full, told=told)
        repaired = None
        if sources:
            from stillrun_engine.repair import opened_sources, repair_store

            with opened_sources(sources, store) as opened, hashing_progress(as_json, "mending") as told:
                repaired = repair_store(store, found, opened, told)
    if as_json:
        print_json({"store": str(root), "full": full, **_facts(found, repaired)})
    else:
        _print(root, found, repaired, full=full)
    sound = not found.problems if repaired is None else not repaired.left and not _for_people(found)
    return 0 if sound else 2


def _for_people(found: Soundness) -> list[Problem]:
    """What no repair mends: the log."""
    return [one for one in found.problems if one.finding.kind == "log"]


def _facts(found: Soundness, repaired: Repaired | None) -> dict[str, object]:
    problems = [
        {
            "kind": one.finding.kind,
            "place": one.finding.place,
            "digest": one.finding.digest,
            "problem": one.finding.problem,
            "needed_by": [{"run": run, "purpose": purpose} for run, purpose in sorted(one.needed_by.items())],
        }
        for one in found.problems
    ]
    seen = found.inspection
    facts = {
        "sound": not problems,
        "objects": seen.objects,
        "bytes": seen.size,
        "log_lines": seen.lines,
        "runs": found.runs,
        "redacted": found.redacted,
    }
    told = {} if repaired is None else {"mended": repaired.mended, "left": repaired.left, "dropped": repaired.dropped}
    return {**facts, "problems": problems, **told}


def _print(root: Path, found: Soundness, repaired: Repaired | None, *, full: bool) -> None:
    for one in found.problems:
        finding = one.finding
        what = f"{finding.digest} in {finding.place}" if finding.digest else finding.place
        click.echo(clean(f"{paint(finding.kind, fg='red')}: {what}: {finding.problem}{_needed_by(one)}"))
    seen = found.inspection
    verb = "hashed" if full else "looked at"
    amount = f"{counted(seen.objects, 'object')}, {size(seen.size)} {verb}, {seen.lines:,} log lines"
    result = f"{counted(len(found.problems), 'problem')}" if found.problems else paint("all sound", fg="green")
    redacted = f", {counted(found.redacted, 'redacted object')}" if found.redacted else ""
    click.echo(f"{root}: {amount}, {counted(found.runs, 'run')}{redacted}: {result}")
    if repaired is not None:
        left = f", {len(repaired.left)} not to be had there" if repaired.left else ""
        dropped = f", {len(repaired.dropped)} dropped that nothing needs" if repaired.dropped else ""
        click.echo(f"{counted(len(repaired.mended), 'object')} mended{left}{dropped}")


def _needed_by(one: Problem) -> str:
    if not one.needed_by:
        return "; no run needs it" if one.finding.digest else ""
    runs = sorted(one.needed_by)
    more = f" and {len(runs) - _RUNS} more" if len(runs) > _RUNS else ""
    return f"; it is {one.needed_by[runs[0]]} of {', '.join(runs[:_RUNS])}{more}"
