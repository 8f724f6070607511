"""`stillrun diff A B` and `stillrun why A B`: how two runs differ, on one page or in one sentence."""

from __future__ import annotations

from collections import Counter
from typing import Any

import click

from stillrun_cli.console import clean, common_options, paint, print_json, short, word
from stillrun_cli.difference import detail_lines
from stillrun_cli.env_changes import change_record, changes_table
from stillrun_cli.narrator import tell_unfinished
from stillrun_cli.settings import open_store
from stillrun_engine.archive import KeptRun, open_run
from stillrun_engine.diff import RunDiff, reason_of
from stillrun_engine.errors import EngineError
from stillrun_engine.pathspec import parse_pathspec
from stillrun_snapshot.store import Store

__all__ = ["diff_command", "why_command"]

_LINES_SHOWN = 40
_SHOWN = 15
_DETAILS_SHOWN = 40  # lines of what --values finds
_DETAILS_EACH = 14


@click.command("diff", short_help="Show how two runs, steps or tasks differ.")
@click.argument("before", metavar="FLOW/RUN[/STEP[/TASK]]")
@click.argument("after", metavar="FLOW/RUN[/STEP[/TASK]]")
@click.option("--values", is_flag=True, help="Open the results in the second run's environments.")
@common_options
@click.pass_context
def diff_command(ctx: click.Context, before: str, after: str, values: bool, as_json: bool) -> int:
    """Show how the second run differs from the first: code, parameters, environments, inputs, results, machine and time.

    Results are compared by their kept digests; nothing is unpickled without --values. The exit code is 0 when nothing differs
    but time and machine, 1 when something does.
    """
    with open_store(ctx) as store:
        diff = RunDiff(*_pair(store, before, after))
        if values:
            from stillrun_cli.narrator import Narrator
            from stillrun_cli.settings import caller
            from stillrun_engine.diff_values import open_values

            open_values(diff, caller(), reporter=Narrator(as_json=as_json, quiet=True))
        if as_json:
            print_json(_record(diff))
        else:
            _print(diff)
        return 0 if diff.is_empty else 1


@click.command("why", short_help="Say in one sentence why two runs differ.")
@click.argument("before", metavar="FLOW/RUN")
@click.argument("after", metavar="FLOW/RUN")
@common_options
@click.pass_context
def why_command(ctx: click.Context, before: str, after: str, as_json: bool) -> int:
    """Say in the shortest sentence why the second run differs from the first."""
    with open_store(ctx) as store:
        diff = RunDiff(*_pair(store, before, after))
        told = reason_of(diff)
        if as_json:
            print_json({"before": diff.before.pathspec, "after": diff.after.pathspec, "why": told})
        else:
            click.echo(clean(told))
        return 0 if diff.is_empty else 1


def _pair(store: Store, before: str, after: str) -> tuple[KeptRun, KeptRun]:
    specs = [parse_pathspec(text, least=2, most=4) for text in (before, after)]
    if [specs[0].step, specs[0].task] != [specs[1].step, specs[1].task]:
        raise EngineError(f"{before} and {after} are not of one kind; name two runs, or the same step or task of two.")
    pair = open_run(store, specs[0]), open_run(store, specs[1])
    tell_unfinished(pair)
    return pair


def _record(diff: RunDiff) -> dict[str, Any]:
    return {
        "before": str(diff.before.spec),
        "after": str(diff.after.spec),
        "why": reason_of(diff),
        "code": [{"path": one.path, "kind": one.kind, "lines": list(one.lines)} for one in diff.code],
        "parameters": [vars(one) for one in diff.parameters],
        "environments": [
            {
                "steps": list(one.steps),
                "before": one.before,
                "after": one.after,
                "changes": None if one.changes is None else [change_record(change) for change in one.changes],
            }
            for one in diff.environments
        ],
        "inputs": [vars(one) for one in diff.inputs],
        "tasks_of_one": [vars(one) for one in diff.tasks_of_one],
        "tasks": [
            {"step": one.step, "task": one.task, "verdict": one.verdict, "reason": one.reason} for one in diff.tasks
        ],
        "artifacts": [one.entry(task.step, task.task) for task, one in diff.differing],
        "origins": [{"step": one.step, "task": one.task} for one in diff.origins],
        "seconds": [{"step": step, "before": before, "after": after} for step, before, after in diff.seconds()],
        "machine": [vars(one) for one in diff.machine],
    }


def _print(diff: RunDiff) -> None:
    click.echo(f"{paint(str(diff.before.spec), bold=True)} → {paint(str(diff.after.spec), bold=True)}")
    _section("code", [f"{one.kind}: {one.path}" for one in diff.code])
    lines = [line for one in diff.code for line in one.lines]
    for line in lines[:_LINES_SHOWN]:
        click.echo("  " + _coloured(clean(line)))
    if len(lines) > _LINES_SHOWN:
        click.echo(f"  ... and {len(lines) - _LINES_SHOWN} more lines; --json has all")
    _section("parameters", [f"--{one.name}: {one.before} → {one.after}" for one in diff.parameters])
    _section(
        "environment",
        [f"of {', '.join(one.steps)}: {short(one.before)} → {short(one.after)}" for one in diff.environments],
    )
    for one in diff.environments:
        if one.changes:
            changes_table(one.changes, nothing="")
    _section("inputs", [f"{one.name}: {short(one.before or '-')} → {short(one.after or '-')}" for one in diff.inputs])
    _results(diff)
    seconds = diff.seconds()
    before, after = sum(one[1] for one in seconds), sum(one[2] for one in seconds)
    click.echo(f"{'time in tasks'.ljust(14)}{before:.2f} s → {after:.2f} s")
    _section("machine", [f"{one.name}: {one.before} → {one.after}" for one in diff.machine])
    click.echo(clean(f"{'in short'.ljust(14)}{reason_of(diff)}"))


def _results(diff: RunDiff) -> None:
    counts = Counter({"identical": diff.identical})
    counts += Counter(one.verdict for task in diff.tasks for one in task.artifacts if one.verdict != "identical")
    told = (
        ", ".join(f"{number} {level.replace('_', ' ')}" for level, number in counts.most_common()) or "none in common"
    )
    click.echo(f"{'results'.ljust(14)}{told}")
    origins = {(one.step, one.task) for one in diff.origins}
    for one in diff.tasks_of_one[:_SHOWN]:
        click.echo(clean(f"  {one.name}: " + ("only before" if one.after is None else "only after")))
    for task in [task for task in diff.tasks if task.reason][:_SHOWN]:
        click.echo(clean(f"  {task.step}/{task.task}: {task.reason}"))
    room = _DETAILS_SHOWN
    for task, artifact in diff.differing[:_SHOWN]:
        where = "" if (task.step, task.task) in origins else " (inherited)"
        name = f"{task.step}/{task.task}/{artifact.name}"
        click.echo(clean(f"  {name}: {word(artifact.verdict)}{where}: {artifact.reason}"))
        details = detail_lines(artifact.difference, min(_DETAILS_EACH, room))
        room -= len(details)
        for line in details:
            click.echo(f"      {_coloured(line)}")
    left = len(diff.differing) - _SHOWN
    if left > 0:
        click.echo(f"  ... and {left} more; --json has all")


def _section(name: str, lines: list[str]) -> None:
    if not lines:
        click.echo(f"{name.ljust(14)}the same")
        return
    for place, line in enumerate(lines[:_SHOWN]):
        click.echo(clean(f"{(name if place == 0 else '').ljust(14)}{line}"))
    if len(lines) > _SHOWN:
        click.echo(f"{''.ljust(14)}... and {len(lines) - _SHOWN} more; --json has all")


def _coloured(line: str) -> str:
    if line.startswith(("+++", "---", "@@")):
        return paint(line, dim=True)
    return paint(line, fg="green") if line.startswith("+") else paint(line, fg="red") if line.startswith("-") else line
