"""`stillrun tag add|remove|list FLOW/RUN`: the tags of a run."""

from __future__ import annotations

import click

from stillrun_cli.console import clean, common_options, print_json
from stillrun_cli.settings import open_store
from stillrun_engine.archive import open_run
from stillrun_engine.pathspec import parse_pathspec
from stillrun_engine.tags import change_tags, refuse_system_tags

__all__ = ["change", "tag_group"]


@click.group("tag", short_help="Add, remove and list the tags of a run.")
def tag_group() -> None:
    """Tags say what a run is for; 'stillrun list --tag' and namespaces choose runs by them. Changes are logged."""


@tag_group.command("add")
@click.argument("pathspec", metavar="FLOW/RUN")
@click.argument("tags", nargs=-1, required=True, metavar="TAG...")
@common_options
@click.pass_context
def add(ctx: click.Context, pathspec: str, tags: tuple[str, ...], as_json: bool) -> None:
    """Give a run more tags."""
    change(ctx, pathspec, tags, (), as_json=as_json)


@tag_group.command("remove")
@click.argument("pathspec", metavar="FLOW/RUN")
@click.argument("tags", nargs=-1, required=True, metavar="TAG...")
@common_options
@click.pass_context
def remove(ctx: click.Context, pathspec: str, tags: tuple[str, ...], as_json: bool) -> None:
    """Take tags off a run."""
    change(ctx, pathspec, (), tags, as_json=as_json)


@tag_group.command("list")
@click.argument("pathspec", metavar="FLOW/RUN")
@common_options
@click.pass_context
def list_tags(ctx: click.Context, pathspec: str, as_json: bool) -> None:
    """List the tags of a run."""
    change(ctx, pathspec, (), (), as_json=as_json)


def change(ctx: click.Context, pathspec: str, add: tuple[str, ...], remove: tuple[str, ...], *, as_json: bool) -> None:
    """Change the tags of a run and print those that it has then."""
    with open_store(ctx) as store:
        run = open_run(store, parse_pathspec(pathspec, least=2, most=2))
        refuse_system_tags(run, remove)
        tags = sorted(change_tags(run, add, remove))
        if as_json:
            print_json({"run": run.pathspec, "tags": tags})
        else:
            for tag in tags:
                click.echo(clean(tag))
