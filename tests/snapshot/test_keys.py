from __future__ import annotations

import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stillrun_snapshot.dsse import EnvelopeUnsound, envelope
from stillrun_snapshot.ed25519 import KeyUnsound, PrivateKey
from stillrun_snapshot.errors import RefConflict, StillrunError
from stillrun_snapshot.keys import KEY_TYPE, KeyRefused, known_keys, publish_key, revoke_key
from stillrun_snapshot.own_keys import KeyMissing, OwnKeys
from stillrun_snapshot.record import canonical_bytes
from stillrun_snapshot.refs import RefChange
from stillrun_snapshot.store import Store


@pytest.fixture
def own(tmp_path: Path) -> OwnKeys:
    return OwnKeys(tmp_path / "config/keys")


def test_a_secret_is_readable_by_its_user_alone(own: OwnKeys) -> None:
    key = own.new("Ada")
    path = own.folder / f"{key.keyid}.pem"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(own.folder.stat().st_mode) == 0o700
    assert own.secret(own.find(None)).keyid == key.keyid
    path.chmod(0o640)
    with pytest.raises(KeyUnsound, match="chmod 600"):
        own.secret(own.find("Ada"))


def test_keys_are_found_by_name_or_beginning_and_the_newest_is_taken(own: OwnKeys) -> None:
    with pytest.raises(KeyMissing, match="you have no key"):
        own.find(None)
    one, two = own.new("Ada"), own.new("Bob")
    assert own.find(None).keyid == two.keyid
    assert own.find("Ada").keyid == own.find(one.keyid[:8]).keyid == one.keyid
    assert own.find(None, frozenset({two.keyid})).keyid == one.keyid
    for name, told in (("Eve", "none of your keys"), (two.keyid, "was revoked")):
        with pytest.raises(KeyMissing, match=told):
            own.find(name, frozenset({two.keyid}))
    own.new("Ada")
    with pytest.raises(KeyMissing, match="2 of your keys"):
        own.find("Ada")


def test_a_key_file_that_holds_another_key_is_refused(own: OwnKeys) -> None:
    one, two = own.new("Ada"), own.new("Bob")
    (own.folder / f"{one.keyid}.pem").write_text(two.pem)
    with pytest.raises(KeyUnsound, match="holds another key"):
        own.secret(own.find("Ada"))
    (own.folder / f"{one.keyid}.pem").unlink()
    with pytest.raises(KeyMissing, match="cannot be read"):
        own.secret(own.find("Ada"))
    (own.folder / f"{one.keyid}.json").write_text("{}")
    with pytest.raises(KeyUnsound):
        list(own.all())


@pytest.fixture
def system_keyring(tmp_path: Path) -> Iterator[Path]:
    """The real package, on a backend that keeps its entries in a file."""
    keyring = pytest.importorskip("keyring", reason="an optional package")
    from keyring.backend import KeyringBackend

    class FileRing(KeyringBackend):
        priority = 1

        def get_password(self, service: str, username: str) -> str | None:
            path = tmp_path / f"{service}-{username}"
            return path.read_text() if path.exists() else None

        def set_password(self, service: str, username: str, password: str) -> None:
            if (tmp_path / "locked").exists():
                raise keyring.errors.KeyringLocked("it is locked.")
            (tmp_path / f"{service}-{username}").write_text(password)

    before = keyring.get_keyring()
    keyring.set_keyring(FileRing())
    yield tmp_path
    keyring.set_keyring(before)


def test_a_secret_can_be_kept_by_the_systems_keyring(own: OwnKeys, system_keyring: Path) -> None:
    key = own.new("Ada", place="keyring")
    assert not list(own.folder.glob("*.pem"))
    assert own.secret(own.find("Ada")).keyid == key.keyid
    (system_keyring / f"stillrun-{key.keyid}").unlink()
    with pytest.raises(KeyMissing, match="not in the system's keyring"):
        own.secret(own.find("Ada"))
    (system_keyring / "locked").touch()
    with pytest.raises(KeyMissing, match="it is locked"):
        own.new("Bob", place="keyring")


def test_without_the_package_the_way_out_is_told(own: OwnKeys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keyring", None)
    with pytest.raises(KeyMissing, match="pip install"):
        own.new("Ada", place="keyring")


# -- in a store ----------------------------------------------------------------------------------------------------


def test_keys_their_rotation_and_their_revocation_are_lines_of_the_log(store: Store) -> None:
    old, new = PrivateKey.new(), PrivateKey.new()
    publish_key(store, old, "Ada")
    publish_key(store, new, "Ada", replaces=old)
    revoke_key(store, old.keyid, "laptop was lost", "Ada", signer=new)
    names = [event.name for event in store.refs.events()]
    assert names == [f"keys/{old.keyid}", f"keys/{new.keyid}", f"revocations/{old.keyid}"]
    known = known_keys(store)
    assert (known[new.keyid].replaces, known[new.keyid].revocation) == (old.keyid, None)
    gone = known[old.keyid].revocation
    assert gone is not None and (gone.reason, gone.compromised) == ("laptop was lost", False)
    publish_key(store, new, "Ada")
    assert store.refs.check() == 3


def test_a_revocation_is_made_once_and_of_known_keys(store: Store) -> None:
    key = PrivateKey.new()
    with pytest.raises(KeyRefused, match="not known"):
        revoke_key(store, key.keyid, "r", "Ada")
    publish_key(store, key, "Ada")
    revoke_key(store, key.keyid, "r", "Ada")
    with pytest.raises(KeyRefused, match="already"):
        revoke_key(store, key.keyid, "r", "Ada")
    with pytest.raises(KeyRefused, match="one line"):
        publish_key(store, PrivateKey.new(), "two\nlines")


def planted(store: Store, name: str, statement: dict[str, Any], *keys: PrivateKey) -> None:
    record = {"schema": "stillrun/key/1", **envelope(KEY_TYPE, canonical_bytes(statement), *keys)}
    try:
        store.refs.set([RefChange(name, store.put_record(record))])
    except RefConflict:
        raise AssertionError from None


def test_a_planted_key_is_refused_by_name(store: Store) -> None:
    key, other = PrivateKey.new(), PrivateKey.new()
    told = {
        "schema": "stillrun/key-statement/1",
        "keyid": key.keyid,
        "public": key.public.pem,
        "holder": "Ada",
        "time": "2026-11-23T04:00:00.123Z",
        "replaces": None,
    }
    for name, statement, keys, why in (
        (f"keys/{other.keyid}", told, [key], "holds another key"),
        (f"keys/{key.keyid}", told, [other], "no key that is known"),
        (f"keys/{key.keyid}", {**told, "replaces": other.keyid}, [key], "replaces a key that is not known"),
        (f"keys/{key.keyid}", {**told, "public": "x"}, [key], "no public key"),
        (f"keys/{key.keyid}", {k: v for k, v in told.items() if k != "holder"}, [key], "does not say its 'holder'"),
    ):
        planted(store, name, statement, *keys)
        with pytest.raises(StillrunError, match=why):
            known_keys(store)
        store.refs.set([RefChange(name, None)])
    publish_key(store, other, "Ada")
    planted(store, f"keys/{key.keyid}", {**told, "replaces": other.keyid}, key)  # not signed by the one it replaces
    with pytest.raises(EnvelopeUnsound):
        known_keys(store)
