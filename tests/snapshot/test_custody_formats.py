"""Keys, signatures and tombstones of version 1 are read for ever."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # it ships no types

from stillrun_snapshot.digest import digest_of
from stillrun_snapshot.dsse import open_envelope
from stillrun_snapshot.ed25519 import PublicKey
from stillrun_snapshot.keys import known_keys
from stillrun_snapshot.record import canonical_bytes, parse_record
from stillrun_snapshot.redaction import check_tombstone, tombstone_of
from stillrun_snapshot.refs import RefChange
from stillrun_snapshot.store import Store

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "fixtures/formats"
FILES = {
    "keys/v1/key-old.json": "key",
    "keys/v1/key-new.json": "key",
    "keys/v1/revocation-old.json": "revocation",
    "signature/v1/signature.json": "signature",
    "redaction/v1/tombstone.json": "tombstone",
}


@pytest.mark.parametrize(("file", "kind"), FILES.items())
def test_each_fits_its_schema_and_is_canonical(file: str, kind: str) -> None:
    data = (GOLDEN / file).read_bytes()
    schema = json.loads((ROOT / f"docs/spec/schemas/{kind}-1.json").read_text())
    Draft202012Validator.check_schema(schema)
    Draft202012Validator(schema).validate(json.loads(data))
    assert canonical_bytes(parse_record(data, f"stillrun/{kind}/1")) == data


def keyid_of(record: bytes) -> str:
    told: str = json.loads(base64.b64decode(json.loads(record)["payload"]))["keyid"]
    return told


def with_keys(store: Store) -> None:
    """Put the golden keys in a store, as their refs have it."""
    for file, kind in (("key-old", "keys"), ("key-new", "keys"), ("revocation-old", "revocations")):
        record = (GOLDEN / f"keys/v1/{file}.json").read_bytes()
        store.refs.set([RefChange(f"{kind}/{keyid_of(record)}", store.put(record))])


def test_keys_with_their_rotation_and_revocation(store: Store) -> None:
    with_keys(store)
    old, new = sorted(known_keys(store).values(), key=lambda key: key.replaces or "")
    assert (old.replaces, new.replaces, new.revocation) == (None, old.keyid, None)
    assert old.revocation is not None and old.revocation.reason == "laptop was lost"


def test_a_signature(store: Store) -> None:
    key = PublicKey.of_pem((GOLDEN / "signature/v1/key.pem").read_text())
    record = json.loads((GOLDEN / "signature/v1/signature.json").read_bytes())
    opened = open_envelope(record, "application/vnd.stillrun.statement+json", {key.keyid: key})
    told = parse_record(opened.payload, "stillrun/statement/1")
    assert (told["meaning"], told["run"]) == ("approved for use", "Digits/20261123-040000-123x7")


def test_a_tombstone(store: Store) -> None:
    with_keys(store)
    digest = digest_of(canonical_bytes({"schema": "stillrun/thing/1", "text": "secret", "rest": 7}))
    store.put((GOLDEN / "redaction/v1/stand-in.json").read_bytes())
    tombstone = store.put((GOLDEN / "redaction/v1/tombstone.json").read_bytes())
    store.refs.set([RefChange(f"redactions/{digest.hex}", tombstone)])
    found = tombstone_of(store, digest)
    assert found is not None and (found.reason, found.purposes) == ("a password", ["artifact start/0/table"])
    keys = {keyid: known.public for keyid, known in known_keys(store).items()}
    assert check_tombstone(store, found, keys) in keys
    assert store.get_record(digest, "thing")["text"] == "(redacted)"
