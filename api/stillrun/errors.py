"""What the face raises on purpose: each error says what was found and carries its cure."""

from __future__ import annotations

__all__ = [
    "ArtifactCorrupt",
    "ArtifactMissing",
    "ConfigReadOnly",
    "FlowError",
    "MergeConflict",
    "MissingInMerge",
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

    def __init__(self, message: str, *, cure: str | None = None) -> None:
        super().__init__(message)
        self.cure = cure

    def __str__(self) -> str:
        message = str(self.args[0])
        return f"{message} {self.cure}" if self.cure else message

    @property
    def what(self) -> str:
        """The message without its cure."""
        return str(self.args[0])


class FlowError(StillrunError):
    """The flow is written in a way that cannot run."""

    kind = "flow"


class ParameterError(StillrunError):
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
