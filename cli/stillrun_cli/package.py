"""`python flow.py package list|info|save`: the code that a run of this flow would keep."""

from __future__ import annotations

from pathlib import Path

import click

from stillrun_cli.console import clean, common_options, print_json, size
from stillrun_cli.settings import open_store
from stillrun_snapshot.archive import write_tar
from stillrun_snapshot.capture import Captured, capture_code
from stillrun_snapshot.store import Store
from stillrun_snapshot.tree import tree_files

__all__ = ["package_group"]


@click.group("package")
@click.option("--timeout", hidden=True, expose_value=False)
def package_group() -> None:
    """Look at the code that a run of this flow would keep."""


@package_group.command("list")
@common_options
@click.pass_context
def list_files(ctx: click.Context, as_json: bool) -> None:
    """List its files."""
    store, captured = _captured(ctx)
    paths = [path for path, _ in tree_files(store, captured.tree)]
    if as_json:
        print_json({"root": str(captured.root), "files": paths})
    for path in paths if not as_json else ():
        click.echo(clean(path))


@package_group.command("info")
@common_options
@click.pass_context
def info(ctx: click.Context, as_json: bool) -> None:
    """Say where they are, how many, how large, and what is left out."""
    _, captured = _captured(ctx)
    if as_json:
        facts = {"root": str(captured.root), "tree": captured.tree, "files": captured.files, "bytes": captured.bytes}
        print_json({**facts, "left_out": [vars(each) for each in captured.left_out]})
        return
    click.echo(f"{captured.root}: {captured.files} files, {size(captured.bytes)}, tree {captured.tree}")
    for each in captured.left_out:
        click.echo(clean(f"left out: {each.path} ({each.reason})"))


@package_group.command("save")
@click.argument("path", type=click.Path(path_type=Path, dir_okay=False))
@click.pass_context
def save(ctx: click.Context, path: Path) -> None:
    """Write them to one deterministic .tar, .tar.gz or .tar.zst file."""
    store, captured = _captured(ctx)
    write_tar(store, captured.tree, path)
    click.echo(f"{path}: {captured.files} files, tree {captured.tree}")


def _captured(ctx: click.Context) -> tuple[Store, Captured]:
    assert ctx.parent is not None and ctx.parent.parent is not None
    store = open_store(ctx, create=True)
    return store, capture_code(store, ctx.parent.parent.obj[0])
