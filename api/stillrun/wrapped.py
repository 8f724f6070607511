"""A step with the flow's own decorators around it."""

from __future__ import annotations

import sys

from stillrun.errors import FlowError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from stillrun.graph import Node
    from stillrun.user_decorators import UserStepDecorator

__all__ = ["call_step"]


def call_step(flow: Any, step: str, arguments: Sequence[Any]) -> None:
    """Run a step, with what its own decorators do before it, after it and instead of it."""
    own: Any = sys.modules.get("stillrun.user_decorators")  # nobody has any who has not loaded it
    held = () if own is None else getattr(getattr(type(flow), step), own.OWN, ())
    around = [each for each in held if isinstance(each, own.UserStepDecorator)]
    if around:
        _call_within(flow, step, arguments, around[::-1])
    else:
        getattr(flow, step)(*arguments)


def _call_within(flow: Any, step: str, arguments: Sequence[Any], around: Sequence[UserStepDecorator]) -> None:
    """around: the outermost first."""
    inputs = arguments[0] if arguments else None
    entered, onward, instead, failure = [], None, None, None
    for each in around:
        each.make_ready()
        instead = each.pre_step(step, flow, inputs)
        entered.append(each)
        onward = each.skip_step or None
        if onward is not None or instead is not None:
            break
    if onward is None:
        try:
            onward = (getattr(flow, step) if instead is None else _bound(instead, flow))(*arguments) or None
        except Exception as err:  # a decorator may let it pass
            failure = err
        if instead is None:
            onward = None  # what a step returns means nothing
    failed = failure is not None
    for each in entered[::-1]:
        failure, onward = _after(each, flow, step, failure, onward)
    if failure is not None:
        raise failure
    if onward is not None or failed:
        _go_on(flow, step, onward)


def _bound(function: Any, flow: Any) -> Any:
    if not callable(function):
        raise FlowError(
            f"a decorator's pre_step gave {function!r} instead of a step.",
            cure="Return None, or a function of the flow.",
        )
    return lambda *arguments: function(flow, *arguments)


def _after(decorator: UserStepDecorator, flow: Any, step: str, failure: Any, onward: Any) -> tuple[Any, Any]:
    """What a decorator makes of the failure and of the way on."""
    try:
        told = decorator.post_step(step, flow, failure)
    except FlowError:
        raise
    except Exception as err:
        return err, onward
    if told is None or isinstance(told, BaseException):
        return told, onward
    if isinstance(told, tuple) and len(told) == 2:
        # None says nothing of the way on: what an inner decorator or a replaced step said stays
        return told[0], onward if told[1] is None or told[1] is False else told[1]
    raise FlowError(
        f"@{decorator.name}: post_step gave {told!r}.",
        cure="Return None, an exception, or a pair of one of them and a dict for self.next().",
    )


def _go_on(flow: Any, step: str, onward: Any) -> None:
    """Call self.next() as the step would have, or with the arguments that were given."""
    from stillrun.graph import graph_of

    state = flow._stillrun
    node = graph_of(type(flow)).nodes[step]
    if state.last or (state.next is not None and onward is None):
        return
    state.next = None
    if not isinstance(onward, dict) and onward not in (None, True):
        raise FlowError(
            f"step {step!r} was to go on with {onward!r}.", cure="Give True, or a dict of arguments for self.next()."
        )
    given = dict(onward) if isinstance(onward, dict) else {}
    state.go_on(flow, [getattr(flow, name) for name in _following(flow, node)], *_words(node, given))


def _following(flow: Any, node: Node) -> list[str]:
    """The steps that a step goes on to; of a switch the one whose case its artifact names."""
    if node.switch is None or node.condition is None:
        return node.next
    value = getattr(flow, node.condition)
    if str(value) not in node.switch:
        raise FlowError(
            f"step {node.name!r} was left out, and self.{node.condition} is {value!r}, for which it has no case.",
            cure=f"Set it in the decorator to one of: {', '.join(node.switch)}.",
        )
    return [node.switch[str(value)]]


def _words(node: Node, given: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """``foreach`` and the other arguments of self.next()."""
    foreach = given.pop("foreach", None if given else node.foreach)
    if node.parallel and "num_parallel" not in given:
        raise FlowError(
            f"step {node.name!r}, which was left out, goes on to several tasks, and it is not said to how many.",
            cure="Yield {'num_parallel': N}.",
        )
    return foreach, given
