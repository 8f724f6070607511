"""`stillrun log`: every change of every ref, as the log has it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

import click

from stillrun_cli.console import clean, common_options, print_json, short
from stillrun_cli.settings import open_store
from stillrun_snapshot.clock import timestamp, utc_now
from stillrun_snapshot.refs import RefEvent
from stillrun_snapshot.store import Store

__all__ = ["log_command"]

_AGO = re.compile(r"([0-9]+)([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_KINDS = {
    "runs": "run",
    "tasks": "task",
    "spins": "spin",
    "tags": "tags",
    "locks": "environment",
    "keys": "key",
    "revocations": "revocation",
    "signatures": "signature",
    "redactions": "redaction",
    "evidence": "carried here",
    "pins": "pin",
}


@click.command(short_help="List what was done in the store, by the log.")
@click.argument("ref", metavar="[FLOW[/RUN]]", required=False)
@click.option("--since", metavar="WHEN", help="7d, 2h, 2026-11-23, 2026-11-23T04:00, or the number of a line.")
@click.option("--all", "everything", is_flag=True, help="With the records of tasks, which are many.")
@common_options
@click.pass_context
def log_command(ctx: click.Context, ref: str | None, since: str | None, everything: bool, as_json: bool) -> None:
    """List the lines of the log, oldest first, and check on the way that each continues the one before."""
    begin = None if since is None else _since(since)
    with open_store(ctx) as store:
        events = list(_chosen(store, ref, begin, everything or as_json))
    if as_json:
        lines = [
            {"line": e.seq, "time": e.time, "ref": e.name, "from": e.old, "to": e.new, "digest": e.line} for e in events
        ]
        print_json({"lines": lines})
        return
    for event in events:
        kind = _KINDS.get(event.name.split("/")[0], event.name.split("/")[0])
        done = "made" if event.old is None else "deleted" if event.new is None else "moved"
        name = event.name.partition("/")[2]
        click.echo(
            clean(f"{event.seq:>6}  {event.time[:19].replace('T', ' ')}  {kind} {done}: {name}  {short(event.new)}")
        )


def _chosen(store: Store, ref: str | None, begin: int | str | None, everything: bool) -> Iterator[RefEvent]:
    for event in store.refs.events():
        kind, _, rest = event.name.partition("/")
        if kind == "tasks" and not everything:
            continue
        if ref is not None and not (f"{rest}/".startswith(f"{ref.rstrip('/')}/") or event.name == ref):
            continue
        if (isinstance(begin, int) and event.seq < begin) or (isinstance(begin, str) and event.time < begin):
            continue
        yield event


def _since(text: str) -> int | str:
    """The number of a line, or a time as the log has it."""
    ago = _AGO.fullmatch(text)
    try:
        if text.isdecimal():
            return int(text)
        if ago is not None:
            return timestamp(utc_now() - timedelta(**{_UNITS[ago[2]]: int(ago[1])}))
        when = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except (ValueError, OverflowError) as error:
        raise click.UsageError(
            f"--since {text[:40]}: give 7d, 2h, a date such as 2026-11-23, or a line's number."
        ) from error
    return timestamp(when if when.tzinfo else when.replace(tzinfo=timezone.utc))
