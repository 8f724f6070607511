"""Where a run or a replay is called from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from pathlib import Path

from stillrun_engine.reads import ReadService
from stillrun_snapshot.deferred import dataclass

__all__ = ["Caller"]


@dataclass(frozen=True)
class Caller:
    """Where a run was called from: the interpreter of undecorated steps, the folder, the environment variables.

    forced: variables that tasks get whatever their environment says. wrapper: a command that runs their interpreters.
    umask: of the files that they make; what this process has when None. reads: answers what tasks ask of kept runs.
    """

    python: Path
    cwd: Path
    variables: Mapping[str, str]
    forced: Mapping[str, str] = field(default_factory=dict)
    wrapper: tuple[str, ...] = ()
    umask: int | None = None
    reads: ReadService | None = None

    @property
    def reads_descriptor(self) -> int | None:
        """What a host inherits of ``reads``."""
        return None if self.reads is None else self.reads.descriptor
