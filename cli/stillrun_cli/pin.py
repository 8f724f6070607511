"""`stillrun pin`, `unpin`: runs that nobody may forget by mistake."""

from __future__ import annotations

import click

from stillrun_cli.console import clean, common_options, print_json, print_table, store_option
from stillrun_cli.settings import open_store
from stillrun_engine.archive import open_run
from stillrun_engine.pathspec import parse_pathspec
from stillrun_engine.pins import is_pinned, pin_run, pins, unpin_run

__all__ = ["pin_command", "unpin_command"]


@click.command("pin", short_help="Pin a run, so that it is never forgotten; list pins.")
@click.argument("pathspec", metavar="[FLOW/RUN]", required=False)
@click.option("--note", metavar="TEXT", help="Why, in one line; it stands in the log.")
@common_options
@click.pass_context
def pin_command(ctx: click.Context, pathspec: str | None, note: str | None, as_json: bool) -> None:
    """Pin a run: `forget` and its rules leave it alone until it is unpinned. Without a run, list what is pinned."""
    with open_store(ctx) as store:
        if pathspec is not None:
            run = open_run(store, parse_pathspec(pathspec, least=2, most=2))
            pin_run(run, note)
            print_json({"run": run.pathspec, "note": note}) if as_json else click.echo(f"{run.pathspec}: pinned")
            return
        found = list(pins(store))
    if as_json:
        print_json({"pins": [vars(one) for one in found]})
    elif found:
        print_table(("RUN", "SINCE", "NOTE"), [(one.run, one.time, clean(one.note or "")) for one in found])
    else:
        click.echo("No run is pinned; 'stillrun pin FLOW/RUN' pins one.")


@click.command("unpin", short_help="Take the pin off a run.")
@click.argument("pathspec", metavar="FLOW/RUN")
@store_option
@click.pass_context
def unpin_command(ctx: click.Context, pathspec: str) -> None:
    """Take the pin off a run; the run stays until it is forgotten."""
    with open_store(ctx) as store:
        spec = parse_pathspec(pathspec, least=2, most=2)
        name = str(spec) if is_pinned(store, str(spec)) else open_run(store, spec).pathspec
        unpin_run(store, name)
        click.echo(f"{name}: no longer pinned")
