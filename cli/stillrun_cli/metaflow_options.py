"""Options that Metaflow's users type: those that mean something here, and those that are taken and do nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

__all__ = ["all_decorated", "before_options", "merged", "texts_of_configs", "with_options"]

_LOCAL = {
    "datastore": "runs are kept in Stillrun's store: choose one with --store or STILLRUN_STORE",
    "metadata": "what is known of runs is in Stillrun's store",
}
_DECORATORS = "METAFLOW_DEFAULT_DECOSPECS"
"""The variable that adds decorators to every step, with spaces between them."""
_NOTHING = ("event-logger", "monitor", "package-suffixes", "datastore-root", "max-log-size", "runner-attribute-file")


def _local(ctx: click.Context, parameter: click.Parameter, value: str | None) -> None:
    if value not in (None, "local"):
        raise click.UsageError(f"--{parameter.name} {value}: {_LOCAL[str(parameter.name)]}.", ctx)


def _ignored(function: Any) -> Any:
    """Options that mean nothing here."""
    for name in _NOTHING:
        function = click.option(f"--{name}", hidden=True, expose_value=False)(function)
    for name in _LOCAL:
        function = click.option(f"--{name}", hidden=True, expose_value=False, callback=_local)(function)
    return click.option("--pylint/--no-pylint", hidden=True, expose_value=False)(function)


def with_options(function: Any) -> Any:
    """Options that a run takes as Metaflow's does."""
    for option in (
        click.option("--tag", "tags", multiple=True, metavar="TAG", help="Tag the run; may be repeated."),
        click.option("--with", "decorated", multiple=True, metavar="DECORATOR", envvar=_DECORATORS, help="One for every step."),
        click.option("--config", "configs", nargs=2, multiple=True, metavar="NAME FILE", help="A configuration of the flow."),
        click.option("--config-value", "config_values", nargs=2, multiple=True, metavar="NAME TEXT", help="A text for one."),
        click.option("--max-num-splits", "splits_max", type=click.IntRange(1), help="Most tasks of one foreach."),
        click.option("--run-id-file", type=click.Path(path_type=Path, dir_okay=False), help="Write the run's id to this file."),
        click.option("--branch", metavar="NAME", help="The branch of the flow's project."),
        click.option("--production", is_flag=True, help="Run as the production branch of the flow's project."),
        click.option("--namespace", metavar="TAG", help="What steps look through; all runs when empty."),
    ):  # fmt: skip
        function = option(function)
    return _ignored(function)


def all_decorated(decorated: Sequence[str], branch: str | None, production: bool) -> tuple[str, ...]:
    """Decorators for every step, and what was chosen of the project, which is the flow's."""
    chosen = [f"branch={json.dumps(branch)}"] if branch is not None else []
    chosen += ["production=true"] if production else []
    return (*decorated, f"project:{','.join(chosen)}") if chosen else tuple(decorated)


def before_options(function: Any) -> Any:
    """The options that `python flow.py` takes before its command, as Metaflow's do."""
    for option in (
        click.option("--with", "decorated", multiple=True, hidden=True),
        click.option("--config", "configs", nargs=2, multiple=True, hidden=True),
        click.option("--config-value", "config_values", nargs=2, multiple=True, hidden=True),
        click.option("--quiet", is_flag=True, hidden=True),
        click.option("--environment", hidden=True),
        click.option("--branch", hidden=True),
        click.option("--production", is_flag=True, hidden=True),
        click.option("--namespace", hidden=True),
    ):
        function = option(function)
    return _ignored(function)


def merged(before: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a command, with those that stood before it."""
    found = dict(options)
    for name in ("decorated", "configs", "config_values"):
        found[name] = (*before[name], *options[name])
    for name in ("quiet", "branch", "production"):
        found[name] = before[name] or options[name]
    if found["namespace"] is None:
        found["namespace"] = before["namespace"]
    if before["environment"] in ("pypi", "conda"):
        found["environment"] = before["environment"]
    return found


def texts_of_configs(files: Sequence[tuple[str, str]], values: Sequence[tuple[str, str]]) -> dict[str, str]:
    """The texts that were given for configurations, by name."""
    found = {}
    for name, file in files:
        try:
            found[name] = Path(file).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as err:
            why = err.strerror if isinstance(err, OSError) else "it is no UTF-8"
            raise click.UsageError(f"--config {name} {file}: it cannot be read ({why}).") from err
    return {**found, **dict(values)}
