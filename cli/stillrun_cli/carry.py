"""`stillrun export` and `stillrun import`: runs as one file, and out of one."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import click

from stillrun_cli.console import clean, common_options, paint, print_json, size
from stillrun_cli.narrator import counted
from stillrun_cli.outfile import whole_file
from stillrun_cli.progress import hashing_progress, transfer_progress
from stillrun_cli.settings import open_store
from stillrun_engine.archive import open_run
from stillrun_engine.bundle import LeftOut
from stillrun_engine.bundle_export import write_bundle
from stillrun_engine.bundle_import import import_bundle
from stillrun_engine.carry import Carried
from stillrun_engine.closure import Kind, Needed
from stillrun_engine.pathspec import Pathspec, parse_pathspec
from stillrun_engine.remote import fetch_run, opened_folder
from stillrun_snapshot.store import Store

__all__ = [
    "carried_facts",
    "carried_line",
    "export_command",
    "import_command",
    "left_out_line",
    "taken_from",
    "tell_doubts",
]

_KINDS: dict[str, Kind] = {"packages": "package", "artifacts": "artifact", "inputs": "input"}


@click.command("export", short_help="Put runs in one file that replays anywhere.")
@click.argument("pathspecs", metavar="FLOW/RUN...", nargs=-1, required=True)
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path, dir_okay=False), help="The file to write.")
@click.option(
    "--without",
    multiple=True,
    type=click.Choice(list(_KINDS)),
    help="Leave these out, and say so in the file; may be repeated.",
)
@common_options
@click.pass_context
def export_command(
    ctx: click.Context, pathspecs: tuple[str, ...], out: Path, without: tuple[str, ...], as_json: bool
) -> None:
    """Write runs, and all that they stand on, to one file: code, environments, inputs, artifacts, logs.

    `stillrun import` takes it in on another machine, where the runs replay without any network. Without Stillrun, `tar xf FILE`
    and `sha256sum -c SHA256SUMS` check it. The same runs give the same bytes.
    """
    store = open_store(ctx)
    runs = [open_run(store, parse_pathspec(text, least=2, most=2)) for text in dict.fromkeys(pathspecs)]
    runs = list({run.pathspec: run for run in runs}.values())
    with whole_file(out) as file, hashing_progress(as_json, "writing") as told:
        written = write_bundle(
            store,
            runs,
            file,
            without=[_KINDS[name] for name in without],
            told=lambda one, count: told(one.purpose, count),
        )
    contents = written.contents
    if as_json:
        print_json(
            {
                "file": str(out),
                "digest": written.digest,
                "size": written.size,
                "runs": contents.runs,
                "objects": contents.objects,
                "bytes": contents.size,
                "left_out": [vars(one) for one in contents.left_out],
            }
        )
        return
    click.echo(
        f"{out}: {counted(len(contents.runs), 'run')}, {counted(contents.objects, 'object')}, {size(written.size)}"
    )
    click.echo(f"  {written.digest}")
    if contents.left_out:
        click.echo(f"  left out: {left_out_line(contents.left_out)}")


@click.command("import", short_help="Take in the runs of a file that 'export' wrote.")
@click.argument("path", metavar="FILE", type=click.Path(path_type=Path))
@click.option("--check", is_flag=True, help="Only check the file; nothing is taken in.")
@common_options
@click.pass_context
def import_command(ctx: click.Context, path: Path, check: bool, as_json: bool) -> None:
    """Check every byte of a file that `stillrun export` wrote, then take in all of its runs, or none.

    Nothing in it is run or unpickled. What is here already stays as it is, unless it is damaged: then it is mended. Taking in
    a file twice changes nothing.
    """
    store = open_store(ctx, create=True)
    with hashing_progress(as_json, "checking") as told:
        carried = import_bundle(store, path, told=told, check_only=check)
    if as_json:
        print_json({"file": str(path), "checked_only": check, **carried_facts(carried)})
    elif check:
        click.echo(
            f"{path}: {counted(carried.objects, 'object')} of {', '.join(carried.runs)}: all sound; nothing was taken in"
        )
    else:
        click.echo(carried_line(carried, str(path)))
    if not as_json:
        tell_doubts(carried.doubts)
    if carried.left_out and not as_json:
        click.echo(f"  it leaves out: {left_out_line(carried.left_out)}")


def taken_from(source: Path, store: Store, spec: Pathspec, as_json: bool) -> tuple[str, Pathspec]:
    """Take in what ``spec`` needs from a bundle, another store's folder or a remote; what came, in a line, and the run found.

    A file or folder goes before a remote of that name.
    """
    from stillrun_engine.remotes import known_remotes  # 'show' starts without it

    if not source.exists() and str(source) in known_remotes(store):
        return _pulled_from(str(source), store, spec, as_json)
    with hashing_progress(as_json, "fetching") as told:
        if not source.is_dir():
            carried = import_bundle(store, source, told=told)
            found = carried.find(store, spec)
        else:
            with opened_folder(source, store) as remote:
                found = remote.find(spec)
                carried = fetch_run(remote, store, found, told)
    return carried_line(carried, str(source)), found


def _pulled_from(name: str, store: Store, spec: Pathspec, as_json: bool) -> tuple[str, Pathspec]:
    from stillrun_cli.sharing import pulled_line  # it brings the libraries of remotes with it
    from stillrun_engine.remote_pull import find_there, pull_run
    from stillrun_engine.remotes import opened_remote

    remote = opened_remote(store, name, os.environ)
    known = remote.known()
    run = find_there(remote, known, spec)
    with transfer_progress(as_json, "fetching") as told:
        pulled = pull_run(store, remote, known, run, told=told)
    return pulled_line(pulled, name), Pathspec(spec.flow, run.split("/")[1], spec.step, spec.task)


def tell_doubts(doubts: Iterable[str]) -> None:
    """What was not taken over, for people."""
    for doubt in dict.fromkeys(doubts):
        click.echo(clean(f"{paint('not taken over', fg='yellow')}: {doubt}"), err=True)


def carried_facts(carried: Carried) -> dict[str, object]:
    """For programs: what came."""
    return {
        "runs": carried.runs,
        "objects": carried.objects,
        "new_objects": carried.new,
        "new_bytes": carried.size,
        "mended_objects": carried.mended,
        "added": carried.added,
        "doubts": carried.doubts,
        "left_out": [vars(one) for one in carried.left_out],
    }


def carried_line(carried: Carried, source: str) -> str:
    """For people: what came, and from where."""
    runs = ", ".join(carried.runs[:3]) + (f" and {len(carried.runs) - 3} more" if len(carried.runs) > 3 else "")
    mended = f"; {counted(carried.mended, 'damaged object')} mended" if carried.mended else ""
    if not carried.added and not carried.new:
        checked = f"{counted(carried.objects, 'object')} of {source} checked"
        return clean(f"{runs}: all of it was here already; {checked}{mended}")
    new = f"{carried.new:,} of them new ({size(carried.size)})"
    return clean(f"{runs}: taken from {source}: {counted(carried.objects, 'object')} checked, {new}{mended}")


def left_out_line(left_out: Sequence[LeftOut] | Sequence[Needed]) -> str:
    """How much of what is not there."""
    told = []
    for name, kind in _KINDS.items():
        sizes = [one.size or 0 for one in left_out if one.kind == kind]
        if sizes:
            told.append(f"{len(sizes)} {name if len(sizes) > 1 else kind} ({size(sum(sizes))})")
    return ", ".join(told)
