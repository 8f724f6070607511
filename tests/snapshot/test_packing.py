"""``store pack``: everything is read as before, takes less room, and is never lost on the way."""

from __future__ import annotations

import io
import json
import os
import random
import struct
import time
from pathlib import Path
from typing import BinaryIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillrun_snapshot import _block, _block_writer, _unpacked
from stillrun_snapshot._chunks import cut
from stillrun_snapshot._encoding import encoded
from stillrun_snapshot._pack import CHUNK, OBJECT, RAW, RECIPE, ZSTD, entry_header
from stillrun_snapshot._pack_files import recipe_rows
from stillrun_snapshot._pieces import scan_pack
from stillrun_snapshot.digest import Digest, digest_of
from stillrun_snapshot.errors import ObjectCorrupt, ObjectMissing, StoreVersion
from stillrun_snapshot.lease import Lease
from stillrun_snapshot.packing import Packed, pack_store
from stillrun_snapshot.refs import RefChange
from stillrun_snapshot.store import STORE_MARK, Location, Store
from stillrun_snapshot.upkeep import UpkeepBusy, upkeep

Model = dict[Digest, bytes]


def noise(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


def doubles(count: int, seed: int = 0) -> bytes:
    source = random.Random(seed)
    return struct.pack(f"<{count}d", *(source.gauss(0, 1) for _ in range(count)))


def fill(root: Path) -> Model:
    """A store with small objects, records, and large objects of every sort."""
    rows = b"".join(b"%d,%d,name %d\n" % (i, i * i, i % 7) for i in range(20_000))
    large = [rows, rows[:200_000] + b"a new row\n" + rows[200_000:], doubles(60_000), noise(1_500_000)]
    with Store.open(root) as store:
        model = {store.put(data): data for data in (*large, noise(100_000, 1))}
        for number in range(150):
            data = b"small object %d " % number * (number % 40)
            model[store.put(data, compress=True)] = data
            record = {"schema": "stillrun/test/1", "number": number}
            digest = store.put_record(record)
            model[digest] = store.get(digest)
        store.refs.set([RefChange("runs/a/1", digest)])
    return model


def pack(root: Path) -> Packed:
    return pack_store(root, older_than_ns=time.time_ns() + 10**9)


def files(root: Path) -> list[Path]:
    found = [path for folder in ("packs", "objects", "tmp") for path in (root / folder).rglob("*")]
    return sorted(path for path in found if path.is_file())


def used(root: Path) -> int:
    return sum(path.stat().st_size for path in files(root))


def read(location: Location) -> bytes:
    if location.path is None:
        assert location.data is not None
        return location.data
    with open(location.path, "rb") as stream:
        stream.seek(location.offset)
        return stream.read(location.size)


def assert_holds(root: Path, model: Model) -> None:
    with Store.open(root) as store:
        assert set(store.digests()) == model.keys()
        for digest, data in model.items():
            assert store.get(digest) == data
            assert store.size(digest) == store.verify(digest) == len(data)
            with store.open_object(digest) as stream:
                assert stream.read() == data
            assert read(store.checked(digest)) == read(store.locate(digest)) == data
        assert store.get_many(model) == model
        assert store.absent([*model, digest_of(b"never")]) == {digest_of(b"never")}


def test_everything_is_read_as_before_from_fewer_and_smaller_files(tmp_path: Path) -> None:
    model = fill(tmp_path)
    before, many = used(tmp_path), len(files(tmp_path))
    done = pack(tmp_path)
    assert done.removed == many - 1 and done.left == 1 and done.large == 3 and done.damaged == ()
    assert used(tmp_path) < before * 0.75
    alone = tmp_path / "objects" / digest_of(noise(1_500_000)).hex[:2] / digest_of(noise(1_500_000)).hex[2:]
    assert [path for path in files(tmp_path) if path.suffix != ".pack"] == [alone]  # nothing would be gained
    assert_holds(tmp_path, model)
    again = pack(tmp_path)
    assert (again.objects, again.removed, again.after) == (0, 0, 0)
    assert_holds(tmp_path, model)


def test_what_is_put_again_is_found_in_packs(tmp_path: Path) -> None:
    model = fill(tmp_path)
    pack(tmp_path)
    before = files(tmp_path)
    with Store.open(tmp_path) as store:
        for data in model.values():
            assert store.put(data) in model
        (tmp_path / "source").write_bytes(doubles(60_000))
        assert store.put_file(tmp_path / "source") in model
        store.sync()
    assert files(tmp_path) == before


def test_an_index_made_anew_is_the_one_that_was(tmp_path: Path) -> None:
    model = fill(tmp_path)
    pack(tmp_path)
    with Store.open(tmp_path) as store:
        stats = store.stats()
    for path in tmp_path.glob("catalog.sqlite*"):
        path.unlink()
    with Store.open(tmp_path) as store:
        assert store.stats() == stats
        store.reindex()
        assert store.stats() == stats
    assert stats.objects == len(model) and stats.size == sum(map(len, model.values()))
    assert stats.stored <= used(tmp_path)
    assert_holds(tmp_path, model)


def test_young_files_stay(tmp_path: Path) -> None:
    model = fill(tmp_path)
    large = list((tmp_path / "objects").glob("*/*"))
    pack_store(tmp_path, older_than_ns=time.time_ns() - 3600 * 10**9)
    assert all(path.exists() for path in large) and len(large) == 5
    assert_holds(tmp_path, model)


def test_versions_of_incompressible_data_share_chunks(tmp_path: Path) -> None:
    data = noise(4_000_000)
    other = data[:1_000_000] + b"inserted" + data[1_000_000:]
    with Store.open(tmp_path) as store:
        model = {store.put(data): data, store.put(other): other}
    done = pack(tmp_path)
    assert done.large == 2 and done.left == 0
    assert used(tmp_path) < 5_200_000
    third = data[:3_000_000] + b"more" + data[3_000_000:]
    with Store.open(tmp_path) as store:
        model[store.put(third)] = third
    assert pack(tmp_path).large == 1
    assert used(tmp_path) < 6_400_000
    assert_holds(tmp_path, model)


def test_nothing_is_removed_while_a_run_is_in_progress(tmp_path: Path) -> None:
    model = fill(tmp_path)
    before = files(tmp_path)
    with Lease.take(tmp_path, "runs/a/2"):
        done = pack(tmp_path)
    assert (done.removed, done.waiting) == (0, len(before) - 1)
    assert set(before) <= set(files(tmp_path))
    assert_holds(tmp_path, model)
    done = pack(tmp_path)
    assert (done.objects, done.removed, done.waiting) == (0, len(before) - 1, 0)
    assert_holds(tmp_path, model)


def test_only_one_packs_at_a_time(tmp_path: Path) -> None:
    model = fill(tmp_path)
    before = files(tmp_path)
    with upkeep(tmp_path, "gc"), pytest.raises(UpkeepBusy, match="'store gc' of process"):
        pack(tmp_path)
    assert files(tmp_path) == before
    assert_holds(tmp_path, model)


def test_a_reader_and_a_writer_that_are_open_go_on(tmp_path: Path) -> None:
    model = fill(tmp_path)
    with Store.open(tmp_path) as reader, Store.open(tmp_path) as writer:
        mine = writer.put(b"in a pack that is open")
        streams: list[tuple[Digest, BinaryIO]] = [(digest, reader.open_object(digest)) for digest in model]
        half = list(model)[::2]
        assert [reader.get(digest) for digest in half] == [model[digest] for digest in half]
        assert writer.absent(model) == set()  # the next sync vouches for them, wherever they are by then
        pack(tmp_path)
        assert {digest: reader.get(digest) for digest in model} == model
        for digest, stream in streams:
            with stream:
                assert stream.read() == model[digest]
        writer.refs.set([RefChange("runs/a/3", mine)])
        assert reader.get(mine) == b"in a pack that is open"
    assert_holds(tmp_path, {**model, mine: b"in a pack that is open"})


def test_a_sync_tells_of_an_object_that_is_gone_and_not_in_a_pack(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        digest = store.put(noise(200_000))
        (tmp_path / "objects" / digest.hex[:2] / digest.hex[2:]).unlink()
        with pytest.raises(ObjectMissing):
            store.sync()


def test_many_small_packs_become_one(tmp_path: Path) -> None:
    model: Model = {}
    for number in range(9):
        with Store.open(tmp_path) as store:
            for data in (noise(3_000, number), b"%d" % number * 300_000):
                model[store.put(data)] = data
        pack(tmp_path)
    assert len(files(tmp_path)) <= 8
    assert_holds(tmp_path, model)


def test_damage_in_what_is_to_be_packed_is_named_and_kept(tmp_path: Path) -> None:
    model = fill(tmp_path)
    (old,) = (tmp_path / "packs").glob("*.pack")
    entry = scan_pack(old).pieces[80]
    large = tmp_path / "objects" / digest_of(doubles(60_000)).hex[:2] / digest_of(doubles(60_000)).hex[2:]
    for path, place in ((old, entry.offset), (large, 300_000)):
        path.chmod(0o644)
        with open(path, "r+b") as stream:
            stream.seek(place)
            byte = stream.read(1)
            stream.seek(place)
            stream.write(bytes((byte[0] ^ 1,)))
    done = pack(tmp_path)
    named = {(digest, Path(file).name) for digest, file in done.damaged}
    assert named == {(entry.digest, old.name), (digest_of(doubles(60_000)), large.name)}
    assert old.exists() and large.exists()
    with Store.open(tmp_path) as store:
        for digest, data in model.items():
            if (digest, old.name) in named or (digest, large.name) in named:
                with pytest.raises(ObjectCorrupt, match=digest):
                    store.get(digest)
            else:
                assert store.get(digest) == data


@pytest.mark.parametrize("count", [6, pytest.param(300, marks=pytest.mark.slow)])
def test_damage_in_a_pack_of_blocks_is_named_and_confined(tmp_path: Path, count: int) -> None:
    model = fill(tmp_path)
    pack(tmp_path)
    (path,) = (tmp_path / "packs").glob("*.pack")
    whole, source = path.read_bytes(), random.Random(5)
    blocks: dict[int, set[Digest]] = {}
    for entry in scan_pack(path).pieces:
        blocks.setdefault(entry.offset, set()).add(entry.digest)
    path.chmod(0o644)
    for place in sorted(source.sample(range(len(whole)), count)):
        spoilt = bytearray(whole)
        spoilt[place] ^= 1 << source.randrange(8)
        path.write_bytes(spoilt)
        with Store.open(tmp_path) as store:
            store.reindex()
            bad = set()
            for digest, data in model.items():
                try:
                    assert store.get(digest) == data
                except (ObjectCorrupt, ObjectMissing) as error:
                    assert error.digest == digest
                    bad.add(digest)
            hurt = [members for members in blocks.values() if members & bad]
            large = {digest for digest in bad if len(model[digest]) > 128 * 1024}
            assert len([members for members in hurt if members & (bad - large)]) <= 1
            assert bad or place < 16  # what says that it is a pack; its blocks say so too
    path.write_bytes(whole)
    assert_holds(tmp_path, model)


def test_a_truncated_pack_of_blocks_loses_what_was_cut_off_and_names_it(tmp_path: Path) -> None:
    model = fill(tmp_path)
    pack(tmp_path)
    (path,) = (tmp_path / "packs").glob("*.pack")
    path.chmod(0o644)
    os.truncate(path, path.stat().st_size // 2)
    with Store.open(tmp_path) as store:
        lost = 0
        for digest, data in model.items():
            try:
                assert store.get(digest) == data
            except (ObjectCorrupt, ObjectMissing) as error:
                assert error.digest == digest
                lost += 1
        assert 0 < lost < len(model)


def test_an_unpacked_file_that_was_changed_is_made_anew(tmp_path: Path) -> None:
    model = fill(tmp_path)
    pack(tmp_path)
    digest = digest_of(doubles(60_000))
    with Store.open(tmp_path) as store:
        path = store.checked(digest).path
        assert path is not None and path.parent.parent == tmp_path / "cache" / "unpacked"
        path.chmod(0o644)
        path.write_bytes(b"x" * len(model[digest]))
        assert read(store.checked(digest)) == model[digest]
        path.unlink()
        assert read(store.checked(digest)) == model[digest]


def test_unpacked_files_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path)
    pack(tmp_path)
    monkeypatch.setattr(_unpacked, "_ROOM", 600_000)
    monkeypatch.setattr(_unpacked, "_SPARED", -1)
    with Store.open(tmp_path) as store:
        large = [digest for digest in store.digests() if store.size(digest) > 300_000]
        for digest in large:
            assert store.checked(digest).size == store.size(digest)
        assert len(list((tmp_path / "cache" / "unpacked").glob("*/*"))) == 1


def test_packs_have_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_block_writer, "PACK_TARGET", 60_000)
    monkeypatch.setattr(_block_writer, "BLOCK_TARGET", 50_000)
    model = fill(tmp_path)
    done = pack(tmp_path)
    assert len(list((tmp_path / "packs").glob("*.pack"))) > 2 and done.waiting == 0
    assert_holds(tmp_path, model)


def test_a_packed_store_is_refused_by_what_reads_format_1_only(tmp_path: Path) -> None:
    fill(tmp_path)
    assert json.loads((tmp_path / STORE_MARK).read_bytes())["format"] == 1
    pack(tmp_path)
    mark = json.loads((tmp_path / STORE_MARK).read_bytes())
    assert mark == {"format": 2, "schema": "stillrun/store/2"}
    (tmp_path / STORE_MARK).write_text(json.dumps({**mark, "format": 3}))
    with pytest.raises(StoreVersion, match=r"has format 3, and this Stillrun reads formats up to 2\. Upgrade"):
        Store.open(tmp_path)


@given(st.binary(max_size=300), st.integers(2, 16))
def test_unshuffling_undoes_shuffling(data: bytes, width: int) -> None:
    assert _block.unshuffled(_block.shuffled(data, width), width) == data


@given(
    st.lists(st.tuples(st.binary(max_size=60), st.sampled_from([OBJECT, CHUNK])), min_size=1, max_size=20),
    st.booleans(),
)
def test_a_block_is_read_as_it_was_written(parts: list[tuple[bytes, int]], compress: bool) -> None:
    content = b"".join(data for data, _ in parts)
    form = encoded(content)
    codec, width, payload = (form.codec, form.width, form.payload) if compress else (RAW, 0, content)
    rows = [(digest_of(data), kind, len(data)) for data, kind in parts]
    head = _block.block_bytes(rows, codec, width, len(content), payload)
    block = _block.parse_block(head + payload, 0)
    assert block is not None and block.offset == len(head)
    found = _block.content_of(payload, block.codec, block.width, block.content)
    assert found == content
    assert [(Digest.of_raw(raw), kind, length) for raw, kind, _, length in block.members()] == rows
    assert [content[start : start + length] for _, _, start, length in block.members()] == [data for data, _ in parts]


@given(st.binary(min_size=1, max_size=40), st.integers(0, 7), st.data())
def test_a_bit_that_flips_in_header_or_table_makes_a_block_unsound(data: bytes, bit: int, draw: st.DataObject) -> None:
    head = _block.block_bytes([(digest_of(data), OBJECT, len(data))], RAW, 0, len(data), data)
    spoilt = bytearray(head + data)
    spoilt[draw.draw(st.integers(0, len(head) - 1))] ^= 1 << bit
    assert _block.parse_block(bytes(spoilt), 0) is None


@given(st.lists(st.integers(0, 2**32 - 1), max_size=20))
def test_a_recipe_is_read_as_it_was_written(lengths: list[int]) -> None:
    rows = [(digest_of(b"%d" % length), length) for length in lengths]
    data = _block.recipe_bytes(rows)
    assert _block.parse_recipe(data) == rows and _block.recipe_size(data, 0) == sum(lengths)
    assert recipe_rows(data + b"x") == recipe_rows(data[:-1]) == []


def test_a_recipe_in_a_compressed_block_is_unsound() -> None:
    recipe = _block.recipe_bytes([(digest_of(b"x"), 1)] * 100)
    form = encoded(recipe)
    head = _block.block_bytes([(digest_of(b"y"), RECIPE, len(recipe))], ZSTD, 0, len(recipe), form.payload)
    assert form.codec == ZSTD and _block.parse_block(head + form.payload, 0) is None


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 3_000_000), st.sampled_from([1, 1 << 18, 1 << 20]))
def test_cuts_do_not_depend_on_how_much_is_read_at_once(size: int, window: int) -> None:
    data = noise(size, size)
    chunks = list(cut(io.BytesIO(data), 1 << 16, window))
    assert b"".join(chunks) == data and all(len(chunk) <= 1 << 18 for chunk in chunks)
    assert chunks == list(cut(io.BytesIO(data), 1 << 16))


@pytest.mark.parametrize(
    ("data", "codec", "width"), [(doubles(20_000), ZSTD, 8), (noise(200_000), RAW, 0), (b"text " * 50_000, ZSTD, 0)]
)
def test_the_form_is_the_one_that_suits_the_bytes(data: bytes, codec: int, width: int) -> None:
    form = encoded(data)
    assert (form.codec, form.width) == (codec, width)
    assert _block.content_of(form.payload, form.codec, form.width, len(data)) == data


def test_a_torn_tail_is_no_damage(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        digest = store.put(b"whole")
    (path,) = (tmp_path / "packs").iterdir()
    path.chmod(0o644)
    path.write_bytes(path.read_bytes() + entry_header(digest_of(b"torn"), RAW, 4, 4) + b"to")
    assert pack_store(tmp_path, older_than_ns=0).damaged == ()
    with Store.open(tmp_path) as store:
        assert store.get(digest) == b"whole" and not path.exists()
