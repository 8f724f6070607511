"""What a command takes from the world around it: the store's place, the caller's interpreter, the number of workers."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import click

from stillrun_cli.here import caller_here
from stillrun_engine.caller import Caller
from stillrun_engine.reads import ReadService
from stillrun_engine.store_place import default_store
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.store import Store

__all__ = ["caller", "default_workers", "open_store", "reading", "store_path"]


def store_path(ctx: click.Context) -> Path:
    """--store, else STILLRUN_STORE, else the user's data folder."""
    return default_store(ctx.find_root().obj)


def open_store(ctx: click.Context, *, create: bool = False) -> Store:
    """The store of this command; closed when the command ends."""
    store = Store.open(store_path(ctx), create=create)
    store.lender = partial(_lent, store)
    ctx.call_on_close(store.close)
    return store


def _lent(store: Store, digest: Digest) -> bool:
    """Fetch an object that was left in a remote, and say so."""
    from stillrun_cli.console import size
    from stillrun_engine.remote_lending import lend

    def told(remote: str, purpose: str, count: int) -> None:
        click.echo(f"fetched {purpose} ({size(count)}) from {remote}", err=True)

    return lend(store, digest, os.environ, told)


def caller(python: str | None = None) -> Caller:
    """The interpreter of undecorated steps, the working directory and the environment variables.

    python: as asked for by --python. Otherwise the active virtual or conda environment's, otherwise our own.
    """
    if python is None:
        return caller_here()
    found = shutil.which(python)
    if found is None:
        raise click.UsageError(f"--python {python}: no such interpreter.")
    return caller_here(Path(found).absolute())


def reading(called: Caller, store: Store, namespace: str | None = None) -> Caller:
    """The caller, whose tasks can read the runs of ``store``. namespace: what they look through; the user's when None."""
    return replace(called, reads=ReadService(store.root, namespace))


def default_workers() -> int:
    """As many tasks at once as this process may use cores."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
