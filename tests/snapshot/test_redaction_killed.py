"""A redaction that is killed at each call by which it changes the disk: nothing else is lost, and the next one finishes."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.snapshot.test_redaction import SECRET, bytes_of

from stillrun_snapshot.digest import Digest
from stillrun_snapshot.ed25519 import PrivateKey
from stillrun_snapshot.errors import StoreError
from stillrun_snapshot.redaction import check_tombstone, tombstone_of
from stillrun_snapshot.store import LOOSE_MIN, Store

pytestmark = pytest.mark.slow

WORK = """
import sys
from pathlib import Path
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.ed25519 import PrivateKey
from stillrun_snapshot.redaction import Redaction, redact
from stillrun_snapshot.store import Store

root, key, *digests = sys.argv[1:]
with Store.open(Path(root)) as store:
    secret = PrivateKey.of_pem(Path(key).read_text())
    redact(store, [Redaction(Digest(each), []) for each in digests], "a password", "Ada", secret)
"""
CALLS = ("unlink", "unlinkat", "rename", "fsync", "fdatasync", "ftruncate", "write", "writev", "rmdir")


def redacted(root: Path, key: Path, digests: list[Digest], *before: str) -> int:
    words = [*before, sys.executable, "-c", WORK, str(root), str(key), *digests]
    return subprocess.run(words, capture_output=True).returncode


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace kills at a chosen call, and it is not installed")
def test_killed_at_every_call_that_changes_the_disk(tmp_path: Path) -> None:
    key = PrivateKey.new()
    (tmp_path / "key.pem").write_text(key.pem)
    with Store.open(tmp_path / "whole") as store:
        kept = [store.put(b"object %d" % number) for number in range(20)]
        kept.append(store.put(bytes(LOOSE_MIN)))
        gone = [store.put(SECRET), store.put(SECRET * (LOOSE_MIN // len(SECRET) + 1))]
        (store.cache_dir("trees") / "t").mkdir()
        (store.root / "trees/t/flow.py").write_bytes(SECRET)
    reached, finished = 0, 0
    for call in CALLS:
        for number in range(1, 400):
            root = tmp_path / "store"
            shutil.rmtree(root, ignore_errors=True)
            shutil.copytree(tmp_path / "whole", root)
            kill = ("-e", f"trace={call}", "-e", f"inject={call}:signal=SIGKILL:when={number}")
            if redacted(root, tmp_path / "key.pem", gone, "strace", "-f", "-qq", "-o", "/dev/null", *kill) == 0:
                finished += 1
                break
            reached += 1
            with Store.open(root) as store:
                for each in kept:
                    store.verify(each)
                for each in gone:
                    found = tombstone_of(store, each)
                    if found is None:
                        store.verify(each)
                    elif store.has(each):
                        with pytest.raises(StoreError, match="all the same"):
                            check_tombstone(store, found, {key.keyid: key.public})
            assert redacted(root, tmp_path / "key.pem", gone) == 0
            assert SECRET not in bytes_of(root)
            with Store.open(root) as store:
                assert [store.verify(each) for each in kept]
    print(f"killed at {reached} calls of {finished} kinds")
    assert reached > 20
