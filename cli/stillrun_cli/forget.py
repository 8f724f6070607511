"""`stillrun forget`: runs that are wanted no more."""

from __future__ import annotations

import os
from datetime import datetime, timezone

import click

from stillrun_cli.amounts import seconds_of
from stillrun_cli.console import clean, common_options, print_json, print_table
from stillrun_cli.narrator import counted
from stillrun_cli.settings import open_store
from stillrun_engine.errors import EngineError
from stillrun_engine.forgetting import bring_back, facts_of_runs, find_run, forget, refuse_held
from stillrun_engine.pathspec import parse_pathspec
from stillrun_engine.retention import Rules, RunFacts, choose
from stillrun_snapshot.store import Store

__all__ = ["forget_command"]


@click.command("forget", short_help="Forget runs; the log says why.")
@click.argument("names", nargs=-1, metavar="[FLOW/RUN]... | [FLOW]")
@click.option("--older-than", metavar="TIME", help="Runs that began longer ago than that, such as 90d.")
@click.option("--keep-last", type=click.IntRange(min=0), metavar="N", help="But not the last N runs of each flow.")
@click.option("--keep-tag", multiple=True, metavar="TAG", help="But not runs with this tag; may be repeated.")
@click.option("--yes", is_flag=True, help="Do what a rule says; without it, it is only told what would be forgotten.")
@click.option("--why", metavar="TEXT", help="For the log: one line.")
@click.option("--anyway", is_flag=True, help="Also runs that are tagged, or that other runs were made from.")
@click.option("--remote", metavar="NAME", help="In that remote, and not here: for all who share it.")
@click.option("--undo", is_flag=True, help="Bring forgotten runs back, as long as their objects are there.")
@common_options
@click.pass_context
def forget_command(
    ctx: click.Context,
    names: tuple[str, ...],
    older_than: str | None,
    keep_last: int | None,
    keep_tag: tuple[str, ...],
    yes: bool,
    why: str | None,
    anyway: bool,
    remote: str | None,
    undo: bool,
    as_json: bool,
) -> None:
    """Forget the runs that are named, or those that rules choose.

    Nothing is lost in silence: the log keeps a line for each, with the reason. What only they needed is removed by
    `stillrun store gc`, a day later; until then --undo brings them back. Pinned runs and runs that are going on stay.

    With --remote NAME they are forgotten there: stores that have them keep them, and `stillrun remote gc NAME` frees what
    only they needed. Whoever still has one brings it back with `stillrun push`.
    """
    rules = Rules(None if older_than is None else seconds_of(older_than, "--older-than"), keep_last, keep_tag)
    ruled = older_than is not None or keep_last is not None
    with open_store(ctx) as store:
        if remote is not None:
            if undo or ruled or not names:
                raise click.UsageError("--remote goes with FLOW/RUN..., and with neither rules nor --undo.")
            _there(store, remote, names, why=why, anyway=anyway, as_json=as_json)
        elif undo:
            _undo(store, names, as_json=as_json)
        elif ruled:
            _by_rules(store, names, rules, yes=yes, why=why, as_json=as_json)
        else:
            _by_name(store, names, why=why, anyway=anyway, as_json=as_json)


def _by_name(store: Store, names: tuple[str, ...], *, why: str | None, anyway: bool, as_json: bool) -> None:
    if not names:
        raise EngineError("say which runs to forget: FLOW/RUN, or a rule such as --older-than 90d or --keep-last 5.")
    known = facts_of_runs(store)
    chosen = [find_run(known, parse_pathspec(name, least=2, most=2)) for name in dict.fromkeys(names)]
    refuse_held(known, chosen, anyway=anyway)
    _told(store, chosen, why or "forgotten by name", as_json=as_json)


def _there(store: Store, name: str, names: tuple[str, ...], *, why: str | None, anyway: bool, as_json: bool) -> None:
    from stillrun_engine.remote_forget import forget_there
    from stillrun_engine.remotes import opened_remote

    specs = [parse_pathspec(each, least=2, most=2) for each in names]
    gone = forget_there(opened_remote(store, name, os.environ), specs, why or "forgotten by name", anyway=anyway)
    if as_json:
        print_json({"remote": name, "runs": gone, "why": why or "forgotten by name"})
        return
    for run in gone:
        click.echo(clean(f"{run}: forgotten in {name}"))
    click.echo(
        clean(f"{counted(len(gone), 'run')} forgotten. 'stillrun remote gc {name}' finds what only they needed.")
    )


def _by_rules(store: Store, names: tuple[str, ...], rules: Rules, *, why: str | None, yes: bool, as_json: bool) -> None:
    if len(names) > 1 or any("/" in name for name in names):
        raise EngineError(
            "a rule is about all flows, or the one that is named: give one FLOW, or no rule and FLOW/RUN."
        )
    known = {one.pathspec: one for one in facts_of_runs(store)}
    flow = names[0] if names else None
    if flow is not None and all(one.flow != flow for one in known.values()):
        raise EngineError(f"there is no run of a flow '{flow}' in {store.root}; 'stillrun list' shows what there is.")
    reasons = choose(list(known.values()), rules, datetime.now(timezone.utc), flow)
    chosen = [known[run] for run, reason in reasons.items() if reason is None]
    if yes:
        _told(store, chosen, why or f"rule: {rules}", as_json=as_json)
        return
    if as_json:
        kept = [{"run": run, "reason": reason} for run, reason in reasons.items() if reason is not None]
        print_json({"dry_run": True, "runs": [one.pathspec for one in chosen], "kept": kept})
        return
    if chosen:
        rows = [(one.pathspec, one.status, one.started, ", ".join(sorted(one.tags))) for one in chosen]
        print_table(("WOULD BE FORGOTTEN", "STATUS", "STARTED", "TAGS"), rows)
    click.echo(f"{counted(len(chosen), 'run')} would be forgotten, {len(reasons) - len(chosen)} stay; --yes does it.")


def _told(store: Store, chosen: list[RunFacts], why: str, *, as_json: bool) -> None:
    refs = forget(store, chosen, why) if chosen else 0
    if as_json:
        print_json({"dry_run": False, "runs": [one.pathspec for one in chosen], "refs": refs, "why": why})
        return
    for one in chosen:
        click.echo(clean(f"{one.pathspec}: forgotten"))
    click.echo(
        f"{counted(len(chosen), 'run')} forgotten. 'stillrun store gc' removes what only they needed, a day from now; "
        "until then --undo brings them back."
    )


def _undo(store: Store, names: tuple[str, ...], *, as_json: bool) -> None:
    if not names:
        raise EngineError("say which run to bring back: FLOW/RUN, as the log has it.")
    refs = sum(bring_back(store, parse_pathspec(name, least=2, most=2)) for name in names)
    if as_json:
        print_json({"brought_back": list(names), "refs": refs})
        return
    for name in names:
        click.echo(clean(f"{name}: brought back"))
