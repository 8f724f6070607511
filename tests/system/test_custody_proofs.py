"""What other people's tools say of our signatures and checkpoints, and every class of bytes in a store flipped once."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.conftest import Commands
from tests.snapshot.test_timestamping import Server, make_authority
from tests.system.test_custody import Evidence, checked, opened, origin, told

from stillrun_snapshot.checkpoint import verifier_line
from stillrun_snapshot.digest import Digest, digest_of
from stillrun_snapshot.errors import StillrunError
from stillrun_snapshot.logtree import LogTree
from stillrun_snapshot.redaction import Redaction, redact
from stillrun_snapshot.store import Store

__all__ = ["origin"]
pytestmark = pytest.mark.slow

VERIFIER = """
import json, sys, hashlib
import aics_tlog as t
from pymerkle import InmemoryTree

told = json.load(open(sys.argv[1]))
key = t.parse_vkey(told["key"])
note = t.parse_note(told["note"])
found = t.verify_checkpoint(note, key)
assert found.ok, found
assert not t.verify_checkpoint(t.parse_note(told["forged"]), key).ok
lines = [line.encode() for line in told["lines"]]
root = bytes.fromhex(told["root"])
for index, line in enumerate(lines):
    proof = [bytes.fromhex(each) for each in told["inclusion"][index]]
    assert t.verify_leaf_inclusion(line, index, len(lines), proof, root)
    assert not t.verify_leaf_inclusion(line + b" ", index, len(lines), proof, root)
for old, (old_root, proof) in enumerate(told["consistency"], 1):
    given = [bytes.fromhex(each) for each in proof]
    assert t.verify_consistency(old, len(lines), bytes.fromhex(old_root), root, given)
    assert not t.verify_consistency(old, len(lines), hashlib.sha256(b"x").digest(), root, given)
tree = InmemoryTree(algorithm="sha256")
for line in lines:
    tree.append_entry(line)
assert tree.get_state() == root
print("verified", len(lines))
"""


@pytest.fixture(scope="module")
def verifiers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python of 3.12 or later with independent verifiers of transparency logs."""
    found = [str(each) for each in sorted(Path.home().glob(".pyenv/versions/3.1[2-9]*/bin/python3"))]
    found += [each for minor in (12, 13, 14) if (each := shutil.which(f"python3.{minor}"))]
    python = next((each for each in found if subprocess.run([each, "-c", ""]).returncode == 0), None)
    if python is None:
        pytest.skip("the verifier of checkpoints needs a Python of 3.12 or later, and there is none")
    folder = tmp_path_factory.mktemp("verifiers") / "venv"
    subprocess.run([python, "-m", "venv", folder], check=True)
    subprocess.run([folder / "bin/pip", "install", "-q", "aics-tlog==0.2.1", "pymerkle==7.0.0"], check=True)
    return folder / "bin/python"


def test_independent_verifiers_agree_on_checkpoints_and_proofs(
    origin: Evidence, verifiers: Path, lonely: Commands, tmp_path: Path
) -> None:
    lonely.store = origin.root
    assert lonely("key", "new", "--holder", "Ada").code == 0
    assert lonely("checkpoint", "export", "-o", "kept").code == 0
    note = (lonely.cwd / "kept").read_text()
    with Store.open(origin.root) as store:
        tree = LogTree(store.root)
        size = tree.size
        facts = {
            "key": lonely("key", "export", "--checkpoint").out.strip(),
            "note": note,
            "forged": note.replace(f"\n{size}\n", f"\n{size - 1}\n"),
            "root": tree.root().hex(),
            "lines": [tree.line(index).decode() for index in range(size)],
            "inclusion": [[each.hex() for each in tree.inclusion(index)] for index in range(size)],
            "consistency": [
                (tree.root(old).hex(), [each.hex() for each in tree.consistency(old)]) for old in range(1, size + 1)
            ],
        }
        assert verifier_line(tree.origin, origin.key.public) != facts["key"]
    (tmp_path / "facts.json").write_text(json.dumps(facts))
    (tmp_path / "verify.py").write_text(VERIFIER)
    done = subprocess.run([verifiers, tmp_path / "verify.py", tmp_path / "facts.json"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"verified {size}\n"


def test_a_signature_is_verified_by_openssl_alone(origin: Evidence, lonely: Commands) -> None:
    lonely.store = origin.root
    assert lonely("key", "new", "--holder", "Ada").code == 0
    assert lonely("sign", origin.run, "--as", "reproduced", "-o", "approval.json").code == 0
    assert lonely("key", "export", "-o", "key.pem").code == 0
    held = json.loads((lonely.cwd / "approval.json").read_text())
    payload, kind = base64.b64decode(held["payload"]), held["payloadType"]
    statement = json.loads(payload)
    assert (statement["run"], statement["meaning"]) == (origin.run, "reproduced")
    (lonely.cwd / "sig").write_bytes(base64.b64decode(held["signatures"][0]["sig"]))
    for data, code in ((payload, 0), (payload.replace(b"reproduced", b"reproducee"), 1)):
        (lonely.cwd / "signed").write_bytes(b"DSSEv1 %d %b %d %b" % (len(kind), kind.encode(), len(data), data))
        words = "openssl pkeyutl -verify -pubin -inkey key.pem -rawin -in signed -sigfile sig"
        assert subprocess.run(words.split(), cwd=lonely.cwd, capture_output=True).returncode == code


# -- every class of bytes ------------------------------------------------------------------------------------------


def places(root: Path, kept: Evidence) -> Iterator[tuple[str, Path, int]]:
    """What, in which file, at which byte: at least one place of every class of bytes that a store has."""
    with Store.open(root) as store:
        run = opened(store, kept.run)
        task = run.task("start", "0")
        code = store.get_record(Digest(run.record["code"]), "code")
        artifact = store.get_record(Digest(task["artifacts"]["table"]), "artifact")
        records = {
            "run record": run.digest,
            "task record": next(digest for step, _, digest in run.entries() if step == "start"),
            "code record": run.record["code"],
            "tree": code["tree"],
            "description": run.record["description"],
            "artifact record": task["artifacts"]["table"],
            "artifact bytes": artifact["parts"][-1]["digest"],
            "log of a task": task["logs"]["stdout"],
            "parameter": run.record["parameters"]["seed"]["artifact"],
        }
        for kind in ("signatures", "keys", "redactions"):
            records[kind] = next(digest for _, digest in store.refs.names(f"{kind}/"))
        for what, digest in records.items():
            location = store.locate(Digest(digest))
            if location.path is not None:
                yield what, location.path, location.offset + location.size // 2
                if location.offset:
                    yield f"{what}: the header's digest", location.path, location.offset - 20
                    yield f"{what}: the header's length", location.path, location.offset - 45
    log = (root / "log").stat().st_size
    for part in (10, log // 2, log - 30):
        yield "log", root / "log", part
    yield "what a store is", root / "stillrun-store.json", 5


def test_every_class_of_bytes_flipped_once_is_found_and_named(origin: Evidence, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    shutil.copytree(origin.root, whole, symlinks=True)
    kept = Evidence(whole, origin.run, origin.other, origin.key, origin.note)
    with Store.open(whole) as store:
        secret = store.put(b"taken out")
        redact(store, [Redaction(secret, ["a test"])], "a test", "Ada", origin.key)
    assert checked(kept).sound, told(checked(kept))
    count = 0
    for what, path, place in list(places(whole, kept)):
        copy = tmp_path / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(whole, copy, symlinks=True)
        target = copy / path.relative_to(whole)
        os.chmod(target, 0o644)
        data = bytearray(target.read_bytes())
        data[place] ^= 0x01
        target.write_bytes(data)
        try:
            found = checked(Evidence(copy, kept.run, kept.other, kept.key, kept.note))
            words, sound = told(found), found.sound
        except StillrunError as error:
            words, sound = str(error), False
        assert not sound and words, f"{what} ({path.name}, byte {place}) was changed and nobody saw it"
        count += 1
    print(f"{count} places")
    assert count >= 20


def test_caches_flipped_or_lost_change_no_verdict(origin: Evidence, tmp_path: Path) -> None:
    for number, change in enumerate(("flip", "cut", "gone")):
        copy = tmp_path / str(number)
        shutil.copytree(origin.root, copy, symlinks=True)
        with Store.open(copy) as store:
            store.reindex()  # nobody needed an index in a file yet
        for path in [*(copy / "cache/merkle").iterdir(), copy / "catalog.sqlite"]:
            data = bytearray(path.read_bytes())
            if change == "gone":
                path.unlink()
            elif data:
                data[len(data) // 2] ^= 1
                path.write_bytes(data if change == "flip" else data[: len(data) // 2])
        found = checked(Evidence(copy, origin.run, origin.other, origin.key, origin.note))
        assert found.sound, told(found)


def test_a_flipped_checkpoint_agrees_with_nothing(origin: Evidence, lonely: Commands) -> None:
    from stillrun_snapshot.checkpoint import note_text

    lonely.store = origin.root
    text = note_text(origin.note.checkpoint, origin.key).encode()
    (lonely.cwd / "key.pem").write_text(origin.key.public.pem)
    for place in range(0, len(text), 9):
        changed = bytearray(text)
        changed[place] ^= 0x02
        (lonely.cwd / "kept").write_bytes(changed)
        done = lonely("checkpoint", "check", "kept", "--trust", "key.pem")
        assert done.code == 2 and "Traceback" not in done.err, (place, done.out, done.err)


def test_digests_are_of_what_sha256sum_reads(origin: Evidence) -> None:
    """The objects of a store are checked by the tool that everybody has."""
    loose = [path for path in (origin.root / "objects").rglob("*") if path.is_file()]
    assert loose
    for path in loose:
        named = Digest(f"sha256:{path.parent.name}{path.name}")
        assert digest_of(path.read_bytes()) == named
        told_by = subprocess.run(["sha256sum", path], capture_output=True, text=True, check=True).stdout
        assert told_by.split()[0] == named.hex


def test_a_checkpoint_is_stamped_by_an_authority_and_openssl_agrees(
    origin: Evidence, lonely: Commands, tmp_path: Path
) -> None:
    authority = make_authority(tmp_path / "authority")
    server = Server(authority)
    lonely.store = origin.root
    lonely.variables["STILLRUN_TIMESTAMP_URL"] = server.url
    try:
        assert lonely("checkpoint", "export").code == 2  # a stamp needs a file to stand beside
        assert lonely("checkpoint", "export", "-o", "kept").code == 0
    finally:
        server.close()
    words = f"openssl ts -verify -data kept -in kept.tsr -CAfile {authority}/ca.pem"
    assert subprocess.run(words.split(), cwd=lonely.cwd, capture_output=True).returncode == 0
    done = lonely("checkpoint", "check", "kept", "--authority", authority / "ca.pem", "--json")
    assert done.code == 0 and done.json["stamp"]["known"] and done.json["verdict"] == "agrees"
    other = make_authority(tmp_path / "other")
    assert lonely("checkpoint", "check", "kept", "--authority", other / "ca.pem").code == 2
    assert "nobody vouches for" in lonely("checkpoint", "check", "kept").out
    kept = lonely.cwd / "kept"
    kept.write_text(kept.read_text() + "\n")
    done = lonely("checkpoint", "check", "kept")
    assert done.code == 2 and "over other bytes" in done.err
    assert lonely("checkpoint", "export", "-o", "kept", "--timestamp", "http://127.0.0.1:9/").code == 2
