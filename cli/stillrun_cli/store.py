"""`stillrun store ...`: the store itself."""

from __future__ import annotations

from dataclasses import asdict

import click

from stillrun_cli.console import common_options, print_json, size
from stillrun_cli.settings import open_store
from stillrun_cli.store_fsck import fsck_command
from stillrun_cli.store_gc import gc_command

__all__ = ["store_group"]


@click.group(short_help="Look after the store.")
def store_group() -> None:
    """Look after the store."""


@store_group.command("stats")
@common_options
@click.pass_context
def stats(ctx: click.Context, as_json: bool) -> None:
    """Show how much the store holds."""
    store = open_store(ctx, create=True)
    found = asdict(store.stats())
    if as_json:
        print_json({"store": str(store.root), **found})
        return
    click.echo(store.root)
    for name, value in found.items():
        shown = size(value) if name.endswith("bytes") or name.startswith("bytes") else f"{value:,}"
        click.echo(f"  {name.replace('_', ' ').ljust(16)} {shown:>12}")


@store_group.command("reindex")
@common_options
@click.pass_context
def reindex(ctx: click.Context, as_json: bool) -> None:
    """Rebuild the catalog from packs and log; nothing is lost without it."""
    store = open_store(ctx)
    store.reindex()
    found = asdict(store.stats())
    if as_json:
        print_json({"store": str(store.root), **found})
    else:
        click.echo(f"{store.root}: {found['objects']:,} objects indexed.")


store_group.add_command(gc_command)
store_group.add_command(fsck_command)
