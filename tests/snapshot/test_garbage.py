"""Garbage goes, and nothing else: not what is needed, young, counted on, or named while it is looked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from stillrun_snapshot.digest import Digest
from stillrun_snapshot.errors import ObjectMissing, StoreError
from stillrun_snapshot.garbage import Garbage, find_garbage
from stillrun_snapshot.refs import RefChange
from stillrun_snapshot.store import Store
from stillrun_snapshot.sweeping import sweep

LARGE = 100_000
AT_ONCE = -1
"""Seconds of grace: what is written in this second counts as old, and so does what was forgotten."""


def kept(store: Store, name: str, *contents: bytes, **more: object) -> Digest:
    """A record under a ref that names objects with these contents."""
    record = {"schema": "stillrun/test/1", "objects": [store.put(each) for each in contents], **more}
    digest = store.put_record(record)
    store.refs.set([RefChange(name, digest)])
    return digest


def forget(store: Store, name: str) -> None:
    store.refs.set([RefChange(name, None, note="for a test")])


def collected(root: Path, grace_s: int = AT_ONCE) -> Garbage:
    """Collect as another process would."""
    with Store.open(root) as store:
        return sweep(find_garbage(store, grace_s=grace_s))


def held(root: Path) -> set[Digest]:
    with Store.open(root) as store:
        for digest in store.digests():
            store.verify(digest)
        return set(store.digests())


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "s"


def test_what_no_ref_reaches_goes_and_all_else_stays(root: Path) -> None:
    with Store.open(root) as store:
        shared = [b"shared", b"s" * LARGE]
        stays = kept(store, "runs/a/1", b"one", b"1" * LARGE, *shared)
        deep = kept(store, "runs/a/2", b"deep", below=stays)
        kept(store, "runs/b/1", b"two", b"2" * LARGE, *shared)
        forget(store, "runs/b/1")
    before = held(root)
    done = collected(root)
    after = held(root)
    with Store.open(root) as store:
        assert {stays, deep} <= after
        assert [store.get(each) for each in store.get_record(stays, "test")["objects"]][2:] == shared
    assert (done.objects, done.loose, done.packs_rewritten, done.packs_removed) == (3, 1, 1, 0)
    assert len(before - after) == 3 and len(after) == 7
    assert collected(root).objects == 0


def test_where_a_run_came_from_is_no_need(root: Path) -> None:
    with Store.open(root) as store:
        first = kept(store, "runs/a/1", b"one")
        kept(store, "runs/a/2", b"two", origin={"record": first, "run": "a/1"})
        forget(store, "runs/a/1")
    assert collected(root).objects == 2
    assert first not in held(root)


def test_what_is_young_stays_with_all_that_it_names(root: Path) -> None:
    with Store.open(root) as store:
        old = store.put(b"named by a record that has no ref yet")
        store.put_record({"schema": "stillrun/test/1", "needs": old})
    assert collected(root, grace_s=3600) == Garbage()
    assert len(held(root)) == 2
    assert collected(root).objects == 2
    assert held(root) == set()


def test_what_was_forgotten_a_short_while_ago_can_be_had_back(root: Path) -> None:
    with Store.open(root) as store:
        digest = kept(store, "runs/a/1", b"one")
        forget(store, "runs/a/1")
    with Store.open(root) as store:
        found = find_garbage(store, grace_s=3600)
        assert found.amount == Garbage() and found.stays(digest)
        store.refs.set([RefChange("runs/a/1", digest)])
    assert collected(root).objects == 0


def test_an_object_that_a_living_writer_found_there_stays(root: Path) -> None:
    with Store.open(root) as store:
        small, large = store.put(b"small"), store.put(b"l" * LARGE)
    with Store.open(root) as writer:
        assert (writer.put(b"small"), writer.put(b"l" * LARGE)) == (small, large)
        assert collected(root) == Garbage()
        writer.refs.set([RefChange("a", writer.put_record({"schema": "stillrun/test/1", "needs": [small, large]}))])
    assert collected(root).objects == 0
    assert {small, large} <= held(root)


def test_an_object_found_after_the_look_and_before_the_sweep_stays(root: Path) -> None:
    with Store.open(root) as store:
        small, large = store.put(b"small"), store.put(b"l" * LARGE)
        below = store.put(b"below")
    with Store.open(root) as collector:
        found = find_garbage(collector, grace_s=AT_ONCE)
        assert found.amount.objects == 3
        with Store.open(root) as writer:
            assert writer.put(b"small") == small
            assert not writer.absent([large])
            assert sweep(found) == Garbage()
    assert {small, large, below} <= held(root)


def test_a_ref_that_is_set_after_the_look_and_before_the_sweep_saves_what_it_reaches(root: Path) -> None:
    with Store.open(root) as store:
        old = store.put_record({"schema": "stillrun/test/1", "needs": store.put(b"below")})
        other = store.put(b"other")
    with Store.open(root) as collector:
        found = find_garbage(collector, grace_s=AT_ONCE)
        with Store.open(root) as writer:  # by its name alone, without looking whether it is there
            writer.refs.set([RefChange("a", writer.put_record({"schema": "stillrun/test/1", "needs": old}))])
        assert sweep(found).objects == 0  # its pack is needed in part by now, and waits for the next time
    assert collected(root).objects == 1
    assert other not in held(root) and len(held(root)) == 3


def test_a_reader_with_an_old_index_finds_what_has_moved(root: Path) -> None:
    with Store.open(root) as store:
        kept(store, "a", b"stays")
        store.put(b"garbage" * 100)
    with Store.open(root, create=False) as reader:
        digest = reader.get_record(reader.refs.get("a") or Digest("?"), "test")["objects"][0]
        assert collected(root).packs_rewritten == 1
        assert reader.get(digest) == b"stays"
        assert reader.get_many([digest]) == {digest: b"stays"}
        assert reader.put(b"stays") == digest
        with pytest.raises(ObjectMissing):
            reader.get(Digest("sha256:" + "0" * 64))


def test_leftovers_of_killed_processes_go_and_those_of_living_ones_stay(root: Path) -> None:
    with Store.open(root) as store:
        (store.root / "tmp" / "object-1").write_bytes(b"unfinished")
        (store.root / "tmp" / "import-1").mkdir()
        (store.root / "tmp" / "import-1" / "file").write_bytes(b"unfinished")
    with Store.open(root) as writer:
        writer.scratch("mine")
        collected(root)
        assert [path.name[:5] for path in (root / "tmp").iterdir()] == ["mine-"] or len(
            list((root / "tmp").iterdir())
        ) == 3
    with Store.open(root) as store:
        told = find_garbage(store, grace_s=-1).amount.leftovers
    assert collected(root).leftovers == told >= 1
    assert list((root / "tmp").iterdir()) == []


def test_nothing_is_removed_from_a_store_that_is_damaged(root: Path) -> None:
    with Store.open(root) as store:
        digest = kept(store, "a", b"needed")
        store.put(b"garbage")
    (pack,) = (root / "packs").iterdir()
    data = bytearray(pack.read_bytes())
    place = data.index(b'{"objects"')
    data[place + 3] ^= 1
    pack.chmod(0o644)
    pack.write_bytes(data)
    with Store.open(root) as store, pytest.raises(StoreError, match=f"{digest} is damaged.*fsck"):
        find_garbage(store, grace_s=AT_ONCE)
    data[place + 3] ^= 1
    data[place - 20] ^= 1
    pack.write_bytes(data)
    with Store.open(root) as store, pytest.raises(StoreError, match=r"pack is damaged|is missing"):
        find_garbage(store, grace_s=AT_ONCE)
