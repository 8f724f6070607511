"""What snapshot/ raises on purpose; every error of the product descends from StillrunError."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stillrun_snapshot.digest import Digest

__all__ = [
    "CaptureError",
    "ObjectCorrupt",
    "ObjectMissing",
    "ObjectRedacted",
    "RecordError",
    "RefConflict",
    "StillrunError",
    "StoreError",
    "StoreFull",
    "StoreReadOnly",
    "StoreVersion",
]


class StillrunError(Exception):
    """Everything this product raises on purpose."""

    exit_code = 2


class StoreError(StillrunError):
    """The store cannot do what was asked."""


class ObjectMissing(StoreError):
    """A digest is referred to but not held."""

    def __init__(self, digest: Digest, root: Path) -> None:
        super().__init__(
            f"object {digest} is not in the store {root}. "
            "It was never kept here or was removed; copy it from a store that has it."
        )
        self.digest = digest


class ObjectCorrupt(StoreError):
    """Bytes no longer match the digest that names them."""

    def __init__(self, digest: Digest, root: Path, found: str) -> None:
        super().__init__(
            f"object {digest} in the store {root} is damaged: {found}. "
            "It was changed after it was written; restore it from a copy, or delete what needs it."
        )
        self.digest = digest


class ObjectRedacted(ObjectMissing):
    """Bytes were taken out of the store on purpose; a tombstone says who did it and why."""

    def __init__(self, digest: Digest, root: Path, by: str, time: str, reason: str) -> None:
        super().__init__(digest, root)
        self.args = (
            f"object {digest} was redacted by {by} at {time[:10]} ({reason}); its bytes are not in the store {root} any more. "
            "What needs them cannot be had from here.",
        )
        self.by, self.time, self.reason = by, time, reason


class StoreVersion(StoreError):
    """The store was written by a Stillrun with a newer format."""


class StoreReadOnly(StoreError):
    """Something had to be written and the store's folder does not allow it."""


class StoreFull(StoreError):
    """No room was left for something that had to be written."""


class RefConflict(StoreError):
    """A ref is not what the caller expected it to be."""

    def __init__(self, ref: str, found: Digest | None, expected: Digest | None) -> None:
        super().__init__(
            f"ref '{ref}' is {found or 'absent'} where {expected or 'no such ref'} was expected. "
            "Somebody else changed it first; read it again and decide anew."
        )
        self.ref = ref
        self.found = found
        self.expected = expected


class RecordError(StoreError):
    """A record cannot be written or read as what it claims to be."""


class CaptureError(StillrunError):
    """The code of a flow cannot be captured."""
