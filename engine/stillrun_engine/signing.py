"""Signatures over runs: who stands for one, when, and in which words. Format: docs/spec/signature.md."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from stillrun_engine.archive import KeptRun
from stillrun_engine.errors import EngineError
from stillrun_snapshot.checkpoint import checkpoint_of
from stillrun_snapshot.clock import Clock, timestamp, utc_now
from stillrun_snapshot.deferred import dataclass
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.dsse import EnvelopeUnsound, envelope, open_envelope
from stillrun_snapshot.ed25519 import PrivateKey, PublicKey
from stillrun_snapshot.errors import StillrunError
from stillrun_snapshot.keys import KnownKey, LogPlace, check_line, known_keys, publish_key
from stillrun_snapshot.logtree import LogTree
from stillrun_snapshot.record import canonical_bytes, parse_record
from stillrun_snapshot.refs import RefChange
from stillrun_snapshot.store import Store

__all__ = [
    "CheckedSignature",
    "Keys",
    "SignRefused",
    "Statement",
    "keys_held",
    "keys_of",
    "read_statement",
    "sign_run",
    "signatures_of",
    "statement_facts",
]

STATEMENT_TYPE = "application/vnd.stillrun.statement+json"
Standing = Literal["sound", "stranger", "revoked", "stale", "unsound"]


class SignRefused(EngineError):
    """A run cannot be signed as asked."""


@dataclass(frozen=True)
class CheckedSignature:
    """One signature and how it stands.

    standing: 'sound'; 'stranger': sound, by a key that is none of those trusted; 'revoked'; 'stale': over another record of
    the run; 'unsound'. told: that in a sentence. record: what it covers. line: of the log, counted from 1.
    """

    ref: str
    keyid: str
    standing: Standing
    told: str
    signer: str = ""
    meaning: str = ""
    time: str = ""
    record: str = ""
    line: int | None = None

    @property
    def counts(self) -> bool:
        """Whether it may be relied on, as far as its key may be."""
        return self.standing in ("sound", "stranger")


@dataclass(frozen=True)
class Statement:
    """What a signature says, and the key that says it. log: where the log was that it was said in."""

    keyid: str
    run: str
    record: str
    signer: str
    meaning: str
    time: str
    log: LogPlace | None


@dataclass(frozen=True)
class Keys:
    """What signatures are checked with. trusted: keys that the checker was handed; None when there are none."""

    known: Mapping[str, KnownKey]
    trusted: frozenset[str] | None


def keys_of(store: Store, trusted: Iterable[PublicKey] = ()) -> Keys:
    """The keys that the store knows, of which ``trusted`` are taken from elsewhere, revoked or not."""
    known = dict(known_keys(store))
    handed = list(trusted)
    for key in handed:
        known.setdefault(key.keyid, KnownKey(key, "", "", None, None))
    return Keys(known, frozenset(key.keyid for key in handed) if handed else None)


def keys_held(store: Store, trusted: Iterable[PublicKey] = ()) -> tuple[Keys, str | None]:
    """``keys_of``; where a key of the store is not what it says, only what was handed over, and what is wrong."""
    handed = list(trusted)
    try:
        return keys_of(store, handed), None
    except StillrunError as error:
        known = {key.keyid: KnownKey(key, "", "", None, None) for key in handed}
        return Keys(known, frozenset(known)), f"a key of the store: {error}"


def sign_run(run: KeptRun, key: PrivateKey, signer: str, meaning: str, *, clock: Clock = utc_now) -> str:
    """Sign the final record of a run and return the ref of the signature. Raises SignRefused."""
    store = run.store
    if run.status == "running":
        raise SignRefused(f"{run.pathspec} is still going on; it can be signed when it has ended.")
    if "tasks" not in run.record:
        raise SignRefused(f"{run.pathspec} was cut off and has no final record that a signature could cover.")
    known = known_keys(store).get(key.keyid)
    if known is not None and known.revocation is not None:
        raise SignRefused(f"the key {key.keyid[:16]} was revoked ({known.revocation.reason}); use another.")
    publish_key(store, key, signer, clock=clock)
    head = checkpoint_of(LogTree(store.root))
    statement = {
        "schema": "stillrun/statement/1",
        "run": run.pathspec,
        "record": run.digest,
        "meaning": check_line(meaning, "what the signature means"),
        "signer": check_line(signer, "the signer"),
        "time": timestamp(clock()),
        "log": {"origin": head.origin, "size": head.size, "root": base64.b64encode(head.root).decode()},
    }
    record = {"schema": "stillrun/signature/1", **envelope(STATEMENT_TYPE, canonical_bytes(statement), key)}
    digest = store.put_record(record)
    ref = f"signatures/{run.pathspec}/{digest.hex[:16]}"
    store.refs.set([RefChange(ref, digest, None)])
    return ref


def signatures_of(run: KeptRun, keys: Keys, tree: LogTree) -> list[CheckedSignature]:
    """Every signature over the run, checked, in the order of the log."""
    found = [
        _checked(run, name, digest, keys, tree) for name, digest in run.store.refs.names(f"signatures/{run.pathspec}/")
    ]
    return sorted(found, key=lambda each: (each.line or 0, each.ref))


def read_statement(store: Store, ref: str, digest: Digest, known: Mapping[str, KnownKey]) -> Statement:
    """What the signature ``ref`` says. Raises a StillrunError unless it is one, by a key among ``known``."""
    record = store.get_record(digest, "signature")
    verifiers = {keyid: key.public for keyid, key in known.items()}
    opened = open_envelope(record, STATEMENT_TYPE, verifiers, f"the signature {ref}")
    told = parse_record(opened.payload, "stillrun/statement/1")
    try:
        run, covered, who, meaning, time = (str(told[name]) for name in ("run", "record", "signer", "meaning", "time"))
    except KeyError as error:
        raise EnvelopeUnsound(f"the statement of {ref} does not say its {error}.") from error
    return Statement(opened.keyids[0], run, covered, who, meaning, time, LogPlace.told(told.get("log")))


def _checked(run: KeptRun, ref: str, digest: Digest, keys: Keys, tree: LogTree) -> CheckedSignature:
    place = tree.find(ref)
    line = None if place is None else place + 1
    try:
        told = read_statement(run.store, ref, digest, keys.known)
    except StillrunError as error:
        return CheckedSignature(ref, "", "unsound", str(error), line=line)
    standing, why = _standing(run, told, keys.known[told.keyid], place, tree)
    if standing == "sound" and keys.trusted is not None and told.keyid not in keys.trusted:
        standing, why = "stranger", f"the key {told.keyid[:16]} is none of those you trust."
    facts = {"signer": told.signer, "meaning": told.meaning, "time": told.time}
    return CheckedSignature(ref, told.keyid, standing, why, record=told.record, line=line, **facts)


def _standing(run: KeptRun, told: Statement, known: KnownKey, place: int | None, tree: LogTree) -> tuple[Standing, str]:
    if told.run != run.pathspec:
        return "unsound", f"it was made for {told.run[:200]}, and put here by somebody."
    if told.record != run.digest:
        return "stale", f"it covers the record {told.record[7:19]}…, and the run's is {run.digest.hex[:12]}… now."
    gone = known.revocation
    if gone is not None:
        if gone.compromised or not _is_before(told, known, place, tree):
            when = "whenever it was made" if gone.compromised else "and nothing shows that it was not made after that"
            return "revoked", f"its key was revoked at {gone.time} ({gone.reason}), {when}."
        return "sound", f"its key was revoked later, at {gone.time} ({gone.reason})."
    return "sound", ""


def _is_before(told: Statement, known: KnownKey, place: int | None, tree: LogTree) -> bool:
    """Whether a signature was made before its key was revoked (docs/spec/signature.md §4).

    Where both were said in one log that is not this one, they say themselves which came first; else this log does.
    """
    gone = known.revocation
    if gone is not None and told.log and gone.log and told.log.origin == gone.log.origin != tree.origin:
        return told.log.size < gone.log.size
    since = tree.find(f"revocations/{known.keyid}")
    return place is not None and since is not None and place < since


def statement_facts(signature: CheckedSignature) -> dict[str, Any]:
    """A signature as programs are told it."""
    return {
        "ref": signature.ref,
        "key": signature.keyid,
        "standing": signature.standing,
        "told": signature.told,
        "signer": signature.signer,
        "meaning": signature.meaning,
        "time": signature.time,
        "line": signature.line,
    }
