from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from stillrun_snapshot import _packs
from stillrun_snapshot._pack import HEADER_SIZE, MAGIC
from stillrun_snapshot._packs import COMPRESS_MIN
from stillrun_snapshot.digest import Digest, digest_of
from stillrun_snapshot.errors import ObjectCorrupt, ObjectMissing, StoreError, StoreVersion
from stillrun_snapshot.refs import RefChange
from stillrun_snapshot.store import LOOSE_MIN, STORE_MARK, Location, Store

RunPython = Callable[..., "subprocess.Popen[str]"]
SIZES = [0, 1, LOOSE_MIN - 1, LOOSE_MIN, LOOSE_MIN + 1, 5 * 1024 * 1024]
ABSENT = digest_of(b"never kept")


def bytes_of(size: int, seed: int = 0) -> bytes:
    block = bytes((index * 7 + seed) % 253 for index in range(4099))
    return (block * (size // len(block) + 1))[:size]


def read(location: Location) -> bytes:
    if location.path is None:
        assert location.data is not None
        return location.data
    with open(location.path, "rb") as stream:
        stream.seek(location.offset)
        return stream.read(location.size)


def loose_path(store: Store, digest: Digest) -> Path:
    return store.root / "objects" / digest.hex[:2] / digest.hex[2:]


def pack_paths(store: Store) -> list[Path]:
    return sorted((store.root / "packs").iterdir())


def overwrite(path: Path, offset: int, data: bytes) -> None:
    path.chmod(0o644)
    with open(path, "r+b") as stream:
        stream.seek(offset)
        stream.write(data)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("reopened", [False, True])
def test_what_was_put_is_read_in_every_way(tmp_path: Path, size: int, reopened: bool) -> None:
    data = bytes_of(size)
    store = Store.open(tmp_path / "s")
    digest = store.put(data)
    if reopened:
        store.close()
        store = Store.open(tmp_path / "s")
    with store:
        assert digest == digest_of(data)
        assert store.get(digest) == data
        assert store.open_object(digest).read() == data
        assert store.has(digest) and store.size(digest) == size
        assert read(store.locate(digest)) == data and read(store.checked(digest)) == data
        assert store.verify(digest) == size
        assert list(store.digests()) == [digest]


@pytest.mark.parametrize("size", SIZES)
def test_put_file_keeps_what_put_keeps(store: Store, tmp_path: Path, size: int) -> None:
    source = tmp_path / "source"
    source.write_bytes(bytes_of(size))
    digest = store.put_file(source)
    assert digest == store.put(bytes_of(size)) == store.put_file(source, expect=digest)
    assert store.get(digest) == bytes_of(size)
    assert store.stats().objects == 1


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("held", [False, True])
def test_put_file_refuses_another_digest_than_expected(store: Store, tmp_path: Path, size: int, held: bool) -> None:
    source = tmp_path / "source"
    source.write_bytes(bytes_of(size))
    other = store.put(bytes_of(max(size, 1), seed=1)) if held else ABSENT
    before = set(store.digests())
    with pytest.raises(StoreError) as caught:
        store.put_file(source, expect=other)
    assert digest_of(bytes_of(size)) in str(caught.value) and other in str(caught.value)
    assert set(store.digests()) == before
    assert list((store.root / "tmp").iterdir()) == []


@pytest.mark.parametrize("size", [100, LOOSE_MIN * 2])
def test_put_file_refuses_more_than_the_limit(store: Store, tmp_path: Path, size: int) -> None:
    source = tmp_path / "source"
    source.write_bytes(bytes_of(size))
    with pytest.raises(StoreError, match="allowed"):
        store.put_file(source, limit=size - 1)
    assert store.put_file(source, limit=size)
    with pytest.raises(StoreError, match="not a regular file"):
        store.put_file(Path("/dev/zero"), limit=size)


def test_text_is_compressed_and_reads_the_same(store: Store) -> None:
    text = b"all work and no play makes jack a dull boy\n" * 400
    noise = os.urandom(COMPRESS_MIN)
    digest, other = store.put(text, compress=True), store.put(noise, compress=True)
    assert store.get(digest) == text and store.get(other) == noise
    assert store.locate(digest) == Location(None, 0, len(text), text)
    assert store.locate(other).path is not None
    stats = store.stats()
    assert stats.stored < stats.size / 2 + len(noise)
    store.close()
    with Store.open(store.root) as again:
        assert again.get(digest) == text


def test_opening_and_small_writes_import_nothing_slow(tmp_path: Path, python: RunPython) -> None:
    script = """
import sys
from pathlib import Path
import stillrun_snapshot.capture, stillrun_snapshot.checkout
from stillrun_snapshot.store import Store
with Store.open(Path(sys.argv[1])) as store:
    store.get(store.put(b"small", compress=True))
print(sorted({"git", "zstandard", "diskcache"} & set(sys.modules)))
"""
    output, complaint = python(script, tmp_path / "s").communicate()
    assert output == "[]\n", complaint


def test_a_name_from_a_record_is_taken_and_a_path_is_not(store: Store) -> None:
    digest = store.put(b"x")
    assert store.get(str(digest)) == b"x"  # type: ignore[arg-type]
    for text in ("sha256:../../../../etc/passwd", "", "x" * 71):
        for ask in (store.get, store.has, store.locate, store.open_object):
            with pytest.raises(StoreError, match="not a digest"):
                ask(text)  # type: ignore[arg-type]


def test_a_missing_object_is_refused_by_name(store: Store) -> None:
    for ask in (store.get, store.size, store.locate, store.checked, store.verify, store.open_object):
        with pytest.raises(ObjectMissing, match=ABSENT) as caught:
            ask(ABSENT)
        assert caught.value.digest == ABSENT
    assert not store.has(ABSENT)
    assert store.absent([ABSENT, store.put(b"x"), store.put(bytes(LOOSE_MIN))]) == {ABSENT}


@pytest.mark.parametrize("cached", [False, True])
def test_a_flipped_byte_in_a_loose_object_is_refused_by_name(store: Store, cached: bool) -> None:
    digest, other = store.put(bytes_of(200_000)), store.put(bytes_of(200_000, seed=1))
    if cached:
        store.checked(digest)
    overwrite(loose_path(store, digest), 1000, b"!")
    for ask in (store.get, store.verify, store.checked, lambda name: store.open_object(name).read()):
        with pytest.raises(ObjectCorrupt, match=digest) as caught:
            ask(digest)
        assert caught.value.digest == digest
    assert store.verify(other) == 200_000


@pytest.mark.parametrize("text", [False, True])
@pytest.mark.parametrize("warm", [False, True])
def test_a_flipped_byte_in_a_pack_is_refused_by_name_and_hides_nothing(tmp_path: Path, text: bool, warm: bool) -> None:
    kept = {}
    with Store.open(tmp_path / "s") as store:
        for index in range(5):
            data = f"line {index}\n".encode() * 2000 if text else bytes_of(9000, seed=index)
            kept[store.put(data, compress=text)] = data
    (pack,) = pack_paths(store)
    position = len(MAGIC)
    sizes = {}
    for digest in kept:  # in the order they were put
        header = pack.read_bytes()[position : position + HEADER_SIZE]
        stored = int.from_bytes(header[16:24], "big")
        sizes[digest] = (position + HEADER_SIZE, stored)
        position += HEADER_SIZE + stored
    for number, (digest, (offset, stored)) in enumerate(sizes.items()):
        original = pack.read_bytes()
        place = offset + (stored // 2 if number % 2 else -HEADER_SIZE + 10)  # in the content, and in the header
        overwrite(pack, place, bytes([original[place] ^ 0x40]))
        if not warm:
            (store.root / "catalog.sqlite").unlink()
        with Store.open(tmp_path / "s") as damaged:
            with pytest.raises((ObjectCorrupt, ObjectMissing), match=digest):
                damaged.get(digest)
            with pytest.raises((ObjectCorrupt, ObjectMissing), match=digest):
                damaged.checked(digest)
            for name in kept.keys() - {digest}:
                assert damaged.get(name) == kept[name]
        pack.write_bytes(original)
    with Store.open(tmp_path / "s") as mended:
        assert {name: mended.get(name) for name in mended.digests()} == kept


def test_a_truncated_pack_loses_only_its_end(tmp_path: Path) -> None:
    with Store.open(tmp_path / "s") as store:
        names = [store.put(bytes_of(500, seed=seed)) for seed in range(10)]
    (pack,) = pack_paths(store)
    whole = pack.read_bytes()
    for cut in (len(whole) - 1, len(MAGIC) + 3 * (HEADER_SIZE + 500) + 10, 5, 0):
        pack.chmod(0o644)
        pack.write_bytes(whole[:cut])
        with Store.open(tmp_path / "s") as store:
            left = max(0, cut - len(MAGIC)) // (HEADER_SIZE + 500)
            assert [store.get(name) for name in names[:left]] == [bytes_of(500, seed=seed) for seed in range(left)]
            for name in names[left:]:
                with pytest.raises((ObjectMissing, ObjectCorrupt), match=name):
                    store.get(name)


def test_an_object_whose_copy_is_damaged_is_read_from_another_pack(tmp_path: Path) -> None:
    with Store.open(tmp_path / "s") as one, Store.open(tmp_path / "s") as two:
        digest = one.put(b"the same")
        assert two.put(b"the same") == digest
    first, second = pack_paths(one)
    for damaged, whole in ((first, second), (second, first)):
        original = damaged.read_bytes()
        overwrite(damaged, len(original) - 1, b"?")
        with Store.open(tmp_path / "s") as store:
            assert store.get(digest) == b"the same", whole
        damaged.write_bytes(original)


@pytest.mark.parametrize("damage", ["deleted", "garbage", "stale", "other store", "empty", "table gone"])
def test_the_catalog_is_only_a_cache(tmp_path: Path, damage: str) -> None:
    root = tmp_path / "s"
    catalog = root / "catalog.sqlite"
    with Store.open(root) as store:
        first = store.put(b"first")
        store.refs.set([RefChange("a", first)])
    old = catalog.read_bytes()
    with Store.open(root) as store:
        second = store.put(b"second")
        store.refs.set([RefChange("a", second), RefChange("b", second)])
    if damage == "other store":
        with Store.open(tmp_path / "t") as store:
            store.refs.set([RefChange("z", store.put(b"foreign")), RefChange("y", store.put(b"x"))])
            assert len(list(store.refs.names())) == 2
        old = (tmp_path / "t" / "catalog.sqlite").read_bytes()
    if damage == "table gone":
        import sqlite3

        connection = sqlite3.connect(catalog)
        connection.execute("DROP TABLE entries")
        connection.close()
    elif damage == "deleted":
        catalog.unlink()
    else:
        catalog.write_bytes({"garbage": b"\0garbage" * 999, "empty": b""}.get(damage, old))
    for _ in range(2):
        with Store.open(root) as store:
            assert dict(store.refs.names()) == {"a": second, "b": second}
            assert (store.get(first), store.get(second)) == (b"first", b"second")
            assert not store.has(digest_of(b"foreign"))
            assert set(store.digests()) == {first, second}


def test_the_catalog_may_vanish_while_the_store_is_open(store: Store) -> None:
    digest = store.put(b"x")
    store.refs.set([RefChange("a", digest)])
    (store.root / "catalog.sqlite").unlink()
    other = store.put(b"y")
    store.refs.set([RefChange("b", other)])
    assert dict(store.refs.names()) == {"a": digest, "b": other}


def test_what_another_writer_put_is_seen_without_reopening(tmp_path: Path) -> None:
    with Store.open(tmp_path / "s") as writer, Store.open(tmp_path / "s") as reader:
        for index in range(3):
            small, large = writer.put(b"%d" % index), writer.put(bytes_of(LOOSE_MIN, seed=index))
            writer.sync()
            assert reader.has(small) and reader.get(small) == b"%d" % index
            assert reader.size(large) == LOOSE_MIN
        location = reader.locate(small)
        assert read(location) == b"2"
        writer.close()
        assert reader.get(small) == b"2"
        assert read(reader.locate(small)) == b"2"


def test_the_pack_of_a_writer_is_sealed_when_it_closes(store: Store) -> None:
    assert pack_paths(store) == []
    store.put(b"x")
    assert [path.name.endswith(".pack.open") for path in pack_paths(store)] == [True]
    store.close()
    assert [path.name.endswith(".pack") for path in pack_paths(store)] == [True]


def test_adopt_takes_a_finished_file_from_tmp(store: Store) -> None:
    data = bytes_of(300_000)
    for _ in range(2):
        path = store.scratch("spill") / "part"
        path.write_bytes(data)
        store.adopt(path, digest_of(data), len(data))
        assert not path.exists()
    assert store.get(digest_of(data)) == data
    assert loose_path(store, digest_of(data)).stat().st_mode & 0o777 == 0o444


def test_adopt_refuses_what_is_not_as_announced(store: Store, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"abc")
    with pytest.raises(StoreError, match="not below"):
        store.adopt(outside, digest_of(b"abc"), 3)
    inside = store.scratch("spill") / "part"
    inside.write_bytes(b"abc")
    with pytest.raises(StoreError, match="4 bytes were announced, found 3"):
        store.adopt(inside, digest_of(b"abcd"), 4)
    link = inside.with_name("link")
    link.symlink_to(outside)
    with pytest.raises(StoreError, match="cannot be adopted"):
        store.adopt(link, digest_of(b"abc"), 3)


def test_a_short_loose_file_is_replaced_when_its_object_is_put_again(store: Store) -> None:
    digest = store.put(bytes_of(100_000))
    path = loose_path(store, digest)
    path.chmod(0o644)
    path.write_bytes(b"cut")
    assert store.put(bytes_of(100_000)) == digest
    assert store.verify(digest) == 100_000


@pytest.mark.parametrize("way", ["put", "put_file", "adopt"])
def test_a_damaged_loose_object_is_mended_when_it_is_put_again(store: Store, tmp_path: Path, way: str) -> None:
    data = bytes(300_000)
    digest = store.put(data)
    path = store.locate(digest).path
    assert path is not None
    path.chmod(0o644)
    path.write_bytes(bytes([1]) + data[1:])
    again = (store.scratch("again") if way == "adopt" else tmp_path) / "again"
    again.write_bytes(data)
    if way == "put":
        store.put(data)
    elif way == "put_file":
        store.put_file(again, expect=digest)
    else:
        store.adopt(again, digest, len(data))
    assert store.get(digest) == data


def test_checked_hashes_once_and_again_after_a_change(tmp_path: Path) -> None:
    with Store.open(tmp_path / "s") as store:
        digest = store.put(bytes_of(100_000))
    with Store.open(tmp_path / "s") as store:
        assert store.checked(digest).size == 100_000
        overwrite(loose_path(store, digest), 0, b"!")
        with pytest.raises(ObjectCorrupt, match=digest):
            store.checked(digest)


def test_a_record_comes_back_checked(store: Store) -> None:
    digest = store.put_record({"schema": "stillrun/run/1", "b": 1, "a": [None, True]})
    assert store.get(digest) == b'{"a":[null,true],"b":1,"schema":"stillrun/run/1"}'
    assert store.get_record(digest, "run") == {"schema": "stillrun/run/1", "a": [None, True], "b": 1}
    with pytest.raises(StoreError, match="'stillrun/task/1' was expected"):
        store.get_record(digest, "task")
    with pytest.raises(StoreError, match="schema"):
        store.put_record({"a": 1})


def test_threads_share_a_store(store: Store) -> None:
    kept: dict[Digest, bytes] = {}

    def work(number: int) -> None:
        for index in range(40):
            data = bytes_of(70_000 if index % 10 == 0 else 50, seed=number % 3 * 100 + index)
            kept[store.put(data)] = data
            assert store.get(digest_of(data)) == data
            if index % 10 == 5:
                store.refs.set([RefChange(f"thread/{number}", digest_of(data))])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {digest: store.get(digest) for digest in store.digests()} == kept
    assert store.refs.check() == len(list(store.refs.events()))


def test_a_folder_that_is_no_store_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(StoreError, match="not a Stillrun store and not empty"):
        Store.open(tmp_path)
    with pytest.raises(StoreError, match="is a file"):
        Store.open(tmp_path / "thesis.tex")
    with pytest.raises(StoreError, match="no Stillrun store"):
        Store.open(tmp_path / "absent", create=False)
    assert not (tmp_path / "absent").exists()


def test_a_newer_format_is_refused_by_both_versions(store: Store) -> None:
    (store.root / "stillrun-store.json").write_text('{"format":3}')
    with pytest.raises(StoreVersion, match=r"format 3.*formats up to 2.*Upgrade"):
        Store.open(store.root)
    (store.root / "stillrun-store.json").write_text("{")
    with pytest.raises(StoreError, match="cannot be read"):
        Store.open(store.root)


def test_a_store_says_what_it_is(store: Store) -> None:
    assert json.loads((store.root / "stillrun-store.json").read_bytes())["format"] == 1
    assert store.cache_dir("trees").is_dir()
    with pytest.raises(ValueError, match="no cache"):
        store.cache_dir("objects")


def test_a_store_made_by_many_at_once_is_one_store(tmp_path: Path, python: RunPython) -> None:
    script = """
import sys
from pathlib import Path
from stillrun_snapshot.store import Store
input()
with Store.open(Path(sys.argv[1])) as store:
    print(store.put(b"x"))
"""
    processes = [python(script, tmp_path / "s") for _ in range(6)]
    results = [process.communicate("go\n") for process in processes]
    assert {output for output, _ in results} == {f"{digest_of(b'x')}\n"}, results
    assert sys.platform != "linux" or Store.open(tmp_path / "s").has(digest_of(b"x"))


def test_reindex_finds_everything_again(tmp_path: Path) -> None:
    with Store.open(tmp_path / "store") as store:
        small = store.put(b"small")
        store.refs.set([RefChange("a/b", small, None)])
    with Store.open(tmp_path / "store") as store:
        before = sorted(store.digests())
        store.reindex()
        assert sorted(store.digests()) == before
        assert store.get(small) == b"small"
        assert dict(store.refs.names()) == {"a/b": small}


def test_a_store_that_is_made_meanwhile_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process finishes making it between the look for its mark and the look at what lies there."""
    Store.open(tmp_path / "made").close()
    found = (tmp_path / "made" / STORE_MARK).read_bytes()
    (tmp_path / "made" / STORE_MARK).unlink()
    read, looks = Path.read_bytes, []

    def late(path: Path) -> bytes:
        looks.append(path)
        if path.name == STORE_MARK and len(looks) == 1:
            try:
                return read(path)
            finally:
                path.write_bytes(found)
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", late)
    Store.open(tmp_path / "made", create=False).close()
    assert len(looks) == 2


def test_many_objects_are_read_at_once_and_each_is_hashed(tmp_path: Path) -> None:
    small, large = [f"object {place}".encode() * (place + 1) for place in range(1200)], b"x" * (LOOSE_MIN + 1)
    with Store.open(tmp_path / "s") as store:
        names = [store.put(data, compress=True) for data in (*small, large)]
        assert list(store.get_many(names).values()) == [*small, large]  # of its own pack, which is still open
    with Store.open(tmp_path / "s") as store:
        found = store.get_many([*reversed(names), names[0]])
        assert list(found) == list(reversed(names)) and list(found.values()) == [large, *reversed(small)]
        with pytest.raises(ObjectMissing):
            store.get_many([names[0], digest_of(b"never kept")])


def test_damage_is_found_when_many_objects_are_read(tmp_path: Path) -> None:
    with Store.open(tmp_path / "s") as store:
        names = [store.put(f"object number {place}".encode()) for place in range(50)]
    (pack,) = pack_paths(store)
    overwrite(pack, pack.read_bytes().index(b"object number 7"), b"Object")
    with Store.open(tmp_path / "s") as store, pytest.raises(ObjectCorrupt):
        store.get_many(names)


def test_a_writer_of_many_objects_holds_few_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the catalog has taken over is found, read, counted and sealed as what is held."""
    monkeypatch.setattr(_packs, "_HELD_MAX", 10)
    with Store.open(tmp_path / "store") as store:
        names = [store.put(f"object {place}".encode()) for place in range(35)]
        assert [store.get(name) for name in names] == [f"object {place}".encode() for place in range(35)]
        assert store.put(b"object 3") == names[3]
        assert store.stats().objects == 35
        assert not store.absent(names)
    with Store.open(tmp_path / "store") as store:
        assert sorted(store.digests()) == sorted(names)
        assert [store.verify(name) for name in names[:2]] == [8, 8]
    assert [path.suffix for path in (tmp_path / "store/packs").iterdir()] == [".pack"]


def test_a_pack_that_others_index_while_the_folder_is_looked_at_stays_known(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    import stillrun_snapshot._catalog as catalogs

    look, made = catalogs._present, list[Digest]()

    def slow_look(root: Path) -> dict[str, bool]:
        found = look(root)
        monkeypatch.setattr(catalogs, "_present", look)
        with Store.open(root) as other:  # it seals and indexes its pack before the index is looked at here
            made.append(other.put(b"of another"))
        return found

    store.catalog.connection.execute("DELETE FROM meta")
    monkeypatch.setattr(catalogs, "_present", slow_look)
    store.catalog.refresh(anew=True)
    assert store.catalog.held(made[0]) != []
