"""Whether a remote is sound: its promise, its whole log, and what its runs need."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from stillrun_engine.errors import RunDamaged
from stillrun_engine.remote_manifest import PIECE, Manifest, Packed, Place, Whole, pieces_of
from stillrun_engine.remote_objects import fetched_entries, fetched_small, streamed_digest
from stillrun_engine.remote_work import JOBS, Crew, Progress
from stillrun_engine.remotes import OpenRemote
from stillrun_snapshot.bucket import Bucket
from stillrun_snapshot.deferred import dataclass
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.errors import StoreError

__all__ = ["Checked", "check_remote"]


@dataclass(frozen=True)
class Checked:
    """What was looked at, and what is wrong: one sentence each."""

    events: int
    runs: int
    objects: int
    size: int
    problems: tuple[str, ...]


def check_remote(remote: OpenRemote, *, whole: bool = False, told: Progress | None = None, jobs: int = JOBS) -> Checked:
    """Try the promise again, read the whole log, and see that all objects are there; hash them when ``whole``.

    Raises BucketError, PromiseBroken and RemoteUnsound for what is wrong with the remote itself.
    """
    remote.prove(again=True)
    known = remote.log.read_whole(remote.known())
    problems: list[str] = []
    places: dict[Digest, Place] = {}
    for run, digest in sorted(known.runs.items()):
        try:
            manifest: Manifest = remote.manifest(digest)
        except StoreError as err:
            problems.append(f"{run}: {err}")
            continue
        places.update(manifest.places())
    with Crew(jobs) as crew:
        checks = _Checks(remote.bucket, problems, told)
        crew.run(partial(checks.one, group, whole) for group in _groups(places))
    size = sum(one.entry.size if isinstance(one, Packed) else one.size for one in places.values())
    return Checked(known.seq, len(known.runs), len(places), size, tuple(sorted(problems)))


def _groups(places: dict[Digest, Place]) -> Iterator[list[tuple[Digest, Place]]]:
    """Objects that are asked for together: those of a segment, or one alone."""
    segments: dict[Digest, list[tuple[Digest, Place]]] = {}
    for digest, place in places.items():
        if isinstance(place, Packed):
            segments.setdefault(place.segment, []).append((digest, place))
        else:
            yield [(digest, place)]
    yield from segments.values()


class _Checks:
    """Objects compared with their names, or only asked for."""

    def __init__(self, bucket: Bucket, problems: list[str], told: Progress | None) -> None:
        self._bucket, self._problems, self._told = bucket, problems, told

    def one(self, group: list[tuple[Digest, Place]], whole: bool) -> None:
        """Look at one group."""
        digest, place = group[0]
        try:
            if isinstance(place, Packed):
                self._segment(place, [one for _, one in group if isinstance(one, Packed)], whole)
            else:
                self._object(digest, place, whole)
        except RunDamaged as err:
            self._problems.append(str(err))

    def _segment(self, place: Packed, group: list[Packed], whole: bool) -> None:
        if whole:
            entries = [one.entry for one in group]
            for _, data in fetched_entries(self._bucket, place.segment, place.length, entries):
                self._tell("small objects", len(data))
        elif (found := self._bucket.size(f"segments/{place.segment.hex}")) != place.length:
            self._problems.append(
                f"segment {place.segment} with {len(group)} objects {_instead(found)}, not {place.length:,}."
            )

    def _object(self, digest: Digest, place: Whole, whole: bool) -> None:
        if whole:
            if place.size <= PIECE:
                fetched_small(self._bucket, digest, place)
            else:
                streamed_digest(self._bucket, digest, place.size)
            self._tell(digest, place.size)
            return
        for key, _, length in pieces_of(digest, place.size):
            if (found := self._bucket.size(key)) != length:
                self._problems.append(f"object {digest}: {key} {_instead(found)}, not {length:,}.")
                return

    def _tell(self, what: str, count: int) -> None:
        if self._told:
            self._told.expect(count)
            self._told.moved(what, count)


def _instead(found: int | None) -> str:
    return "is missing" if found is None else f"has {found:,} bytes"
