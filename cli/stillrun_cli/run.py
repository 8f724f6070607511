"""`stillrun run FLOW.py`: run a flow and keep everything."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stillrun_cli import ahead
from stillrun_cli.console import clean, common_options, duration, paint, print_json, word
from stillrun_cli.metaflow_options import all_decorated, texts_of_configs, with_options
from stillrun_cli.narrator import Narrator, counted
from stillrun_cli.own_options import FlowCommand
from stillrun_cli.settings import caller, default_workers, open_store, reading, store_path
from stillrun_engine.errors import sentence

if TYPE_CHECKING:
    from stillrun_engine.prepare import Resumed
    from stillrun_engine.run import RunOutcome
    from stillrun_envs.keeping import KeepPackages
    from stillrun_snapshot.store import Store

__all__ = ["flow_parameters", "run_command", "run_options", "start_run", "told_error"]

_EXIT = {"ok": 0, "failed": 1}


def run_options(function: Any) -> Any:
    """The options that `stillrun run` and `python flow.py run` share."""
    for option in (
        click.option("--max-workers", type=click.IntRange(1), help="Tasks at once; default: the number of cores."),
        click.option(
            "--fresh-process",
            is_flag=True,
            help="Run each task in a new interpreter, for libraries that cannot fork.",
        ),
        click.option("--offline", is_flag=True, help="Use no network: environments must be known and kept already."),
        click.option(
            "--environment",
            type=click.Choice(["ambient", "pypi", "conda"]),
            default="ambient",
            help="What undecorated steps run in: the caller's environment, or a bare Python of their own.",
        ),
        click.option(
            "--keep-packages",
            type=click.Choice(["all", "missing-from-index", "none"]),
            default="all",
            envvar="STILLRUN_KEEP_PACKAGES",
            help="Which packages of environments stay in the store; with all, the default, a replay needs no network.",
        ),
        click.option(
            "--python",
            metavar="PYTHON",
            help="The interpreter of undecorated steps; default: the active environment's.",
        ),
        click.option(
            "--reuse",
            is_flag=True,
            help="Do not run again what the flow's latest run did from the same code, environment and inputs.",
        ),
        click.option(
            "--allow-secret",
            "allow_secrets",
            multiple=True,
            metavar="RULE",
            help="Keep what looks like a secret by this rule; needs --reason. May be repeated.",
        ),
        click.option("--reason", metavar="WHY", help="Why --allow-secret is right; kept with the run."),
        click.option(
            "--pdb", "debug", is_flag=True, help="When a task fails, run it again up to there and open a debugger."
        ),
        click.option("--quiet", is_flag=True, help="Print only what tasks write, and failures."),
        common_options,
        click.argument("parameters", nargs=-1, type=click.UNPROCESSED, metavar="[--PARAMETER VALUE]..."),
    ):
        function = option(function)
    return with_options(function)


RUN_CONTEXT = {"ignore_unknown_options": True, "help_option_names": ["-h", "--help"]}


@click.command(cls=FlowCommand, context_settings=RUN_CONTEXT, short_help="Run a flow and keep everything.")
@click.argument("flow", metavar="FLOW.py[:CLASS]")
@run_options
@click.pass_context
def run_command(ctx: click.Context, /, flow: str, **options: Any) -> int:
    """Run FLOW.py and keep its code, environments, inputs and results.

    What follows the flow are its own parameters: --seed 7. The exit code is 0 when every step finished, 1 when a step failed.
    """
    path, _, class_name = flow.partition(".py:")
    file = Path(path + ".py" if class_name else flow)
    return start_run(ctx, file, class_name or None, **options)


def start_run(
    ctx: click.Context,
    file: Path,
    class_name: str | None,
    *,
    parameters: tuple[str, ...],
    max_workers: int | None,
    fresh_process: bool,
    offline: bool,
    environment: str,
    keep_packages: KeepPackages,
    python: str | None,
    quiet: bool,
    reuse: bool,
    debug: bool,
    allow_secrets: Sequence[str],
    reason: str | None,
    as_json: bool,
    tags: Sequence[str],
    decorated: Sequence[str],
    branch: str | None,
    production: bool,
    configs: Sequence[tuple[str, str]],
    config_values: Sequence[tuple[str, str]],
    splits_max: int | None,
    namespace: str | None,
    run_id_file: Path | None,
    resumed: Callable[[Store], Resumed] | None = None,
) -> int:
    """Run the flow in ``file`` and print how it went; the exit code. resumed: finds the run to go on from."""
    from stillrun_engine.warm import warm_host

    given = flow_parameters(parameters)
    early = ahead.taken(store_path(ctx)) if python is None and namespace is None else None
    called = early[0] if early else caller(python)
    with open_store(ctx, create=True) as store:
        if early is None:
            called = reading(called, store, namespace)
        warm = warm_host(store, called, early[1] if early else None)
        # it imports its part in another process while we import the engine
        from stillrun_engine.guard import allowed_rules
        from stillrun_engine.prepare import RunRequest
        from stillrun_engine.run import run_flow
        from stillrun_engine.stopping import StopSignals
        from stillrun_engine.tags import checked_tag

        request = RunRequest(
            flow_file=file.absolute(),
            caller=called,
            class_name=class_name,
            parameters=given,
            max_workers=max_workers or default_workers(),
            fresh_process=fresh_process,
            offline=offline,
            environment=environment,
            keep_packages=keep_packages,
            tags=tuple(checked_tag(tag) for tag in dict.fromkeys(tags)),
            configs=texts_of_configs(configs, config_values),
            decorated=all_decorated(decorated, branch, production),
            splits_max=splits_max,
            allowed_secrets=allowed_rules(allow_secrets, reason),
            namespace=namespace,
            resumed=resumed(store) if resumed else _earlier(store, file, class_name) if reuse else None,
        )
        narrator = _RunNarrator(run_id_file, as_json=as_json, quiet=quiet)
        with StopSignals() as stop:
            outcome = run_flow(store, request, stop, warm, narrator)
        _tell(narrator, outcome, as_json=as_json)
        if debug and outcome.failure is not None:
            _open_debugger(store, outcome)
    return 128 + stop.requested if stop.requested is not None else _EXIT[outcome.status]


class _RunNarrator(Narrator):
    """Writes the run's id to a file as soon as it has one."""

    def __init__(self, run_id_file: Path | None, *, as_json: bool, quiet: bool) -> None:
        super().__init__(as_json=as_json, quiet=quiet)
        self._file = run_id_file

    def run_begins(self, pathspec: str, facts: Mapping[str, Any]) -> None:
        """The run has its name."""
        if self._file is not None:
            self._file.write_text(pathspec.split("/")[1], encoding="utf-8")
        super().run_begins(pathspec, facts)


def _tell(narrator: Narrator, outcome: RunOutcome, *, as_json: bool) -> None:
    if as_json:
        print_json(_summary(outcome))
    else:
        _conclude(narrator, outcome)


def _open_debugger(store: Store, outcome: RunOutcome) -> None:
    """Run the failed task again and open a debugger where it fails."""
    from stillrun_cli.debug import open_by_hand

    assert outcome.failure is not None, "it failed"
    open_by_hand(store, f"{outcome.pathspec}/{outcome.failure['step']}/{outcome.failure['task']}", "pdb")


def _earlier(store: Store, file: Path, class_name: str | None) -> Resumed | None:
    """The latest run of the flow, to reuse its tasks; None when there is none."""
    from stillrun_engine.archive import newest_runs
    from stillrun_engine.prepare import Resumed

    for run in newest_runs(store, class_name):
        if run.record["kind"] == "run" and run.record["source"] == str(file.absolute()) and run.status != "running":
            return Resumed(run, parameters=False)
    return None


def flow_parameters(words: tuple[str, ...]) -> dict[str, str]:
    """--name value and --name=value pairs; a usage error for anything else."""
    found: dict[str, str] = {}
    rest = list(words)
    while rest:
        name = rest.pop(0)
        if not name.startswith("--") or name == "--":
            raise click.UsageError(
                f"'{name}' is neither an option nor the value of one; parameters are given as --name value."
            )
        name, equals, value = name[2:].partition("=")
        if not equals:
            if not rest:
                raise click.UsageError(f"--{name} needs a value: --{name} VALUE.")
            value = rest.pop(0)
        found[name] = value
    return found


def _summary(outcome: RunOutcome) -> dict[str, Any]:
    return {
        "run": outcome.pathspec,
        "status": outcome.status,
        "record": outcome.record,
        "tasks": outcome.tasks,
        "reused": outcome.reused,
        "wall_us": outcome.wall_us,
        "captured": outcome.captured,
        "not_kept": list(outcome.not_kept),
        "failure": outcome.failure,
    }


def _conclude(narrator: Narrator, outcome: RunOutcome) -> None:
    if outcome.failure is not None:
        where = f"{outcome.failure['step']}/{outcome.failure['task']}"
        narrator.say(clean(f"{where} failed: {told_error(outcome.failure['error'])}"))
    amount = counted(outcome.tasks, "task") + (f", {outcome.reused:,} of them reused" if outcome.reused else "")
    narrator.say(
        f"{paint(outcome.pathspec, bold=True)} {word(outcome.status)}: {amount} in {duration(outcome.wall_us)}"
    )
    for reason in outcome.not_kept:
        narrator.note(f"not kept: {reason}")


def told_error(error: Mapping[str, Any]) -> str:
    """An ERROR of the protocol in one line: what, where, and the cure."""
    kind = f"{error['type']}: " if error.get("type") and error.get("kind") == "user" else ""
    place = f"{error['file']}:{error['line']}: " if error.get("file") and error.get("line") else ""
    cure = f" {error['cure']}" if error.get("cure") else ""
    return f"{place}{kind}{sentence(error['message']) if cure else error['message']}{cure}"
