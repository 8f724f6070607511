from __future__ import annotations

import os
import subprocess
import tarfile
from pathlib import Path

import pytest
import zstandard

from stillrun_snapshot.archive import write_tar
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.errors import ObjectCorrupt, StoreError
from stillrun_snapshot.store import Store
from stillrun_snapshot.tree import FileEntry, LinkEntry, put_tree

KINDS = ["tar", "tar.gz", "tgz", "tar.zst"]
LONG = "ä" * 60 + "/" + "y" * 120 + ".py"


@pytest.fixture
def tree(store: Store) -> Digest:
    big = store.put(os.urandom(200_000))
    return put_tree(
        store,
        {
            "a.py": FileEntry(store.put(b"a"), 1),
            "a/run": FileEntry(store.put(b"b"), 1, executable=True),
            "a/link": LinkEntry("../a.py"),
            LONG: FileEntry(big, 200_000),
        },
    )


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_tree_gives_the_same_bytes(store: Store, tree: Digest, tmp_path: Path, kind: str) -> None:
    for name in ("one", "two"):
        write_tar(store, tree, tmp_path / f"{name}.{kind}")
    data = (tmp_path / f"one.{kind}").read_bytes()
    assert data == (tmp_path / f"two.{kind}").read_bytes()
    assert b"one" not in data[:600]
    if kind == "tar.zst":
        data = zstandard.ZstdDecompressor().decompressobj().decompress(data)
        (tmp_path / "plain.tar").write_bytes(data)
    with tarfile.open(tmp_path / ("plain.tar" if kind == "tar.zst" else f"one.{kind}")) as archive:
        facts = [(info.name, info.mode, info.mtime, info.uid, info.gid, info.uname) for info in archive]
        modes = {"a.py": 0o644, "a/link": 0o777, "a/run": 0o755, LONG: 0o644}
        assert facts == [(name, mode, 0, 0, 0, "") for name, mode in modes.items()]
        assert archive.getmember("a/link").linkname == "../a.py"
        member = archive.extractfile(LONG)
        assert member is not None and len(member.read()) == 200_000


def test_other_tools_read_it(store: Store, tree: Digest, tmp_path: Path) -> None:
    write_tar(store, tree, tmp_path / "x.tar.gz")
    subprocess.run(["tar", "-xzf", "x.tar.gz"], cwd=tmp_path, check=True)
    assert (tmp_path / "a/link").read_bytes() == b"a"
    assert (tmp_path / LONG).stat().st_size == 200_000


def test_nothing_is_overwritten_and_nothing_half_written_stays(store: Store, tree: Digest, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "x.tar").write_text("mine")
    with pytest.raises(StoreError, match="is there already"):
        write_tar(store, tree, folder / "x.tar")
    with pytest.raises(StoreError, match=r"'\.tar', '\.tar\.gz' and '\.tar\.zst' are known"):
        write_tar(store, tree, folder / "x.zip")
    digest = store.put(bytes(100_000))
    damaged = put_tree(store, {"big": FileEntry(digest, 100_000)})
    path = store.root / "objects" / digest.hex[:2] / digest.hex[2:]
    path.chmod(0o644)
    path.write_bytes(b"!" * 100_000)
    with pytest.raises(ObjectCorrupt, match=digest):
        write_tar(store, damaged, folder / "y.tar")
    assert [item.name for item in folder.iterdir()] == ["x.tar"]
