"""`stillrun bisect GOOD BAD`: the package or the commit that made a result another one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stillrun_cli.console import clean, common_options, paint, print_json
from stillrun_cli.env_changes import change_record
from stillrun_cli.narrator import Narrator, tell_unfinished
from stillrun_cli.settings import caller, default_workers, open_store
from stillrun_engine.archive import KeptRun, open_run
from stillrun_engine.errors import EngineError
from stillrun_engine.pathspec import parse_pathspec
from stillrun_engine.replay import ReplayRequest
from stillrun_engine.stopping import StopSignals

if TYPE_CHECKING:
    from stillrun_engine.bisect import Bisection
    from stillrun_engine.bisect_code import CodeBisection

__all__ = ["bisect_command"]


@click.command("bisect", short_help="Find the package or the commit that made a result another one.")
@click.argument("good", metavar="FLOW/RUN[/STEP]")
@click.argument("bad", metavar="FLOW/RUN[/STEP]")
@click.option(
    "--env", "what", flag_value="env", default="env", help="Find the package; the default. GOOD names a step."
)
@click.option("--code", "what", flag_value="code", help="Find the commit of the flow's git repository.")
@click.option(
    "--repo", type=click.Path(path_type=Path, exists=True), help="The repository; default: where the code was."
)
@common_options
@click.pass_context
def bisect_command(ctx: click.Context, good: str, bad: str, what: str, repo: Path | None, as_json: bool) -> int:
    """Find what changes the first run's results: a package of the second run's environment, or a commit before it.

    The first run is replayed with half of what changed in between, then with a quarter, and so on. Packages are kept, so nothing
    is resolved or fetched; commits are read from the repository, whose work tree is not touched. The exit code is 0 when the
    cause was found, 1 when it is another.
    """
    told = Narrator(as_json=as_json)
    request = ReplayRequest(caller(), default_workers())
    with open_store(ctx) as store, StopSignals() as stop:
        first = open_run(store, parse_pathspec(good, least=2, most=4))
        second = open_run(store, parse_pathspec("/".join(bad.split("/")[:2]), least=2, most=2))
        if first.spec.flow != second.spec.flow:
            raise EngineError(f"{first.spec} and {second.spec} are runs of two flows; name two runs of one.")
        tell_unfinished((first, second))
        if what == "code":
            from stillrun_engine.bisect_code import bisect_code

            return _tell_commits(bisect_code(first, second, request, stop, repo, told.note), first, as_json=as_json)
        if first.spec.step is None:
            raise EngineError(f"name a step of {good}, whose environment is to be looked into: {good}/STEP.")
        from stillrun_engine.bisect import bisect_environment

        second = open_run(store, parse_pathspec(f"{second.pathspec}/{first.spec.step}", least=3, most=3))
        return _tell_packages(bisect_environment(first, second, request, stop, told.note), first, as_json=as_json)


def _tell_packages(found: Bisection, run: KeptRun, *, as_json: bool) -> int:
    if as_json:
        print_json(_packages(found))
        return 0 if found.culprit is not None else 1
    for one in found.trials:
        click.echo(clean(f"  {', '.join(one.changes) or 'as it was'}: {_result(one.equal)}"))
    if found.culprit is not None:
        name = f"{found.culprit.name} {found.culprit.before or 'none'} → {found.culprit.after or 'none'}"
        click.echo(f"{paint(clean(name), bold=True)} makes the difference in {run.spec}")
    if found.reason:
        click.echo(clean(found.reason))
    return 0 if found.culprit is not None else 1


def _tell_commits(found: CodeBisection, run: KeptRun, *, as_json: bool) -> int:
    if as_json:
        trials = [
            {"commit": one.commit and vars(one.commit), "equal": one.equal, "told": one.told} for one in found.trials
        ]
        print_json(
            {"culprits": [vars(one) for one in found.culprits], "trials": trials, "reason": found.reason or None}
        )
        return 0 if found.culprits else 1
    for one in found.trials:
        name = "as it was" if one.commit is None else f"{one.commit.sha[:12]} {one.commit.subject}".strip()
        click.echo(clean(f"  {name}: {_result(one.equal)}"))
    for commit in found.culprits:
        by = f" ({commit.author}, {commit.when[:10]})" if commit.author else ""
        name = f"{commit.sha[:12]} {commit.subject}".strip()
        one_of = "is one of those that may make" if len(found.culprits) > 1 else "makes"
        click.echo(f"{paint(clean(name), bold=True)}{clean(by)} {one_of} the difference in {run.spec}")
    if found.reason:
        click.echo(clean(found.reason))
    return 0 if found.culprits else 1


def _result(equal: bool | None) -> str:
    return "cannot be run" if equal is None else "the same" if equal else "another result"


def _packages(found: Bisection) -> dict[str, Any]:
    return {
        "culprit": None if found.culprit is None else change_record(found.culprit),
        "on_top_of": [change_record(one) for one in found.on_top_of],
        "trials": [{**vars(one), "changes": list(one.changes)} for one in found.trials],
        "reason": found.reason or None,
    }
