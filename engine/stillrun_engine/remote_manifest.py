"""What a run needs, and where it stands in a remote: `stillrun/remote-run/1`. Format: docs/spec/remote.md §3."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from itertools import groupby
from typing import Any

import zstandard

from stillrun_engine.bundle import is_vouched_for
from stillrun_snapshot.bucket import Bucket
from stillrun_snapshot.deferred import dataclass
from stillrun_snapshot.digest import Digest, digest_of
from stillrun_snapshot.errors import RecordError, StoreError
from stillrun_snapshot.record import canonical_bytes, parse_record
from stillrun_snapshot.segments import SEGMENT_MAX, SMALL_MAX, Entry

__all__ = [
    "PIECE",
    "Held",
    "Manifest",
    "Packed",
    "Place",
    "Whole",
    "checked_run",
    "fetched_manifest",
    "pieces_of",
    "sent_manifest",
]

PIECE = 8 << 20
_SCHEMA, _SCHEMA_SIGNED = "stillrun/remote-run/1", "stillrun/remote-run/2"
_MAX = 256 << 20
_RATIO, _PLAIN = 100, 64 << 10  # digests do not compress: a frame that says it holds more is no manifest
_KINDS = ("run", "replay")
_WHOLE_MAX = 1 << 50  # bytes of one object; its pieces have six digits


@dataclass(frozen=True)
class Whole:
    """An object that is stored as it is. first: it is fetched before the run's records are walked."""

    size: int
    first: bool

    def __post_init__(self) -> None:
        if type(self.size) is not int or not 0 <= self.size <= _WHOLE_MAX or type(self.first) is not bool:
            raise RecordError("the size of an object is none.")


@dataclass(frozen=True)
class Held:
    """A segment, and those of its entries that the run needs."""

    size: int
    first: bool
    entries: tuple[Entry, ...]

    def __post_init__(self) -> None:
        sound = type(self.size) is int and 0 <= self.size <= SEGMENT_MAX and type(self.first) is bool
        if not sound or any(entry.offset + entry.stored > self.size for entry in self.entries):
            raise RecordError("an entry of a segment leads out of it.")


@dataclass(frozen=True)
class Packed:
    """An object that is an entry of a segment of that name and length."""

    segment: Digest
    length: int
    entry: Entry


Place = Whole | Packed
"""Where one object stands."""


@dataclass(frozen=True)
class Manifest:
    """One run as a remote has it."""

    run: str
    kind: str
    refs: Mapping[str, Digest]
    objects: Mapping[Digest, Whole]
    segments: Mapping[Digest, Held]

    def __post_init__(self) -> None:
        checked_run(self.run)
        if self.kind not in _KINDS:
            raise RecordError(f"{self.run} is neither run nor replay.")
        if any(whole.size < SMALL_MAX for whole in self.objects.values()):
            raise RecordError("a small object stands alone.")

    def places(self) -> dict[Digest, Place]:
        """Where each object stands."""
        found: dict[Digest, Place] = dict(self.objects)
        for segment, held in self.segments.items():
            for entry in held.entries:
                found[entry.digest] = Packed(segment, held.size, entry)
        return found

    def first(self) -> set[Digest]:
        """What is to be fetched before the run's records are walked."""
        whole = {digest for digest, one in self.objects.items() if one.first}
        return whole.union(entry.digest for held in self.segments.values() if held.first for entry in held.entries)

    @staticmethod
    def of(
        run: str, kind: str, refs: Mapping[str, Digest], places: Mapping[Digest, Place], first: Set[Digest]
    ) -> Manifest:
        """The manifest of a run whose objects stand at ``places``."""
        objects = {digest: Whole(one.size, digest in first) for digest, one in places.items() if isinstance(one, Whole)}
        packed = [one for one in places.values() if isinstance(one, Packed)]
        packed.sort(key=lambda one: (one.segment, one.entry.offset, one.entry.digest))
        segments = {}
        for segment, group in groupby(packed, lambda one: one.segment):
            inside = list(group)
            is_first = any(one.entry.digest in first for one in inside)
            segments[segment] = Held(inside[0].length, is_first, tuple(one.entry for one in inside))
        return Manifest(run, kind, refs, objects, segments)

    def to_bytes(self) -> bytes:
        """Its canonical JSON."""
        objects = {digest: {"size": one.size, "first": one.first} for digest, one in self.objects.items()}
        segments = {
            digest: {
                "size": held.size,
                "first": held.first,
                "entries": [[e.digest, e.offset, e.stored, e.size, e.codec] for e in held.entries],
            }
            for digest, held in self.segments.items()
        }
        refs = dict(self.refs)
        return canonical_bytes(
            {
                "schema": _SCHEMA_SIGNED if is_vouched_for(refs) else _SCHEMA,
                "run": self.run,
                "kind": self.kind,
                "refs": refs,
                "objects": objects,
                "segments": segments,
            }
        )

    @staticmethod
    def parse(data: bytes) -> Manifest:
        """The manifest in ``data``; RecordError when it is not what the format says."""
        record = parse_record(data, _SCHEMA_SIGNED, _SCHEMA)
        try:
            manifest = Manifest(
                record["run"],
                record["kind"],
                {name: Digest.parse(digest) for name, digest in record["refs"].items()},
                {Digest.parse(name): Whole(**one) for name, one in record["objects"].items()},
                {Digest.parse(name): _held(**one) for name, one in record["segments"].items()},
            )
        except (KeyError, TypeError, ValueError, AttributeError, StoreError) as err:
            raise RecordError(f"what is said of a run is not what the format says ({err}).") from err
        count = len(manifest.objects) + sum(len(held.entries) for held in manifest.segments.values())
        if len(manifest.places()) != count or manifest.to_bytes() != data:
            raise RecordError("what is said of a run is not in the one form that it may have.")
        return manifest


def checked_run(name: object) -> str:
    """``name`` when it is FLOW/RUN; RecordError otherwise."""
    parts = name.split("/") if isinstance(name, str) and name.isprintable() and len(name) <= 500 else []
    if len(parts) != 2 or any(part in ("", ".", "..") for part in parts):
        raise RecordError(f"{str(name)[:60]!r} is no FLOW/RUN.")
    return str(name)


def pieces_of(digest: Digest, size: int) -> Iterator[tuple[str, int, int]]:
    """The files that an object is stored in: key, where it begins in the object, and its length."""
    key = f"objects/{digest.hex[:2]}/{digest.hex[2:]}"
    if size <= PIECE:
        yield key, 0, size
        return
    for number, start in enumerate(range(0, size, PIECE)):
        yield f"{key}/{number:06}", start, min(PIECE, size - start)


def sent_manifest(bucket: Bucket, manifest: Manifest) -> Digest:
    """Write a manifest; its name."""
    data = manifest.to_bytes()
    digest = digest_of(data)
    if len(data) > _MAX:
        raise RecordError(f"{manifest.run} has more objects than can be told of one run in a remote.")
    bucket.put(f"manifests/{digest.hex}", zstandard.ZstdCompressor(level=6).compress(data))
    return digest


def fetched_manifest(bucket: Bucket, digest: Digest) -> bytes:
    """The bytes of a manifest, hashed; RecordError when they are others."""
    packed = bucket.get(f"manifests/{digest.hex}", _MAX)
    try:
        size = zstandard.frame_content_size(packed)
        if not 0 < size <= min(_MAX, _RATIO * len(packed) + _PLAIN):
            raise RecordError(
                f"the manifest {digest} in {bucket.name} says that it has {size:,} bytes, which none may."
            )
        data = zstandard.ZstdDecompressor().decompress(packed, max_output_size=size)
    except zstandard.ZstdError:
        data = b""
    if digest_of(data) != digest:
        raise RecordError(f"the manifest {digest} in {bucket.name} is damaged there, or is another file.")
    return data


def _held(size: Any, first: Any, entries: Any) -> Held:
    return Held(size, first, tuple(Entry(Digest.parse(one[0]), *one[1:]) for one in entries))
