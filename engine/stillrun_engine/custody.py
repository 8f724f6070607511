"""What vouches for a run and goes with it: signatures, keys, revocations. Rules: docs/spec/bundle.md §6."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from stillrun_engine.bundle import VOUCHING
from stillrun_engine.errors import EngineError
from stillrun_engine.signing import read_statement
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.errors import StillrunError
from stillrun_snapshot.keys import KnownKey, keys_among, known_keys
from stillrun_snapshot.store import Store

__all__ = ["CustodyUnsound", "check_custody", "custody_of", "doubted"]


class CustodyUnsound(EngineError):
    """What came as a signature or key of a run is none, or is not that run's."""


def custody_of(store: Store, run: str, record: Digest) -> dict[str, Digest]:
    """The refs of what vouches for FLOW/RUN. Signatures that do not, or not for this record of it, stay where they are."""
    signatures = dict(store.refs.names(f"signatures/{run}/"))
    if not signatures:
        return {}
    known = known_keys(store)
    found: dict[str, Digest] = {}
    signers: set[str] = set()
    for name, digest in signatures.items():
        try:
            signers.add(_signer(store, name, digest, known, run, record))
        except StillrunError:  # 'verify' says of it what is wrong
            continue
        found[name] = digest
    own = ((name, store.refs.get(name)) for name in _names_of_keys(signers, known))
    return found | {name: digest for name, digest in own if digest is not None}


def check_custody(store: Store, runs: Mapping[str, Digest], refs: Mapping[str, Digest]) -> set[str]:
    """The names of the refs that vouch for ``runs`` (FLOW/RUN to record); a StillrunError when one of them is not what it says.

    The store holds what the refs lead to. Sound keys that signed nothing are let be: they are left where what several stores
    said of a run came together.
    """
    known = keys_among(store, _custody_among(refs))
    names: set[str] = set()
    for name, digest in refs.items():
        kind, _, rest = name.partition("/")
        run = rest.rpartition("/")[0]
        if kind == "signatures" and run in runs:
            _signer(store, name, digest, known, run, runs[run])
            names.add(name)
        elif rest in known and kind in ("keys", "revocations"):
            names.add(name)
    return names


def doubted(store: Store, refs: Mapping[str, Digest]) -> dict[str, str]:
    """Those of ``refs`` that are not to be set here, and why: what anybody may have written revokes no key that is known here.

    A key that came with its revocation is what those say who passed both on. A key of before is revoked by itself, or by one
    that took over from it: otherwise who can write to a remote could take the force from every signature of a team.
    """
    found: dict[str, str] = {}
    fresh = {name for name in refs if name.startswith("revocations/") and store.refs.get(name) is None}
    old = {name for name in fresh if store.refs.get(f"keys/{name.split('/')[1]}") is not None}
    if not old:
        return found
    known = keys_among(store, _custody_among(refs))
    for name in sorted(old):
        key = known[name.split("/")[1]]
        gone = key.revocation
        assert gone is not None, "it is among the refs"
        heirs = {key.keyid, *(other.keyid for other in known.values() if other.replaces == key.keyid)}
        if not heirs & set(gone.signers):
            found[name] = (
                f"the key {key.keyid[:16]} of {key.holder[:60]} is said to be revoked ({gone.reason[:80]}), and neither it "
                f"nor one that took over from it has signed that: it was not taken over. If it is true, say so here: "
                f"stillrun key revoke {key.keyid[:16]} --reason WHY"
            )
    return found


def _custody_among(refs: Mapping[str, Digest]) -> dict[str, Digest]:
    return {name: digest for name, digest in refs.items() if name.split("/")[0] in VOUCHING}


def _signer(store: Store, name: str, digest: Digest, known: Mapping[str, KnownKey], run: str, record: Digest) -> str:
    told = read_statement(store, name, digest, known)
    if (told.run, told.record) != (run, record) or not name.endswith(f"/{digest.hex[:16]}"):
        raise CustodyUnsound(f"the signature {name} is for {told.run[:200]} with the record {told.record[7:19]}….")
    return told.keyid


def _names_of_keys(keyids: Iterable[str], known: Mapping[str, KnownKey]) -> set[str]:
    """Keys, those they took over from, those that revoked one of them, and the revocations."""
    found: set[str] = set()
    waiting = list(keyids)
    while waiting:
        key = known[waiting.pop()]
        if f"keys/{key.keyid}" in found:
            continue
        found.add(f"keys/{key.keyid}")
        waiting += [key.replaces] if key.replaces else []
        if key.revocation is not None:
            found.add(f"revocations/{key.keyid}")
            waiting += key.revocation.signers
    return found
