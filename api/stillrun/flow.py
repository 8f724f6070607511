"""FlowSpec: the class that a flow derives from."""

from __future__ import annotations

import sys

from stillrun.decorators import STEP
from stillrun.errors import ArtifactMissing, NextError, ReadOnly

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    from stillrun.joined import Inputs
    from stillrun.taskstate import TaskState

__all__ = ["FlowSpec", "is_library", "run_as_library"]

_COMMAND = "import sys; del sys.path[0]; from stillrun_cli.main import main; main()"
"""Not -m, which would put the working directory, and a user's json.py in it, before the standard library."""


_as_library = False


def run_as_library() -> None:
    """From now on, making an instance of a flow does nothing: this process was told what to do with it."""
    global _as_library
    _as_library = True


def is_library() -> bool:
    """Whether this process was told what to do with the flows that it imports."""
    return _as_library


class FlowSpec:
    """A flow: methods marked with ``@step``, from ``start`` to ``end``.

    What a step keeps on ``self`` is an artifact: it is recorded, and the steps after it can read it.
    Those whose names begin with an underscore are kept where they can be, and not judged.
    Parameters and class constants cannot be assigned to.
    """

    _stillrun: TaskState | None = None

    def __init__(self, use_cli: bool = True) -> None:
        if use_cli and not _as_library:
            _hand_over(type(self))

    def __iter__(self) -> Iterator[Any]:
        """The steps, as methods, in the order of definition."""
        from stillrun.graph import steps_of

        return iter([getattr(self, name) for name in steps_of(type(self))])

    # -- what a step calls -----------------------------------------------------------------

    def next(self, *steps: Any, foreach: str | None = None, **other: Any) -> None:
        """Say which step comes next; the last thing that a step does.

        ``self.next(self.a)`` goes on with a. ``self.next(self.a, self.b)`` runs both, and a step that takes
        ``inputs`` joins them. ``self.next(self.a, foreach="items")`` runs a once for each item of ``self.items``.
        """
        state = self._stillrun
        if state is None:
            raise NextError("self.next() was called outside a task.")
        state.go_on(self, steps, foreach, other)

    @property
    def input(self) -> Any:
        """The item of the innermost foreach that this task is for; None outside a foreach."""
        state = self._stillrun
        return None if state is None or not state.foreach else state.item(self, -1)

    @property
    def index(self) -> int | None:
        """The position of this task in the innermost foreach; None outside a foreach."""
        state = self._stillrun
        return None if state is None or not state.foreach else int(state.foreach[-1]["index"])

    def foreach_stack(self) -> list[tuple[int, int, Any]]:
        """For each foreach around this task, outermost first: index, number of tasks, item."""
        state = self._stillrun
        if state is None:
            return []
        return [(each["index"], each["count"], state.item(self, depth)) for depth, each in enumerate(state.foreach)]

    def merge_artifacts(
        self, inputs: Inputs, include: Iterable[str] | None = None, exclude: Iterable[str] | None = None
    ) -> None:
        """In a join, take over the artifacts on which all branches that have them agree.

        Those that this step has set already are left alone. include: only these; exclude: all but these.
        Raises MergeConflict, and takes over nothing, when branches disagree or a name of ``include`` is nowhere.
        """
        from stillrun.joined import merge

        merge(self, inputs, include, exclude)

    # -- artifacts -------------------------------------------------------------------------

    def __getattr__(self, name: str) -> Any:
        # called only when neither the instance nor the class has the name
        state = self._stillrun
        if name in _FALLBACKS and (state is None or not state.knows(name)):
            return _FALLBACKS[name](type(self))
        if state is None or (name[:1] == "_" and name not in state.inherited):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return state.read(self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if self._stillrun is not None and name[:1] != "_":
            _refuse_fixed(type(self), name)
        object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        state = self._stillrun
        inherited = state is not None and state.forget(name)
        if name in self.__dict__ or not inherited:
            _delete_own(self, name)


def _script_name(flow: type) -> str:
    import os

    return os.path.basename(getattr(sys.modules.get(flow.__module__), "__file__", None) or "interactive")


_FALLBACKS: dict[str, Callable[[type], str]] = {"name": lambda flow: flow.__name__, "script_name": _script_name}
"""What a flow answers to where no artifact has the name: the flow's name, and its file's."""


def _delete_own(flow: FlowSpec, name: str) -> None:
    try:
        object.__delattr__(flow, name)
    except ReadOnly:
        raise
    except AttributeError as err:
        raise ArtifactMissing(f"there is no artifact {name!r} to delete.") from err


_ABSENT = object()


def _refuse_fixed(flow: type, name: str) -> None:
    held = getattr(flow, name, _ABSENT)
    if hasattr(FlowSpec, name):
        what = "a name of FlowSpec itself"
    elif held is _ABSENT or hasattr(type(held), "__set__"):
        return  # nothing there, or something that knows itself what to do: a Parameter, a user's property
    elif getattr(held, STEP, False):
        what = "a step of this flow"
    elif callable(held):
        what = "a method of this flow"
    else:
        what = "a constant of this flow"
    raise ReadOnly(f"self.{name} cannot be assigned to: it is {what}.", cure="Give the artifact another name.")


def _hand_over(flow: type) -> None:
    """Replace this process by the command, which runs the flow from its file."""
    import importlib.util
    import os

    file = getattr(sys.modules.get(flow.__module__), "__file__", None)
    if file is None:
        _refuse(f"{flow.__name__} is not in a file, and a run keeps the file.", "Write it to a file and run that.")
    if importlib.util.find_spec("stillrun_cli") is None:
        _refuse(
            f"the stillrun command is not installed for {sys.executable}, which runs this flow.",
            f"Install it there with '{sys.executable} -m pip install stillrun' (Python 3.10 or newer), "
            f"or run 'stillrun run {file}' from where it is installed.",
        )
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    command = [sys.executable, "-c", _COMMAND, "flow", "--file", os.path.abspath(str(file))]
    os.execv(sys.executable, [*command, "--class", flow.__qualname__, *sys.argv[1:]])  # noqa: S606  # no shell


def _refuse(what: str, cure: str) -> None:
    sys.stderr.write(f"stillrun: {what} {cure}\n")
    raise SystemExit(2)
