"""Parameters of a flow: declared in the class, turned from text into values once per run."""

from __future__ import annotations

from stillrun.decorators import line_of_user
from stillrun.errors import ParameterError, ReadOnly

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

__all__ = ["IncludeFile", "JSONType", "Parameter", "ParameterContext", "values_of"]


class _Unset:
    def __repr__(self) -> str:
        return "<not given>"


UNSET = _Unset()
_TRUE = ("1", "true", "yes", "on", "t", "y")
_FALSE = ("0", "false", "no", "off", "f", "n")


class JSONType:
    """The type of a parameter that is given as JSON text: ``Parameter("grid", type=JSONType)``."""

    def __new__(cls, text: str) -> Any:
        import json

        return json.loads(text)


class ParameterContext:
    """What a default that is a function of one argument is given."""

    def __init__(self, flow_name: str, parameter_name: str, user_name: str | None) -> None:
        self.flow_name = flow_name
        self.parameter_name = parameter_name
        self.user_name = user_name


class Parameter:
    """A value that is chosen when a run starts and is the same in all of its steps.

    name: how it is given, ``--name VALUE`` or the environment's STILLRUN_RUN_NAME.
    default: used when none is given; a function is called once, when the run starts.
    type: int, float, str, bool, JSONType, or any function from text to a value; taken from the default if not given.
    required: refuse to start without a value. help: one line for ``--help``. separator: cuts a text into a list.
    """

    def __init__(
        self,
        name: str,
        default: Any = UNSET,
        type: Callable[[str], Any] | None = None,  # noqa: A002  # the word that flows use
        required: bool = False,
        help: str | None = None,  # noqa: A002  # the word that flows use
        show_default: bool | None = None,
        separator: str | None = None,
        **other: Any,
    ) -> None:
        if other:
            raise ParameterError(
                f"{self.__class__.__name__} {name!r} has no argument {sorted(other)[0]!r}.",
                cure="It takes: name, default, type, required, help, separator, show_default.",
            )
        if separator is not None and type not in (None, str):
            raise ParameterError(f"Parameter {name!r}: a separator cuts text, and its type is not str.")
        if isinstance(type, str) and type.upper() == "JSON":
            type = JSONType  # noqa: A001  # the word that flows use
        self.separator = separator
        self.show_default = show_default
        self.name = self.attribute = name
        self.default = default
        self.type = type if type is not None else _type_of(default)
        self.required = bool(required)
        self.help = help
        self.line = line_of_user()

    @property
    def has_default(self) -> bool:
        """True when a default was given, None included."""
        return self.default is not UNSET

    @property
    def type_name(self) -> str:
        """The type in a word: int, float, str, bool, JSON, or the name of the function."""
        if self.type is JSONType:
            return "JSON"
        return str(getattr(self.type, "__name__", None) or type(self.type).__name__)

    def __get__(self, flow: Any, owner: object = None) -> Any:
        state = None if flow is None else flow._stillrun
        return self if state is None else state.parameter(self.attribute)

    def __set_name__(self, owner: object, attribute: str) -> None:
        self.attribute = attribute

    def __set__(self, flow: Any, value: Any) -> None:
        raise ReadOnly(
            f"parameter {self.name!r} is the same in all steps of a run and cannot be assigned to.",
            cure=f"Keep the new value under another name, such as self.{self.attribute}_here.",
        )

    def __delete__(self, flow: Any) -> None:
        raise ReadOnly(f"parameter {self.name!r} is the same in all steps of a run and cannot be deleted.")

    def __repr__(self) -> str:
        return f"Parameter({self.name!r})"

    def value_of(self, text: str | None, context: ParameterContext) -> Any:
        """The value for a text that was given, or for none. Raises ParameterError."""
        if text is not None:
            return self._cut(self._convert(text, "the value"))
        if not self.has_default or self.default is None:
            if self.required:
                raise ParameterError(
                    f"parameter {self.name!r} ({self.type_name}) is required and was not given.",
                    cure=f"Give it with --{self.name} VALUE or with STILLRUN_RUN_{self.name.upper().replace('-', '_')}.",
                )
            return None
        return self._cut(self._default_value(context))

    def _cut(self, value: Any) -> Any:
        """A list, where a separator cuts the text."""
        return value.split(self.separator) if self.separator is not None and isinstance(value, str) else value

    def _default_value(self, context: ParameterContext) -> Any:
        value = self.default
        if callable(value) and not isinstance(value, type):
            value = _call_default(self.name, value, context)
        if isinstance(value, str) and self.type is not str:
            return self._convert(value, "the default")
        if self.type is float and type(value) is int:
            return float(value)
        if self.type in (int, float, str, bool) and type(value) is not self.type and value is not None:
            raise self._wrong(value, "the default")
        return value

    def _convert(self, text: str, what: str) -> Any:
        try:
            if self.type is bool:
                return _truth(text)
            assert self.type is not None
            return self.type(text)
        except (Exception, SystemExit) as err:  # a user's type may raise anything; all of it means: wrong value
            raise self._wrong(text, what, err) from err

    def _wrong(self, value: object, what: str, err: BaseException | None = None) -> ParameterError:
        plain = self.type in (int, float, str, bool)
        reason = f" ({type(err).__name__}: {err})" if err is not None and not plain else ""
        return ParameterError(
            f"parameter {self.name!r}: {what} {value!r} is not of type {self.type_name}{reason}.",
            cure=_CURES.get(self.type_name, f"Give what {self.type_name} accepts."),
        )


class IncludeFile(Parameter):
    """A file whose content goes with the run: ``IncludeFile("data", default="data.csv")``; ``self.data`` is its text.

    is_text: False for bytes. encoding: of the text. default: a path, or a function that gives one.
    """

    def __init__(self, name: str, is_text: bool = True, encoding: str | None = None, **other: Any) -> None:
        super().__init__(name, **other)
        self.is_text, self.encoding = is_text, encoding or "utf-8"
        self.type = str
        self.line = line_of_user()

    @property
    def type_name(self) -> str:
        """A file's path, to whoever gives it."""
        return "FILE"

    def value_of(self, text: str | None, context: ParameterContext) -> Any:
        """The content of the file that was given, or of the default."""
        path = super().value_of(text, context)
        if path is None:
            return None
        try:
            with open(path, "rb") as file:
                data = file.read()
            return data.decode(self.encoding) if self.is_text else data
        except OSError as err:
            what = f"{path} cannot be read ({err.strerror})"
        except (UnicodeDecodeError, LookupError) as err:
            what = f"{path} is no text in {self.encoding} ({err})"
        raise ParameterError(
            f"file {self.name!r}: {what}.", cure=f"Give a file with --{self.name} PATH, or is_text=False for bytes."
        )


_CURES = {
    "int": "Give a whole number, such as 7.",
    "float": "Give a number, such as 0.5.",
    "bool": "Give true or false.",
    "str": "Give text.",
    "JSON": 'Give JSON, such as {"a": 1} or [1, 2], quoted for the shell.',
}


def values_of(
    parameters: Mapping[str, Parameter], given: Mapping[str, str], flow: str, user: str | None
) -> dict[str, Any]:
    """The values of all parameters of a flow, by their names in the class. Raises ParameterError for the first that is wrong.

    parameters, given: by the name that is typed; of those given, the name in the class will do.
    """
    from stillrun.nearest import did_you_mean, listed

    known = {**{each.attribute: each for each in parameters.values()}, **parameters}
    texts = {known[name].attribute: text for name, text in given.items() if name in known}
    for name in given:
        if name not in known:
            raise ParameterError(
                f"flow {flow} has no parameter {name!r}.",
                cure=did_you_mean(name, parameters) or f"It has: {listed(parameters, 'none')}.",
            )
    return {
        each.attribute: each.value_of(texts.get(each.attribute), ParameterContext(flow, name, user))
        for name, each in parameters.items()
    }


def _type_of(default: Any) -> Callable[[str], Any]:
    if isinstance(default, bool):
        return bool
    for plain in (int, float):
        if isinstance(default, plain):
            return plain
    return JSONType if isinstance(default, (list, dict)) else str


def _truth(text: str) -> bool:
    word = text.strip().lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise ValueError(text)


def _call_default(name: str, function: Any, context: ParameterContext) -> Any:
    import inspect

    try:
        wants_context = bool(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        wants_context = False
    try:
        return function(context) if wants_context else function()
    except (Exception, SystemExit) as err:
        raise ParameterError(
            f"parameter {name!r}: its default could not be computed ({type(err).__name__}: {err}).",
            cure=f"Mend the function, or give a value with --{name}.",
        ) from err
