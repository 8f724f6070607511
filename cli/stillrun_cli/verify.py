"""`stillrun verify FLOW/RUN`: hash everything that a run stands on."""

from __future__ import annotations

import sys

import click

from stillrun_cli.console import clean, common_options, paint, print_json, size
from stillrun_cli.settings import open_store
from stillrun_engine.archive import open_run
from stillrun_engine.closure import Needed, check_objects, needed_objects
from stillrun_engine.pathspec import parse_pathspec

__all__ = ["verify_command"]


@click.command(short_help="Hash everything that a run stands on.")
@click.argument("pathspec", metavar="FLOW/RUN[/STEP[/TASK]]")
@common_options
@click.pass_context
def verify_command(ctx: click.Context, pathspec: str, as_json: bool) -> int:
    """Hash every object that the run needs (code, packages, interpreter, inputs, artifacts, logs) and check the log of refs.

    The exit code is 0 when all is sound, 2 when an object is damaged or missing; each is named with what it is there for.
    """
    store = open_store(ctx)
    run = open_run(store, parse_pathspec(pathspec, least=2, most=4))
    changes = store.refs.check()
    tasks = run.selected()
    with _progress(as_json) as told:
        count, total, damaged = check_objects(store, needed_objects(run, tasks), told)
    if as_json:
        problems = [{"digest": d.needed.digest, "purpose": d.needed.purpose, "problem": d.problem} for d in damaged]
        print_json(
            {
                "run": run.pathspec,
                "sound": not damaged,
                "objects": count,
                "bytes": total,
                "log_lines": changes,
                "damaged": problems,
            }
        )
    else:
        for damage in damaged:
            click.echo(clean(f"{paint('damaged', fg='red')}: {damage.needed.purpose}: {damage.problem}"))
        result = f"{len(damaged)} damaged" if damaged else paint("all sound", fg="green")
        click.echo(f"{run.spec}: {count} objects, {size(total)} hashed, {changes} log lines checked: {result}")
    return 2 if damaged else 0


class _progress:  # noqa: N801 - used as a function
    """A counter of hashed bytes on a terminal; nothing elsewhere."""

    def __init__(self, as_json: bool) -> None:
        self._shown = not as_json and sys.stderr.isatty()

    def __enter__(self) -> _progress:
        if self._shown:
            from rich.console import Console
            from rich.progress import Progress, TextColumn, TotalFileSizeColumn, TransferSpeedColumn

            self._bar = Progress(
                TextColumn("{task.description}"),
                TotalFileSizeColumn(),
                TransferSpeedColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._bar.start()
            self._task = self._bar.add_task("hashing", total=0)
        return self

    def __call__(self, item: Needed, count: int) -> None:
        if self._shown:
            done = self._bar.tasks[0].completed + count
            self._bar.update(self._task, description=clean(item.purpose)[:50], completed=done, total=done)

    def __exit__(self, *exc: object) -> None:
        if self._shown:
            self._bar.stop()
