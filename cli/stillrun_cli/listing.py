"""`stillrun list`: the runs in the store."""

from __future__ import annotations

from itertools import islice
from typing import Any

import click

from stillrun_cli.console import common_options, print_json, print_table
from stillrun_cli.settings import open_store
from stillrun_engine.archive import KeptRun, flows, newest_runs
from stillrun_engine.errors import NotFound
from stillrun_engine.pathspec import nearest, parse_pathspec
from stillrun_engine.tags import tags_of

__all__ = ["list_command"]

_SHOWN = 50  # runs, if nothing is said


@click.command(short_help="List kept runs.")
@click.argument("flow", required=False)
@click.option("--tag", "tags", multiple=True, metavar="TAG", help="Only runs that have this tag; may be repeated.")
@click.option(
    "-n",
    "--limit",
    type=click.IntRange(min=0),
    metavar="N",
    help=f"Only the N newest; 0 for all. Default: {_SHOWN}, with --json all.",
)
@click.option(
    "--all", "trials", is_flag=True, help="Also the replays that --vary, --repeat and bisect try things with."
)
@common_options
@click.pass_context
def list_command(
    ctx: click.Context, flow: str | None, tags: tuple[str, ...], limit: int | None, trials: bool, as_json: bool
) -> None:
    """List the runs of FLOW, or of all flows, oldest first: the newest of them, or all."""
    store = open_store(ctx, create=True)
    flow = parse_pathspec(flow, most=1).flow if flow else None
    if flow and flow not in (known := flows(store)):
        raise NotFound(f"no flow '{flow}' in {store.root}.{nearest(flow, known)}")
    if limit is None:
        limit = 0 if as_json else _SHOWN
    asked = (run for run in newest_runs(store, flow) if trials or not run.record["settings"].get("trial"))
    asked = (run for run in asked if not tags or _tags(run).issuperset(tags))
    found = [_entry(run) for run in islice(asked, limit or None)][::-1]  # records are many times as large
    if as_json:
        print_json({"store": str(store.root), "runs": found})
    elif found:
        print_table(("RUN", "KIND", "STATUS", "STARTED", "PARAMETERS"), [_row(entry) for entry in found])
        if next(asked, None) is not None:
            click.echo(f"The {len(found)} newest of all; '--limit 0' lists the others, too.", err=True)
    else:
        click.echo(
            "No run has these tags." if tags else f"No runs in {store.root} yet; 'stillrun run FLOW.py' makes one."
        )


def _entry(run: KeptRun) -> dict[str, Any]:
    record = run.record
    return {
        "run": run.pathspec,
        "kind": record["kind"],
        "status": run.status,
        "tags": sorted(_tags(run)),
        "started": record["started"],
        "finished": record.get("finished"),
        "captured": record.get("captured", False),
        "origin": record["origin"]["run"] if record["origin"] else None,
        "parameters": {name: entry["text"] for name, entry in record["parameters"].items()},
    }


def _tags(run: KeptRun) -> frozenset[str]:
    return tags_of(run.store, run.spec.flow, str(run.spec.run), run.record)


def _row(entry: dict[str, Any]) -> tuple[str, ...]:
    kind = entry["kind"]
    if entry["origin"]:
        kind = f"replay of {entry['origin']}" if kind == "replay" else f"run, from {entry['origin']}"
    given = " ".join(f"{name}={text}" for name, text in entry["parameters"].items())
    return (entry["run"], kind, entry["status"], entry["started"][:19].replace("T", " "), given)
