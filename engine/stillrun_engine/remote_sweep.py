"""Files of a remote that no run there needs any more, deleted beside others that push. Rules: docs/spec/remote.md §9."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Set
from contextlib import suppress
from functools import partial

import zstandard

from stillrun_engine.errors import EngineError
from stillrun_engine.remote_log import Known, Sweep, event_key
from stillrun_engine.remote_manifest import Manifest, Packed, pieces_of
from stillrun_engine.remote_work import JOBS, Crew, Progress
from stillrun_engine.remotes import OpenRemote
from stillrun_snapshot.bucket import Bucket, BucketError, KeyMissing, Listed
from stillrun_snapshot.deferred import dataclass
from stillrun_snapshot.digest import Digest, digest_of
from stillrun_snapshot.errors import RecordError
from stillrun_snapshot.record import canonical_bytes, parse_record

__all__ = ["SWEEP_OVER", "Swept", "files_of", "settled", "sweep_remote", "swept_files"]

SWEEP_OVER = 1800
"""Seconds by the bucket's clock after which nothing is deleted any more that an event has announced."""
_DELETING = 300  # seconds in which deletions are begun; a request may go on for some minutes
_LIST_MAX = 256 << 20
_SCHEMA = "stillrun/remote-sweep/1"
_OURS = re.compile(
    r"(manifests|segments|sweeps)/[0-9a-f]{64}|probes/[0-9a-f]{32}|states/[0-9]{10}|objects/[0-9a-f]{2}/[0-9a-f]{62}(/[0-9]{6})?"
)
_STAYS = re.compile(r"log/[0-9]{10}|head|stillrun-remote\.json")
_STATES_KEPT = 2
_PATIENCE, _PAUSE = 60.0, 1.0


@dataclass(frozen=True)
class Swept:
    """What no run needs, how much is needed or young, and what is not of Stillrun's and was let be."""

    files: int
    size: int
    kept: int
    kept_size: int
    strange: int


def files_of(manifest: Manifest) -> set[str]:
    """The files that a run needs, its manifest apart."""
    found: set[str] = set()
    for digest, place in manifest.places().items():
        if isinstance(place, Packed):
            found.add(f"segments/{place.segment.hex}")
        else:
            found.update(key for key, _, _ in pieces_of(digest, place.size))
    return found


def sweep_remote(
    remote: OpenRemote, known: Known, grace_s: int, *, delete: bool, told: Progress | None = None, jobs: int = JOBS
) -> Swept:
    """Find what no run of the remote needs and is older than ``grace_s``; delete it, when ``delete`` says so.

    Raises EngineError while another does the same, and for a run whose manifest is damaged: what it needs cannot be known.
    """
    sweep = _Sweep(remote, grace_s)
    if delete:
        remote.prove()
        known = sweep.close_old(known)
    known = sweep.find(known)
    gone = sweep.garbage(known)
    if delete and gone:
        known = sweep.announce(known)
        gone = sweep.announced
        sweep.remove(gone, told, jobs)
        known = remote.log.append(known, sweep.done)
        remote.remember(known)
    size = sum(sweep.listed[key].size for key in gone)
    rest = [one for key, one in sweep.listed.items() if key not in gone]
    return Swept(len(gone), size, len(rest), sum(one.size for one in rest), sweep.strange)


class _Sweep:
    """One sweep of a remote."""

    def __init__(self, remote: OpenRemote, grace_s: int) -> None:
        self._remote, self._grace = remote, grace_s
        self._bucket, self._log = remote.bucket, remote.log
        self._needed: dict[Digest, set[str]] = {}
        self._old: set[str] = set()
        self._digest: Digest | None = None
        self.listed: dict[str, Listed] = {}
        self.announced: set[str] = set()
        self.strange = 0

    def close_old(self, known: Known) -> Known:
        """See that no other sweep is going on; end those whose processes were killed."""
        now = _clock_of(self._bucket)
        for listed, seq in known.sweeping.items():
            if not _is_over(self._bucket, seq, now):
                raise EngineError(
                    f"'{self._remote.name}' is being cleaned up by somebody else, or was until that was interrupted. "
                    f"Try again in {SWEEP_OVER // 60} minutes at the latest."
                )
            ended = partial(_ended, listed)
            known = self._log.append(known, ended)
        return known

    def find(self, known: Known) -> Known:
        """List what there is; the log is read behind it, so that whatever was pushed by then is seen."""
        now = _clock_of(self._bucket)
        for one in self._bucket.keys(""):
            if _OURS.fullmatch(one.key):
                self.listed[one.key] = one
            elif not _STAYS.fullmatch(one.key):
                self.strange += 1
        states = sorted(key for key in self.listed if key.startswith("states/"))[-_STATES_KEPT:]
        young = {key for key, one in self.listed.items() if now - one.written < self._grace}
        self._old = self.listed.keys() - young - set(states)
        return self._log.read(known, (known.seq, known.line) if known.seq else None)

    def garbage(self, known: Known) -> set[str]:
        """What is old and needed by none of the runs there are."""
        needed: set[str] = {f"sweeps/{listed.hex}" for listed in known.sweeping}
        for digest in set(known.runs.values()):
            if digest not in self._needed:
                self._needed[digest] = {f"manifests/{digest.hex}", *files_of(self._remote.manifest(digest))}
            needed |= self._needed[digest]
        return self._old - needed

    def announce(self, known: Known) -> Known:
        """Say in the log what is about to go: whoever pushes sees it before anything of theirs counts."""

        def decide(known: Known) -> Sweep | tuple[()]:
            if known.sweeping:
                known = self.close_old(known)  # raises, or has just written: then this is decided anew
            self.announced = self.garbage(known)
            if not self.announced:
                return ()
            data = canonical_bytes({"schema": _SCHEMA, "files": sorted(self.announced)})
            self._digest = digest_of(data)
            self._bucket.put(f"sweeps/{self._digest.hex}", zstandard.ZstdCompressor(level=6).compress(data))
            return Sweep(self._digest, done=False)

        return self._log.append(known, decide)

    def remove(self, keys: Set[str], told: Progress | None, jobs: int) -> None:
        """Delete files, as long as may be; what is left is for the next sweep."""
        begun = time.monotonic()

        def one(key: str) -> None:
            if time.monotonic() - begun < _DELETING:
                self._bucket.delete(key)
                if told:
                    told.moved("files", self.listed[key].size)

        if told:
            told.expect(sum(self.listed[key].size for key in keys))
        with Crew(jobs) as crew:
            crew.run(partial(one, key) for key in sorted(keys))

    def done(self, known: Known) -> Sweep | tuple[()]:
        """The event that says that nothing more goes."""
        assert self._digest is not None, "it was announced"
        return _ended(self._digest, known)


def _ended(listed: Digest, known: Known) -> Sweep | tuple[()]:
    return Sweep(listed, done=True) if listed in known.sweeping else ()


def swept_files(bucket: Bucket, listed: Digest) -> set[str]:
    """The files that a sweep has announced. Raises RecordError for a list that is damaged."""
    try:
        packed = bucket.get(f"sweeps/{listed.hex}", _LIST_MAX)
        data = zstandard.ZstdDecompressor().decompress(packed, max_output_size=_LIST_MAX)
    except (KeyMissing, zstandard.ZstdError):
        data = b""
    if digest_of(data) != listed:
        raise RecordError(f"the list {listed} of what was deleted in {bucket.name} is damaged there, or gone.")
    return set(parse_record(data, _SCHEMA)["files"])


def settled(remote: OpenRemote, known: Known, listed: Digest) -> None:
    """Return when nothing more of a list is going to be deleted; EngineError when that takes longer than a minute."""
    begun = time.monotonic()
    while listed in known.sweeping:
        if _is_over(remote.bucket, known.sweeping[listed], _clock_of(remote.bucket)):
            return
        if time.monotonic() - begun > _PATIENCE:
            raise EngineError(
                f"'{remote.name}' is being cleaned up, and files that these runs need are among those that go. Nothing of "
                f"them was promised there; what was sent stays. Push again in {SWEEP_OVER // 60} minutes at the latest."
            )
        time.sleep(_PAUSE)
        known = remote.log.read(known, None)


def _is_over(bucket: Bucket, seq: int, now: float) -> bool:
    written = bucket.written(event_key(seq))
    return written is not None and now - written > SWEEP_OVER


def _clock_of(bucket: Bucket) -> float:
    """What time it is there: clocks of those who push may be off."""
    key = f"probes/{os.urandom(16).hex()}"
    bucket.put(key, b"time")
    written = bucket.written(key)
    with suppress(BucketError):  # one may be allowed to write and not to delete
        bucket.delete(key)
    if written is None:
        raise EngineError(
            f"{bucket.name}/{key} was written and is not there; the service does not keep what it is given."
        )
    return written
