"""`stillrun spin FLOW.py STEP`: one step with today's code on the artifacts of an earlier task, without a new run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stillrun_cli.console import common_options, duration, paint, print_json, print_table, size, word
from stillrun_cli.metaflow_options import all_decorated, texts_of_configs, with_options
from stillrun_cli.narrator import Narrator
from stillrun_cli.run import RUN_CONTEXT, flow_parameters, told_error
from stillrun_cli.settings import caller, open_store, reading
from stillrun_engine.errors import EngineError

if TYPE_CHECKING:
    from stillrun_engine.archive import KeptRun
    from stillrun_engine.spin import SpinOutcome
    from stillrun_snapshot.store import Store

__all__ = ["spin_command", "spin_options", "start_spin"]


def spin_options(function: Any) -> Any:
    """The options that `stillrun spin` and `python flow.py spin` share."""
    for option in (
        click.option(
            "--artifacts-module",
            type=click.Path(path_type=Path, dir_okay=False, exists=True),
            help="A Python file whose dictionary ARTIFACTS stands for artifacts of the same names.",
        ),
        click.option(
            "--skip-decorators/--no-skip-decorators",
            default=False,
            help="Leave out the step's decorators: it runs in your own environment.",
        ),
        click.option("--persist/--no-persist", default=False, help="Keep what comes of it, beside the runs."),
        click.option("--offline", is_flag=True, help="Use no network: environments must be known and kept already."),
        click.option("--python", metavar="PYTHON", help="The interpreter of undecorated steps."),
        click.option("--quiet", is_flag=True, help="Print only what the step writes, and failures."),
        common_options,
        click.argument("parameters", nargs=-1, type=click.UNPROCESSED, metavar="[--PARAMETER VALUE]..."),
    ):
        function = option(function)
    return with_options(function)


@click.command("spin", context_settings=RUN_CONTEXT, short_help="Run one step on the artifacts of an earlier task.")
@click.argument("flow", metavar="FLOW.py[:CLASS]")
@click.argument("step", metavar="STEP|FLOW/RUN/STEP[/TASK]")
@spin_options
@click.pass_context
def spin_command(ctx: click.Context, /, flow: str, step: str, **options: Any) -> int:
    """Run STEP once, as it is in FLOW.py today, with what its latest task was given; or the task of a pathspec.

    Nothing is added to the runs. With --persist, what comes of it can be read by its pathspec. The exit code is 1 when the
    step failed.
    """
    path, _, class_name = flow.partition(".py:")
    return start_spin(ctx, Path(path + ".py" if class_name else flow), class_name or None, step, **options)


def start_spin(
    ctx: click.Context,
    file: Path,
    class_name: str | None,
    step: str,
    *,
    parameters: tuple[str, ...],
    artifacts_module: Path | None,
    skip_decorators: bool,
    persist: bool,
    offline: bool,
    python: str | None,
    quiet: bool,
    as_json: bool,
    tags: tuple[str, ...],
    decorated: tuple[str, ...],
    branch: str | None,
    production: bool,
    configs: tuple[tuple[str, str], ...],
    config_values: tuple[tuple[str, str], ...],
    splits_max: int | None,
    namespace: str | None,
    run_id_file: Path | None,
    environment: str = "ambient",
) -> int:
    """Spin a step of the flow in ``file`` and print what came of it; the exit code."""
    from stillrun_engine.warm import warm_host

    given, called = flow_parameters(parameters), caller(python)
    with open_store(ctx) as store:
        old = _old_task(store, file, class_name, step)
        called = reading(called, store, namespace)
        warm = warm_host(store, called)
        from stillrun_engine.prepare import RunRequest
        from stillrun_engine.spin import SpinRequest, spin_step
        from stillrun_engine.stopping import StopSignals
        from stillrun_engine.tags import checked_tag

        request = RunRequest(
            flow_file=file.absolute(),
            caller=called,
            class_name=class_name,
            parameters=given,
            offline=offline,
            environment=environment,
            tags=tuple(checked_tag(tag) for tag in dict.fromkeys(tags)),
            configs=texts_of_configs(configs, config_values),
            decorated=all_decorated(decorated, branch, production),
            splits_max=splits_max,
        )
        asked = SpinRequest(
            request,
            old,
            artifacts_module.absolute() if artifacts_module else None,
            bare=skip_decorators,
            persist=persist,
        )
        narrator = Narrator(as_json=as_json, quiet=quiet)
        with StopSignals() as stop:
            outcome = spin_step(store, asked, stop, warm, narrator)
    if run_id_file is not None and outcome.pathspec is not None:
        run_id_file.write_text(outcome.pathspec.split("/")[1], encoding="utf-8")
    if as_json:
        print_json(_summary(outcome))
    else:
        _tell(narrator, outcome, quiet=quiet)
    return 0 if outcome.status == "ok" else 1


def _old_task(store: Store, file: Path, class_name: str | None, step: str) -> KeptRun:
    """The task whose inputs are taken: as named, or the first one of the step in the newest run that has one."""
    from dataclasses import replace

    from stillrun_engine.archive import open_run
    from stillrun_engine.pathspec import parse_pathspec

    named = parse_pathspec(step, most=4)
    if named.run is None:
        run = _newest_with(store, file, class_name, named.flow)
    elif named.step is None:
        raise EngineError(f"'{step}' names no step; name one as STEP, FLOW/RUN/STEP or FLOW/RUN/STEP/TASK.")
    else:
        run = open_run(store, named)
    tasks = run.selected()
    if not tasks:
        raise EngineError(f"step '{run.spec.step}' has not run in {run.pathspec}; name a run in which it has.")
    return replace(run, spec=replace(run.spec, task=tasks[0]["task"]))


def _newest_with(store: Store, file: Path, class_name: str | None, step: str) -> KeptRun:
    """The newest run of the flow in which the step has run."""
    from dataclasses import replace

    from stillrun_engine.archive import newest_runs

    source = str(file.absolute())
    first: KeptRun | None = None
    for run in newest_runs(store, class_name):
        if run.record["kind"] == "run" and (class_name is not None or run.record["source"] == source):
            if any(name == step for name, _, _ in run.entries()):
                return replace(run, spec=replace(run.spec, step=step))
            first = first or run
    if first is None:
        raise EngineError(f"{file.name} has not run yet, so there is nothing to give to '{step}'; run it first.")
    first.check_step(step)
    raise EngineError(f"step '{step}' has not run in any run of {first.spec.flow}, so there is nothing to give it.")


def _summary(outcome: SpinOutcome) -> Mapping[str, Any]:
    shown = ("type", "preview", "size", "canonical")
    return {
        "status": outcome.status,
        "origin": outcome.origin,
        "task": outcome.pathspec,
        "wall_us": outcome.wall_us,
        "artifacts": {name: {key: one.get(key) for key in shown} for name, one in outcome.artifacts.items()},
        "next": outcome.next,
        "failure": outcome.error,
    }


def _tell(narrator: Narrator, outcome: SpinOutcome, *, quiet: bool) -> None:
    if outcome.error is not None:
        narrator.say(told_error(outcome.error))
    rows = [(name, one["type"], size(one["size"]), one["preview"]) for name, one in outcome.artifacts.items()]
    if rows and not quiet:
        print_table(("ARTIFACT", "TYPE", "SIZE", "VALUE"), rows, indent="  ")
    onward = f", then {', '.join(outcome.next['steps'])}" if outcome.next else ""
    kept = f"kept as {paint(outcome.pathspec, bold=True)}" if outcome.pathspec else "nothing was kept"
    narrator.say(f"{outcome.origin} spun: {word(outcome.status)} in {duration(outcome.wall_us)}{onward}; {kept}")
