"""Values that stand for artifacts of earlier tasks when one step is run by itself: the ARTIFACTS of a Python file."""

from __future__ import annotations

from stillrun.errors import FlowError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from stillrun.taskstate import TaskState

__all__ = ["override"]


def override(flow: Any, state: TaskState, file: str) -> None:
    """Give ``flow``, or the inputs of a join, the values that ``file`` names. Raises FlowError when it names none."""
    import runpy

    try:
        values = runpy.run_path(file).get("ARTIFACTS")
    except Exception as err:  # a file of the user can fail in any way
        raise FlowError(f"the artifacts of {file} cannot be had ({type(err).__name__}: {err}).") from err
    if not isinstance(values, dict) or not all(isinstance(name, str) for name in values):
        raise FlowError(
            f"{file} has no dictionary ARTIFACTS of names and values.", cure='Write ARTIFACTS = {"name": value} in it.'
        )
    for name, value in values.items():
        if state.set_parameter(name, value):
            continue
        if state.joins:
            state.overridden[name] = value
        else:
            setattr(flow, name, value)
