"""Redactions: objects whose bytes were taken out on purpose, each with a signed tombstone. Format: docs/spec/redaction.md."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from stillrun_snapshot.clock import Clock, timestamp, utc_now
from stillrun_snapshot.deferred import dataclass
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.errors import ObjectMissing, ObjectRedacted, StillrunError, StoreError
from stillrun_snapshot.record import RECORD_MAX, canonical_bytes, parse_record
from stillrun_snapshot.refs import RefChange

if TYPE_CHECKING:
    from stillrun_snapshot._objects import Objects
    from stillrun_snapshot.ed25519 import PrivateKey, PublicKey
    from stillrun_snapshot.store import Store

__all__ = [
    "Redaction",
    "Tombstone",
    "check_tombstone",
    "redact",
    "redacted_error",
    "stand_in_of",
    "tombstone_of",
    "tombstones",
]

TOMBSTONE_TYPE = "application/vnd.stillrun.redaction+json"
_PURPOSES_MAX = 20


@dataclass(frozen=True)
class Redaction:
    """What is to be taken out. stand_in: a record that is read in its place."""

    digest: Digest
    purposes: Sequence[str]
    stand_in: dict[str, Any] | None = None


@dataclass(frozen=True)
class Tombstone:
    """What stands where an object was."""

    digest: Digest  # of the object
    size: int
    purposes: Sequence[str]
    reason: str
    by: str
    time: str
    stand_in: Digest | None
    record: Digest  # the tombstone's own


def tombstone_of(store: Objects, digest: Digest) -> Tombstone | None:
    """Return the tombstone of an object, None when it has none; its signature is not checked (see ``check_tombstone``)."""
    record = store.refs.get(_ref(digest))
    return None if record is None else _read(store, digest, record)


def tombstones(store: Store) -> Iterator[Tombstone]:
    """Yield every tombstone of the store, by the object's digest."""
    for name, record in store.refs.names("redactions/"):
        yield _read(store, Digest("sha256:" + name.split("/")[1]), record)


def check_tombstone(store: Store, tombstone: Tombstone, keys: dict[str, PublicKey]) -> str:
    """Return the keyid that signed a tombstone. Raises EnvelopeUnsound, and StoreError when the object is held all the same."""
    from stillrun_snapshot.dsse import open_envelope

    what = f"the tombstone of {tombstone.digest}"
    opened = open_envelope(store.get_record(tombstone.record, "tombstone"), TOMBSTONE_TYPE, keys, what)
    if store.has(tombstone.digest):
        raise StoreError(
            f"object {tombstone.digest} was redacted ({tombstone.reason}) and its bytes are in the store all the same. "
            "Redact it again."
        )
    return opened.keyids[0]


def redact(
    store: Store, redactions: Sequence[Redaction], reason: str, by: str, key: PrivateKey, *, clock: Clock = utc_now
) -> list[Tombstone]:
    """Write tombstones, then take the objects' bytes out of the store and of its caches.

    An object that has a tombstone already keeps it. The caller sees to it that no run is in progress.
    Raises ObjectMissing for one that is not held and has none, UpkeepBusy, StoreError.
    """
    from stillrun_snapshot._expunge import clear_copies
    from stillrun_snapshot.keys import check_line, publish_key
    from stillrun_snapshot.upkeep import upkeep

    check_line(reason, "the reason")
    publish_key(store, key, by, clock=clock)
    with upkeep(store.root, "redact"):
        changes = []
        for each in redactions:
            if store.refs.get(_ref(each.digest)) is None:
                record = _tombstone(store, each, reason, by, key, clock)
                changes.append(RefChange(_ref(each.digest), store.put_record(record), None))
        store.refs.set(changes)
        store.expunge([each.digest for each in redactions])
        clear_copies(store.root)
    found = [tombstone_of(store, each.digest) for each in redactions]
    return [each for each in found if each is not None]


def redacted_error(store: Objects, digest: Digest) -> ObjectRedacted | None:
    """Return the error that says why an object that is not held is not, when it was redacted."""
    try:
        found = tombstone_of(store, digest)
    except StillrunError:  # a damaged tombstone: that the object is missing is what can be said
        return None
    return None if found is None else ObjectRedacted(digest, store.root, found.by, found.time, found.reason)


def stand_in_of(store: Objects, digest: Digest) -> Digest | None:
    """Return the record that is read in place of a redacted one."""
    found = tombstone_of(store, digest)
    return None if found is None else found.stand_in


def _tombstone(
    store: Store, redaction: Redaction, reason: str, by: str, key: PrivateKey, clock: Clock
) -> dict[str, Any]:
    from stillrun_snapshot.dsse import envelope

    if not store.has(redaction.digest):
        raise ObjectMissing(redaction.digest, store.root)
    statement = {
        "schema": "stillrun/redaction/1",
        "object": redaction.digest,
        "size": store.size(redaction.digest),
        "purposes": sorted(set(redaction.purposes))[:_PURPOSES_MAX],
        "reason": reason,
        "by": by,
        "time": timestamp(clock()),
        "stand_in": None if redaction.stand_in is None else store.put_record(redaction.stand_in),
    }
    signed = envelope(TOMBSTONE_TYPE, canonical_bytes(statement), key)
    # named outside of the envelope, too: whoever looks for what records name finds it, and it stays
    return {"schema": "stillrun/tombstone/1", **signed, "stand_in": statement["stand_in"]}


def _read(store: Objects, digest: Digest, record: Digest) -> Tombstone:
    try:
        held = parse_record(store.get(record, RECORD_MAX), "stillrun/tombstone/1")
        told = parse_record(base64.b64decode(held["payload"], validate=True), "stillrun/redaction/1")
        stand_in = told["stand_in"]
        found = Tombstone(
            Digest.parse(told["object"]),
            int(told["size"]),
            [str(each) for each in told["purposes"]],
            str(told["reason"]),
            str(told["by"]),
            str(told["time"]),
            None if stand_in is None else Digest.parse(stand_in),
            record,
        )
    except (KeyError, ValueError, TypeError) as error:
        raise StoreError(f"the tombstone of {digest} cannot be read: {error!r}. Restore it from a copy.") from error
    if held.get("stand_in") != stand_in:
        raise StoreError(f"the tombstone of {digest} names another record in its place than was signed.")
    if found.digest != digest:
        raise StoreError(f"the tombstone of {digest} is that of another object, {found.digest}.")
    return found


def _ref(digest: Digest) -> str:
    return f"redactions/{digest.hex}"
