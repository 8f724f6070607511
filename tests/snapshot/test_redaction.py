from __future__ import annotations

import os
from pathlib import Path

import pytest

from stillrun_snapshot.digest import Digest, digest_of
from stillrun_snapshot.dsse import EnvelopeUnsound
from stillrun_snapshot.ed25519 import PrivateKey
from stillrun_snapshot.errors import ObjectMissing, ObjectRedacted, StoreError
from stillrun_snapshot.keys import KeyRefused
from stillrun_snapshot.redaction import Redaction, check_tombstone, redact, tombstone_of, tombstones
from stillrun_snapshot.refs import RefChange
from stillrun_snapshot.store import LOOSE_MIN, Store
from stillrun_snapshot.upkeep import UpkeepBusy, upkeep

SECRET = b"the password is xyzzy-4711-xyzzy"


@pytest.fixture
def key() -> PrivateKey:
    return PrivateKey.new()


def bytes_of(root: Path) -> bytes:
    """Everything that a store's folder holds, names included."""
    found = []
    for folder, _, files in os.walk(root):
        for name in files:
            found += [name.encode(), (Path(folder) / name).read_bytes()]
    return b"\n".join(found)


def take_out(store: Store, key: PrivateKey, *digests: Digest) -> None:
    redact(store, [Redaction(each, ["artifact a"]) for each in digests], "a password", "Ada", key)


def test_no_byte_of_a_redacted_object_is_left_and_all_others_are(tmp_path: Path, key: PrivateKey) -> None:
    small = [b"object %d" % number for number in range(50)]
    large = SECRET * (LOOSE_MIN // len(SECRET) + 1)
    with Store.open(tmp_path / "s") as store:
        kept = [store.put(each) for each in small[:25]]
        secret = [store.put(SECRET), store.put(large), store.put(b"prefix " + SECRET, compress=True)]
    with Store.open(tmp_path / "s") as store:
        kept += [store.put(each) for each in small[25:]]
        secret.append(store.put(SECRET + b" in our own pack"))
        store.put(SECRET)
        (store.cache_dir("trees") / "t").mkdir()
        (store.root / "trees/t/flow.py").write_bytes(SECRET)
        (store.root / "tmp/object-1").write_bytes(SECRET)
        take_out(store, key, *secret)
        assert SECRET not in bytes_of(tmp_path / "s")
        assert [store.get(each) for each in kept] == small
        for each in secret:
            assert not store.has(each)
            for ask in (store.get, store.verify, store.open_object, store.size, store.locate, store.checked):
                with pytest.raises(ObjectRedacted, match=r"redacted by Ada .*a password") as caught:
                    ask(each)
                assert isinstance(caught.value, ObjectMissing) and caught.value.digest == each
    with Store.open(tmp_path / "s") as store:
        assert [store.get(each) for each in kept] == small
        store.reindex()
        assert [store.get(each) for each in kept] == small
        assert not store.has(secret[0])


def test_a_tombstone_is_signed_and_says_what_was_there(store: Store, key: PrivateKey) -> None:
    digest = store.put(SECRET)
    take_out(store, key, digest)
    (found,) = tombstones(store)
    assert (found.digest, found.size, found.reason, found.by) == (digest, len(SECRET), "a password", "Ada")
    assert found.purposes == ["artifact a"]
    assert check_tombstone(store, found, {key.keyid: key.public}) == key.keyid
    with pytest.raises(EnvelopeUnsound):
        check_tombstone(store, found, {PrivateKey.new().keyid: PrivateKey.new().public})
    assert [event.name for event in store.refs.events()] == [f"keys/{key.keyid}", f"redactions/{digest.hex}"]


def test_a_record_may_have_a_stand_in_that_is_read_in_its_place(store: Store, key: PrivateKey) -> None:
    record = {"schema": "stillrun/thing/1", "text": SECRET.decode(), "rest": 7}
    digest = store.put_record(record)
    redact(store, [Redaction(digest, [], {**record, "text": "(redacted)"})], "a password", "Ada", key)
    assert store.get_record(digest, "thing") == {**record, "text": "(redacted)"}
    tombstone = store.refs.get(f"redactions/{digest.hex}")
    found = tombstone_of(store, digest)
    assert tombstone is not None and found is not None and found.stand_in is not None
    assert found.stand_in.encode() in store.get(tombstone)  # so that a search for what records name finds it
    with pytest.raises(ObjectRedacted):
        store.get(digest)
    assert SECRET not in bytes_of(store.root)


def test_what_is_put_again_is_named_and_goes_at_the_next_redaction(store: Store, key: PrivateKey) -> None:
    digest = store.put(SECRET)
    take_out(store, key, digest)
    assert store.put(SECRET) == digest
    found = tombstone_of(store, digest)
    assert found is not None
    with pytest.raises(StoreError, match="all the same"):
        check_tombstone(store, found, {key.keyid: key.public})
    take_out(store, key, digest)
    assert not store.has(digest)
    assert store.refs.check() == 2


def test_redacting_what_is_not_held_or_while_the_store_is_looked_after_is_refused(
    store: Store, key: PrivateKey
) -> None:
    digest = store.put(SECRET)
    with pytest.raises(ObjectMissing):
        take_out(store, key, digest_of(b"absent"))
    with pytest.raises(KeyRefused, match="one line"):
        redact(store, [Redaction(digest, [])], "", "Ada", key)
    with upkeep(store.root, "pack"), pytest.raises(UpkeepBusy):
        take_out(store, key, digest)
    with Store.open(store.root) as writer:
        writer.put(SECRET)
        other = writer.put(b"of a writer that goes on")
        writer.sync()
        store.refs.set([RefChange("a", other)])
        with pytest.raises(StoreError, match="being written"):
            take_out(store, key, other)
    take_out(store, key, digest, other)
    assert not store.has(digest) and not store.has(other)


def test_a_tombstone_for_another_object_is_no_excuse(store: Store, key: PrivateKey) -> None:
    one, two = store.put(SECRET), store.put(b"evidence")
    take_out(store, key, one)
    tombstone = store.refs.get(f"redactions/{one.hex}")
    assert tombstone is not None
    store.refs.set([RefChange(f"redactions/{two.hex}", tombstone)])
    with pytest.raises(StoreError, match="that of another object"):
        tombstone_of(store, two)
