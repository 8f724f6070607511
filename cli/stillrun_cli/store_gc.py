"""`stillrun store gc`: what no run needs any more."""

from __future__ import annotations

from dataclasses import asdict

import click

from stillrun_cli.amounts import seconds_of
from stillrun_cli.console import common_options, print_json, size
from stillrun_cli.narrator import counted
from stillrun_cli.progress import hashing_progress
from stillrun_cli.settings import open_store
from stillrun_engine.collection import Collection, collect_garbage

__all__ = ["gc_command"]


@click.command("gc", short_help="Remove what no run needs any more.")
@click.option("--delete", is_flag=True, help="Remove it; without this, only tell what would go.")
@click.option(
    "--grace",
    default="1d",
    metavar="TIME",
    help="Leave alone what was written or forgotten so shortly ago; default: 1d.",
)
@common_options
@click.pass_context
def gc_command(ctx: click.Context, delete: bool, grace: str, as_json: bool) -> None:
    """Find objects, checkouts and built environments that no run, tag, pin or named environment needs; --delete removes them.

    Runs may go on meanwhile, and be started. What was forgotten less than --grace ago stays, and can be brought back.
    """
    with open_store(ctx) as store, hashing_progress(as_json, "removing") as told:
        done = collect_garbage(store, grace_s=seconds_of(grace, "--grace"), delete=delete, told=told)
    if as_json:
        built = [{"path": str(one.path), "kind": one.kind, "size": one.size} for one in done.environments.removed]
        facts = {"kept": done.kept, "waiting": done.waiting, "checkouts": done.checkouts}
        print_json({"dry_run": not delete, **asdict(done.garbage), **facts, "built": built, "bytes": _freed(done)})
        return
    for line in _lines(done):
        click.echo(f"  {line}")
    verb = "freed" if delete else "would be freed; --delete does it"
    waiting = f", {done.waiting:,} wait for another time" if done.waiting else ""
    click.echo(f"{size(_freed(done))} {verb}. {counted(done.kept, 'object')} needed or young{waiting}.")


def _freed(done: Collection) -> int:
    return done.garbage.freed + done.environments.size


def _lines(done: Collection) -> list[str]:
    amount, built = done.garbage, done.environments
    told = [
        (amount.objects, f"{counted(amount.objects, 'object')} that nothing needs ({size(amount.size)})"),
        (amount.loose, f"{counted(amount.loose, 'large file')} of these"),
        (amount.packs_removed, f"{counted(amount.packs_removed, 'pack')} as a whole"),
        (amount.packs_rewritten, f"{counted(amount.packs_rewritten, 'pack')} in part, written anew without it"),
        (amount.spare, f"{counted(amount.spare, 'package')} of the cache"),
        (done.checkouts, f"{counted(done.checkouts, 'checkout')} of code"),
        (len(built.removed), f"{len(built.removed)} built, of environments and Pythons ({size(built.size)})"),
        (amount.leftovers, f"{counted(amount.leftovers, 'leftover')} of processes that were killed"),
    ]
    return [text for number, text in told if number]
