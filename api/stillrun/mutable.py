"""A flow and its steps as the flow's own mutators see them: parameters and decorators can be looked at and changed."""

from __future__ import annotations

from stillrun.configs import Config
from stillrun.decorators import ASKED
from stillrun.errors import FlowError, StillrunError
from stillrun.flow import FlowSpec
from stillrun.parameters import Parameter
from stillrun.user_decorators import MUTATORS, OWN, FlowMutator, OwnDecorator, StepMutator, own_decorator_named

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

    Spec = tuple[str, str, list[Any], dict[str, Any]]

__all__ = ["MutableFlow", "MutableStep", "mutate", "pre_mutate"]

_MAY_REPEAT = frozenset({"card", "exit_hook", "secrets", "trigger", "trigger_on_finish"})


class _Decorated:
    """What a flow and a step have in common here: decorators."""

    IGNORE, ERROR, OVERRIDE = 1, 2, 3
    _owner: Any
    _early: bool
    _place = OWN

    @property
    def decorator_specs(self) -> Iterator[Spec]:
        """Of each decorator its name, its name with its module, and what it was written with."""
        for each in self._asked():
            yield each["name"], f"stillrun.{each['name']}", *each.given
        for own in self._own():
            yield own.name, f"{type(own).__module__}.{type(own).__qualname__}", *own.given

    def has_decorator(self, name: str) -> bool:
        """Whether there is a decorator of that name."""
        return bool(self.get_decorator_specs(name))

    def get_decorator_specs(self, name: str) -> list[Spec]:
        """All decorators of that name, as ``decorator_specs`` gives them."""
        return [each for each in self.decorator_specs if name == each[1 if "." in name else 0]]

    def add_decorator(
        self,
        deco_type: Any,
        deco_args: Sequence[Any] | None = None,
        deco_kwargs: Mapping[str, Any] | None = None,
        duplicates: int = 1,
    ) -> Any:
        """Put a decorator on it: ``add_decorator("retry:times=2")``, or its name or itself with its arguments.

        duplicates: what becomes of one of its kind that is there: IGNORE leaves it, OVERRIDE takes it off, ERROR refuses.
        """
        arguments, named = list(deco_args or ()), dict(deco_kwargs or {})
        name, decorator = self._decorator(deco_type, arguments, named)
        if self.has_decorator(name) and name not in _MAY_REPEAT:
            if duplicates == self.IGNORE:
                return None
            if duplicates == self.ERROR:
                raise FlowError(f"@{name} stands on {self._owner.__name__} already.", cure="Use duplicates=OVERRIDE.")
            self.remove_decorator(name)
        if isinstance(decorator, OwnDecorator):
            self._refuse_late(decorator)
            decorator.make_ready()
        decorator(self._owner)
        return decorator

    def remove_decorator(
        self, deco_name: str, deco_args: Sequence[Any] | None = None, deco_kwargs: Mapping[str, Any] | None = None
    ) -> bool:
        """Take a decorator off, or, with arguments, the one that was written with these; whether there was one."""
        every = deco_args is None and deco_kwargs is None
        wanted = (list(deco_args or ()), dict(deco_kwargs or {}))

        def is_meant(name: str, given: Any) -> bool:
            return name == deco_name and (every or (list(given[0]), dict(given[1])) == wanted)

        asked, own = self._asked(), self._own()
        gone = [each for each in own if is_meant(each.name, each.given)]
        for each in gone:
            self._refuse_late(each)
        left = [each for each in asked if not is_meant(each["name"], each.given)]
        setattr(self._owner, ASKED, left)
        setattr(self._owner, self._place, [each for each in own if each not in gone])
        return len(left) < len(asked) or bool(gone)

    def _asked(self) -> list[Any]:
        return list(getattr(self._owner, ASKED, ()))

    def _own(self) -> list[OwnDecorator]:
        return list(getattr(self._owner, self._place, ()))

    def _refuse_late(self, decorator: OwnDecorator) -> None:
        if not self._early and isinstance(decorator, (StepMutator, FlowMutator)):
            raise FlowError(
                f"@{decorator.name} changes steps or flows, and cannot be added or removed in mutate().",
                cure="Do it in pre_mutate().",
            )

    def _decorator(self, told: Any, arguments: list[Any], named: dict[str, Any]) -> tuple[str, Any]:
        """The name of a decorator and the decorator, from what add_decorator was given."""
        if isinstance(told, str) and ":" in told and (arguments or named):
            raise FlowError(f"add_decorator({told!r}) has arguments in its text and beside it.", cure="Give them once.")
        own = own_decorator_named(told.partition(":")[0]) if isinstance(told, str) else told
        if isinstance(own, type) and issubclass(own, OwnDecorator):
            if isinstance(told, str) and ":" in told:
                from stillrun.typed import typed_arguments

                named = typed_arguments(told)[1]
            return own.name, own(*arguments, **named)
        if arguments:
            raise FlowError(f"add_decorator({told!r}): it takes named arguments only.", cure="Give deco_kwargs.")
        name = told if isinstance(told, str) else getattr(told, "__name__", repr(told))
        return _built_in(name, named, on_flow=isinstance(self._owner, type))


def _built_in(text: str, named: Mapping[str, Any], *, on_flow: bool) -> tuple[str, Any]:
    from stillrun.typed import typed_arguments, typed_decorator

    name, typed = typed_arguments(text)
    return name, typed_decorator(name, on_flow=on_flow, named={**typed, **named})[1]


class MutableStep(_Decorated):
    """One step."""

    def __init__(self, flow: MutableFlow, function: Any) -> None:
        self.flow = flow
        self.name: str = function.__name__
        self._owner, self._early = function, flow._early


class MutableFlow(_Decorated):
    """The flow that is about to run. Its steps, parameters and configurations are attributes, too."""

    _place = MUTATORS

    def __init__(self, flow: type[FlowSpec], early: bool) -> None:
        self._owner, self._early = flow, early

    @property
    def steps(self) -> Iterator[tuple[str, MutableStep]]:
        """Names and steps."""
        from stillrun.graph import steps_of

        for name, function in steps_of(self._owner).items():
            yield name, MutableStep(self, function)

    @property
    def parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Names in the class and parameters."""
        for name, each in _held(self._owner):
            if not isinstance(each, Config):
                yield name, each

    @property
    def configs(self) -> Iterator[tuple[str, Any]]:
        """Names in the class and values of the configurations."""
        for name, each in _held(self._owner):
            if isinstance(each, Config):
                yield name, each.value

    def add_parameter(self, name: str, value: Parameter, overwrite: bool = False) -> None:
        """One more parameter, as ``self.NAME`` in steps."""
        self._refuse_parameters()
        if not isinstance(value, Parameter) or isinstance(value, Config):
            raise FlowError(f"add_parameter({name!r}) was given a {type(value).__name__}.", cure="Give a Parameter.")
        if hasattr(self._owner, name) and not overwrite:
            raise FlowError(
                f"{self._owner.__name__} has a {name!r} already.", cure="Give overwrite=True to replace it."
            )
        setattr(self._owner, name, value)

    def remove_parameter(self, parameter_name: str) -> bool:
        """Take the parameter of that name away; whether there was one."""
        self._refuse_parameters()
        for attribute, each in list(self.parameters):
            if each.name == parameter_name:
                owner = next(one for one in self._owner.__mro__ if attribute in vars(one))
                delattr(owner, attribute)
                return True
        return False

    def _refuse_parameters(self) -> None:
        if not self._early:
            raise FlowError("parameters cannot be added or removed in mutate().", cure="Do it in pre_mutate().")

    def __getattr__(self, name: str) -> Any:
        found = {**dict(self.steps), **dict(self.parameters), **dict(self.configs)} if name[:1] != "_" else {}
        if name not in found:
            raise AttributeError(f"flow {self._owner.__name__} has no step, parameter or configuration {name!r}")
        return found[name]


def _held(flow: type) -> list[tuple[str, Parameter]]:
    from stillrun.description import held_parameters

    return held_parameters(flow)


def pre_mutate(flow: Any) -> None:
    """Let the flow's own mutators change it before decorators of the command line are added. Raises StillrunError."""
    for each in _mutators(flow):
        each.make_ready()
        _told(each, each.pre_mutate, MutableFlow(flow, early=True))
    for step in dict(MutableFlow(flow, early=True).steps).values():
        for own in step._own():
            own.make_ready()
            if isinstance(own, StepMutator):
                _told(own, own.pre_mutate, step)


def mutate(flow: Any) -> None:
    """Let them change it after that. Raises StillrunError."""
    for each in _mutators(flow):
        _told(each, each.mutate, MutableFlow(flow, early=False))
    for step in dict(MutableFlow(flow, early=False).steps).values():
        for own in step._own():
            if isinstance(own, StepMutator):
                _told(own, own.mutate, step)


def _mutators(flow: type) -> list[FlowMutator]:
    """Those of its bases first, each from the bottom up."""
    return [each for owner in reversed(flow.__mro__) for each in vars(owner).get(MUTATORS, ())]


def _told(decorator: OwnDecorator, call: Any, subject: Any) -> None:
    """Say whose failure it is."""
    try:
        call(subject)
    except StillrunError as err:
        raise FlowError(f"@{decorator.name} on line {decorator.line}: {err.what}", cure=err.cure) from err
