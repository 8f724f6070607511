"""`stillrun remote add|list|remove|check|runs|gc`: places that stores share runs through."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path

import click

from stillrun_cli.amounts import seconds_of
from stillrun_cli.console import clean, common_options, print_json, print_table, size
from stillrun_cli.narrator import counted
from stillrun_cli.progress import transfer_progress
from stillrun_cli.settings import open_store
from stillrun_engine.remote_check import check_remote
from stillrun_engine.remotes import RemoteSettings, add_remote, known_remotes, opened_remote, remove_remote
from stillrun_snapshot.bucket_place import parsed_url

__all__ = ["remote_group"]


@click.group("remote", short_help="Places to share runs through: buckets and folders.")
def remote_group() -> None:
    """Remotes are places that several stores share runs through: a bucket (S3, Google Cloud Storage, Azure) or a folder.

    'stillrun push' puts runs there, 'stillrun pull' and 'stillrun fetch' take them from there.
    """


@remote_group.command("add")
@click.argument("name")
@click.argument("address")
@click.option("--endpoint", metavar="URL", help="Of a service that speaks S3 and is not Amazon's.")
@click.option("--region", help="Of the bucket, where the service asks for one.")
@click.option("--anonymous", is_flag=True, help="Do not sign requests: for what anybody may read.")
@common_options
@click.pass_context
def add(
    ctx: click.Context,
    name: str,
    address: str,
    endpoint: str | None,
    region: str | None,
    anonymous: bool,
    as_json: bool,
) -> None:
    """Give a remote a name: s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, az://CONTAINER/PREFIX, or the path of a folder.

    The address is kept in the store, credentials never: each service's own variables and profiles are used, every time.
    """
    store = open_store(ctx, create=True)
    remote = RemoteSettings(name, parsed_url(address, Path.cwd()), endpoint, region, anonymous)
    add_remote(store, remote)
    if as_json:
        print_json(asdict(remote))
    else:
        click.echo(clean(f"{name}: {remote.url}"))


@remote_group.command("list")
@common_options
@click.pass_context
def list_remotes(ctx: click.Context, as_json: bool) -> None:
    """List the remotes of the store."""
    known = known_remotes(open_store(ctx, create=True))
    if as_json:
        print_json({"remotes": [asdict(one) for one in known.values()]})
    elif known:
        print_table(
            ("name", "address", "endpoint"), [(one.name, one.url, one.endpoint or "-") for one in known.values()]
        )
    else:
        click.echo("no remotes; 'stillrun remote add NAME ADDRESS' adds one.")


@remote_group.command("remove")
@click.argument("name")
@common_options
@click.pass_context
def remove(ctx: click.Context, name: str, as_json: bool) -> None:
    """Forget a remote. Nothing there is changed, and no run here."""
    gone = remove_remote(open_store(ctx), name)
    if as_json:
        print_json(asdict(gone))
    else:
        click.echo(clean(f"{name}: forgotten; {gone.url} is as it was"))


@remote_group.command("runs")
@click.argument("name")
@click.argument("flow", required=False)
@common_options
@click.pass_context
def runs(ctx: click.Context, name: str, flow: str | None, as_json: bool) -> None:
    """List the runs that a remote has."""
    known = opened_remote(open_store(ctx), name, os.environ).known()
    found = sorted(run for run in known.runs if flow is None or run.startswith(f"{flow}/"))
    if as_json:
        print_json({"remote": name, "runs": found})
    else:
        for run in found:
            click.echo(clean(run))


@remote_group.command("gc")
@click.argument("name")
@click.option("--delete", is_flag=True, help="Delete it; without this, only tell what would go.")
@click.option("--grace", default="7d", metavar="TIME", help="Leave alone what was written so shortly ago; default: 7d.")
@common_options
@click.pass_context
def gc(ctx: click.Context, name: str, delete: bool, grace: str, as_json: bool) -> None:
    """Find files of a remote that none of its runs needs; --delete removes them.

    Others may push and pull meanwhile. What they need and is about to go is sent again by them.
    """
    from stillrun_engine.remote_sweep import sweep_remote

    remote = opened_remote(open_store(ctx), name, os.environ)
    with transfer_progress(as_json, "deleting") as told:
        found = sweep_remote(remote, remote.known(), seconds_of(grace, "--grace"), delete=delete, told=told)
    if as_json:
        print_json({"remote": name, "dry_run": not delete, **asdict(found)})
        return
    verb = "freed" if delete else "would be freed; --delete does it"
    strange = f" {counted(found.strange, 'file')} there are not Stillrun's, and were let be." if found.strange else ""
    rest = f"{counted(found.kept, 'file')} needed or young ({size(found.kept_size)}).{strange}"
    click.echo(clean(f"{name}: {counted(found.files, 'file')} ({size(found.size)}) {verb}. {rest}"))


@remote_group.command("check")
@click.argument("name")
@click.option("--all", "whole", is_flag=True, help="Fetch and hash every object, too.")
@common_options
@click.pass_context
def check(ctx: click.Context, name: str, whole: bool, as_json: bool) -> int:
    """See whether a remote is reached, keeps its promise to writers, has an unbroken log and all that its runs need."""
    with transfer_progress(as_json, "checking") as told:
        found = check_remote(opened_remote(open_store(ctx), name, os.environ), whole=whole, told=told)
    if as_json:
        print_json({"remote": name, "verdict": "damaged" if found.problems else "sound", **asdict(found)})
    else:
        for problem in found.problems:
            click.echo(clean(problem), err=True)
        kind = "hashed" if whole else "are there"
        told_of = f"{counted(found.events, 'event')}, {counted(found.runs, 'run')}, {counted(found.objects, 'object')}"
        verdict = f"{counted(len(found.problems), 'problem')}" if found.problems else f"all {kind}"
        click.echo(clean(f"{name}: {told_of} ({size(found.size)}): {verdict}"))
    return 2 if found.problems else 0
