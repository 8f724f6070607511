"""Objects that are held for now: read like any other, never rested on, free to be deleted."""

from __future__ import annotations

from pathlib import Path

import pytest

from stillrun_snapshot.digest import Digest, digest_of
from stillrun_snapshot.errors import ObjectCorrupt, ObjectMissing, StoreError
from stillrun_snapshot.refs import RefChange
from stillrun_snapshot.store import Store


@pytest.fixture(params=[b"small", b"large" * 50_000], ids=["small", "large"])
def data(request: pytest.FixtureRequest) -> bytes:
    content: bytes = request.param
    return content


def spared(store: Store, data: bytes) -> Digest:
    path = store.scratch("test") / "object"
    path.write_bytes(data)
    digest = digest_of(data)
    store.adopt(path, digest, len(data), spare=True)
    return digest


def place(store: Store, digest: Digest) -> Path:
    return store.root / "cache" / "objects" / digest.hex[:2] / digest.hex[2:]


def test_it_is_read_like_any_other(tmp_path: Path, data: bytes) -> None:
    with Store.open(tmp_path / "store") as store:
        digest = spared(store, data)
        assert store.is_spare(digest) and store.has(digest) and not store.absent([digest])
        assert store.get(digest) == data and store.size(digest) == len(data) == store.verify(digest)
        location = store.checked(digest)
        assert location.path is not None and location.path.read_bytes() == data
        with store.open_object(digest) as stream:
            assert stream.read() == data
        assert digest not in set(store.digests())


def test_no_ref_rests_on_it(tmp_path: Path, data: bytes) -> None:
    with Store.open(tmp_path / "store") as store:
        digest = spared(store, data)
        with pytest.raises(StoreError):
            store.refs.set([RefChange("environments/mine", digest)])
        store.keep_spare(digest)
        store.refs.set([RefChange("environments/mine", digest)])


def test_kept_it_outlives_the_cache(tmp_path: Path, data: bytes) -> None:
    with Store.open(tmp_path / "store") as store:
        digest = spared(store, data)
        store.keep_spare(digest)
        store.keep_spare(digest)
        assert not place(store, digest).exists() and not store.is_spare(digest)
    with Store.open(tmp_path / "store") as store:
        assert store.get(digest) == data


def test_put_again_it_is_kept(tmp_path: Path, data: bytes) -> None:
    with Store.open(tmp_path / "store") as store:
        digest = spared(store, data)
        assert store.put(data) == digest and not store.is_spare(digest)
        place(store, digest).unlink()
        assert store.get(digest) == data


def test_deleted_it_is_missing(tmp_path: Path, data: bytes) -> None:
    with Store.open(tmp_path / "store") as store:
        digest = spared(store, data)
        place(store, digest).unlink()
        assert store.absent([digest]) == {digest} and not store.is_spare(digest)
        with pytest.raises(ObjectMissing):
            store.get(digest)


def test_tampered_it_is_refused_and_never_kept(tmp_path: Path, data: bytes) -> None:
    with Store.open(tmp_path / "store") as store:
        digest = spared(store, data)
        place(store, digest).chmod(0o644)
        place(store, digest).write_bytes(data[:-1] + b"?")
        for look in (store.get, store.checked, store.verify):
            with pytest.raises(ObjectCorrupt):
                look(digest)
        with pytest.raises(StoreError):
            store.keep_spare(digest)
        assert digest not in set(store.digests())
