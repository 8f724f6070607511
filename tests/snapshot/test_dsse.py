from __future__ import annotations

import base64
import copy
import subprocess
from pathlib import Path
from typing import Any

import pytest

from stillrun_snapshot.dsse import EnvelopeUnsound, envelope, open_envelope, pre_authentication
from stillrun_snapshot.ed25519 import KeyUnsound, PrivateKey, PublicKey

KIND = "application/vnd.test+json"


@pytest.fixture(scope="module")
def key() -> PrivateKey:
    return PrivateKey.new()


def verifiers(*keys: PrivateKey) -> dict[str, PublicKey]:
    return {each.keyid: each.public for each in keys}


def test_what_is_signed_is_as_the_standard_says() -> None:
    # the example of the DSSE v1 protocol
    assert (
        pre_authentication("http://example.com/HelloWorld", b"hello world")
        == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )


def test_an_envelope_gives_back_what_was_signed_and_by_whom(key: PrivateKey) -> None:
    other = PrivateKey.new()
    held = envelope(KIND, b"payload", key, other)
    before = copy.deepcopy(held)
    assert open_envelope(held, KIND, verifiers(key, other)).keyids == (key.keyid, other.keyid)
    opened = open_envelope(held, KIND, verifiers(other))
    assert (opened.payload, opened.keyids) == (b"payload", (other.keyid,))
    assert held == before


def flipped(text: str) -> str:
    raw = bytearray(base64.b64decode(text))
    raw[3] ^= 1
    return base64.b64encode(raw).decode()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda e: e.update(payload=flipped(e["payload"])), "is wrong"),
        (lambda e: e["signatures"][0].update(sig=flipped(e["signatures"][0]["sig"])), "is wrong"),
        (lambda e: e["signatures"][0].update(keyid="0" * 64), "no key that is known here"),
        (lambda e: e.update(signatures=[]), "signed by nobody"),
        (lambda e: e.update(payloadType="application/other"), "was expected"),
        (lambda e: e.update(payload="no base64!"), "no signed envelope"),
        (lambda e: e.pop("signatures"), "no signed envelope"),
        (lambda e: e.update(signatures=[{"sig": 1}]), "no signed envelope"),
    ],
)
def test_every_change_of_an_envelope_is_refused(key: PrivateKey, change: Any, told: str) -> None:
    held = envelope(KIND, b"payload", key)
    change(held)
    with pytest.raises(EnvelopeUnsound, match=told):
        open_envelope(held, KIND, verifiers(key))


def test_a_type_cannot_be_swapped_even_when_the_reader_wants_the_other(key: PrivateKey) -> None:
    held = {**envelope(KIND, b"payload", key), "payloadType": "application/other"}
    with pytest.raises(EnvelopeUnsound, match="is wrong"):
        open_envelope(held, "application/other", verifiers(key))


def test_openssl_alone_verifies_and_names_the_key(key: PrivateKey, tmp_path: Path) -> None:
    held = envelope(KIND, b"payload", key)
    (tmp_path / "pub.pem").write_text(key.public.pem)
    (tmp_path / "pae").write_bytes(pre_authentication(KIND, b"payload"))
    (tmp_path / "sig").write_bytes(base64.b64decode(held["signatures"][0]["sig"]))
    words = "openssl pkeyutl -verify -pubin -inkey pub.pem -rawin -in pae -sigfile sig"
    done = subprocess.run(words.split(), cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "Verified Successfully" in done.stdout
    named = subprocess.run(
        "openssl pkey -pubin -in pub.pem -outform DER | sha256sum",
        shell=True,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert named.stdout.split()[0] == key.keyid


def test_a_key_survives_being_written_and_other_keys_are_refused(key: PrivateKey, tmp_path: Path) -> None:
    assert PrivateKey.of_pem(key.pem).keyid == PublicKey.of_pem(key.public.pem).keyid == key.keyid
    with pytest.raises(KeyUnsound, match="no private key"):
        PrivateKey.of_pem("nonsense")
    with pytest.raises(KeyUnsound, match="no public key"):
        PublicKey.of_pem(key.pem)
    for kind, read in (("X25519", PrivateKey.of_pem), ("EC", PrivateKey.of_pem)):
        extra = ["-pkeyopt", "ec_paramgen_curve:P-256"] if kind == "EC" else []
        words = ["openssl", "genpkey", "-algorithm", kind, *extra]
        other = subprocess.run(words, capture_output=True, text=True, check=True).stdout
        with pytest.raises(KeyUnsound, match="another kind"):
            read(other)
