"""`stillrun env ...`: the environments that runs had."""

from __future__ import annotations

import click

from stillrun_cli.console import clean, common_options, print_json, print_table, short, size
from stillrun_cli.settings import open_store
from stillrun_engine.archive import open_run
from stillrun_engine.errors import NotFound
from stillrun_engine.pathspec import parse_pathspec
from stillrun_envs.lock import read_lock

__all__ = ["env_group"]


@click.group(short_help="Look at kept environments.")
def env_group() -> None:
    """Look at the environments that runs had."""


@env_group.command("show")
@click.argument("pathspec", metavar="FLOW/RUN/STEP")
@common_options
@click.pass_context
def show(ctx: click.Context, pathspec: str, as_json: bool) -> None:
    """Show the locked environment of a step: its Python and every package with version and digest."""
    store = open_store(ctx)
    run = open_run(store, parse_pathspec(pathspec, least=3, most=3))
    lock = run.lock_of(str(run.spec.step))
    if lock is None:
        raise NotFound(f"the environment of {run.spec} was recorded but not kept: the run ended before that.")
    found = read_lock(store, lock)
    if as_json:
        facts = {name: value for name, value in found.to_record().items() if name != "schema"}
        print_json({"run": run.pathspec, "step": run.spec.step, "lock": lock, **facts})
        return
    python = found.python
    origin = f"kept as {short(python.digest)}" if python.digest else "a conda package"
    click.echo(f"lock {lock}\nPython {python.version} for {python.platform}, {origin}, {len(found.packages)} packages")
    rows = [(p.name, p.version, p.manager, size(p.size), short(p.digest), p.file) for p in found.packages]
    if rows:
        print_table(("PACKAGE", "VERSION", "FROM", "SIZE", "DIGEST", "FILE"), rows)
    for item in found.not_kept:
        click.echo(clean(f"not kept: {item.name}: {item.reason}"))
