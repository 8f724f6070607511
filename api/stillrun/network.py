"""A task without a network: what Python's audit events show of it is refused (PEP 578).

Unix sockets stay allowed, the loopback does not: what answers there is not part of the run. Programs that the step
starts, and libraries that open connections in C code of their own, are not seen.
"""

from __future__ import annotations

import sys

from stillrun.errors import NetworkRefused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["refuse_network"]

_ADDRESSED = ("socket.connect", "socket.sendto", "socket.sendmsg", "socket.bind")


def refuse_network() -> None:
    """Make every use of the network in this process an error from now on; there is no way back."""
    sys.addaudithook(_hook)


def _hook(event: str, args: Any) -> None:
    if event in _ADDRESSED and isinstance(args[1], tuple):
        raise _refusal(args[1][0])
    if event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"):
        raise _refusal(args[0])


def _refusal(host: Any) -> NetworkRefused:
    name = host.decode("utf-8", "replace") if isinstance(host, bytes) else host
    return NetworkRefused(
        f"the step asked for the network ({name}), and this replay is offline.",
        cure="Replay without --offline, or keep what it fetches as an artifact or a file.",
    )
