"""From Python's keyword arguments to the words of a command line: a flow's parameters by their types, and options."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from stillrun_engine.pathspec import nearest

__all__ = ["BEFORE", "RESUME", "RUN", "SPIN", "words_of"]

_MANY = {"tags": "--tag", "tag": "--tag", "decospecs": "--with", "with_": "--with", "force": "--force"}
_PAIRS = {"config": "--config", "config_file": "--config", "config_value": "--config-value"}
_RENAMED = {"user_namespace": "--namespace"}

BEFORE = frozenset(
    {"config", "config_file", "config_value", "datastore", "datastore_root", "decospecs", "environment", "event_logger"}
    | {"metadata", "monitor", "package_suffixes", "pylint", "quiet", "store", "with_"}
)
"""Options of a flow file before its command, as ``Runner(...)`` takes them."""
RUN = frozenset(
    {"decospecs", "environment", "fresh_process", "keep_packages", "max_log_size", "max_num_splits", "max_workers"}
    | {"offline", "python", "reuse", "run_id_file", "runner_attribute_file", "tag", "tags", "user_namespace"}
)
RESUME = RUN - {"reuse"} | {"code", "env", "force", "origin_run_id", "step_to_rerun", "strict"}
SPIN = frozenset(
    {"artifacts_module", "decospecs", "max_log_size", "offline", "persist", "python", "run_id_file"}
    | {"runner_attribute_file", "skip_decorators", "tag", "tags", "user_namespace"}
)


def words_of(
    given: Mapping[str, Any], options: Iterable[str], parameters: Sequence[Mapping[str, Any]], who: str
) -> list[str]:
    """The words for ``given``. options: names that ``who`` takes; parameters: of the flow's description.

    Raises ValueError for a name that is neither, TypeError for a value that is not of its parameter's type.
    """
    known = {each["name"].replace("-", "_"): each for each in parameters}
    found: list[str] = []
    for name, value in given.items():
        if value is None:
            continue
        if name in known:
            found += [f"--{known[name]['name']}", _text_of(known[name], value)]
        elif name in options:
            found += _option(name, value)
        else:
            raise ValueError(f"{who} takes no argument '{name}'.{nearest(name, [*known, *sorted(options)])}")
    return found


def _option(name: str, value: Any) -> list[str]:
    if name in _PAIRS:
        pairs = value.items() if isinstance(value, Mapping) else value
        return [word for key, text in pairs for word in (_PAIRS[name], str(key), _written(text))]
    if name in _MANY:
        values = [value] if isinstance(value, str) else value
        return [word for each in values for word in (_MANY[name], str(each))]
    option = _RENAMED.get(name, "--" + name.replace("_", "-"))
    if isinstance(value, bool):
        off = {"pylint": ["--no-pylint"], "persist": ["--no-persist"], "skip_decorators": ["--no-skip-decorators"]}
        return [option] if value else off.get(name, [])
    return [option, str(value)]


def _written(value: Any) -> str:
    return str(value) if isinstance(value, (str, Path)) else json.dumps(value)


def _text_of(parameter: Mapping[str, Any], value: Any) -> str:
    """A value as it would be typed."""
    kind, name = parameter["type"], parameter["name"]
    fits = {
        "int": isinstance(value, int) and not isinstance(value, bool),
        "float": isinstance(value, (int, float)) and not isinstance(value, bool),
        "bool": isinstance(value, bool),
        "str": isinstance(value, (str, Path)),
    }
    if kind == "JSON":
        return value if isinstance(value, str) else json.dumps(value)
    separator = parameter.get("separator")
    if separator is not None and not isinstance(value, str):
        return str(separator).join(map(str, value))
    if not fits.get(kind, True):
        raise TypeError(f"the parameter '{name}' is {_a(kind)}; {value!r} is {_a(type(value).__name__)}.")
    return str(value).lower() if isinstance(value, bool) else str(value)


def _a(kind: str) -> str:
    return f"an {kind}" if kind[:1] in "aeiou" else f"a {kind}"
