"""`stillrun resume FLOW/RUN`: go on from an earlier run; what it did from the same code, environment and inputs is kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stillrun_cli.run import RUN_CONTEXT, run_options, start_run
from stillrun_cli.settings import open_store

if TYPE_CHECKING:
    from stillrun_engine.prepare import Resumed
    from stillrun_snapshot.store import Store

__all__ = ["resume_command", "resume_options", "resume_run"]


def resume_options(function: Any) -> Any:
    """The options that `stillrun resume` and `python flow.py resume` share."""
    for option in (
        click.option("--set", "given", multiple=True, metavar="NAME=VALUE", help="Another value for a parameter."),
        click.option("--force", multiple=True, metavar="STEP", help="Run STEP again, and all that follows it."),
        click.option(
            "--code",
            type=click.Choice(["today", "as-recorded"]),
            default="today",
            help="Which code to go on with; default: the flow file as it is today.",
        ),
        click.option(
            "--env",
            type=click.Choice(["today", "as-recorded"]),
            default="today",
            help="Which environments to go on in; default: those that the flow asks for today.",
        ),
        click.option("--strict", is_flag=True, help="Reuse nothing when any captured file is another, code or not."),
    ):
        function = option(function)
    return run_options(function)


@click.command(context_settings=RUN_CONTEXT, short_help="Go on from an earlier run.")
@click.argument("pathspec", metavar="FLOW/RUN")
@click.option("--file", type=click.Path(path_type=Path), help="The flow file; default: where it was.")
@resume_options
@click.pass_context
def resume_command(ctx: click.Context, /, pathspec: str, file: Path | None, **options: Any) -> int:
    """Run the flow with today's code, and take from FLOW/RUN what need not be done again: [STEP] [--PARAMETER VALUE]...

    A task is taken when its code, environment, parameters, inputs and the files that it read are the same; it is said why
    others run again. With STEP, this step and all that follow it run again. Parameters keep their recorded values.
    """
    from stillrun_engine.archive import open_run
    from stillrun_engine.errors import EngineError
    from stillrun_engine.pathspec import parse_pathspec

    with open_store(ctx) as store:
        record = open_run(store, parse_pathspec(pathspec, least=2, most=2)).record
    source = file or Path(record["source"])
    if not source.is_file() and options["code"] == "today":
        raise EngineError(
            f"the flow of {pathspec} is not at {source} any more; say where it is with --file, or go on with --code as-recorded."
        )
    return resume_run(ctx, source, str(record["flow"]), pathspec, **options)


def resume_run(
    ctx: click.Context,
    file: Path,
    class_name: str,
    pathspec: str,
    *,
    given: Sequence[str],
    force: Sequence[str],
    strict: bool,
    code: str,
    env: str,
    parameters: tuple[str, ...],
    **options: Any,
) -> int:
    """Run ``file`` anew, with what the run ``pathspec`` did already; the exit code."""
    again = list(force)
    if parameters and not parameters[0].startswith("-"):
        again.append(parameters[0])
        parameters = parameters[1:]
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise click.UsageError(f"--set {text}: write --set NAME=VALUE.")
        parameters = (*parameters, f"--{name}", value)

    def resumed(store: Store) -> Resumed:
        from stillrun_engine.archive import open_run
        from stillrun_engine.errors import EngineError
        from stillrun_engine.pathspec import parse_pathspec
        from stillrun_engine.prepare import Resumed

        run = open_run(store, parse_pathspec(pathspec, least=2, most=2))
        if run.status == "running":
            raise EngineError(f"{run.pathspec} is still going on; resume it when it has ended, or stop it first.")
        for step in again:
            run.check_step(step)
        as_recorded = "as-recorded"
        return Resumed(run, tuple(again), strict=strict, code=code == as_recorded, environments=env == as_recorded)

    return start_run(ctx, file, class_name, parameters=parameters, resumed=resumed, **options)
