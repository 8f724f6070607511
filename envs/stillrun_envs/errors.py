"""Errors of environments, by who must act: the request, the index, the build, or whoever changed a prefix."""

from __future__ import annotations

from stillrun_snapshot.errors import StillrunError

__all__ = [
    "BuildError",
    "EnvDamaged",
    "EnvError",
    "FetchError",
    "InterpreterError",
    "LockError",
    "Offline",
    "RequestError",
    "ResolveError",
]


class EnvError(StillrunError):
    """An environment cannot be described, locked, kept or built."""


class RequestError(EnvError):
    """A decorator asks for something that has no meaning."""


class InterpreterError(EnvError):
    """No Python on this machine answers the request, or the one that does cannot be kept."""


class LockError(EnvError):
    """A lock is malformed, or cannot be made or used here."""


class ResolveError(EnvError):
    """No set of packages satisfies the request."""


class FetchError(EnvError):
    """An index, a channel or a package file is out of reach, or is not what was promised."""


class Offline(FetchError):
    """The network is needed but was ruled out."""


class BuildError(EnvError):
    """A prefix could not be built from kept packages."""


class EnvDamaged(EnvError):
    """A built prefix no longer holds what was built."""
