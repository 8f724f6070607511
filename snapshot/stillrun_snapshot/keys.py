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

__all__ = ["KeyRefused", "KnownKey", "Revocation", "check_line", "known_keys", "publish_key", "revoke_key", "revoked"]

KEY_TYPE = "application/vnd.stillrun.key+json"
REVOCATION_TYPE = "application/vnd.stillrun.revocation+json"
_LINE_MAX = 500  # bytes of what people say


class KeyRefused(StillrunError):
    """A key cannot be made known or revoked as asked."""


@dataclass(frozen=True)
class Revocation:
    """That a key is not to be relied on. compromised: whatever it signed, whenever."""

    keyid: str
    reason: str
    by: str
    time: str
    compromised: bool


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
    }
    signers = [] if signer is None else [signer]
    record = {"schema": "stillrun/revocation/1", **envelope(REVOCATION_TYPE, canonical_bytes(statement), *signers)}
    store.refs.set([RefChange(name, store.put_record(record), None)])


def known_keys(store: Store) -> dict[str, KnownKey]:
    """Return the keys that the store knows, by keyid. Raises a StillrunError when one is not what its name says."""
    gone = revoked(store)
    found = (_known(store, name, digest, gone) for name, digest in store.refs.names("keys/"))
    return {key.keyid: key for key in found}


def revoked(store: Store) -> dict[str, Revocation]:
    """Return the revocations, by keyid."""
    found = {}
    for name, digest in store.refs.names("revocations/"):
        told = _statement(store, name, digest, "revocation", REVOCATION_TYPE)
        if told["keyid"] != name.split("/")[1]:
            raise StoreError(f"the record of {name} revokes another key, {str(told['keyid'])[:16]}.")
        found[told["keyid"]] = Revocation(
            told["keyid"], told["reason"], told["by"], told["time"], bool(told["compromised"])
        )
    return found


def _known(store: Store, name: str, digest: Digest, gone: Mapping[str, Revocation]) -> KnownKey:
    told = _statement(store, name, digest, "key", KEY_TYPE)
    public = PublicKey.of_pem(told["public"], f"the key of {name}")
    if not name == f"keys/{public.keyid}" == f"keys/{told['keyid']}":
        raise KeyUnsound(f"the record of {name} holds another key, {public.keyid[:16]}.")
    open_envelope(store.get_record(digest, "key"), KEY_TYPE, {public.keyid: public}, f"the record of {name}")
    _check_replaced(store, name, digest, told)
    return KnownKey(public, told["holder"], told["time"], told["replaces"], gone.get(public.keyid))


def _check_replaced(store: Store, name: str, digest: Digest, told: Mapping[str, Any]) -> None:
    """A key that replaces another must be signed by that one."""
    if told["replaces"] is None:
        return
    before = store.refs.get(f"keys/{told['replaces']}")
    if before is None:
        raise KeyUnsound(f"the record of {name} replaces a key that is not known here, {str(told['replaces'])[:16]}.")
    old = PublicKey.of_pem(_statement(store, f"keys/{told['replaces']}", before, "key", KEY_TYPE)["public"])
    open_envelope(store.get_record(digest, "key"), KEY_TYPE, {old.keyid: old}, f"the record of {name}")


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
