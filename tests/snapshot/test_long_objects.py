"""What is far longer than it can be for what it is read as is refused before it is in memory."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import zstandard

from stillrun_snapshot._block import block_bytes, recipe_bytes
from stillrun_snapshot._pack import CHUNK, MAGIC_2, RAW, RECIPE, ZSTD
from stillrun_snapshot.digest import Digest, digest_of
from stillrun_snapshot.errors import RecordError
from stillrun_snapshot.record import RECORD_MAX
from stillrun_snapshot.store import Store

LENGTH = 8 << 20


def block(digest: Digest, kind: int, codec: int, data: bytes) -> bytes:
    payload = zstandard.ZstdCompressor().compress(data) if codec == ZSTD else data
    return block_bytes([(digest, kind, len(data))], codec, 0, len(data), payload) + payload


def test_a_recipe_that_makes_a_terabyte_is_no_record(tmp_path: Path) -> None:
    zeros, name = bytes(LENGTH), digest_of(b"whatever")
    recipe = recipe_bytes([(digest_of(zeros), LENGTH)] * 131_072)
    Store.open(tmp_path / "s").close()
    pack = MAGIC_2 + block(digest_of(zeros), CHUNK, ZSTD, zeros) + block(name, RECIPE, RAW, recipe)
    (tmp_path / "s/packs/0-0.pack").write_bytes(pack)
    with Store.open(tmp_path / "s") as store:
        assert store.size(name) == 1 << 40
        with pytest.raises(RecordError, match="1,099,511,627,776 bytes, more than"):
            store.get_record(name, "run")


def test_a_recipe_that_names_itself_makes_nothing(tmp_path: Path) -> None:
    name = digest_of(b"whatever")
    Store.open(tmp_path / "s").close()
    pack = MAGIC_2 + block(name, RECIPE, RAW, recipe_bytes([(name, 10), (name, 10)]))
    (tmp_path / "s/packs/0-0.pack").write_bytes(pack)
    with Store.open(tmp_path / "s") as store:
        for read in (store.get, store.verify, store.checked):
            with pytest.raises(Exception, match=r"chunk .* is damaged or missing"):
                read(name)
        assert store.absent([name]) == {name}  # so it is put anew


def test_a_file_that_is_longer_than_a_record_is_not_read(tmp_path: Path) -> None:
    with Store.open(tmp_path / "s") as store:
        state = hashlib.sha256(b"any: it is not hashed")
        digest = Digest(f"sha256:{state.hexdigest()}")
        path = store.root / "objects" / digest.hex[:2] / digest.hex[2:]
        path.parent.mkdir(parents=True)
        with open(path, "wb") as file:
            file.truncate(RECORD_MAX + 1)
        with pytest.raises(RecordError, match="more than the 268,435,456 that a record may have"):
            store.get_record(digest, "run")
