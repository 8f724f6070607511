"""`python flow.py run|show|check`: what a flow file's own command line offers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from stillrun_cli.console import clean, common_options, paint, print_json, store_option
from stillrun_cli.metaflow_options import before_options, merged, texts_of_configs
from stillrun_cli.resume import resume_options, resume_run
from stillrun_cli.run import RUN_CONTEXT, run_options, start_run
from stillrun_cli.settings import caller, open_store

__all__ = ["flow_group"]


@click.group(hidden=True, invoke_without_command=True)
@click.option("--file", "file", required=True, hidden=True, type=click.Path(path_type=Path))
@click.option("--class", "class_name", required=True, hidden=True)
@before_options
@store_option
@click.pass_context
def flow_group(ctx: click.Context, /, file: Path, class_name: str, **before: Any) -> None:
    """Run this flow, or look at its graph. `stillrun --help` lists what can be done with its runs."""
    ctx.obj = (file.absolute(), class_name, before)
    root, ctx.info_name = ctx.find_root(), file.name
    root.info_name = "python"  # what a person has typed
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


@flow_group.command("run", context_settings=RUN_CONTEXT)
@run_options
@click.pass_context
def run(ctx: click.Context, /, **options: Any) -> int:
    """Run this flow and keep its code, environments, inputs and results."""
    file, class_name, before = ctx.obj
    return start_run(ctx, file, class_name, **merged(before, options))


@flow_group.command("resume", context_settings=RUN_CONTEXT)
@click.option("--origin-run-id", metavar="RUN", default="latest", help="The run to go on from; default: the latest.")
@resume_options
@click.pass_context
def resume(ctx: click.Context, /, origin_run_id: str, **options: Any) -> int:
    """Go on from an earlier run: [STEP]. What it did from the same code, environment and inputs is not done again."""
    file, class_name, before = ctx.obj
    return resume_run(ctx, file, class_name, f"{class_name}/{origin_run_id}", **merged(before, options))


@flow_group.command("show")
@common_options
@click.pass_context
def show(ctx: click.Context, as_json: bool) -> int:
    """Show the steps, what follows each, and the parameters."""
    description = _describe(ctx)
    if as_json:
        print_json(description)
        return 0
    click.echo(
        paint(description["name"], bold=True) + (f": {_first_line(description['doc'])}" if description["doc"] else "")
    )
    for parameter in description["parameters"]:
        default = " (required)" if parameter["required"] else f" (default {_default(parameter)})"
        click.echo(
            clean(f"  --{parameter['name']} {parameter['type'] or ''}{default}  {parameter['help'] or ''}").rstrip()
        )
    for step in description["steps"]:
        onward = f" => {', '.join(step['next'])}" if step["next"] else ""
        each = f" for each of '{step['foreach']}'" if step.get("foreach") else ""
        click.echo(f"\n{paint(step['name'], bold=True)} ({step['kind']}){onward}{each}")
        for decorator in step["decorators"]:
            click.echo(clean(f"  @{decorator['name']} {decorator['attributes']}"))
        if step["doc"]:
            click.echo(clean(f"  {_first_line(step['doc'])}"))
    return 0


@flow_group.command("check")
@common_options
@click.pass_context
def check(ctx: click.Context, as_json: bool) -> int:
    """Check the graph; exit code 2 when it has a problem."""
    description = _describe(ctx)
    problems = description["problems"]
    if as_json:
        print_json({"flow": description["name"], "problems": problems})
    for problem in problems if not as_json else ():
        click.echo(clean(f"{description['file']}:{problem['line']}: {problem['what']} {problem['cure']}"))
    if not problems and not as_json:
        click.echo(f"{description['name']}: {len(description['steps'])} steps, no problem found.")
    return 2 if problems else 0


def _default(parameter: dict[str, Any]) -> str:
    return "computed" if parameter["has_default"] and parameter["default"] is None else str(parameter["default"])


def _describe(ctx: click.Context) -> dict[str, Any]:
    file, class_name, before = ctx.obj
    from stillrun_engine.prepare import RunRequest, describe
    from stillrun_engine.stopping import StopSignals
    from stillrun_engine.warm import warm_host

    called = caller()
    with open_store(ctx, create=True) as store, StopSignals() as stop:
        configs = texts_of_configs(before["configs"], before["config_values"])
        request = RunRequest(file, called, class_name, configs=configs, decorated=tuple(before["decorated"]))
        described = describe(store, request, stop, warm_host(store, called))
        described.executor.close()
    return dict(described.description)


def _first_line(text: str) -> str:
    return text.strip().splitlines()[0]
