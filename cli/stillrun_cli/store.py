"""`stillrun store ...`: the store itself."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from stillrun_cli.console import common_options, print_json, size
from stillrun_cli.group import LazyGroup
from stillrun_cli.narrator import counted
from stillrun_cli.settings import open_store

if TYPE_CHECKING:
    from stillrun_snapshot.packing import Packed

__all__ = ["store_group"]
_DIGITS = 12  # characters of an age: some hundred million years


_COMMANDS = {
    "fsck": ("stillrun_cli.store_fsck", "fsck_command", "Look through the store for damage, and mend it."),
    "gc": ("stillrun_cli.store_gc", "gc_command", "Remove what no run needs any more."),
}


@click.group(cls=LazyGroup, lazy=_COMMANDS, short_help="Look after the store.")
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


@store_group.command("pack")
@click.option("--age", default="14d", metavar="AGE", help="Leave files written within this time, such as 12h or 14d.")
@click.option("--all", "everything", is_flag=True, help="Take files of any age.")
@common_options
@click.pass_context
def pack(ctx: click.Context, age: str, everything: bool, as_json: bool) -> int:
    """Make the store smaller: small objects into blocks, large ones into chunks.

    Runs, readers and writers go on meanwhile. Large artifacts written lately stay as they are, as they are mapped into memory
    where they lie; one that was packed is unpacked when a step or replay asks for it.
    """
    from stillrun_snapshot.packing import pack_store

    store = open_store(ctx)
    seconds = 0 if everything else _seconds(age)
    found = pack_store(store.root, older_than_ns=time.time_ns() - seconds * 10**9)
    if as_json:
        damaged = [{"object": digest, "file": file} for digest, file in found.damaged]
        print_json({"store": str(store.root), **asdict(found), "damaged": damaged})
    else:
        click.echo("\n".join(_told(store.root, found)))
    return 2 if found.damaged else 0


def _told(root: Path, found: Packed) -> Iterator[str]:
    if not found.removed:
        yield f"{root}: nothing to pack." if not found.waiting else f"{root}: packed beside what it replaces."
    else:
        yield (
            f"{root}: {found.objects:,} objects packed, {found.large:,} of them in chunks; "
            f"{found.removed:,} files of {size(found.before)} became {size(found.after)}."
        )
    if found.waiting:
        yield f"{counted(found.waiting, 'file')} kept while runs are in progress; pack again when they have ended."
    if found.left:
        yield f"{counted(found.left, 'large object')} left as they are: packing would save nothing."
    for digest, file in found.damaged:
        yield f"damaged: {digest or 'a part without a name'} in {file}, which is kept as it is."


def _seconds(age: str) -> int:
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
    if not age[:-1].isdecimal() or age[-1:] not in units or len(age) > _DIGITS:
        raise click.BadParameter(f"{age[:40]!r} is no age: a number and one of s, m, h, d, w, such as 14d.")
    return int(age[:-1]) * units[age[-1]]
