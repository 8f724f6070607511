"""Decorators that say how a task is run: again after a failure, for how long, with which variables, on how much of the machine.

And those that other systems act on, such as ``@schedule``: they are kept with the run and do nothing on this machine.
"""

from __future__ import annotations

from stillrun.decorators import ASKED, Asked, configurable, line_of_user, refuse_unknown
from stillrun.errors import FlowError
from stillrun.secret_values import SOURCES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, Callable

__all__ = [
    "SECRETS",
    "batch",
    "card",
    "catch",
    "environment",
    "exit_hook",
    "kubernetes",
    "parallel",
    "project",
    "resources",
    "retry",
    "schedule",
    "secrets",
    "timeout",
    "trigger",
    "trigger_on_finish",
]

SECRETS = "__stillrun_secrets__"  # list on a step: where its secrets are; it stays in the process
_OPTIONS = {
    "card": ("type", "id", "options", "scope", "timeout", "save_errors", "customize", "refresh_interval"),
    "schedule": ("cron", "weekly", "daily", "hourly", "timezone"),
    "trigger": ("event", "events", "options"),
    "trigger_on_finish": ("flow", "flows", "options"),
    "exit_hook": ("on_success", "on_error", "options"),
}
"""What decorators take that are only kept."""
RETRIES_MAX = 4
"""As many as Metaflow allows."""


@configurable
def retry(target: Any = None, *, times: int = 3, minutes_between_retries: float = 2) -> Any:
    """Run a failed task again, up to ``times`` times, after waiting for so many minutes (0.5 is half a minute).

    ``current.retry_count`` tells a step which attempt it is. Every attempt is kept.
    """
    if type(times) is not int or not 0 <= times <= RETRIES_MAX:
        raise FlowError(f"@retry(times={times!r}): a whole number from 0 to {RETRIES_MAX} is expected.")
    delay = _number("retry", "minutes_between_retries", minutes_between_retries)
    return _on("retry", "step", target, {"times": times, "delay_ms": int(delay * 60_000)})


@configurable
def catch(target: Any = None, *, var: str | None = None, print_exception: bool = True) -> Any:
    """Let the flow go on when a task of the step has failed, retries included.

    var: the artifact that then holds the exception (with ``.exception``, ``.type`` and ``.stacktrace``), and None otherwise.
    """
    if var is not None and (not isinstance(var, str) or not var.isidentifier() or var.startswith("_")):
        raise FlowError(f"@catch(var={var!r}): the name of an artifact is expected.")
    return _on("catch", "step", target, {"var": var, "print_exception": bool(print_exception)})


@configurable
def timeout(target: Any = None, *, seconds: float = 0, minutes: float = 0, hours: float = 0) -> Any:
    """End a task that runs longer: TimeoutException is raised in the step; what does not heed it is killed a while later."""
    parts = (("seconds", seconds, 1), ("minutes", minutes, 60), ("hours", hours, 3600))
    limit = int(1000 * sum(_number("timeout", name, value) * unit for name, value, unit in parts))
    if limit <= 0:
        raise FlowError("@timeout says no time.", cure="Write @timeout(minutes=5).")
    return _on("timeout", "step", target, {"limit_ms": limit})


@configurable
def environment(target: Any = None, *, vars: Mapping[str, str] | None = None) -> Any:  # noqa: A002  # the word that flows use
    """Set environment variables in the step's tasks. They are kept with the run: use ``@secrets`` for what is secret."""
    given = dict(vars or {})
    for name, value in given.items():
        if not isinstance(name, str) or not isinstance(value, (str, int, float)) or "=" in name or not name:
            raise FlowError(f"@environment(vars={{{name!r}: {value!r}}}): names and values are texts.")
    return _on("environment", "step", target, {"vars": {name: str(value) for name, value in given.items()}})


@configurable
def secrets(target: Any = None, *, sources: Sequence[Any] | None = None, role: str | None = None) -> Any:
    """Set environment variables from where secrets are kept; their values never reach the store.

    sources: each ``{"type": "environment", "names": ["DB_PASSWORD"]}`` (variables of whoever starts the run),
    ``{"type": "file", "path": "secrets.env"}`` (lines NAME=VALUE), ``{"type": "keyring", "service": "db", "names": [...]}``,
    or ``{"type": "inline", "options": {"env_vars": {...}}}``, whose values do stand in the code.
    """
    found: list[dict[str, Any]] = [{"type": each} if isinstance(each, str) else dict(each) for each in sources or ()]
    for each in found:
        if each.get("type") not in SOURCES:
            raise FlowError(
                f"@secrets knows no source of the type {each.get('type')!r}.", cure=f"There are: {', '.join(SOURCES)}."
            )
    told = [{key: value for key, value in each.items() if key != "options"} for each in found]

    def attach(decorated: Any) -> Any:
        vars(decorated).setdefault(SECRETS, []).extend(found)
        return _on("secrets", "step", decorated, {"sources": told, **({"role": role} if role else {})})

    return attach if target is None else attach(target)


@configurable
def resources(
    target: Any = None,
    *,
    cpu: float | str = 1,
    gpu: float | str = 0,
    memory: float | str = 4096,
    disk: float | str | None = None,
    shared_memory: float | str | None = None,
) -> Any:
    """What a task of the step needs: cores, graphics processors, memory in MB.

    Tasks run at once as long as the cores and the memory of the machine allow; one that asks for more than there is runs alone.
    """
    asked = {"cpu": cpu, "gpu": gpu, "memory": memory, "disk": disk, "shared_memory": shared_memory}
    told = {name: repr(_number("resources", name, value)) for name, value in asked.items() if value is not None}
    return _on("resources", "step", target, told)


def parallel(target: Any = None) -> Any:
    """Run the step as a group of tasks that know of each other: ``current.parallel``. Reached by ``num_parallel=N``."""
    return _on("parallel", "step", target, {})


@configurable
def card(target: Any = None, **options: Any) -> Any:
    """Ask for a report on each task of the step: ``current.card`` takes what it is to show."""
    refuse_unknown("card", options, _OPTIONS["card"])
    return _on("card", "step", target, options)


@configurable
def project(target: Any = None, *, name: str, branch: str | None = None, production: bool = False) -> Any:
    """Say which project the flow belongs to: ``current.project_name``, ``current.branch_name``."""
    if not isinstance(name, str) or not name.replace("_", "").isalnum() or name != name.lower():
        raise FlowError(
            f"@project(name={name!r}): lower-case letters, digits and underscores are expected.",
            cure="Write @project(name='my_project').",
        )
    given = {"name": name, "branch": branch, "production": bool(production)}
    return _on("project", "flow", target, {key: value for key, value in given.items() if value is not None})


@configurable
def schedule(target: Any = None, **options: Any) -> Any:
    """When a deployed flow runs: cron, hourly, daily, weekly. Kept with the run; it does nothing on this machine."""
    refuse_unknown("schedule", options, _OPTIONS["schedule"])
    return _on("schedule", "flow", target, options)


@configurable
def trigger(target: Any = None, **options: Any) -> Any:
    """Which events start a deployed flow. Kept with the run; it does nothing on this machine."""
    refuse_unknown("trigger", options, _OPTIONS["trigger"])
    return _on("trigger", "flow", target, options)


@configurable
def trigger_on_finish(target: Any = None, **options: Any) -> Any:
    """Which flows start a deployed flow when they end. Kept with the run; it does nothing on this machine."""
    refuse_unknown("trigger_on_finish", options, _OPTIONS["trigger_on_finish"])
    return _on("trigger_on_finish", "flow", target, options)


@configurable
def exit_hook(target: Any = None, **options: Any) -> Any:
    """Functions to call after a deployed run. Kept by name with the run; it does nothing on this machine."""
    refuse_unknown("exit_hook", options, _OPTIONS["exit_hook"])
    return _on("exit_hook", "flow", target, options)


@configurable
def batch(target: Any = None, **options: Any) -> Any:
    """Run the step on AWS Batch. Kept with the run; on this machine the step runs here."""
    return _on("batch", "step", target, options)


@configurable
def kubernetes(target: Any = None, **options: Any) -> Any:
    """Run the step on Kubernetes. Kept with the run; on this machine the step runs here."""
    return _on("kubernetes", "step", target, options)


def _on(name: str, level: str, target: Any, attributes: Mapping[str, Any]) -> Any:
    line = line_of_user()
    plain: dict[str, Any] = {key: _plain(value) for key, value in attributes.items()}

    def attach(decorated: Any) -> Any:
        if not callable(decorated) or isinstance(decorated, type) != (level == "flow"):
            where = "a flow class" if level == "flow" else "a step"
            raise FlowError(
                f"@{name} belongs on {where}, but stands on {getattr(decorated, '__name__', repr(decorated))}.",
                cure=f"Put it on {where}, with named arguments only.",
            )
        held = list(vars(decorated).get(ASKED, ()))
        held.insert(0, Asked(name=name, attributes=plain, line=line))
        setattr(decorated, ASKED, held)
        return decorated

    return attach if target is None else attach(target)


def _plain(value: Any) -> Any:
    """A value as a record can hold it; a float as text, a function by its name."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    named: Callable[..., Any] | None = value if callable(value) else None
    return getattr(named, "__name__", None) or repr(value)


def _number(decorator: str, name: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = -1.0
    if isinstance(value, bool) or not 0 <= number < 1 << 53:
        raise FlowError(f"@{decorator}({name}={value!r}): a number that is not negative is expected.")
    return number
