"""Refs: the only names that change, and the hash-chained log of their changes. Format: docs/spec/log.md, version 1."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from enum import Enum
from pathlib import Path
from typing import Any, Final

from stillrun_snapshot._catalog import Catalog, set_meta, transaction
from stillrun_snapshot._disk import sync_folder, write_all, write_failure
from stillrun_snapshot.clock import Clock, timestamp
from stillrun_snapshot.deferred import dataclass
from stillrun_snapshot.digest import Digest, digest_of
from stillrun_snapshot.errors import ObjectMissing, RecordError, RefConflict, StoreError
from stillrun_snapshot.record import canonical_bytes, parse_record

__all__ = ["ANY", "RefChange", "RefEvent", "RefLog"]

_SCHEMA = "stillrun/ref-event/1"
_FIRST = Digest("sha256:" + "0" * 64)  # what the first line names as its predecessor
_NAME_LIMIT = 1024
_NOTE_LIMIT = 500


class _Any(Enum):
    ANY = "any"


ANY: Final = _Any.ANY  # whatever the ref is now


@dataclass(frozen=True)
class RefChange:
    """What a ref is to become; ``to`` None deletes it, ``expect`` None demands that it does not exist yet.

    note: why, in one line, kept in the log beside the change.
    """

    name: str
    to: Digest | None
    expect: Digest | _Any | None = ANY
    note: str | None = None

    def __post_init__(self) -> None:
        if self.to is not None:
            Digest(self.to)
        parts = self.name.split("/")
        bad = any(part in ("", ".", "..") for part in parts) or not self.name.isprintable()
        if bad or len(self.name) > _NAME_LIMIT:
            raise StoreError(
                f"{self.name[:80]!r} is no name for a ref: printable parts joined by '/' are, none empty, '.' or '..'."
            )
        if self.note is not None and (not self.note.isprintable() or not 0 < len(self.note) <= _NOTE_LIMIT):
            raise StoreError(
                f"{self.note[:80]!r} is no note: one line of at most {_NOTE_LIMIT} printable characters is."
            )


@dataclass(frozen=True)
class RefEvent:
    """One line of the log."""

    seq: int
    time: str
    name: str
    old: Digest | None
    new: Digest | None
    line: Digest  # of the line's bytes; the next line repeats it
    note: str | None = None


@dataclass(frozen=True)
class _Tail:
    """How far the log was read: the next line's offset and what it must continue."""

    offset: int
    seq: int
    line: Digest
    start: int  # of the last line that was read


_START = _Tail(0, 0, _FIRST, 0)
_LAST = "\U0010ffff"  # behind every name


class RefLog:
    """The refs of one store. Any number of processes may read and change them at once."""

    def __init__(
        self,
        root: Path,
        catalog: Catalog,
        lock: AbstractContextManager[Any],
        *,
        before: Callable[[], None],
        holds: Callable[[Digest], bool],
        clock: Clock,
    ) -> None:
        """before: called before refs change, to make objects durable. holds: whether an object is in the store."""
        self._root = root
        self._path = root / "log"
        self._catalog = catalog
        self._lock = lock
        self._before = before
        self._holds = holds
        self._clock = clock
        self._proven = False  # whether the catalog was seen to belong to this log
        self._own: dict[bytes, RefEvent] = {}  # lines of ours that the catalog has not taken in yet

    def get(self, name: str) -> Digest | None:
        """Return what the ref points at now, None when there is none."""

        def work(connection: sqlite3.Connection) -> Digest | None:
            self._catch_up(connection)
            return _ref(connection, name)

        with self._lock:
            return self._catalog.attempt(work)

    def set(self, changes: Sequence[RefChange]) -> None:
        """Make all the changes durable, or none of them.

        What was put in the store before is made durable first. A change to what a ref is already leaves no line.
        Raises RefConflict when an expectation fails, ObjectMissing when a digest is not held.
        """
        self._before()
        with self._lock, self._locked_log() as descriptor:
            tail, current = self._state([change.name for change in changes])
            self._own.clear()  # the catalog has taken in all lines, or another process had it do so
            lines = self._lines(changes, current, tail)
            if lines:
                self._append(descriptor, b"".join(lines), tail.offset)

    @contextmanager
    def held_still(self) -> Iterator[int]:
        """Let nobody change a ref while the block runs; the length of the log, which tells whether any was changed since."""
        with self._lock, self._locked_log():
            yield self.length()

    def names(self, prefix: str = "") -> Iterator[tuple[str, Digest]]:
        """Yield refs whose name starts with ``prefix``, and what they point at, sorted by name."""
        for name, digest in self._rows("name >= ? AND name < ? ORDER BY name", prefix, prefix + _LAST):
            yield name, Digest(digest)

    def newest(self, prefix: str) -> Iterator[tuple[str, Digest]]:
        """Yield refs whose name starts with ``prefix``, last name first, which for runs is the newest first.

        They are read as they are asked for, so that the first of very many come at once.
        """
        count, rows = 16, [(prefix + _LAST, "")]
        while rows:
            before, count = rows[-1][0], min(count * 4, 4096)
            rows = self._rows("name >= ? AND name < ? ORDER BY name DESC LIMIT ?", prefix, before, count)
            for name, digest in rows:
                yield name, Digest(digest)

    def parts(self, prefix: str) -> list[str]:
        """Return what stands between ``prefix`` and the next '/' in names of refs, sorted; one look for each answer."""
        found: list[str] = []
        after = prefix
        while rows := self._rows("name >= ? AND name < ? ORDER BY name LIMIT 1", after, prefix + _LAST):
            found.append(rows[0][0][len(prefix) :].partition("/")[0])
            after = f"{prefix}{found[-1]}/{_LAST}"
        return found

    def _rows(self, where: str, *values: object) -> list[tuple[str, str]]:
        query = f"SELECT name, digest FROM refs WHERE {where}"  # noqa: S608  # our own words

        def work(connection: sqlite3.Connection) -> list[tuple[str, str]]:
            self._catch_up(connection)
            return connection.execute(query, values).fetchall()

        with self._lock:
            return self._catalog.attempt(work)

    def events(self) -> Iterator[RefEvent]:
        """Yield every change since the store was made, oldest first; raises StoreError at a line that is not one."""
        tail = _START
        for line in _whole_lines(self._path, 0):
            event = self._event(line, tail)
            yield event
            tail = _Tail(0, event.seq, event.line, 0)

    def check(self) -> int:
        """Return the number of changes after reading the whole chain; raises StoreError at the first bad line."""
        return sum(1 for _ in self.events())

    def settle(self) -> None:
        """Have the index take in what was set here last, so that it is known where the log ended."""
        if self._own:
            with suppress(StoreError):  # a log that was damaged meanwhile is told to whoever asks next
                self.get("")

    def length(self) -> int:
        """Return the length of the log in bytes."""
        return self._path.stat().st_size if self._path.exists() else 0

    # -- reading -------------------------------------------------------------------------------------------------

    def _state(self, names: list[str]) -> tuple[_Tail, dict[str, Digest | None]]:
        def work(connection: sqlite3.Connection) -> tuple[_Tail, dict[str, Digest | None]]:
            self._catch_up(connection)
            return _read_tail(connection), {name: _ref(connection, name) for name in names}

        return self._catalog.attempt(work)

    def _catch_up(self, connection: sqlite3.Connection) -> None:
        """Apply the lines that the catalog has not seen; start over when it belongs to another log."""
        length = self.length()
        tail = _read_tail(connection)
        if not self._proven:
            if not self._continues(tail, length):
                tail = self._forget(connection)
            self._proven = True
        if length < tail.offset:
            tail = self._forget(connection)
        if length == tail.offset:
            return
        lines = list(_whole_lines(self._path, tail.offset))
        if not lines:
            return
        with transaction(connection):
            if _read_tail(connection) != tail:  # another process caught up in the meantime
                tail = _read_tail(connection)
                lines = list(_whole_lines(self._path, tail.offset))
            self._apply(connection, lines, tail)

    def _apply(self, connection: sqlite3.Connection, lines: Iterable[bytes], tail: _Tail) -> None:
        for line in lines:
            own = self._own.get(line)
            event = own if own is not None and own.seq == tail.seq + 1 else self._event(line, tail)
            if event.new is None:
                connection.execute("DELETE FROM refs WHERE name = ?", (event.name,))
            else:
                connection.execute("INSERT OR REPLACE INTO refs VALUES (?, ?)", (event.name, event.new))
            tail = _Tail(tail.offset + len(line) + 1, event.seq, event.line, tail.offset)
        set_meta(connection, "log", f"{tail.offset} {tail.seq} {tail.line} {tail.start}")

    def _continues(self, tail: _Tail, length: int) -> bool:
        if tail == _START:
            return True
        if length < tail.offset:
            return False
        with open(self._path, "rb") as stream:
            stream.seek(tail.start)
            line = stream.read(tail.offset - tail.start)
        return line.endswith(b"\n") and digest_of(line[:-1]) == tail.line

    def _forget(self, connection: sqlite3.Connection) -> _Tail:
        with transaction(connection):
            connection.execute("DELETE FROM refs")
            connection.execute("DELETE FROM meta WHERE key = 'log'")
        return _START

    def _event(self, line: bytes, tail: _Tail) -> RefEvent:
        try:
            record = parse_record(line, _SCHEMA)
            event = RefEvent(
                seq=record["seq"],
                time=record["time"],
                name=record["ref"],
                old=_digest_or_none(record["from"]),
                new=_digest_or_none(record["to"]),
                line=digest_of(line),
                note=_note_in(record),
            )
            previous = Digest.parse(record["prev"])
        except (RecordError, KeyError, StoreError) as error:
            raise self._bad_line(tail.seq + 1, f"it is no ref event ({error})") from error
        if event.seq != tail.seq + 1 or previous != tail.line:
            raise self._bad_line(tail.seq + 1, f"it does not continue line {tail.seq}; one of the two was changed")
        return event

    def _bad_line(self, number: int, why: str) -> StoreError:
        return StoreError(
            f"line {number} of the log {self._path} is damaged: {why}. "
            "Restore the log from a copy; the objects are not affected."
        )

    # -- writing -------------------------------------------------------------------------------------------------

    @contextmanager
    def _locked_log(self) -> Iterator[int]:
        try:
            fresh = not self._path.exists()
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
            if fresh:
                sync_folder(self._root)
        except OSError as error:
            raise write_failure(self._root, error) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield descriptor
        finally:
            os.close(descriptor)

    def _lines(self, changes: Sequence[RefChange], current: dict[str, Digest | None], tail: _Tail) -> list[bytes]:
        time = timestamp(self._clock())
        lines: list[bytes] = []
        seq, previous = tail.seq, tail.line
        for change in changes:
            found = current[change.name]
            if change.expect is not ANY and found != change.expect:
                raise RefConflict(change.name, found, change.expect)
            if change.to is not None and not self._holds(change.to):
                raise ObjectMissing(change.to, self._root)
            if change.to == found:
                continue
            seq += 1
            record = {"schema": _SCHEMA, "seq": seq, "prev": previous, "time": time}
            noted = {} if change.note is None else {"note": change.note}
            line = canonical_bytes({**record, **noted, "ref": change.name, "from": found, "to": change.to})
            self._own[line] = RefEvent(seq, time, change.name, found, change.to, digest_of(line), change.note)
            previous = self._own[line].line
            current[change.name] = change.to
            lines.append(line + b"\n")
        return lines

    def _append(self, descriptor: int, data: bytes, end: int) -> None:
        """Append whole lines behind ``end``; what a crashed writer left there is cut first."""
        try:
            if os.fstat(descriptor).st_size > end:
                os.ftruncate(descriptor, end)
            write_all(descriptor, data)
            os.fdatasync(descriptor)
        except OSError as error:
            os.ftruncate(descriptor, end)
            raise write_failure(self._root, error) from error


def _ref(connection: sqlite3.Connection, name: str) -> Digest | None:
    row = connection.execute("SELECT digest FROM refs WHERE name = ?", (name,)).fetchone()
    return None if row is None else Digest(row[0])


def _read_tail(connection: sqlite3.Connection) -> _Tail:
    row = connection.execute("SELECT value FROM meta WHERE key = 'log'").fetchone()
    if row is None:
        return _START
    offset, seq, line, start = row[0].split()
    return _Tail(int(offset), int(seq), Digest(line), int(start))


def _whole_lines(path: Path, offset: int) -> Iterator[bytes]:
    """Yield lines without their newline; a torn last one is not yielded."""
    if not path.exists():
        return
    with open(path, "rb") as stream:
        stream.seek(offset)
        for line in stream:
            if line.endswith(b"\n"):
                yield line[:-1]


def _note_in(record: dict[str, Any]) -> str | None:
    note = record.get("note")
    if note is not None and not isinstance(note, str):
        raise RecordError("its note is no text.")
    return note


def _digest_or_none(value: object) -> Digest | None:
    return None if value is None else Digest.parse(value)
