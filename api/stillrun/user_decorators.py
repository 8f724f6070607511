"""Decorators that a flow writes itself: around the work of a step, or changing a step or a whole flow before it runs.

They stand on a step, or on the flow class, as any other; what they do belongs to the captured code.
"""

from __future__ import annotations

import inspect

from stillrun.decorators import STEP, line_of_user
from stillrun.errors import FlowError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

__all__ = [
    "MUTATORS",
    "OWN",
    "USER_SKIP_STEP",
    "FlowMutator",
    "OwnDecorator",
    "StepMutator",
    "UserStepDecorator",
    "own_decorator_named",
    "user_step_decorator",
]

OWN = "__stillrun_own__"  # list on a step: the flow's own decorators, the innermost first
MUTATORS = "__stillrun_mutators__"  # list on a flow class: its mutators, the innermost first
USER_SKIP_STEP: Mapping[str, Any] = {}
"""What a generator yields to leave the step out and go on as the step would."""

_known: dict[str, type[OwnDecorator]] = {}


class OwnDecorator:
    """What the flow's own decorators have in common: they are made with or without arguments, and meet ``init`` later.

    A subclass takes its arguments in ``init``, which is called when the configurations are known.
    """

    takes_positions = False
    name = ""
    line = 0

    def __init_subclass__(cls, **named: Any) -> None:
        super().__init_subclass__(**named)
        if "name" not in vars(cls):
            cls.name = cls.__name__
        _known[cls.name] = _known[f"{cls.__module__}.{cls.__qualname__}"] = cls

    def __new__(cls, *arguments: Any, **named: Any) -> Any:
        made = super().__new__(cls)
        if len(arguments) == 1 and not named and made.may_stand_on(arguments[0]):
            made.__init__()  # type: ignore[misc]  # written without parentheses: it stands on its step at once
            return made(arguments[0])
        return made

    def __init__(self, *arguments: Any, **named: Any) -> None:
        if arguments and not self.takes_positions:
            raise FlowError(f"@{self.name} takes named arguments only.", cure=f"Write @{self.name}(NAME=VALUE).")
        self._given: tuple[tuple[Any, ...], dict[str, Any]] = (arguments, named)
        self._is_ready = False
        self.line = line_of_user()

    def __call__(self, decorated: Any) -> Any:
        if not self.may_stand_on(decorated):
            raise FlowError(
                f"@{self.name} stands on {getattr(decorated, '__name__', repr(decorated))}, where it cannot.",
                cure=self.place,
            )
        where = self.where
        setattr(decorated, where, [*vars(decorated).get(where, ()), self])
        return decorated

    where = OWN
    place = "Put it above @step."

    def may_stand_on(self, target: Any) -> bool:
        """Whether ``target`` is a step."""
        return callable(target) and bool(getattr(target, STEP, False)) and not isinstance(target, type)

    def init(self, *arguments: Any, **named: Any) -> None:
        """Take the arguments; for subclasses to say."""

    def make_ready(self) -> None:
        """Call ``init`` with the arguments, expressions over configurations computed; once."""
        if self._is_ready:
            return
        self._is_ready = True
        arguments, named = self.given
        if (arguments or named) and type(self).init is OwnDecorator.init:
            raise FlowError(
                f"@{self.name} was given arguments and has no init().", cure="Write def init(self, **named)."
            )
        self.init(*arguments, **named)

    @property
    def given(self) -> tuple[list[Any], dict[str, Any]]:
        """What it was written with, expressions over configurations computed."""
        from stillrun.configs import settled

        arguments, named = self._given
        return [settled(each) for each in arguments], settled(named)


def own_decorator_named(name: str) -> type[OwnDecorator] | None:
    """The flow's own decorator of that name, or of that name with its module."""
    return _known.get(name)


class UserStepDecorator(OwnDecorator):
    """Does something before a step and after it, or instead of it."""

    skip_step: Any = False
    """True to leave the step out; a dict to go on with these arguments of self.next()."""

    def pre_step(self, step_name: str, flow: Any, inputs: Any = None) -> Any:
        """Before the step. A function that is returned is called instead of it, with the flow, and the inputs of a join."""

    def post_step(self, step_name: str, flow: Any, exception: BaseException | None = None) -> Any:  # noqa: ARG002
        """After the step, before its artifacts are kept.

        Returns the exception that is to go on (None: all is well), or a pair of it and the arguments of self.next()
        (an empty dict: as the step would; None: the step has called it).
        """
        return exception, None


class StepMutator(OwnDecorator):
    """Changes the decorators of its step before anything runs."""

    takes_positions = True

    def pre_mutate(self, mutable_step: Any) -> None:
        """Before decorators of the command line are added."""

    def mutate(self, mutable_step: Any) -> None:
        """After decorators of the command line were added."""


class FlowMutator(OwnDecorator):
    """Changes the parameters of its flow, and the decorators of the flow and its steps, before anything runs."""

    takes_positions = True
    where = MUTATORS
    place = "Put it on a class that derives from FlowSpec."

    def may_stand_on(self, target: Any) -> bool:
        """Whether ``target`` is a flow class."""
        from stillrun.flow import FlowSpec

        return isinstance(target, type) and issubclass(target, FlowSpec)

    def pre_mutate(self, mutable_flow: Any) -> None:
        """Before decorators of the command line are added; parameters can be added and removed here alone."""

    def mutate(self, mutable_flow: Any) -> None:
        """After decorators of the command line were added."""


def user_step_decorator(generator: Any = None, **_: Any) -> Any:
    """A decorator from a generator of ``step_name, flow, inputs`` and, for its arguments, ``attributes``.

    What stands before ``yield`` is done before the step, what follows after it; exceptions of the step come out of ``yield``.
    It may yield a function that is called instead of the step, USER_SKIP_STEP, or a dict of arguments for self.next().
    """
    if generator is None:
        return user_step_decorator
    if not inspect.isgeneratorfunction(generator):
        raise FlowError(
            f"@user_step_decorator stands on {getattr(generator, '__name__', generator)!r}, which is no generator.",
            cure="Write a function with one 'yield' in it, which stands for the step.",
        )
    count = len(inspect.signature(generator).parameters)
    if count not in (3, 4):
        raise FlowError(
            f"{generator.__name__}() takes {count} arguments.",
            cure="Take step_name, flow, inputs, and attributes where the decorator has arguments.",
        )
    members = {"generator": staticmethod(generator), "takes_attributes": count == 4, "name": generator.__name__}
    members.update(__module__=generator.__module__, __qualname__=generator.__qualname__, __doc__=generator.__doc__)
    return type(generator.__name__, (_Generated,), members)


class _Generated(UserStepDecorator):
    """A decorator whose work is a generator's."""

    generator: Any = None
    takes_attributes = False

    def init(self, **named: Any) -> None:
        """Keep the arguments for the generator."""
        if named and not self.takes_attributes:
            raise FlowError(
                f"@{self.name} takes no arguments.", cure=f"Let {self.name}() take a fourth argument, 'attributes'."
            )
        self._attributes = named

    def pre_step(self, step_name: str, flow: Any, inputs: Any = None) -> Any:
        """What comes before the yield."""
        more = (self._attributes,) if self.takes_attributes else ()
        self._running = self.generator(step_name, flow, inputs, *more)
        self.skip_step = False
        try:
            told = next(self._running)
        except StopIteration:  # it yields nothing: the step is left out
            self._running, self.skip_step = None, True
            return None
        if isinstance(told, dict):
            self.skip_step = told or True
            return None
        return told

    def post_step(self, step_name: str, flow: Any, exception: BaseException | None = None) -> Any:  # noqa: ARG002
        """What comes after the yield."""
        if self._running is None:
            return exception, None
        try:
            self._running.send(None) if exception is None else self._running.throw(exception)
        except StopIteration as done:
            return done.value if isinstance(done.value, tuple) else (None, None)
        raise FlowError(f"@{self.name} yields more than once.", cure="Yield once: it stands for the step.")
