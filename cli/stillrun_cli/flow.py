"""`python flow.py run|show|check|...`: what a flow file's own command line offers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from stillrun_cli.card import card_group
from stillrun_cli.console import clean, common_options, paint, print_json, store_option
from stillrun_cli.flow_graph import dot_of, raw_of
from stillrun_cli.logs import logs_command
from stillrun_cli.metaflow_options import all_decorated, before_options, merged, texts_of_configs
from stillrun_cli.outfile import whole_file
from stillrun_cli.own_options import FlowCommand
from stillrun_cli.package import package_group
from stillrun_cli.resume import resume_options, resume_run
from stillrun_cli.run import RUN_CONTEXT, run_options, start_run
from stillrun_cli.settings import caller, open_store, store_path
from stillrun_cli.spin import spin_options, start_spin
from stillrun_cli.tag import change
from stillrun_engine.archive import open_run
from stillrun_engine.pathspec import parse_pathspec

__all__ = ["flow_group"]


@click.group(hidden=True, invoke_without_command=True)
@click.option("--file", "file", required=True, hidden=True, type=click.Path(path_type=Path))
@click.option("--class", "class_name", hidden=True)
@before_options
@store_option
@click.pass_context
def flow_group(ctx: click.Context, /, file: Path, class_name: str | None, **before: Any) -> None:
    """Run this flow, or look at its graph. `stillrun --help` lists what can be done with its runs."""
    ctx.obj = (file.absolute(), class_name, before)
    root, ctx.info_name = ctx.find_root(), file.name
    root.info_name = "python"  # what a person has typed
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


@flow_group.command("run", cls=FlowCommand, context_settings=RUN_CONTEXT)
@run_options
@click.pass_context
def run(ctx: click.Context, /, **options: Any) -> int:
    """Run this flow and keep its code, environments, inputs and results."""
    file, class_name, before = ctx.obj
    return start_run(ctx, file, class_name, **merged(before, options))


@flow_group.command("resume", cls=FlowCommand, context_settings=RUN_CONTEXT)
@click.option("--origin-run-id", metavar="RUN", default="latest", help="The run to go on from; default: the latest.")
@resume_options
@click.pass_context
def resume(ctx: click.Context, /, origin_run_id: str, **options: Any) -> int:
    """Go on from an earlier run: [STEP]. What it did from the same code, environment and inputs is not done again."""
    file, class_name, before = ctx.obj
    return resume_run(ctx, file, class_name, f"{class_name}/{origin_run_id}", **merged(before, options))


@flow_group.command("spin", context_settings=RUN_CONTEXT)
@click.argument("step", metavar="STEP|RUN/STEP[/TASK]")
@spin_options
@click.pass_context
def spin(ctx: click.Context, /, step: str, **options: Any) -> int:
    """Run one step, as it is now, on the artifacts of an earlier task; no run is added."""
    file, class_name, before = ctx.obj
    return start_spin(ctx, file, class_name, _own(ctx, step) if "/" in step else step, **merged(before, options))


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


flow_group.add_command(card_group)
flow_group.add_command(package_group)


@flow_group.command("output-raw")
@common_options
@click.pass_context
def output_raw(ctx: click.Context, as_json: bool) -> None:
    """Print the graph step by step; with --json as `current.graph_info` has it."""
    info = _graph_info(ctx)
    if as_json:
        print_json(info)
    for line in raw_of(info) if not as_json else ():
        click.echo(clean(line))


@flow_group.command("output-dot")
@click.pass_context
def output_dot(ctx: click.Context) -> None:
    """Print the graph for Graphviz: pipe it to 'dot -Tpng -o graph.png'."""
    click.echo(dot_of(_graph_info(ctx)))


@flow_group.command("version")
def version() -> None:
    """Print the version of Stillrun, and that of Metaflow whose names it serves."""
    import stillrun
    from stillrun.metaflow_names import VERSION

    click.echo(f"stillrun {stillrun.__version__}, metaflow names {VERSION}")


@flow_group.command("help")
@click.pass_context
def show_help(ctx: click.Context) -> None:
    """Print what this command line offers."""
    assert ctx.parent is not None
    click.echo(ctx.parent.get_help())


@flow_group.command("dump")
@click.argument("pathspec", metavar="RUN/STEP[/TASK]")
@click.option("--include", help="Only these artifacts, by name, with commas between.")
@click.option("--private/--no-private", help="Also those whose names begin with an underscore.")
@click.option("--max-value-size", type=int, default=1000, help="Most characters of a value that are shown.")
@click.option(
    "--file", type=click.Path(path_type=Path, dir_okay=False), help="Write the values to this file, as a pickle."
)
@common_options
@click.pass_context
def dump(
    ctx: click.Context,
    pathspec: str,
    include: str | None,
    private: bool,
    max_value_size: int,
    file: Path | None,
    as_json: bool,
) -> None:
    """Print the artifacts of a task, or of all tasks of a step."""
    wanted = None if include is None else {name.strip() for name in include.split(",")}
    with open_store(ctx) as store:
        run = open_run(store, parse_pathspec(_own(ctx, pathspec), least=3, most=4))
        found = [
            {"step": task["step"], "task": task["task"], "name": name, **run.artifact(task, name)[1]}
            for task in run.selected()
            for name in task["artifacts"]
            if (wanted is None or name in wanted) and (private or not name.startswith("_"))
        ]
    if file is not None:
        _write_values(ctx, run.pathspec, found, file)
        return
    if as_json:
        print_json({"run": run.pathspec, "artifacts": found})
    for one in found if not as_json else ():
        shown = one["preview"][:max_value_size]
        click.echo(clean(f"{one['step']}/{one['task']}/{one['name']} ({one['type']}, {one['size']:,} bytes): {shown}"))


def _write_values(ctx: click.Context, run: str, found: list[dict[str, Any]], file: Path) -> None:
    """The values of artifacts as one pickle: task -> name -> value."""
    import pickle

    from stillrun_engine.client import DataArtifact, namespace
    from stillrun_engine.client.session import use_store

    use_store(store_path(ctx))
    namespace(None)
    values: dict[str, dict[str, Any]] = {}
    for one in found:
        task = f"{run}/{one['step']}/{one['task']}"
        values.setdefault(task, {})[one["name"]] = DataArtifact(f"{task}/{one['name']}").data
    with whole_file(file) as out:
        pickle.dump(values, out)
    click.echo(f"{file}: {len(found)} artifacts of {len(values)} tasks")


@flow_group.command("logs")
@click.argument("pathspec", metavar="[show] RUN[/STEP[/TASK]]", nargs=-1, required=True)
@click.option("--stdout", "only", flag_value="stdout", help="Standard output only.")
@click.option("--stderr", "only", flag_value="stderr", help="Standard error only.")
@click.option("--both", "only", flag_value="", hidden=True)
@common_options
@click.pass_context
def logs(ctx: click.Context, pathspec: tuple[str, ...], only: str | None, as_json: bool) -> None:
    """Print what tasks wrote."""
    ctx.invoke(logs_command, pathspec=_own(ctx, pathspec[-1]), only=only or None, as_json=as_json)


@flow_group.command("tag")
@click.argument("what", type=click.Choice(["add", "remove", "replace", "list"]))
@click.argument("tags", nargs=-1, metavar="TAG...")
@click.option("--run-id", default="latest", metavar="RUN", help="The run; default: the latest.")
@common_options
@click.pass_context
def tag(ctx: click.Context, what: str, tags: tuple[str, ...], run_id: str, as_json: bool) -> None:
    """Add, remove or list the tags of a run, or replace one by another."""
    if what == "replace" and len(tags) != 2:
        raise click.UsageError("'tag replace' takes the tag that goes and the one that comes.")
    added = {"add": tags, "replace": tags[1:]}.get(what, ())
    removed = {"remove": tags, "replace": tags[:1]}.get(what, ())
    change(
        ctx,
        _own(ctx, run_id),
        added,
        removed,
        as_json=as_json,
    )


def _own(ctx: click.Context, pathspec: str) -> str:
    """A pathspec of this flow, whether the flow stands in it or not."""
    class_name = ctx.obj[1]
    return pathspec if pathspec.startswith(f"{class_name}/") else f"{class_name}/{pathspec}"


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


def _graph_info(ctx: click.Context) -> dict[str, Any]:
    from stillrun.graph_info import graph_info

    description = _describe(ctx)
    return {"name": description["name"], **graph_info(description, str(ctx.obj[0]))}


def _describe(ctx: click.Context) -> dict[str, Any]:
    file, class_name, before = ctx.obj
    from stillrun_engine.prepare import RunRequest, describe
    from stillrun_engine.stopping import StopSignals
    from stillrun_engine.warm import warm_host

    called = caller()
    with open_store(ctx, create=True) as store, StopSignals() as stop:
        configs = texts_of_configs(before["configs"], before["config_values"])
        request = RunRequest(
            file,
            called,
            class_name,
            configs=configs,
            decorated=all_decorated(before["decorated"], before["branch"], before["production"]),
        )
        described = describe(store, request, stop, warm_host(store, called))
        described.executor.close()
    return dict(described.description)


def _first_line(text: str) -> str:
    return text.strip().splitlines()[0]
