"""SHA-256 for few bytes and for many: the interpreter's own code for the former, OpenSSL's for the latter.

OpenSSL is several times faster from a kilobyte on. Below, the difference is less than what its first use costs in a process
that was just forked: it stands on pages of its own, each of which is copied when it is written to.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hashlib import _Hash
    from typing import Any

__all__ = ["sha256"]

SMALL = 1024
"""Bytes up to which the interpreter's own code is used."""


def sha256(data: Any = b"") -> _Hash:
    """A SHA-256 object that has taken in ``data``, bytes or what has a length in bytes."""
    if len(data) <= SMALL and _own is not None:
        own: _Hash = _own(data)
        return own
    import hashlib

    return hashlib.sha256(data)


def _find_own() -> Any:
    try:
        from _sha2 import sha256 as own  # type: ignore[import-not-found, unused-ignore]  # Python 3.12
    except ImportError:
        try:
            from _sha256 import sha256 as own  # type: ignore[import-not-found, no-redef, unused-ignore]
        except ImportError:  # built without
            return None
    return own


_own = _find_own()
