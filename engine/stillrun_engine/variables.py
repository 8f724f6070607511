"""Environment variables, told apart without being told: a run keeps a keyed digest of each, and a later one compares.

The key is the store's own and never leaves it, so that a record that goes elsewhere gives away neither names nor values.
Losing it costs time: nothing can be compared then, and what may depend on a variable runs again. Format: docs/spec/run.md.
"""

from __future__ import annotations

import contextlib
import hmac
import os
from collections.abc import Iterable, Mapping

from stillrun_snapshot.store import Store

__all__ = ["READING", "Variables"]

_KEY = "variables-key"
_KEY_BYTES = 32
_DIGITS = 32  # of each keyed digest: 128 bits
READING = frozenset({"environ", "environb", "expandvars", "getenv", "getenvb"})
"""What code that reads variables has in it."""


class Variables:
    """The keyed digests of a set of variables, and which of those that a text may name are another."""

    def __init__(self, store: Store, variables: Mapping[str, str]) -> None:
        self._key = _key(store)
        self.digests = {self._of(name): self._of(f"{name}={value}") for name, value in variables.items()}

    def other(self, before: Mapping[str, str], names: Iterable[str]) -> str | None:
        """The first of ``names`` that is not what it was, set or not set."""
        for name in sorted(names):
            digest = self._of(name)
            if before.get(digest) != self.digests.get(digest):
                return name
        return None

    def _of(self, text: str) -> str:
        return hmac.new(self._key, text.encode("utf-8", "surrogateescape"), "sha256").hexdigest()[:_DIGITS]


def _key(store: Store) -> bytes:
    """The store's key, made when it has none; of two processes that make one at once, the later one's. One for now when
    none can be kept.
    """
    path = store.root / "cache" / _KEY
    with contextlib.suppress(OSError):
        if len(found := path.read_bytes()) == _KEY_BYTES:
            return found
    made = os.urandom(_KEY_BYTES)
    fresh = store.cache_dir("cache") / f"{_KEY}-{os.getpid()}"
    with contextlib.suppress(OSError):
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(made)
        fresh.rename(path)
        return path.read_bytes()
    return made
