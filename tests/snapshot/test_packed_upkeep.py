"""Packs of blocks and chunks meet garbage, damage and redaction: what is needed stays, what is not goes, damage has names."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from stillrun_snapshot._pack import CHUNK, OBJECT, RECIPE, PackEntry
from stillrun_snapshot._pieces import scan_pack
from stillrun_snapshot.digest import Digest, digest_of
from stillrun_snapshot.ed25519 import PrivateKey
from stillrun_snapshot.errors import ObjectMissing, StoreError
from stillrun_snapshot.garbage import find_garbage
from stillrun_snapshot.inspection import Finding, Inspection, inspect, remembered
from stillrun_snapshot.packing import Packed, pack_store
from stillrun_snapshot.redaction import Redaction, redact
from stillrun_snapshot.refs import RefChange
from stillrun_snapshot.store import Store
from stillrun_snapshot.sweeping import drop_damaged, sweep


def noise(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


SHARED = noise(3_000_000)
VERSIONS = [noise(700_000, seed) + SHARED for seed in range(1, 4)]  # three objects that share most of their chunks


def pack(root: Path) -> Packed:
    return pack_store(root, older_than_ns=time.time_ns() + 10**9)


def collect(root: Path) -> int:
    with Store.open(root) as store:
        found = find_garbage(store, grace_s=-1)
        gone = sweep(found)
        assert gone == found.amount
        return gone.objects


def entries(root: Path) -> list[tuple[Path, PackEntry]]:
    return [
        (path, entry)
        for path in sorted((root / "packs").iterdir())
        for entry in (piece.entry for piece in scan_pack(path).pieces)
    ]


def of_kind(root: Path, kind: int) -> set[Digest]:
    return {entry.digest for _, entry in entries(root) if entry.kind == kind}


def looked_at(root: Path, *, full: bool = True) -> Inspection:
    before = remembered(root)
    with Store.open(root) as store:
        return inspect(store, before, full=full)


def damage(path: Path, offset: int) -> None:
    path.chmod(0o600)
    with open(path, "r+b") as stream:
        stream.seek(offset)
        byte = stream.read(1)[0]
        stream.seek(offset)
        stream.write(bytes([byte ^ 1]))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A packed store: the versions and some small objects, each with a ref."""
    root = tmp_path / "s"
    with Store.open(root) as store:
        for number, data in enumerate(VERSIONS):
            store.refs.set([RefChange(f"runs/large/{number}", store.put(data))])
        for number in range(40):
            store.refs.set([RefChange(f"runs/small/{number}", store.put(b"small object %d" % number * 20))])
    assert pack(root).large == len(VERSIONS)
    return root


def forget(root: Path, *names: str) -> None:
    with Store.open(root) as store:
        store.refs.set([RefChange(name, None) for name in names])


def test_chunks_stay_while_an_object_that_stays_is_made_of_them(root: Path) -> None:
    before = of_kind(root, CHUNK)
    forget(root, "runs/large/0", "runs/small/0")
    assert collect(root) == 2
    after = of_kind(root, CHUNK)
    assert after < before
    with Store.open(root) as store:
        assert [store.get(digest_of(data)) for data in VERSIONS[1:]] == VERSIONS[1:]
        assert store.get(digest_of(b"small object 1" * 20))
        for gone in (VERSIONS[0], b"small object 0" * 20):
            with pytest.raises(ObjectMissing):
                store.get(digest_of(gone))
    assert looked_at(root).findings == []
    forget(root, "runs/large/1", "runs/large/2")
    assert collect(root) == 2
    assert not of_kind(root, CHUNK)
    assert not of_kind(root, RECIPE)


def test_an_object_in_chunks_that_a_writer_finds_there_stays_with_its_chunks(root: Path) -> None:
    forget(root, *(f"runs/large/{number}" for number in range(3)))
    with Store.open(root) as writer:
        assert writer.absent([digest_of(VERSIONS[0])]) == set()
        collect(root)
        writer.refs.set([RefChange("runs/large/7", digest_of(VERSIONS[0]))])
        assert writer.get(digest_of(VERSIONS[0])) == VERSIONS[0]


def test_an_object_that_lacks_a_chunk_is_not_taken_for_held_and_can_be_put_again(tmp_path: Path) -> None:
    root = tmp_path / "s"
    first, second = noise(900_000, 8), noise(900_000, 9) + noise(900_000, 8)
    for data in (first, second):  # the second is made of chunks of both packs
        with Store.open(root) as store:
            store.put(data)
        pack(root)
    oldest = sorted((root / "packs").iterdir())[0]
    oldest.unlink()
    with Store.open(root) as store:
        assert not store.has(digest_of(second))
        store.put(second)
        store.refs.set([RefChange("runs/a/1", digest_of(second))])
    pack(root)
    collect(root)
    with Store.open(root) as store:
        assert store.get(digest_of(second)) == second


def test_copies_for_mapping_go_with_their_object(root: Path) -> None:
    with Store.open(root) as store:
        places = [store.checked(digest_of(data)).path for data in VERSIONS]
    forget(root, "runs/large/0")
    collect(root)
    assert [place is not None and place.exists() for place in places] == [False, True, True]


def test_a_file_that_a_process_counts_on_is_packed_and_stays(tmp_path: Path) -> None:
    root = tmp_path / "s"
    data = b"row\n" * 100_000
    with Store.open(root) as store:
        digest = store.put(data)
        small = store.put(b"small")
    with Store.open(root) as other:
        assert not other.absent([digest, small])
        names = {path.name for path in (root / "packs").iterdir()}
        packed = pack(root)
        assert (packed.waiting, packed.removed) == (2, 0)
        assert (root / "objects" / digest.hex[:2] / digest.hex[2:]).exists()
        assert names < {path.name for path in (root / "packs").iterdir()}
    assert pack(root).removed == 2


def problems(found: Inspection) -> list[Finding]:
    return [one for one in found.findings if one.kind != "index"]


def test_a_damaged_block_is_told_with_every_object_in_it(root: Path) -> None:
    path, first = next((path, entry) for path, entry in entries(root) if entry.kind == OBJECT and entry.content)
    damage(path, first.offset)  # nothing of it can be decompressed
    inside = {entry.digest for each, entry in entries(root) if each == path and entry.offset == first.offset}
    found = looked_at(root)
    assert {one.digest for one in problems(found)} == inside
    assert not any(found.has(digest) for digest in inside)
    assert all(found.has(digest_of(data)) for data in VERSIONS)


def test_a_damaged_chunk_is_told_with_the_objects_made_of_it_and_mended(root: Path) -> None:
    path, chunk = next((path, entry) for path, entry in entries(root) if entry.kind == CHUNK)
    damage(path, chunk.offset + chunk.start + 10)
    found = looked_at(root)
    lost = {one.digest for one in problems(found)}
    with Store.open(root) as store:
        for data in VERSIONS:
            assert found.has(digest_of(data)) == (digest_of(data) not in lost)
        assert lost
        again = [data for data in VERSIONS if digest_of(data) in lost]
        for data in again:
            store.put(data, new=True)
        store.sync()
        drop_damaged(store, found.findings, ())
        store.reindex()
    assert looked_at(root).findings == []
    with Store.open(root) as store:
        assert [store.get(digest_of(data)) for data in VERSIONS] == VERSIONS


def test_a_pack_whose_end_is_lost_is_told_with_what_it_held(root: Path) -> None:
    path, last = max(((path, entry) for path, entry in entries(root)), key=lambda item: item[1].offset)
    held = {entry.digest for each, entry in entries(root) if each == path and entry.offset == last.offset}
    path.chmod(0o600)
    os.truncate(path, last.offset + 1)
    for full in (False, True):
        found = looked_at(root, full=full)
        assert not any(found.has(digest) for digest in held)
        assert problems(found)


def test_nothing_is_removed_while_a_chunk_that_is_needed_is_missing(root: Path) -> None:
    path, entry = next((path, entry) for path, entry in entries(root) if entry.kind == RECIPE)
    damage(path, entry.offset + entry.start + 20)
    forget(root, "runs/small/1")
    with Store.open(root) as store, pytest.raises(StoreError, match=r"nothing is removed.*is damaged"):
        find_garbage(store, grace_s=-1)


def test_no_byte_of_a_redacted_object_is_left_in_blocks_chunks_or_copies(root: Path) -> None:
    small = b"small object 3" * 20
    with Store.open(root) as store:
        for data in VERSIONS:
            store.checked(digest_of(data))
        gone = [Redaction(digest_of(data), ["artifact a"]) for data in (VERSIONS[0], small)]
        redact(store, gone, "a password", "Ada", PrivateKey.new())
    raw = b"".join(path.read_bytes() for path in root.rglob("*") if path.is_file())
    assert VERSIONS[0][1000:1100] not in raw
    assert SHARED[2_500_000:2_500_100] in raw  # others are made of it
    assert digest_of(small) not in of_kind(root, OBJECT)
    assert not (root / "cache" / "chunks" / digest_of(VERSIONS[0]).hex).exists()
    with Store.open(root) as store:
        assert [store.get(digest_of(data)) for data in VERSIONS[1:]] == VERSIONS[1:]
        assert store.get(digest_of(b"small object 4" * 20))
    assert looked_at(root).findings == []


names = st.sampled_from(["runs/a/1", "runs/a/2", "tags/a/1", "pins/a/1"])
contents = st.one_of(st.binary(max_size=20), st.sampled_from([*VERSIONS, SHARED, b"row\n" * 50_000]))


class PackedMachine(RuleBasedStateMachine):
    """Packing, garbage, redaction and forgetting in any order, beside a writer that counts on what it was told."""

    objects = Bundle("objects")

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.root = self.folder / "s"
        self.store = Store.open(self.root)
        self.key = PrivateKey.new()
        self.model: dict[Digest, bytes] = {}
        self.refs: dict[str, Digest] = {}
        self.counted: set[Digest] = set()  # on which the store that is open counts

    @rule(target=objects, data=contents)
    def put(self, data: bytes) -> Digest:
        digest = self.store.put(data)
        self.model[digest] = data
        self.counted.add(digest)
        return digest

    @rule(digest=objects)
    def ask_for(self, digest: Digest) -> None:
        if not self.store.absent([digest]):
            self.counted.add(digest)

    @rule(name=names, to=objects)
    def set_ref(self, name: str, to: Digest) -> None:
        if self.store.has(to):
            self.store.refs.set([RefChange(name, to)])
            self.refs[name] = to
            self.counted.add(to)

    @rule(name=names)
    def forget(self, name: str) -> None:
        self.store.refs.set([RefChange(name, None, note="forgotten")])
        self.refs.pop(name, None)

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store = Store.open(self.root)
        self.counted.clear()

    @rule()
    def pack(self) -> None:
        assert pack(self.root).damaged == ()

    @rule()
    def collect(self) -> None:
        with Store.open(self.root) as other:
            sweep(find_garbage(other, grace_s=-1))

    @rule(digest=objects)
    def map_into_memory(self, digest: Digest) -> None:
        if digest in self.counted:
            place = self.store.checked(digest)
            assert place.size == len(self.model[digest])

    @rule(digest=objects)
    def take_out(self, digest: Digest) -> None:
        """Redaction asks that no process is at work; a ref that leads to what is gone would be one that leads nowhere."""
        if digest in self.refs.values():
            return
        self.reopen()
        self.store.close()
        with Store.open(self.root) as other:
            if not other.has(digest) or len(self.model[digest]) < 20:
                self.store = Store.open(self.root)
                return
            redact(other, [Redaction(digest, ["test"])], "a password", "Ada", self.key)
        assert digest not in of_kind(self.root, OBJECT) | of_kind(self.root, RECIPE)
        self.store = Store.open(self.root)

    @invariant()
    def what_is_needed_is_there(self) -> None:
        needed = {*self.refs.values(), *self.counted}
        assert {digest: self.store.get(digest) for digest in needed} == {
            digest: self.model[digest] for digest in needed
        }
        assert not self.store.absent(needed)

    def teardown(self) -> None:
        self.store.close()
        assert looked_at(self.root).findings == []
        shutil.rmtree(self.folder)


PackedMachine.TestCase.settings = settings(
    max_examples=3, stateful_step_count=10, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestPackedMachine = PackedMachine.TestCase


@pytest.mark.slow
def test_many_orders_of_packing_garbage_redaction_and_forgetting() -> None:
    """The same machine for some minutes."""
    run_state_machine_as_test(  # type: ignore[no-untyped-call]  # hypothesis gives it no types
        PackedMachine,
        settings=settings(
            max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
        ),
    )
