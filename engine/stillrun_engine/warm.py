"""A step host in the caller's environment, started before anything else is known: it warms up while the engine does."""

from __future__ import annotations

from pathlib import Path

from stillrun_engine.caller import Caller
from stillrun_engine.face import keep_face
from stillrun_engine.host_process import HostProcess, Launch
from stillrun_engine.launching import EarlyHost, launch_ambient
from stillrun_snapshot.checkout import checkout
from stillrun_snapshot.deferred import dataclass
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.store import Store

__all__ = ["WarmHost", "warm_host"]


@dataclass(frozen=True)
class WarmHost:
    """A started host that knows no flow yet, and the face it runs. Whoever takes ``process`` closes it."""

    face: Digest
    folder: Path
    launch: Launch
    process: HostProcess


def warm_host(store: Store, caller: Caller, early: EarlyHost | None = None) -> WarmHost:
    """Keep the face and start a host on it in the caller's environment; it imports its part while we do ours.

    early: one that was started already; it is taken when it is as it should be, and closed when not.
    """
    try:
        face = keep_face(store)
        folder = checkout(store, face)
        launch = launch_ambient(caller, folder)
        if early is not None and early.suits(launch):
            return WarmHost(face, folder, launch, early.process)
    except BaseException:
        if early is not None:
            early.process.close()
        raise
    if early is not None:
        early.process.close()
    return WarmHost(face, folder, launch, HostProcess(launch))
