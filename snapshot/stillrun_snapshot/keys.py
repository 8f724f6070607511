"""Public keys in a store: made known, replaced and revoked, each an event of the log. Format: docs/spec/keys.md."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from stillrun_snapshot.clock import Clock, timestamp, utc_now
from stillrun_snapshot.deferred import dataclass
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.dsse import EnvelopeUnsound, Signer, envelope, open_envelope
from stillrun_snapshot.ed25519 import KeyUnsound, PrivateKey, PublicKey
from stillrun_snapshot.errors import StillrunError, StoreError
from stillrun_snapshot.record import canonical_bytes, parse_record
from stillrun_snapshot.refs import RefChange
from stillrun_snapshot.store import Store

__all__ = [
    "KeyRefused",
    "KnownKey",
    "LogPlace",
    "Revocation",
    "check_line",
    "keys_among",
    "known_keys",
    "publish_key",
    "revoke_key",
    "revoked",
]

KEY_TYPE = "application/vnd.stillrun.key+json"
REVOCATION_TYPE = "application/vnd.stillrun.revocation+json"
_LINE_MAX = 500  # bytes of what people say


class KeyRefused(StillrunError):
    """A key cannot be made known or revoked as asked."""


@dataclass(frozen=True)
class LogPlace:
    """How many lines a log had when something was signed, and which log that is."""

    origin: str
    size: int

    @staticmethod
    def told(value: object) -> LogPlace | None:
        """The place that a statement names, None when it names none."""
        if (
            not isinstance(value, dict)
            or type(value.get("size")) is not int
            or not isinstance(value.get("origin"), str)
        ):
            return None
        return LogPlace(value["origin"], value["size"])


@dataclass(frozen=True)
class Revocation:
    """That a key is not to be relied on. compromised: whatever it signed, whenever.

    log: where the log was that it was said in, None in older ones. signers: known keys that have signed it.
    """

    keyid: str
    reason: str
    by: str
    time: str
    compromised: bool
    log: LogPlace | None = None
    signers: tuple[str, ...] = ()


@dataclass(frozen=True)
class KnownKey:
    """A key as the store tells it; whether it is really its holder's, it cannot tell."""

    public: PublicKey
    holder: str
    time: str
    replaces: str | None
    revocation: Revocation | None

    @property
    def keyid(self) -> str:
        """The name of the key."""
        return self.public.keyid


def check_line(text: str, what: str) -> str:
    """``text`` itself; raises KeyRefused when it is not one line of what people say."""
    if not text.strip() or not text.isprintable() or len(text.encode("utf-8", "surrogatepass")) > _LINE_MAX:
        raise KeyRefused(f"{what} must be one line of text of at most {_LINE_MAX} bytes; got {text[:40]!r}.")
    return text


def publish_key(
    store: Store, key: PrivateKey, holder: str, *, replaces: PrivateKey | None = None, clock: Clock = utc_now
) -> None:
    """Make a key known in the store; nothing happens when it is. replaces: the key whose holder now uses this one."""
    name = f"keys/{key.keyid}"
    if store.refs.get(name) is not None:
        return
    statement = {
        "schema": "stillrun/key-statement/1",
        "keyid": key.keyid,
        "public": key.public.pem,
        "holder": check_line(holder, "the holder of a key"),
        "time": timestamp(clock()),
        "replaces": None if replaces is None else replaces.keyid,
    }
    signers: list[Signer] = [key] if replaces is None else [key, replaces]
    record = {"schema": "stillrun/key/1", **envelope(KEY_TYPE, canonical_bytes(statement), *signers)}
    store.refs.set([RefChange(name, store.put_record(record), None)])


def revoke_key(
    store: Store,
    keyid: str,
    reason: str,
    by: str,
    *,
    compromised: bool = False,
    signer: PrivateKey | None = None,
    clock: Clock = utc_now,
) -> None:
    """Say in the log that a key is not to be relied on. Raises KeyRefused when it is unknown or revoked already."""
    if store.refs.get(f"keys/{keyid}") is None:
        raise KeyRefused(f"the key {keyid[:16]} is not known in {store.root}. See those that are: stillrun key list.")
    name = f"revocations/{keyid}"
    if store.refs.get(name) is not None:
        raise KeyRefused(f"the key {keyid[:16]} is revoked already.")
    statement = {
        "schema": "stillrun/revocation-statement/1",
        "keyid": keyid,
        "reason": check_line(reason, "the reason"),
        "by": by,
        "time": timestamp(clock()),
        "compromised": compromised,
        "log": _log_of(store),
    }
    signers = [] if signer is None else [signer]
    record = {"schema": "stillrun/revocation/1", **envelope(REVOCATION_TYPE, canonical_bytes(statement), *signers)}
    store.refs.set([RefChange(name, store.put_record(record), None)])


def known_keys(store: Store) -> dict[str, KnownKey]:
    """Return the keys that the store knows, by keyid. Raises a StillrunError when one is not what its name says."""
    return keys_among(store, _key_refs(store))


def keys_among(store: Store, refs: Mapping[str, Digest]) -> dict[str, KnownKey]:
    """Return the keys that some refs name, by keyid, as ``known_keys``; the store's own refs are not asked."""
    gone = _revoked(store, refs)
    named = ((name, digest) for name, digest in refs.items() if name.startswith("keys/"))
    found = (_known(store, refs, name, digest, gone) for name, digest in named)
    return {key.keyid: key for key in found}


def revoked(store: Store) -> dict[str, Revocation]:
    """Return the revocations, by keyid."""
    return _revoked(store, _key_refs(store))


def _key_refs(store: Store) -> dict[str, Digest]:
    return {**dict(store.refs.names("keys/")), **dict(store.refs.names("revocations/"))}


def _revoked(store: Store, refs: Mapping[str, Digest]) -> dict[str, Revocation]:
    found = {}
    for name, digest in refs.items():
        if not name.startswith("revocations/"):
            continue
        told = _statement(store, name, digest, "revocation", REVOCATION_TYPE)
        if told["keyid"] != name.split("/")[1]:
            raise StoreError(f"the record of {name} revokes another key, {str(told['keyid'])[:16]}.")
        who = [str(told[key]) for key in ("keyid", "reason", "by", "time")]
        signers = _signers(store, refs, name, digest)
        place = LogPlace.told(told.get("log"))
        found[who[0]] = Revocation(who[0], who[1], who[2], who[3], bool(told["compromised"]), place, signers)
    return found


def _signers(store: Store, refs: Mapping[str, Digest], name: str, digest: Digest) -> tuple[str, ...]:
    """The keys among ``refs`` that have signed a revocation. Raises EnvelopeUnsound where one's signature is wrong."""
    record = store.get_record(digest, "revocation")
    told = [str(each.get("keyid")) for each in record["signatures"] if isinstance(each, dict)]
    signed = [keyid for keyid in told if f"keys/{keyid}" in refs]
    verifiers = {keyid: _public(store, refs, f"keys/{keyid}") for keyid in signed}
    return open_envelope(record, REVOCATION_TYPE, verifiers, f"the record of {name}").keyids if signed else ()


def _known(
    store: Store, refs: Mapping[str, Digest], name: str, digest: Digest, gone: Mapping[str, Revocation]
) -> KnownKey:
    told = _statement(store, name, digest, "key", KEY_TYPE)
    public = PublicKey.of_pem(told["public"], f"the key of {name}")
    if not name == f"keys/{public.keyid}" == f"keys/{told['keyid']}":
        raise KeyUnsound(f"the record of {name} holds another key, {public.keyid[:16]}.")
    open_envelope(store.get_record(digest, "key"), KEY_TYPE, {public.keyid: public}, f"the record of {name}")
    _check_replaced(store, refs, name, digest, told)
    return KnownKey(public, told["holder"], told["time"], told["replaces"], gone.get(public.keyid))


def _check_replaced(
    store: Store, refs: Mapping[str, Digest], name: str, digest: Digest, told: Mapping[str, Any]
) -> None:
    """A key that replaces another must be signed by that one."""
    if told["replaces"] is None:
        return
    if f"keys/{told['replaces']}" not in refs:
        raise KeyUnsound(f"the record of {name} replaces a key that is not known here, {str(told['replaces'])[:16]}.")
    old = _public(store, refs, f"keys/{told['replaces']}")
    open_envelope(store.get_record(digest, "key"), KEY_TYPE, {old.keyid: old}, f"the record of {name}")


def _public(store: Store, refs: Mapping[str, Digest], name: str) -> PublicKey:
    return PublicKey.of_pem(_statement(store, name, refs[name], "key", KEY_TYPE)["public"], f"the key of {name}")


def _log_of(store: Store) -> dict[str, Any]:
    """The log before the line that is about to be written, as signatures tell it."""
    from stillrun_snapshot.checkpoint import checkpoint_of  # few revoke, and many ask for keys
    from stillrun_snapshot.logtree import LogTree

    head = checkpoint_of(LogTree(store.root))
    return {"origin": head.origin, "size": head.size, "root": base64.b64encode(head.root).decode()}


def _statement(store: Store, name: str, digest: Digest, kind: str, payload_type: str) -> dict[str, Any]:
    """What an envelope says, before its signatures are checked."""
    record = store.get_record(digest, kind)
    try:
        if record["payloadType"] != payload_type:
            raise EnvelopeUnsound(f"the record of {name} holds {record['payloadType']!r}.")
        told = parse_record(base64.b64decode(record["payload"], validate=True), f"stillrun/{kind}-statement/1")
    except (KeyError, ValueError, TypeError) as error:
        raise EnvelopeUnsound(f"the record of {name} is no signed envelope: {error!r}.") from error
    return _Told(name, told)


class _Told(dict[str, Any]):
    """A statement whose missing keys are told in a sentence."""

    def __init__(self, name: str, told: Mapping[str, Any]) -> None:
        super().__init__(told)
        self._name = name

    def __missing__(self, key: str) -> Any:
        raise EnvelopeUnsound(f"the record of {self._name} does not say its {key!r}.")
