"""`stillrun env build|run|shell|verify|pin|unpin|gc`: environments at work."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess

import click

from stillrun_cli.amounts import bytes_of, seconds_of
from stillrun_cli.console import clean, common_options, print_json, print_table, short, size, store_option, word
from stillrun_cli.env_make import lock_of
from stillrun_cli.narrator import Narrator
from stillrun_cli.settings import open_store
from stillrun_engine.named_locks import pin, pinned, unpin
from stillrun_engine.places import variables_in
from stillrun_envs.lock import read_lock
from stillrun_envs.prefix import Prefix, prefix_for, verify_prefix
from stillrun_envs.upkeep import collect
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.errors import StillrunError
from stillrun_snapshot.store import Store

__all__ = [
    "build_command",
    "gc_command",
    "pin_command",
    "run_command",
    "shell_command",
    "unpin_command",
    "verify_command",
]

_NOT_FOUND = 127  # as shells have it


@click.command("build")
@click.argument("env", metavar="ENV")
@common_options
@click.pass_context
def build_command(ctx: click.Context, env: str, as_json: bool) -> None:
    """Build an environment from what is kept, without network, or check the one that is there; print its folder."""
    with open_store(ctx, create=True) as store:
        prefix = _built(store, env)
    if as_json:
        print_json({"lock": prefix.lock, "path": str(prefix.path), "python": str(prefix.python), "tree": prefix.tree})
    else:
        click.echo(prefix.path)


@click.command("run", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("env", metavar="ENV")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- COMMAND [ARGUMENT]...")
@store_option
@click.pass_context
def run_command(ctx: click.Context, env: str, command: tuple[str, ...]) -> int:
    """Run COMMAND in an environment; its exit code is the command's."""
    with open_store(ctx, create=True) as store:
        prefix = _built(store, env)
        return _ran(prefix, command)


@click.command("shell")
@click.argument("env", metavar="ENV")
@store_option
@click.pass_context
def shell_command(ctx: click.Context, env: str) -> int:
    """Open a shell in which the environment's commands come first; leave it with 'exit'."""
    with open_store(ctx, create=True) as store:
        prefix = _built(store, env)
        click.echo(
            f"Python {read_lock(store, prefix.lock).python.version} in {prefix.path}; 'exit' leaves it.", err=True
        )
        return _ran(prefix, (os.environ.get("SHELL") or "/bin/sh",))


@click.command("verify")
@click.argument("env", metavar="ENV")
@common_options
@click.pass_context
def verify_command(ctx: click.Context, env: str, as_json: bool) -> int:
    """Hash every kept file of an environment, and every file of the built one if there is one; exit code 2 on damage."""
    with open_store(ctx, create=True) as store:
        digest = lock_of(store, env)
        lock = read_lock(store, digest)
        wanted = [("Python " + lock.python.version, lock.python.digest)] if lock.python.digest else []
        wanted += [(f"{one.name} {one.version}", one.digest) for one in lock.packages]
        wanted += [(f"source of {one.name}", one.source.digest) for one in lock.packages if one.source]
        damage, total = [], 0
        for name, item in wanted:
            try:
                total += store.verify(item)
            except StillrunError as err:
                damage.append(f"{name}: {err}")
        built = _verified_prefix(store, digest, damage)
    verdict = "damaged" if damage else "sound"
    if as_json:
        told = {"lock": digest, "verdict": verdict, "objects": len(wanted), "bytes": total, "built": built}
        print_json({**told, "damage": damage, "not_kept": [one.to_record() for one in lock.not_kept]})
    else:
        for line in damage:
            click.echo(clean(line), err=True)
        where = f", built in {built}" if built else ", not built"
        click.echo(f"lock {short(digest)}: {word(verdict)}, {len(wanted)} objects, {size(total)}{where}")
        for one in lock.not_kept:
            click.echo(clean(f"not kept: {one.name}: {one.reason}"))
    return 2 if damage else 0


@click.command("pin")
@click.argument("name", metavar="NAME")
@click.argument("env", metavar="ENV")
@store_option
@click.pass_context
def pin_command(ctx: click.Context, name: str, env: str) -> None:
    """Call the lock of ENV NAME; its built environment is then never cleaned up."""
    with open_store(ctx, create=True) as store:
        digest = lock_of(store, env)
        pin(store, name, digest)
    click.echo(f"{name} is lock {short(digest)}")


@click.command("unpin")
@click.argument("name", metavar="NAME")
@store_option
@click.pass_context
def unpin_command(ctx: click.Context, name: str) -> None:
    """Forget NAME; the lock and what it keeps stay."""
    with open_store(ctx) as store:
        unpin(store, name)


@click.command("gc")
@click.option(
    "--unused-for", default="30d", metavar="TIME", help="Remove what was not used for so long, such as 12h, 7d."
)
@click.option(
    "--keep-size", metavar="SIZE", help="Then remove the longest unused until no more than SIZE, such as 20GB."
)
@click.option("--dry-run", is_flag=True, help="Only tell what would go.")
@common_options
@click.pass_context
def gc_command(ctx: click.Context, unused_for: str, keep_size: str | None, dry_run: bool, as_json: bool) -> None:
    """Remove built environments that nobody used for long; kept packages stay, so each can be built again.

    Environments that are pinned or in use stay in any case.
    """
    seconds = seconds_of(unused_for, "--unused-for")
    limit = None if keep_size is None else bytes_of(keep_size, "--keep-size")
    with open_store(ctx) as store:
        keep = {lock for _, lock in pinned(store)}
        done = collect(store, unused_for_s=seconds, keep_bytes=limit, keep=keep, dry_run=dry_run)
    if as_json:
        removed = [{"path": str(one.path), "kind": one.kind, "size": one.size} for one in done.removed]
        kept = [{"path": str(one.path), "size": one.size, "reason": one.reason} for one in done.kept]
        print_json({"dry_run": dry_run, "removed": removed, "kept": kept, "bytes": done.size})
        return
    if done.removed:
        print_table(("REMOVED", "KIND", "SIZE"), [(str(one.path), one.kind, size(one.size)) for one in done.removed])
    verb = "would be freed" if dry_run else "freed"
    click.echo(f"{size(done.size)} {verb}; {len(done.kept)} environments and Pythons stay.")


def _built(store: Store, env: str) -> Prefix:
    told = Narrator(as_json=True)  # standard output is for the answer
    digest = lock_of(store, env)
    store.sync()
    return prefix_for(digest, store, progress=told.note)


def _ran(prefix: Prefix, command: tuple[str, ...]) -> int:
    """Run a command in the environment; its exit code. We stay alive beside it, since that keeps the environment from gc."""
    command = command[1:] if command[0] == "--" else command
    variables = variables_in(prefix, os.environ)
    program = shutil.which(command[0], path=variables["PATH"])
    if program is None:
        click.echo(f"stillrun: there is no command '{command[0]}' in {prefix.path / 'bin'} or on the path.", err=True)
        return _NOT_FOUND
    ours = [(number, signal.signal(number, signal.SIG_IGN)) for number in (signal.SIGINT, signal.SIGQUIT)]
    try:
        with subprocess.Popen([program, *command[1:]], env=variables, preexec_fn=_with_signals) as child:
            code = child.wait()
    finally:
        for number, handler in ours:
            signal.signal(number, handler)
    return code if code >= 0 else 128 - code


def _with_signals() -> None:
    """Let the command answer the keys that we leave to it."""
    for number in (signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)


def _verified_prefix(store: Store, digest: Digest, damage: list[str]) -> str | None:
    """The folder of the built environment, if there is one; what is wrong with it is added to ``damage``."""
    from stillrun_envs.upkeep import environments

    if not any(one.lock == digest for one in environments(store, look=False)):
        return None
    prefix = prefix_for(digest, store)
    try:
        verify_prefix(prefix, store)
    except StillrunError as err:
        damage.append(str(err))
    return str(prefix.path)
