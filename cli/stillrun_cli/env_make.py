"""`stillrun env lock|update|import|export`: from files and flows to kept locks, and out again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from stillrun_cli.console import clean, common_options, print_json, print_table, short, size, store_option
from stillrun_cli.env_changes import change_record, changes_table
from stillrun_cli.narrator import Narrator
from stillrun_cli.outfile import whole_file
from stillrun_cli.settings import caller, open_store
from stillrun_engine.caller import Caller
from stillrun_engine.environments import AskedFor, find_lock, requests_in
from stillrun_engine.errors import EngineError
from stillrun_engine.named_locks import pin, pinned
from stillrun_envs.dependencies import changes_between
from stillrun_envs.exporting import exported
from stillrun_envs.formats import FORMATS
from stillrun_envs.hints import read_hints
from stillrun_envs.lock import read_lock
from stillrun_envs.matching import match_index
from stillrun_envs.platforms import PLATFORMS
from stillrun_envs.request import EnvRequest
from stillrun_envs.resolver import lock_for
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.store import Store

__all__ = ["export_command", "import_command", "lock_command", "lock_of", "match_command", "update_command"]


def request_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options of commands that lock."""
    for option in (
        click.option("--name", metavar="NAME", help="Call the lock NAME; its environment is never cleaned up."),
        click.option(
            "--python", metavar="VERSION", help="The Python to lock for, such as 3.11, where none is asked for."
        ),
        click.option(
            "--platform", "platforms", multiple=True, type=click.Choice(list(PLATFORMS)), help="Lock for it too."
        ),
        click.option(
            "--extra", "extras", multiple=True, metavar="EXTRA", help="An extra of the file; may be repeated."
        ),
        click.option("--group", "groups", multiple=True, metavar="GROUP", help="A dependency group of the file."),
        click.option("--exclude-newer", metavar="DAY", help="Resolve as of a day, such as 2026-06-01, or a time."),
        click.option("--resolver", type=click.Choice(["uv", "pip-tools"]), help="Who resolves index packages."),
        click.option("--offline", is_flag=True, help="Use no network: only what is locked already."),
        common_options,
    ):
        function = option(function)
    return function


@click.command("lock")
@click.argument("file", metavar="FILE|FLOW.py[:CLASS]")
@request_options
@click.option("--refresh", is_flag=True, help="Ask indexes and channels again, even when nothing has changed.")
@click.pass_context
def lock_command(ctx: click.Context, /, file: str, *, refresh: bool, **options: Any) -> None:
    """Resolve what FILE asks for, keep every package and the Python, and print the lock.

    FILE: a flow, requirements.txt, environment.yml, pyproject.toml, pixi.toml, or a lock of another tool.
    """
    _lock(ctx, file, refresh=refresh, **options)


@click.command("import")
@click.argument("file", metavar="LOCKFILE")
@request_options
@click.pass_context
def import_command(ctx: click.Context, /, file: str, **options: Any) -> None:
    """Keep exactly the packages that LOCKFILE says, checked against its hashes.

    LOCKFILE: conda-lock.yml, pylock.toml, uv.lock, pixi.lock, an @EXPLICIT list, or requirements.txt with hashes.
    """
    from stillrun_envs.formats import is_lock

    if not Path(file).is_file() or not is_lock(Path(file)):
        raise EngineError(f"{file} is no lock file; 'stillrun env lock {file}' resolves what a file asks for.")
    _lock(ctx, file, refresh=False, **options)


@click.command("update")
@click.argument("target", metavar="FILE|FLOW.py|NAME")
@click.argument("packages", nargs=-1, metavar="[PACKAGE]...")
@request_options
@click.pass_context
def update_command(ctx: click.Context, /, target: str, packages: tuple[str, ...], **options: Any) -> None:
    """Lock again with newer versions: of the PACKAGEs named, else of all; print what changed.

    Steps and files that ask the same get the new lock at their next run; past runs keep theirs.
    """
    as_json, name, offline = options["as_json"], options["name"], options["offline"]
    told, called = Narrator(as_json=as_json, quiet=False), caller()
    with open_store(ctx, create=True) as store:
        names = dict(pinned(store))
        asked = (
            _asked(store, target, called, options) if target not in names else [_of_pin(store, target, names[target])]
        )
        results = []
        for one in asked:
            before = names.get(target) or _last(store, one.request, called)
            after = lock_for(
                one.request, store, base_python=called.python, offline=offline, refresh=True, upgrade=packages,
                environ=called.variables, progress=told.note,
            )  # fmt: skip
            changes = [] if before is None else changes_between(store, before, after)
            results.append((one, before, after, changes))
        store.sync()
        for call in {name, target if target in names else None} - {None}:
            pin(store, str(call), results[0][2])
    if as_json:
        told_of = [
            {
                "for": one.label,
                "before": before,
                "lock": after,
                "changes": [change_record(change) for change in changes],
            }
            for one, before, after, changes in results
        ]
        print_json({"environments": told_of})
        return
    for one, before, after, changes in results:
        click.echo(clean(f"{one.label}: lock {short(after)}" + ("" if before else " (there was none before)")))
        changes_table(changes, nothing="nothing has changed" if before else "")


@click.command("export")
@click.argument("env", metavar="ENV")
@click.option("--format", "form", required=True, type=click.Choice(FORMATS), help="The tool that is to read it.")
@click.option("--out", "-o", type=click.Path(path_type=Path), help="The file; default: standard output.")
@click.option("--drop-wheels", is_flag=True, help="Leave out wheels from an @EXPLICIT list, which cannot hold them.")
@store_option
@click.pass_context
def export_command(ctx: click.Context, env: str, form: str, out: Path | None, drop_wheels: bool) -> None:
    """Write the lock of ENV as a file that another tool reads."""
    with open_store(ctx, create=True) as store:
        text = exported(store, lock_of(store, env), form, drop_wheels=drop_wheels)
    if out is None:
        click.echo(text, nl=False)
        return
    with whole_file(out) as part:
        part.write(text.encode())
    click.echo(f"wrote {out}", err=True)


@click.command("match")
@click.argument("env", metavar="ENV")
@click.option("--name", metavar="NAME", help="Call the lock NAME; its environment is never cleaned up.")
@common_options
@click.pass_context
def match_command(ctx: click.Context, env: str, name: str | None, as_json: bool) -> None:
    """Find on the index the wheels that ENV was installed from, and print a lock that has them.

    What a run borrowed of your environment is kept as files. Where the index has a wheel of exactly these files, the new
    lock names that wheel, so that it can be exported; the run keeps its own.
    """
    told, called = Narrator(as_json=as_json, quiet=False), caller()
    with open_store(ctx, create=True) as store:
        lock, matches = match_index(store, lock_of(store, env), called.variables, told.note)
        store.sync()
        if name is not None:
            pin(store, name, lock)
    rows = [
        {
            "name": one.package.name,
            "version": one.package.version,
            "file": one.found.file if one.found else None,
            "digest": one.found.digest if one.found else None,
            "reason": one.reason or None,
        }
        for one in matches
    ]
    if as_json:
        print_json({"lock": lock, "packages": rows, "name": name})
        return
    if rows:
        table = [
            (str(r["name"]), str(r["version"]), clean(str(r["file"] or f"kept as files: {r['reason']}"))) for r in rows
        ]
        print_table(("PACKAGE", "VERSION", "ON THE INDEX"), table)
    else:
        click.echo("every package of it is a file of an index or channel already.")
    click.echo(f"lock {lock}")


def lock_of(store: Store, env: str) -> Digest:
    """The lock that ENV means; a file is locked first, from memory when it has not changed."""
    if not Path(env).is_file() or ("/" not in env and env in dict(pinned(store))):
        return find_lock(store, env)
    called = caller()
    asked = requests_in(store, Path(env), called)
    if len(asked) != 1:
        steps = "; ".join(one.label for one in asked) or "none"
        raise EngineError(f"{env} asks for {len(asked)} environments ({steps}); run it and name one as FLOW/RUN/STEP.")
    told = Narrator(as_json=True)  # standard output is for the answer
    return lock_for(asked[0].request, store, base_python=called.python, environ=called.variables, progress=told.note)


def _lock(ctx: click.Context, file: str, *, refresh: bool, name: str | None, as_json: bool, **options: Any) -> None:
    told, called = Narrator(as_json=as_json, quiet=False), caller()
    with open_store(ctx, create=True) as store:
        asked = _asked(store, file, called, options)
        if not asked:
            raise EngineError(f"{file} asks for no environment: its steps run in the caller's. Add @pypi or @conda.")
        made = [
            lock_for(
                one.request, store, base_python=called.python, offline=options["offline"], refresh=refresh,
                environ=called.variables, progress=told.note,
            )
            for one in asked
        ]  # fmt: skip
        store.sync()
        if name is not None:
            pin(store, name, made[0])
        rows = [_row(store, one, lock) for one, lock in zip(asked, made, strict=True)]
    if as_json:
        print_json({"environments": rows, "name": name})
        return
    head = ("FOR", "PLATFORM", "PYTHON", "PACKAGES", "KEPT", "LOCK")
    table = [
        (r["for"], r["platform"], r["python"], str(r["packages"]), size(r["size"]), short(r["lock"])) for r in rows
    ]
    print_table(head, table)
    for row in rows:
        for reason in row["not_kept"]:
            click.echo(clean(f"not kept: {reason}"))


def _row(store: Store, one: AskedFor, digest: Digest) -> dict[str, Any]:
    lock = read_lock(store, digest)
    return {
        "for": one.label,
        "platform": one.request.platform or "this one",
        "python": lock.python.version,
        "packages": len(lock.packages),
        "size": sum(package.size for package in lock.packages) + lock.python.size,
        "lock": digest,
        "not_kept": [f"{item.name}: {item.reason}" for item in lock.not_kept],
    }


def _asked(store: Store, file: str, called: Caller, options: dict[str, Any]) -> list[AskedFor]:
    path, _, class_name = file.partition(".py:")
    asked = requests_in(
        store,
        Path(path + ".py" if class_name else file),
        called,
        class_name=class_name or None,
        python=options["python"],
        platforms=options["platforms"],
        every_platform=True,
        extras=options["extras"],
        groups=options["groups"],
    )
    return [replace(one, request=_with_options(one.request, options)) for one in asked]


def _with_options(request: EnvRequest, options: dict[str, Any]) -> EnvRequest:
    given = {key: options[key] for key in ("exclude_newer", "resolver") if options[key]}
    if options["python"] and request.python is None:
        given["python"] = options["python"]
    return replace(request, **given) if given else request


def _of_pin(store: Store, name: str, lock: Digest) -> AskedFor:
    request = read_hints(store, lock).request
    if not request:
        raise EngineError(f"what asked for the packages of '{name}' is not known; lock its file again.")
    return AskedFor(name, EnvRequest.from_record(request))


def _last(store: Store, request: EnvRequest, called: Caller) -> Digest | None:
    from stillrun_envs.errors import EnvError

    try:
        return lock_for(request, store, base_python=called.python, offline=True, environ=called.variables)
    except EnvError:  # it was never locked here
        return None
