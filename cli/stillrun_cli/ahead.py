"""A step host for a command that is about to want one, started before the command line is even read.

A host takes as long to start as all of us together. What it needs is known early in most cases: the active interpreter, and
the face, which is as it was at the last run when no file of it has changed. Where a guess was wrong, the host is let go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from stillrun_engine.caller import Caller
    from stillrun_engine.launching import EarlyHost

__all__ = ["begin", "taken"]

_RUNS = ("run", "resume")
_OTHERWISE = ("--python", "--store", "--namespace", "--help", "-h")
"""Options with which another host is wanted, or none."""

_early: tuple[Caller, EarlyHost] | None = None


def begin(arguments: Sequence[str]) -> None:
    """Start a host when the command will want one and it is known which; never raises."""
    global _early
    if not _wants_host(arguments):
        return
    from stillrun_cli.here import caller_here
    from stillrun_engine.launching import early_host
    from stillrun_engine.reads import ReadService
    from stillrun_engine.store_place import default_store

    try:
        root = default_store()
        called = caller_here(reads=ReadService(root))
        host = early_host(root, called)
    except OSError:  # the command itself will say what is wrong
        return
    _early = None if host is None else (called, host)


def taken(root: Path) -> tuple[Caller, EarlyHost] | None:
    """The caller and the host that were begun for the store at ``root``; None when there are none. Close what is taken."""
    global _early
    found, _early = _early, None
    if found is not None and found[1].store != root:
        found[1].process.close()
        return None
    return found


def _wants_host(arguments: Sequence[str]) -> bool:
    if not arguments or any(word.split("=", 1)[0] in _OTHERWISE for word in arguments):
        return False
    return arguments[0] in _RUNS or (arguments[0] == "flow" and any(word in _RUNS for word in arguments[1:]))
