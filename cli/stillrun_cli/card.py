"""`python flow.py card list|get|view`: what steps put on their cards."""

from __future__ import annotations

import webbrowser
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stillrun_cli.console import common_options, print_json, print_table
from stillrun_cli.outfile import whole_file
from stillrun_cli.settings import store_path
from stillrun_engine.errors import NotFound

if TYPE_CHECKING:
    from stillrun.cards import Card

__all__ = ["card_group"]


def _which(function: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option("--type", "kind", help="Only cards of this type."),
        click.option("--id", "name", help="Only the card with this id."),
        click.option("--hash", "digest", help="Only the card whose hash begins so."),
        click.option("--follow-resumed/--no-follow-resumed", hidden=True, expose_value=False),
    ):
        function = option(function)
    return function


@click.group("card")
def card_group() -> None:
    """List and show the cards of this flow's tasks."""


@card_group.command("list")
@click.argument("pathspec", metavar="[RUN][/STEP[/TASK]]", default="latest")
@click.option("--as-json", "as_json_too", is_flag=True, hidden=True)
@click.option("--file", type=click.Path(path_type=Path, dir_okay=False), help="Write the list to this file, as JSON.")
@_which
@common_options
@click.pass_context
def list_cards(
    ctx: click.Context, /, pathspec: str, file: Path | None, as_json: bool, as_json_too: bool, **which: str | None
) -> None:
    """List the cards of a run, of a step of it, or of a task."""
    rows = [
        {"task": "/".join(task.split("/")[1:]), "type": card.type, "id": card.id, "hash": card.hash}
        for task, card in _cards(ctx, pathspec, **which)
    ]
    if file is not None:
        import json

        with whole_file(file) as out:
            out.write(json.dumps(rows, indent=1).encode())
    if as_json or as_json_too:
        print_json({"cards": rows})
    elif rows:
        print_table(
            ["TASK", "TYPE", "ID", "HASH"],
            [(row["task"] or "", row["type"] or "", row["id"] or "", (row["hash"] or "")[:12]) for row in rows],
        )
    else:
        click.echo("no cards.")


@card_group.command("get")
@click.argument("pathspec", metavar="[RUN/]STEP[/TASK]")
@click.argument("path", required=False, type=click.Path(path_type=Path, dir_okay=False))
@_which
@click.pass_context
def get_card(ctx: click.Context, /, pathspec: str, path: Path | None, **which: str | None) -> None:
    """Print the page of a card, or write it to PATH."""
    page = _one(ctx, pathspec, **which).get()
    if path is None:
        click.echo(page)
        return
    with whole_file(path) as out:
        out.write(page.encode())
    click.echo(f"{path}: {len(page.encode()):,} bytes")


@card_group.command("view")
@click.argument("pathspec", metavar="[RUN/]STEP[/TASK]")
@_which
@click.pass_context
def view_card(ctx: click.Context, /, pathspec: str, **which: str | None) -> None:
    """Open the page of a card in a browser."""
    card = _one(ctx, pathspec, **which)
    folder = Path(click.get_app_dir("stillrun")) / "cards"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{card.hash[:16]}.html"
    with whole_file(path) as out:
        out.write(card.get().encode())
    click.echo(str(path))
    webbrowser.open(path.as_uri())


def _one(ctx: click.Context, pathspec: str, **which: str | None) -> Card:
    found = [card for _, card in _cards(ctx, pathspec, **which)]
    if len(found) == 1:
        return found[0]
    if not found:
        raise NotFound(f"no such card of {pathspec}; 'card list' shows those that there are.")
    several = ", ".join(f"{card.type} {card.id or card.hash[:12]}" for card in found[:5])
    raise NotFound(
        f"{pathspec} has {len(found)} cards: {several}. Say which with --id, --type or --hash, or name one task."
    )


def _cards(
    ctx: click.Context, pathspec: str, *, kind: str | None, name: str | None, digest: str | None
) -> Iterator[tuple[str, Card]]:
    """Pathspec of the task and card, for all that are asked for."""
    from stillrun.cards import get_cards
    from stillrun_engine.client import Run, namespace
    from stillrun_engine.client.session import use_store

    use_store(store_path(ctx))
    namespace(None)
    assert ctx.parent is not None and ctx.parent.parent is not None
    flow = str(ctx.parent.parent.obj[1])
    parts = pathspec.removeprefix(flow + "/").split("/")
    run = Run(f"{flow}/{_run_named(flow, parts)}")
    for step in run:
        if len(parts) > 1 and step.id != parts[1]:
            continue
        for task in step:
            if len(parts) < 3 or task.id == parts[2]:
                for card in get_cards(task, id=name, type=kind):
                    if digest is None or card.hash.startswith(digest):
                        yield task.pathspec, card


def _run_named(flow: str, parts: list[str]) -> str:
    """The run that the first part names; the latest, which goes in front, where it is a step instead."""
    from stillrun_engine.client import Run

    latest = Run(f"{flow}/latest")
    if any(step.id == parts[0] for step in latest):
        parts.insert(0, latest.id)
    return parts[0]
