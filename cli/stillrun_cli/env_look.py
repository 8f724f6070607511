"""`stillrun env list|show|diff|why`: what locks hold."""

from __future__ import annotations

from typing import Any

import click

from stillrun_cli.console import clean, common_options, print_json, print_table, short, size
from stillrun_cli.env_changes import change_record, changes_table
from stillrun_cli.env_make import lock_of
from stillrun_cli.settings import open_store
from stillrun_engine.named_locks import pinned
from stillrun_envs.contents import package_facts
from stillrun_envs.dependencies import chains_to, changes_between
from stillrun_envs.hints import known_locks, read_hints
from stillrun_envs.lock import Lock, read_lock
from stillrun_envs.upkeep import environments
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.store import Store

__all__ = ["diff_command", "list_command", "show_command", "why_command"]


@click.command("list")
@common_options
@click.pass_context
def list_command(ctx: click.Context, as_json: bool) -> None:
    """List every lock that was made or imported here, its names, and whether it is built."""
    with open_store(ctx) as store:
        rows = _listed(store)
    if as_json:
        print_json({"environments": rows})
        return
    if not rows:
        click.echo("no environment was locked here yet; 'stillrun env lock FILE' makes one.")
        return
    table = [
        (
            short(row["lock"]),
            ", ".join(row["names"]) or "-",
            row["python"],
            str(row["packages"]),
            size(row["built"]["size"]) if row["built"] else "-",
            row["built"]["last_used"][:10] if row["built"] else "-",
            ", ".join(row["requested"][:3]) + (" …" if len(row["requested"]) > 3 else ""),
        )
        for row in rows
    ]
    print_table(("LOCK", "NAMES", "PYTHON", "PACKAGES", "BUILT", "USED", "ASKED FOR"), table)


@click.command("show")
@click.argument("env", metavar="ENV")
@click.option("--licences", is_flag=True, help="Tell the licence of each package, as it says itself.")
@common_options
@click.pass_context
def show_command(ctx: click.Context, env: str, licences: bool, as_json: bool) -> None:
    """Show an environment: its Python and every package with version and digest."""
    with open_store(ctx, create=True) as store:
        digest = lock_of(store, env)
        lock, hints = read_lock(store, digest), read_hints(store, digest)
        said = {one.digest: package_facts(store, one).licence for one in lock.packages} if licences else {}
    if as_json:
        facts: dict[str, Any] = {name: value for name, value in lock.to_record().items() if name != "schema"}
        print_json({"env": env, "lock": digest, **facts, "request": dict(hints.request), "licences": said or None})
        return
    _print_lock(digest, lock, said)


def _print_lock(digest: Digest, lock: Lock, licences: dict[Digest, str]) -> None:
    python = lock.python
    brought = "a conda package" if any(one.name == "python" for one in lock.of("conda")) else "not kept"
    origin = f"kept as {short(python.digest)}" if python.digest else brought
    click.echo(f"lock {digest}\nPython {python.version} for {python.platform}, {origin}, {len(lock.packages)} packages")
    rows = [
        (one.name, one.version, one.manager, size(one.size), short(one.digest), licences.get(one.digest, one.file))
        for one in lock.packages
    ]
    if rows:
        last = "LICENCE" if licences else "FILE"
        print_table(("PACKAGE", "VERSION", "FROM", "SIZE", "DIGEST", last), rows)
    for one in lock.packages:
        if one.source is not None:
            where = f" commit {one.source.commit[:12]}" if one.source.commit else ""
            click.echo(clean(f"built here: {one.name} from {one.source.kind}{where} {short(one.source.digest)}"))
        if one.edited:
            click.echo(clean(f"edited since it was installed: {one.name}: {', '.join(one.edited)}"))
        elif one.origin == "installed":
            click.echo(clean(f"packed from its files, as its archive was not at hand: {one.name}"))
    for need in lock.needs:
        click.echo(clean(f"needs of the machine: {need}"))
    for item in lock.not_kept:
        click.echo(clean(f"not kept: {item.name}: {item.reason}"))


@click.command("diff")
@click.argument("before", metavar="ENV")
@click.argument("after", metavar="ENV")
@common_options
@click.pass_context
def diff_command(ctx: click.Context, before: str, after: str, as_json: bool) -> int:
    """Show what the second ENV adds, lacks or has in another version; exit code 1 when they differ."""
    with open_store(ctx, create=True) as store:
        locks = lock_of(store, before), lock_of(store, after)
        changes = changes_between(store, *locks)
    if as_json:
        print_json({"before": locks[0], "after": locks[1], "changes": [change_record(one) for one in changes]})
    else:
        changes_table(changes, nothing="no difference")
    return 1 if changes else 0


@click.command("why")
@click.argument("env", metavar="ENV")
@click.argument("package", metavar="PACKAGE")
@common_options
@click.pass_context
def why_command(ctx: click.Context, env: str, package: str, as_json: bool) -> None:
    """Show each way from what was asked for to PACKAGE."""
    with open_store(ctx, create=True) as store:
        digest = lock_of(store, env)
        chains = chains_to(store, digest, package)
    if as_json:
        print_json({"lock": digest, "package": package, "chains": [list(chain) for chain in chains]})
        return
    for chain in chains:
        for depth, text in enumerate(chain):
            click.echo(clean("  " * depth + ("" if depth == 0 else "needs ") + text))
    if not chains:
        click.echo(f"nothing in the lock asks for {package}.")


def _listed(store: Store) -> list[dict[str, Any]]:
    names: dict[Digest, list[str]] = {}
    for name, digest in pinned(store):
        names.setdefault(digest, []).append(name)
    built = {one.lock: one for one in environments(store, keep=names.keys(), look=False)}
    rows = []
    for digest in dict.fromkeys((*known_locks(store), *names)):
        lock, one = read_lock(store, digest), built.get(digest)
        rows.append(
            {
                "lock": digest,
                "names": names.get(digest, []),
                "python": lock.python.version,
                "platform": lock.python.platform,
                "packages": len(lock.packages),
                "requested": list(read_hints(store, digest).requested()),
                "built": None
                if one is None
                else {
                    "path": str(one.path),
                    "size": one.size,
                    "last_used": one.last_used.strftime("%Y-%m-%dT%H:%M:%SZ"),
                    "in_use": one.in_use,
                    "state": one.state,
                },
            }
        )
    return rows
