"""The client and the runner inside of a flow's process: loaded from the engine when they are used, where it is installed.

A step's own environment need not have the engine; then using them says so, and importing them does no harm.
"""

from __future__ import annotations

from stillrun import flow
from stillrun.errors import FlowError, StillrunError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    DataArtifact: Any
    Flow: Any
    Metaflow: Any
    NBRunner: Any
    Run: Any
    Runner: Any
    Step: Any
    Task: Any
    inspect_spin: Any
    namespace: Any

__all__ = ["InvalidPathspec", "NamespaceMismatch", "NotFound", "TaggingError", "restored"]

_CLIENT = frozenset(
    {"DataArtifact", "Flow", "Metaflow", "Run", "Step", "Task", "default_metadata", "default_namespace"}
    | {"get_metadata", "get_namespace", "inspect_spin", "metadata", "namespace"}
)
_RUNNER = frozenset({"ExecutingRun", "ExecutingTask", "NBRunner", "Runner"})
_ABSENT = {
    "Deployer": "production schedulers come later; until then run flows with Runner, from cron or from a scheduler of yours",
    "NBDeployer": "production schedulers come later; until then run flows with NBRunner",
    "S3": "read objects with boto3, obstore or fsspec in the step",
}


class NotFound(StillrunError, KeyError):
    """There is no such flow, run, step, task or artifact."""


class NamespaceMismatch(NotFound):
    """It is there, but not in the namespace that is looked at."""


class InvalidPathspec(StillrunError):
    """A pathspec has too few or too many parts."""


class TaggingError(StillrunError):
    """A tag cannot be given or taken off."""


def restored(kind: str, pathspec: str, of: str | None) -> Any:
    """An object of the client that was pickled. of: the namespace that it was found in."""
    return _engine(kind)._restored(pathspec, of)


class _Later:
    """Stands for a name of the engine until it is called."""

    def __init__(self, name: str) -> None:
        self.__name__ = self.__qualname__ = name

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return _engine(self.__name__)(*arguments, **named)

    def __repr__(self) -> str:
        return f"<{self.__name__} of the client>"


def _engine(name: str) -> Any:
    if name in _ABSENT:
        raise FlowError(f"{name} is not served by Stillrun: {_ABSENT[name]}.")
    if flow.is_library() and name in _CLIENT:
        from stillrun import remote

        if remote.is_served():
            return getattr(remote, name)
    home = "stillrun_engine.client" if name in _CLIENT else "stillrun_engine.runner"
    try:
        return getattr(__import__(home, fromlist=("_",)), name)
    except ImportError as err:
        raise FlowError(
            f"{name} needs Stillrun's engine, which this Python cannot import ({err}).",
            cure="Run the flow with a newer Stillrun, or use it in a step that runs where stillrun is installed.",
        ) from err


def __getattr__(name: str) -> Any:
    if name not in _CLIENT | _RUNNER | _ABSENT.keys():
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if flow.is_library():
        return _Later(name)  # in a task: nothing of the engine is loaded before it is used
    try:
        return _engine(name)  # the class itself, so that isinstance works
    except FlowError:
        return _Later(name)
