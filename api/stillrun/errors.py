"""What the face raises on purpose: each error says what was found and carries its cure."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = [
    "ArtifactCorrupt",
    "ArtifactMissing",
    "ConfigReadOnly",
    "FlowError",
    "MergeConflict",
    "MissingInMerge",
    "Mistake",
    "NetworkRefused",
    "NextError",
    "NotPicklable",
    "ParameterError",
    "ReadOnly",
    "SpillError",
    "StepTimeout",
    "StillrunError",
]


class StillrunError(Exception):
    """The root of everything that stillrun raises on purpose in a flow.

    cure: what to do about it, or None. kind: the word for it in the host protocol.
    """

    kind = "user"

    headline = "Flow failed"
    cure: str | None = None

    def __init__(self, message: str = "", lineno: int | None = None, *, cure: str | None = None) -> None:
        super().__init__(message)
        self.cure, self.line_no = cure, lineno

    def __str__(self) -> str:
        return f"{self.what} {self.cure}" if self.cure else self.what

    @property
    def message(self) -> str:
        """The message, as flows written for Metaflow ask for it."""
        return self.what

    @property
    def what(self) -> str:
        """The message without its cure."""
        return str(self.args[0]) if self.args else ""


class Mistake(StillrunError):
    """Something in the flow file is written wrongly. Where it ends `python flow.py`, one sentence is told and no traceback."""

    def __init__(self, message: str = "", lineno: int | None = None, *, cure: str | None = None) -> None:
        super().__init__(message, lineno, cure=cure)
        if sys.excepthook is sys.__excepthook__ and sys.argv[:1] != [""]:
            sys.excepthook = _told_plainly


def _told_plainly(kind: Any, err: Any, trail: Any) -> None:
    """Instead of a traceback: where the user's file has it, what it is, and the cure."""
    if not isinstance(err, Mistake):
        sys.__excepthook__(kind, err, trail)
        return
    own = os.path.dirname(os.path.abspath(__file__)) + os.sep
    place = ""
    while trail is not None:
        file = trail.tb_frame.f_code.co_filename
        if not file.startswith((own, "<frozen")):
            place = f"{file}:{trail.tb_lineno}: "
        trail = trail.tb_next
    sys.stderr.write(f"stillrun: {place}{err}\n")
    raise SystemExit(2)


class FlowError(Mistake):
    """The flow is written in a way that cannot run."""

    kind = "flow"


class ParameterError(Mistake):
    """A parameter's value is unknown, missing or of the wrong type."""

    kind = "parameter"


class NextError(StillrunError):
    """A step ended without saying what comes next, or said it wrongly."""

    kind = "next"


class NotPicklable(StillrunError):
    """An artifact cannot be kept."""

    kind = "not_picklable"

    def __init__(self, message: str, *, artifact: str, cure: str | None = None) -> None:
        super().__init__(message, cure=cure)
        self.artifact = artifact


class ArtifactCorrupt(StillrunError):
    """Kept bytes no longer match the digest that names them."""

    kind = "corrupt"

    def __init__(self, message: str, *, digest: str, cure: str | None = None) -> None:
        super().__init__(message, cure=cure)
        self.digest = digest


class SpillError(StillrunError):
    """An artifact could not be written to the folder that it was to be written to."""

    kind = "storage"


class StepTimeout(StillrunError):
    """A step ran longer than its @timeout allows."""


class NetworkRefused(StillrunError, ConnectionError):
    """A step used the network in a replay that has none."""

    def __init__(self, message: str, *, cure: str | None = None) -> None:
        super().__init__(message, cure=cure)
        self.errno, self.strerror = 101, message  # ENETUNREACH; libraries wrap these two into errors of their own


class MergeConflict(StillrunError):
    """Branches hold different values of an artifact that was to be merged, or none holds it."""

    def __init__(self, message: str, *, cure: str | None = None, artifact_names: list[str] | None = None) -> None:
        super().__init__(message, cure=cure)
        self.artifact_names = artifact_names or []


class MissingInMerge(MergeConflict):
    """No branch holds an artifact that was to be merged."""


class ArtifactMissing(StillrunError, AttributeError):
    """An artifact was read that no step before has set."""


class ReadOnly(StillrunError, AttributeError):
    """A parameter, a constant or a step was assigned to."""


class ConfigReadOnly(ReadOnly, TypeError):
    """A configuration was changed."""
