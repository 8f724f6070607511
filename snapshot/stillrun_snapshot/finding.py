"""What is found wrong with a store."""

from __future__ import annotations

from typing import Literal

from stillrun_snapshot.deferred import dataclass
from stillrun_snapshot.digest import Digest

__all__ = ["Finding", "FindingKind"]

FindingKind = Literal["damaged", "missing", "log", "index", "stray", "cache"]


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it should be. digest: of the object that is meant, where it is known."""

    kind: FindingKind
    place: str  # file within the store, or ref
    problem: str
    digest: Digest | None = None
