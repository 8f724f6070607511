"""`stillrun logs FLOW/RUN[/STEP[/TASK]]`: what tasks wrote."""

from __future__ import annotations

import sys

import click

from stillrun_cli.console import clean, common_options, paint, print_json
from stillrun_cli.settings import open_store
from stillrun_engine.archive import Record, open_run
from stillrun_engine.logs import STREAMS
from stillrun_engine.pathspec import parse_pathspec
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.store import Store

__all__ = ["logs_command"]


@click.command(short_help="Print what tasks wrote.")
@click.argument("pathspec", metavar="FLOW/RUN[/STEP[/TASK]]")
@click.option("--stdout", "only", flag_value="stdout", help="Standard output only.")
@click.option("--stderr", "only", flag_value="stderr", help="Standard error only.")
@common_options
@click.pass_context
def logs_command(ctx: click.Context, pathspec: str, only: str | None, as_json: bool) -> None:
    """Print the output of one task as it was written, or that of several with their names in front."""
    store = open_store(ctx)
    tasks = open_run(store, parse_pathspec(pathspec, least=2, most=4)).selected()
    streams = (only,) if only else STREAMS
    if as_json:
        print_json({"logs": [_entry(store, task) for task in tasks]})
        return
    for task in tasks:
        for stream in streams:
            _print(store, task, stream, alone=len(tasks) == 1)


def _read(store: Store, task: Record, stream: str) -> bytes:
    digest = task["logs"].get(stream)
    return store.get(Digest(digest)) if digest else b""


def _entry(store: Store, task: Record) -> dict[str, str]:
    texts = {stream: _read(store, task, stream).decode(errors="replace") for stream in STREAMS}
    return {"step": task["step"], "task": task["task"], **texts}


def _print(store: Store, task: Record, stream: str, *, alone: bool) -> None:
    data = _read(store, task, stream)
    if alone and not sys.stdout.isatty():
        click.echo(data, nl=False)
        return
    prefix = "" if alone else paint(f"[{task['step']}/{task['task']}] ", fg="cyan")
    for line in data.decode(errors="replace").splitlines():
        click.echo(prefix + clean(line))
