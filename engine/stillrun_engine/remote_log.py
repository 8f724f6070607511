"""The log of a remote: what runs it has, in an order that all writers agree on. Format: docs/spec/remote.md §4."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import field

from stillrun_engine.errors import EngineError
from stillrun_engine.remote_manifest import checked_run
from stillrun_snapshot.bucket import Bucket, FileTooLong, KeyMissing
from stillrun_snapshot.clock import Clock, timestamp
from stillrun_snapshot.deferred import dataclass
from stillrun_snapshot.digest import Digest, digest_of
from stillrun_snapshot.errors import RecordError, StoreError
from stillrun_snapshot.record import canonical_bytes, parse_record

__all__ = ["START", "Change", "Known", "RemoteLog", "RemoteUnsound", "Sweep", "event_key"]

_EVENT, _STATE, _HEAD = "stillrun/remote-event/1", "stillrun/remote-state/1", "stillrun/remote-head/1"
_SWEEP, _STATE_SWEPT = "stillrun/remote-event/2", "stillrun/remote-state/2"  # none of them where nothing is swept
_FIRST = Digest("sha256:" + "0" * 64)
_EVENT_MAX, _STATE_MAX, _HEAD_MAX = 16 << 20, 256 << 20, 4096
_EVERY = 64  # events from state to state
_READERS = 16
_TOGETHER = 1024  # events that are asked for before the first of them is looked at
_LAST = 10**10 - 1


class RemoteUnsound(EngineError):
    """A remote contradicts itself, or what this store knows of it."""


@dataclass(frozen=True)
class Change:
    """What is to be known of a run: ``to`` is the name of its manifest, ``expect`` what it was before. note: why it goes."""

    run: str
    to: Digest | None
    expect: Digest | None = None
    note: str | None = None

    def facts(self) -> dict[str, str | None]:
        """As events tell it."""
        noted = {} if self.note is None else {"note": self.note}
        return {"run": self.run, "from": self.expect, "to": self.to, **noted}


@dataclass(frozen=True)
class Sweep:
    """That files are about to be deleted, or were: those that the file ``sweeps/HEX`` of that digest lists."""

    listed: Digest
    done: bool


@dataclass(frozen=True)
class Known:
    """The runs of a remote after its event number ``seq``, whose bytes have the digest ``line``.

    sweeping: lists of files that may be being deleted now, and the numbers of the events that said so. swept: the same of
    those that were done with, as far as their events were read one by one.
    """

    seq: int
    line: Digest
    runs: Mapping[str, Digest]
    sweeping: Mapping[Digest, int] = field(default_factory=dict)
    swept: frozenset[tuple[Digest, int]] = field(default=frozenset(), compare=False)

    def to_bytes(self) -> bytes:
        """As `stillrun/remote-state/1`, or 2 while something is being swept."""
        facts = {"seq": self.seq, "line": self.line, "runs": dict(self.runs)}
        if self.sweeping:
            return canonical_bytes({"schema": _STATE_SWEPT, **facts, "sweeping": dict(self.sweeping)})
        return canonical_bytes({"schema": _STATE, **facts})

    @staticmethod
    def parse(data: bytes) -> Known:
        """What ``to_bytes`` made; RecordError for anything else."""
        record = parse_record(data, _STATE_SWEPT, _STATE)
        try:
            runs = {checked_run(run): Digest.parse(digest) for run, digest in record["runs"].items()}
            sweeping = {Digest.parse(one): _number(seq) for one, seq in record.get("sweeping", {}).items()}
            return Known(_number(record["seq"]), Digest.parse(record["line"]), runs, sweeping)
        except (KeyError, TypeError, AttributeError, StoreError) as err:
            raise RecordError(f"a state of a remote is not what the format says ({err}).") from err


START = Known(0, _FIRST, {})


class RemoteLog:
    """The events of one remote. Whoever creates the next one has changed it; nothing is found by listing."""

    def __init__(self, bucket: Bucket, clock: Clock) -> None:
        self._bucket, self._clock = bucket, clock

    def read(self, known: Known | None, seen: tuple[int, Digest] | None) -> Known:
        """What runs there are now. known: as it was once. seen: the last event that this store has seen, to be found again.

        Raises RemoteUnsound when the log was cut, replaced or damaged.
        """
        base = known or START
        end = self._end(max(base.seq, seen[0] if seen else 0, self._hint()))
        if seen is not None and (end < seen[0] or digest_of(self._event(seen[0])) != seen[1]):
            raise self._rewound(seen[0])
        if end - base.seq > _EVERY:
            base = self._state_before(end, base)
        if base.seq and (base.seq > end or digest_of(self._event(base.seq)) != base.line):
            raise self._rewound(base.seq)
        for data in self._events(base.seq + 1, end):
            base = self._applied(base, data)
        return base

    def read_whole(self, known: Known) -> Known:
        """What runs there are by all events; RemoteUnsound when one is damaged, or ``known`` is not what they say."""
        found = START
        for data in self._events(1, known.seq):
            found = self._applied(found, data)
        if found != known:
            raise RemoteUnsound(
                f"a file below states/ in {self._bucket.name} is not what the log says. Delete that folder there: it "
                f"is a shortcut only."
            )
        return found

    def append(self, known: Known, decide: Callable[[Known], Sequence[Change] | Sweep]) -> Known:
        """Write what ``decide`` makes of the runs there are; it is asked again when another writer was faster."""
        while decided := decide(known):
            data = self._bytes_of(known, decided)
            key = event_key(known.seq + 1)
            if not self._bucket.create(key, data):
                try:
                    found = self._bucket.get(key, _EVENT_MAX)
                except KeyMissing:  # two at once, and the service let neither
                    continue
                if found != data:  # else it is ours, and the answer was lost
                    known = self._applied(known, found)
                    continue
            known = self._applied(known, data)
            self._leave_marks(known)
            break
        return known

    def _bytes_of(self, known: Known, decided: Sequence[Change] | Sweep) -> bytes:
        head = {"seq": known.seq + 1, "prev": known.line, "time": timestamp(self._clock())}
        record: dict[str, object] = {**head, "writer": os.urandom(8).hex()}
        if isinstance(decided, Sweep):
            sweep = {"list": decided.listed, "done": decided.done}
            return canonical_bytes({"schema": _SWEEP, **record, "changes": [], "sweep": sweep})
        for change in decided:
            assert known.runs.get(change.run) == change.expect, "decided on what is known"
        return canonical_bytes({"schema": _EVENT, **record, "changes": [change.facts() for change in decided]})

    def _leave_marks(self, known: Known) -> None:
        self._bucket.put("head", canonical_bytes({"schema": _HEAD, "seq": known.seq}))
        if known.seq % _EVERY == 0:
            self._bucket.put(_state_key(known.seq), known.to_bytes())

    def _applied(self, known: Known, data: bytes) -> Known:
        """The runs after an event; RemoteUnsound when it does not continue what was before."""
        number = known.seq + 1
        try:
            record = parse_record(data, _SWEEP, _EVENT)
            is_sweep = record["schema"] == _SWEEP
            sound = record["seq"] == number and record["prev"] == known.line and bool(record["changes"]) != is_sweep
            runs = dict(known.runs)
            sweeping, swept = (
                _after_sweep(known, number, record["sweep"]) if is_sweep else (known.sweeping, known.swept)
            )
            for change in record["changes"]:
                run, to = checked_run(change["run"]), change["to"]
                sound = sound and runs.pop(run, None) == change["from"]
                if to is not None:
                    runs[run] = Digest.parse(to)
        except RecordError as err:
            raise RemoteUnsound(f"{event_key(number)} in {self._bucket.name} cannot be read: {err}") from err
        except (KeyError, TypeError, AttributeError, StoreError) as err:
            raise RemoteUnsound(f"{event_key(number)} in {self._bucket.name} is no event of its log ({err}).") from err
        if not sound:
            raise RemoteUnsound(
                f"{event_key(number)} in {self._bucket.name} does not continue what is before it: one of the two was "
                f"changed or replaced. "
                "Nothing was taken from there; find out who writes to it with something else than Stillrun."
            )
        return Known(number, digest_of(data), runs, sweeping, swept)

    def _events(self, first: int, last: int) -> Iterator[bytes]:
        """The bytes of some events; nothing is prepared for more of them than are there."""
        with ThreadPoolExecutor(_READERS) as readers:
            for begin in range(first, last + 1, _TOGETHER):
                yield from readers.map(self._event, range(begin, min(begin + _TOGETHER, last + 1)))

    def _event(self, number: int) -> bytes:
        try:
            return self._bucket.get(event_key(number), _EVENT_MAX)
        except KeyMissing:
            raise self._rewound(number) from None

    def _rewound(self, number: int) -> RemoteUnsound:
        return RemoteUnsound(
            f"the log of {self._bucket.name} is not the one that this store knows: its event {number} is gone or "
            f"another one, so an older "
            "state was put there, or another remote. Nothing was taken from there or written to it. Ask who looks after it; "
            "if all is well, remove the remote and add it again."
        )

    def _hint(self) -> int:
        """Where the end was once; 0 when nobody tells."""
        try:
            return _number(parse_record(self._bucket.get("head", _HEAD_MAX), _HEAD).get("seq"))
        except (KeyMissing, FileTooLong, RecordError):
            return 0

    def _end(self, hint: int) -> int:
        """The number of the last event: by going on from a hint, by doubling and halving when the hint was wrong."""
        if hint and not self._has(hint):
            low, high = 0, hint
        elif not self._has(hint + 1):
            return hint
        else:
            low, step = hint + 1, 1
            while self._has(low + step):
                low, step = low + step, step * 2
                if low > _LAST:
                    raise RemoteUnsound(
                        f"{self._bucket.name} says of every name that it is there: it is no remote of Stillrun's."
                    )
            high = low + step
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._has(middle) else (low, middle)
        return low

    def _has(self, number: int) -> bool:
        return self._bucket.size(event_key(number)) is not None

    def _state_before(self, end: int, base: Known) -> Known:
        """The newest of the last states, when it is newer than ``base`` and can be read."""
        for number in (end // _EVERY * _EVERY, (end // _EVERY - 1) * _EVERY):
            if number > base.seq:
                try:
                    found = Known.parse(self._bucket.get(_state_key(number), _STATE_MAX))
                except (KeyMissing, FileTooLong, RecordError):
                    continue
                if found.seq == number:
                    return found
        return base


def event_key(number: int) -> str:
    """The file of an event."""
    return f"log/{number:010}"


def _after_sweep(
    known: Known, number: int, told: Mapping[str, object]
) -> tuple[Mapping[Digest, int], frozenset[tuple[Digest, int]]]:
    listed = Digest.parse(str(told["list"]))
    if type(told["done"]) is not bool:
        raise RecordError("whether something was swept is not told.")
    if not told["done"]:
        return {**known.sweeping, listed: number}, known.swept
    rest = {one: seq for one, seq in known.sweeping.items() if one != listed}
    return rest, known.swept | (known.sweeping.items() - rest.items())


def _state_key(number: int) -> str:
    return f"states/{number:010}"


def _number(value: object) -> int:
    if type(value) is not int or not 0 <= value < 10**10:
        raise RecordError("a number of an event is none.")
    return value
