"""`stillrun push`, `pull` and `fetch`: runs to remotes and from them."""

from __future__ import annotations

import os

import click

from stillrun_cli.carry import tell_doubts
from stillrun_cli.console import clean, common_options, print_json, size
from stillrun_cli.narrator import counted
from stillrun_cli.progress import transfer_progress
from stillrun_cli.settings import open_store
from stillrun_engine.archive import KeptRun, open_run, runs
from stillrun_engine.errors import EngineError
from stillrun_engine.pathspec import parse_pathspec
from stillrun_engine.remote_choice import chosen_remote, runs_there
from stillrun_engine.remote_pull import Pulled, pull_run
from stillrun_engine.remote_push import push_runs
from stillrun_engine.remotes import opened_remote
from stillrun_engine.tags import system_tags_of, tags_of
from stillrun_snapshot.store import Store

__all__ = ["fetch_command", "pull_command", "pulled_line", "push_command"]

_REMOTE = click.option("--remote", metavar="NAME", help="The remote; may be left out where there is one only.")
_JOBS = click.option("--jobs", type=click.IntRange(1, 64), default=8, show_default=True, help="Requests at once.")


@click.command("push", short_help="Put runs in a remote.")
@click.argument("pathspecs", metavar="FLOW/RUN...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All runs of the store that have ended.")
@click.option("--tag", "tags", metavar="TAG", multiple=True, help="All runs that have this tag; may be repeated.")
@click.option("--again", is_flag=True, help="Send also what is there already: mends what was damaged there.")
@_REMOTE
@_JOBS
@common_options
@click.pass_context
def push_command(
    ctx: click.Context,
    pathspecs: tuple[str, ...],
    everything: bool,
    tags: tuple[str, ...],
    again: bool,
    remote: str | None,
    jobs: int,
    as_json: bool,
) -> None:
    """Put runs, and all that they stand on, in a remote. What it has already is not sent.

    When it is interrupted, the next try goes on where it was.
    A run that is there under the same name with another record is refused.
    """
    store = open_store(ctx)
    asked = _asked(store, pathspecs, tags, everything)
    there = opened_remote(store, chosen_remote(store, remote), os.environ, create=True)
    with transfer_progress(as_json, "pushing") as told:
        pushed = push_runs(store, there, asked, again=again, told=told, jobs=jobs)
    if as_json:
        facts = {"runs": pushed.runs, "same": pushed.same, "objects": pushed.objects, "bytes": pushed.size}
        print_json({"remote": there.name, **facts})
        return
    if pushed.runs:
        sent = f"{counted(pushed.objects, 'object')} sent ({size(pushed.size)})"
        click.echo(clean(f"{_names(pushed.runs)}: pushed to {there.name}; {sent}"))
    if pushed.same:
        click.echo(clean(f"{_names(pushed.same)}: {there.name} has all of it already"))


@click.command("pull", short_help="Take runs from a remote, whole.")
@click.argument("pathspecs", metavar="FLOW/RUN...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All runs that the remote has.")
@_REMOTE
@_JOBS
@common_options
@click.pass_context
def pull_command(
    ctx: click.Context, pathspecs: tuple[str, ...], everything: bool, remote: str | None, jobs: int, as_json: bool
) -> None:
    """Take runs, and all that they stand on, from a remote: then they are shown, verified and replayed here without a network.

    FLOW alone stands for all of its runs. What is here already is not fetched;
    every object is compared with its name before it is kept.
    """
    _take(ctx, pathspecs, everything, remote, jobs, as_json, whole=True)


@click.command("fetch", short_help="Take the records of runs from a remote; results when they are asked for.")
@click.argument("pathspecs", metavar="FLOW/RUN...", nargs=-1)
@click.option("--all", "whole", is_flag=True, help="Artifacts, input files and packages, too: as 'pull' does.")
@_REMOTE
@_JOBS
@common_options
@click.pass_context
def fetch_command(
    ctx: click.Context, pathspecs: tuple[str, ...], whole: bool, remote: str | None, jobs: int, as_json: bool
) -> None:
    """Take what is light of runs from a remote: records, code and logs, so that they can be listed, shown and compared by digest.

    Artifacts, input files and packages stay there until a command needs one, or '--all' asks for them.
    """
    _take(ctx, pathspecs, False, remote, jobs, as_json, whole=whole)


def _take(
    ctx: click.Context,
    pathspecs: tuple[str, ...],
    everything: bool,
    name: str | None,
    jobs: int,
    as_json: bool,
    *,
    whole: bool,
) -> None:
    if bool(pathspecs) == everything:
        raise click.UsageError("name runs as FLOW/RUN, or say --all.")
    store = open_store(ctx, create=True)
    specs = [parse_pathspec(text, most=2) for text in pathspecs]
    found = runs_there(store, name, specs, os.environ)
    with transfer_progress(as_json, "fetching") as told:
        pulled = [
            pull_run(store, remote, known, run, everything=whole, told=told, jobs=jobs) for remote, known, run in found
        ]
    if as_json:
        told_of = [{**vars(one), "remote": remote.name} for one, (remote, _, _) in zip(pulled, found, strict=True)]
        print_json(
            {"runs": told_of, "objects": sum(one.objects for one in pulled), "bytes": sum(one.size for one in pulled)}
        )
        return
    for one, (remote, _, _) in zip(pulled, found, strict=True):
        click.echo(clean(pulled_line(one, remote.name)))
    tell_doubts(doubt for one in pulled for doubt in one.doubts)


def pulled_line(pulled: Pulled, remote: str) -> str:
    """What came of a run, for people."""
    rest = f"; {counted(pulled.left, 'object')} ({size(pulled.left_size)}) left there" if pulled.left else ""
    if not pulled.objects and not pulled.added:
        return f"{pulled.run}: all of it was here already{rest}"
    return f"{pulled.run}: taken from {remote}; {counted(pulled.objects, 'object')} fetched ({size(pulled.size)}){rest}"


def _asked(store: Store, pathspecs: tuple[str, ...], tags: tuple[str, ...], everything: bool) -> list[KeptRun]:
    """The runs that a push is of; click.UsageError when it is not told."""
    if sum(map(bool, (pathspecs, tags, everything))) != 1:
        raise click.UsageError("say which runs: FLOW/RUN..., --tag TAG or --all.")
    if pathspecs:
        return [open_run(store, parse_pathspec(text, least=2, most=2)) for text in pathspecs]
    ended = [run for run in runs(store) if run.status != "running"]
    found = [run for run in ended if everything or _has(store, run, tags)]
    if not found:
        raise EngineError(f"no run of {store.root} " + (f"has the tag {', '.join(tags)}." if tags else "has ended."))
    return found


def _has(store: Store, run: KeptRun, tags: tuple[str, ...]) -> bool:
    own = tags_of(store, run.spec.flow, str(run.spec.run), run.record) | system_tags_of(run.record)
    return own.issuperset(tags)


def _names(names: tuple[str, ...]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
