"""What a bundle says of itself: its first member. Format: docs/spec/bundle.md, version 1."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import field
from typing import Any

from stillrun_engine.closure import Kind
from stillrun_engine.errors import EngineError
from stillrun_snapshot.deferred import dataclass
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.errors import RecordError, StoreError
from stillrun_snapshot.record import canonical_bytes, parse_record

__all__ = [
    "CONTENTS",
    "SUMS",
    "VOUCHING",
    "BundleRefused",
    "Contents",
    "LeftOut",
    "is_vouched_for",
    "member_name",
    "sums_line",
]

CONTENTS, SUMS = "stillrun-bundle.json", "SHA256SUMS"
_SCHEMA, _SCHEMA_SIGNED = "stillrun/bundle/1", "stillrun/bundle/2"
_KINDS: tuple[Kind, ...] = ("artifact", "input", "package")
VOUCHING = ("keys", "revocations", "signatures")
"""What the names of refs of signatures and of keys begin with."""


class BundleRefused(EngineError):
    """A file is no bundle, or not a sound one; nothing was taken from it."""


@dataclass(frozen=True)
class LeftOut:
    """An object that runs need and that is not in the bundle."""

    digest: Digest
    kind: str
    purpose: str
    size: int

    def __post_init__(self) -> None:
        Digest(self.digest)
        if self.kind not in _KINDS or not isinstance(self.purpose, str) or not _is_amount(self.size):
            raise RecordError("what it says was left out is not said as it must be.")


@dataclass(frozen=True)
class Contents:
    """The runs of a bundle, the refs that they have, and how much there is of them."""

    runs: tuple[str, ...]
    refs: Mapping[str, Digest]
    objects: int
    size: int
    left_out: tuple[LeftOut, ...] = field(default=())

    def __post_init__(self) -> None:
        if not self.runs or any(run.count("/") != 1 for run in self.runs) or list(self.runs) != sorted(set(self.runs)):
            raise RecordError("its runs are no sorted list of FLOW/RUN.")
        if not (_is_amount(self.objects) and _is_amount(self.size)):
            raise RecordError("its amounts are no numbers.")

    def to_bytes(self) -> bytes:
        """The member as it is written."""
        left_out = [vars(one) for one in sorted(self.left_out, key=lambda one: one.digest)]
        return canonical_bytes(
            {
                "schema": _SCHEMA_SIGNED if is_vouched_for(self.refs) else _SCHEMA,
                "runs": list(self.runs),
                "refs": dict(self.refs),
                "objects": self.objects,
                "bytes": self.size,
                "left_out": left_out,
            }
        )

    @staticmethod
    def parse(data: bytes) -> Contents:
        """The contents in ``data``; RecordError when they are not what the format says."""
        record = parse_record(data, _SCHEMA_SIGNED, _SCHEMA)
        try:
            contents = Contents(
                tuple(record["runs"]),
                {name: Digest.parse(digest) for name, digest in record["refs"].items()},
                record["objects"],
                record["bytes"],
                tuple(LeftOut(Digest.parse(one.pop("digest")), **one) for one in record["left_out"]),
            )
        except (KeyError, TypeError, AttributeError, StoreError) as err:
            raise RecordError(f"its contents are not what the format says ({err}).") from err
        if contents.to_bytes() != data:
            raise RecordError("its contents are not in the one form that they may have.")
        return contents


def is_vouched_for(refs: Iterable[str]) -> bool:
    """Whether any of the names of refs is of a signature or key; only then formats are of their second version."""
    return any(name.split("/")[0] in VOUCHING for name in refs)


def member_name(digest: Digest) -> str:
    """Where an object stands in a bundle."""
    return f"objects/{digest.hex[:2]}/{digest.hex[2:]}"


def sums_line(name: str, digest: Digest) -> bytes:
    """A member's line for `sha256sum -c`."""
    return f"{digest.hex}  {name}\n".encode()


def _is_amount(value: Any) -> bool:
    return type(value) is int and value >= 0
