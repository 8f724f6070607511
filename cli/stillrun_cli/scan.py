"""`stillrun scan FLOW.py|FLOW/RUN`: what looks like a secret, before it is kept and after."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stillrun_cli.console import clean, common_options, print_json
from stillrun_cli.settings import open_store

if TYPE_CHECKING:
    from stillrun_engine.leaks import Leak

__all__ = ["scan_command"]


@click.command(short_help="Look for secrets in a flow's code, or in what a run has kept.")
@click.argument("target", metavar="FLOW.py|FLOW/RUN")
@common_options
@click.pass_context
def scan_command(ctx: click.Context, target: str, as_json: bool) -> int:
    """Name what looks like a secret, with rule, place and line. Of a flow file: the files that a run would keep, and nothing is
    written. Of a run: code, parameters, artifacts, logs and inputs, with the object that holds it.

    The exit code is 0 when nothing was found, 1 when something was.
    """
    from stillrun_engine.leaks import scan_code, scan_run

    path = Path(target)
    if target.endswith(".py"):
        leaks, count = scan_code(path)
    else:
        from stillrun_engine.archive import open_run
        from stillrun_engine.pathspec import parse_pathspec

        with open_store(ctx) as store:
            leaks, count = scan_run(open_run(store, parse_pathspec(target, least=2, most=2)))
    if as_json:
        print_json({"target": target, "looked_through": count, "findings": [_facts(leak) for leak in leaks]})
    else:
        for leak in leaks:
            held = f"  object {leak.digest}" if leak.digest else ""
            click.echo(clean(f"{leak.finding}{held}"))
        click.echo(f"{target}: {count:,} texts looked through, {len(leaks):,} found")
        if leaks and leaks[0].digest:
            click.echo("Change the secret first. Then take it out: stillrun redact OBJECT --reason WHY.")
    return 1 if leaks else 0


def _facts(leak: Leak) -> dict[str, Any]:
    found = leak.finding
    return {"rule": found.rule, "place": found.where, "line": found.line, "object": leak.digest, "shown": found.shown}
