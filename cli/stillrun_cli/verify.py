"""`stillrun verify FLOW/RUN`: hash everything that a run stands on."""

from __future__ import annotations

import click

from stillrun_cli.console import clean, common_options, paint, print_json, size
from stillrun_cli.progress import hashing_progress
from stillrun_cli.settings import open_store
from stillrun_engine.archive import open_run
from stillrun_engine.closure import check_objects, needed_objects
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
    with hashing_progress(as_json, "hashing") as told:
        count, total, damaged = check_objects(
            store, needed_objects(run, tasks), lambda one, size: told(one.purpose, size)
        )
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
