"""A step host in the caller's environment, started before anything else is known: it warms up while the engine does."""

from __future__ import annotations

from pathlib import Path

from stillrun_engine.caller import Caller
from stillrun_engine.face import keep_face
from stillrun_engine.host_process import HostProcess, Launch, settled
from stillrun_snapshot.checkout import checkout
from stillrun_snapshot.deferred import dataclass
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.store import Store

__all__ = ["WarmHost", "launch_ambient", "warm_host"]


@dataclass(frozen=True)
class WarmHost:
    """A started host that knows no flow yet, and the face it runs. Whoever takes ``process`` closes it."""

    face: Digest
    folder: Path
    launch: Launch
    process: HostProcess


def warm_host(store: Store, caller: Caller) -> WarmHost:
    """Keep the face and start a host on it in the caller's environment; it imports its part while we do ours."""
    face = keep_face(store)
    folder = checkout(store, face)
    launch = launch_ambient(caller, folder)
    return WarmHost(face, folder, launch, HostProcess(launch))


def launch_ambient(caller: Caller, face: Path) -> Launch:
    """How the host of undecorated steps is started: the caller's interpreter and variables as they are."""
    return Launch(
        caller.python,
        face,
        {**settled(caller.variables), **caller.forced},
        caller.cwd,
        wrapper=caller.wrapper,
        umask=caller.umask,
        reads=caller.reads_descriptor,
    )
