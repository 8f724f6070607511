"""What a fetched run has left in a remote: got before a command that needs all of it, or told of."""

from __future__ import annotations

import os

import click

from stillrun_cli.console import clean
from stillrun_cli.progress import transfer_progress
from stillrun_engine.archive import KeptRun

__all__ = ["bring_what_is_left", "tell_what_is_left"]


def bring_what_is_left(run: KeptRun, *, offline: bool, as_json: bool) -> None:
    """Fetch what the tasks that ``run`` names need, or say where it is when no network is to be used."""
    if run.store.refs.get(f"fetched/{run.pathspec}") is None:
        return
    if offline:
        run.store.lender = None
        tell_what_is_left(run)
        return
    from stillrun_engine.remote_lending import bring_rest

    with transfer_progress(as_json, "fetching") as told:
        bring_rest(run, os.environ, told)


def tell_what_is_left(run: KeptRun) -> None:
    """Say which remote has the rest of a run that was fetched in part."""
    if run.store.refs.get(f"fetched/{run.pathspec}") is None:
        return
    from stillrun_engine.remote_lending import left_in

    place = (
        f"in '{left_in(run.store, run.pathspec)}'" if left_in(run.store, run.pathspec) else "where it was fetched from"
    )
    click.echo(
        clean(f"not all of {run.pathspec} is here: the rest is {place}; 'stillrun pull {run.pathspec}' gets it"),
        err=True,
    )
