"""Configurations: values of a file or a text that are known while the flow's class is made, decorators included."""

from __future__ import annotations

import json
import os
import sys

from stillrun.decorators import line_of_user
from stillrun.errors import ConfigReadOnly, ParameterError
from stillrun.parameters import Parameter, ParameterContext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any

__all__ = ["Config", "ConfigValue", "Delayed", "config_expr", "given", "kept", "settled"]

given: dict[str, str] = {}
"""Texts that were given for configurations, by name: by whoever loads the flow."""
kept: dict[str, str] = {}
"""Texts that were used, by name: what a replay gives."""
_made: dict[str, Config] = {}


class ConfigValue(dict):  # type: ignore[type-arg]
    """A mapping that is read with dots as well, and cannot be changed."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            there = ", ".join(map(str, self)) or "nothing"
            raise AttributeError(f"this configuration has no {name!r}; it has: {there}.") from None

    def __getitem__(self, name: Any) -> Any:
        return _wrapped(super().__getitem__(name))

    def get(self, name: Any, default: Any = None) -> Any:
        """The value of that name, or ``default``."""
        return self[name] if name in self else default  # noqa: SIM401  # it would call itself

    def values(self) -> Any:
        """The values."""
        return [self[name] for name in self]

    def items(self) -> Any:
        """Names and values."""
        return [(name, self[name]) for name in self]

    def to_dict(self) -> dict[str, Any]:
        """The same as plain dicts, which can be changed."""
        plain: dict[str, Any] = json.loads(json.dumps(dict(self), default=str))
        return plain

    def _refuse(self, *_: Any, **__: Any) -> Any:
        raise ConfigReadOnly("a configuration is the same in all steps of a run and cannot be changed.")

    __setattr__ = __setitem__ = __delitem__ = __delattr__ = update = pop = popitem = clear = setdefault = _refuse

    def __reduce__(self) -> Any:
        return ConfigValue, (dict(self),)


def _wrapped(value: Any) -> Any:
    return ConfigValue(value) if type(value) is dict else value


class Config(Parameter):
    """A configuration: ``Config("settings", default="settings.json")`` reads JSON; ``self.settings.a.b`` in steps.

    default: a file, relative to the working directory or beside the flow; default_value: a text or a dict instead of one.
    parser: a function from text to a dict, or its name as "module.function"; plain: give its result as it is.
    Given with ``--config NAME FILE`` or ``--config-value NAME TEXT``.
    """

    def __init__(
        self,
        name: str,
        default: Any = None,
        default_value: Any = None,
        help: str | None = None,  # noqa: A002  # the word that flows use
        required: bool | None = None,
        parser: Any = None,
        plain: bool = False,
        **other: Any,
    ) -> None:
        super().__init__(name, help=help, **other)
        self.line = line_of_user()
        self.required = bool(required)
        self._parser, self._plain = parser, plain
        text = _text(self, default, default_value)
        self._value = None if text is None else self._parsed(text)
        if text is not None:
            kept[name] = text
        _made[name] = self

    @property
    def has_default(self) -> bool:
        """Its value is known already."""
        return True

    @property
    def type_name(self) -> str:
        """JSON, or whatever its parser makes."""
        return "JSON"

    def __getattr__(self, name: str) -> Any:
        if name[:1] == "_":
            raise AttributeError(name)
        return getattr(self.value, name)

    def __getitem__(self, name: Any) -> Any:
        return self.value[name]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.value)

    def keys(self) -> Any:
        """Its names, so that ``**config`` works."""
        return self.value.keys()

    @property
    def value(self) -> Any:
        """The value, with dots."""
        return _wrapped(self._value)

    def __get__(self, flow: Any, owner: object = None) -> Any:
        state = None if flow is None else flow._stillrun
        return self if state is None else _wrapped(state.parameter(self.attribute))

    def value_of(self, text: str | None, context: ParameterContext) -> Any:  # noqa: ARG002
        """The plain value; ``text`` is one that a resumed run had."""
        return self._value if text is None else self._parsed(text)

    def _parsed(self, text: str) -> Any:
        parser = _loaded(self._parser) if isinstance(self._parser, str) else self._parser
        try:
            value = json.loads(text) if parser is None else parser(text)
        except (Exception, SystemExit) as err:
            raise ParameterError(
                f"configuration {self.name!r} cannot be read ({type(err).__name__}: {err}).",
                cure="Give JSON, or a parser that understands it.",
            ) from err
        if not self._plain and not isinstance(value, dict):
            raise ParameterError(
                f"configuration {self.name!r} holds a {type(value).__name__}, not a mapping.",
                cure="Write plain=True to have it as it is.",
            )
        return value


def _text(config: Config, default: Any, default_value: Any) -> str | None:
    """What is to be parsed: what was given, else the default's file, else the default's text."""
    if config.name in given:
        return given[config.name]
    default, default_value = _called(default, config.name), _called(default_value, config.name)
    if default is not None:
        path = _found(str(default))
        if path is None:
            raise ParameterError(
                f"configuration {config.name!r}: there is no file {default}.",
                cure=f"Give one with --config {config.name} FILE.",
            )
        with open(path, encoding="utf-8") as file:
            return file.read()
    if default_value is not None:
        return default_value if isinstance(default_value, str) else json.dumps(default_value)
    if config.required:
        raise ParameterError(
            f"configuration {config.name!r} is required and was not given.", cure=f"Give --config {config.name} FILE."
        )
    return None


def _found(name: str) -> str | None:
    beside = os.path.join(sys.path[0], name) if sys.path else name
    return next((path for path in (name, beside) if os.path.isfile(path)), None)


def _called(default: Any, name: str) -> Any:
    return default(ParameterContext("", name, os.environ.get("USER"))) if callable(default) else default


def _loaded(name: str) -> Callable[[str], Any]:
    module, _, function = name.rpartition(".")
    found: Callable[[str], Any] = getattr(__import__(module, fromlist=("_",)), function)
    return found


class Delayed:
    """An expression over configurations, for decorators that stand before they are made."""

    __iter__ = None  # it has items, and nobody knows how many

    def __init__(self, expression: str) -> None:
        self._expression = expression

    def __getattr__(self, name: str) -> Delayed:
        if name.startswith("_"):
            raise AttributeError(name)
        return Delayed(f"({self._expression}).{name}")

    def __getitem__(self, key: Any) -> Delayed:
        return Delayed(f"({self._expression})[{key!r}]")

    def _value(self) -> Any:
        """What it is now."""
        names: Mapping[str, Any] = {name: config.value for name, config in _made.items()}
        try:
            return eval(self._expression, {"__builtins__": __builtins__}, dict(names))  # noqa: S307  # the flow's own words
        except Exception as err:
            raise ParameterError(
                f"config_expr({self._expression!r}) cannot be computed ({type(err).__name__}: {err}).",
                cure=f"There are: {', '.join(_made) or 'no configurations'}.",
            ) from err


def config_expr(expression: str) -> Any:
    """An expression over the flow's configurations, as an argument of a decorator: ``config_expr("settings.cpu")``."""
    return Delayed(expression)


def settled(value: Any) -> Any:
    """``value`` with all delayed expressions in it computed."""
    if isinstance(value, Delayed):
        return settled(value._value())
    if isinstance(value, Config):
        return settled(value.value)
    if isinstance(value, dict):
        return {settled(key): settled(each) for key, each in value.items()}
    return type(value)(settled(each) for each in value) if type(value) in (list, tuple) else value
