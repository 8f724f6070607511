from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from stillrun_snapshot.capture import capture_tree
from stillrun_snapshot.checkout import FIXED_TIME, checkout, export_tree
from stillrun_snapshot.digest import Digest, digest_of
from stillrun_snapshot.errors import ObjectCorrupt, ObjectMissing, StoreError
from stillrun_snapshot.store import Store
from stillrun_snapshot.tree import FileEntry, put_tree

RunPython = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    root = tmp_path / "source"
    (root / "lib").mkdir(parents=True)
    (root / "flow.py").write_text("import lib.a\n")
    (root / "lib/a.py").write_text("value = 1\n")
    (root / "run.sh").write_text("#!/bin/sh\n")
    (root / "run.sh").chmod(0o755)
    (root / "big.bin").write_bytes(bytes(200_000))
    (root / "link.py").symlink_to("lib/a.py")
    return root


@pytest.fixture
def tree(store: Store, source: Path) -> Digest:
    return capture_tree(store, source, ["flow.py", "lib/a.py", "run.sh", "big.bin", "link.py"])


def assert_same(one: Path, two: Path) -> None:
    for folder in (one, two):
        other = two if folder is one else one
        for path in folder.rglob("*"):
            match = other / path.relative_to(folder)
            assert path.is_symlink() == match.is_symlink() and path.is_dir() == match.is_dir()
            if path.is_file():
                assert path.read_bytes() == match.read_bytes()
                assert os.access(path, os.X_OK) == os.access(match, os.X_OK)


def test_a_checkout_is_the_tree_with_fixed_times(store: Store, tree: Digest, source: Path) -> None:
    folder = checkout(store, tree)
    assert folder == store.root / "trees" / tree.hex
    assert_same(folder, source)
    for path in folder.rglob("*.py"):
        assert path.is_symlink() or (path.stat().st_mtime == FIXED_TIME and path.stat().st_mode & 0o222 == 0)


def test_a_checkout_is_shared_and_not_written_again(store: Store, tree: Digest) -> None:
    folder = checkout(store, tree)
    before = {path: path.lstat() for path in folder.rglob("*")}
    assert checkout(store, tree) == folder
    with Store.open(store.root) as other:
        assert checkout(other, tree) == folder
    assert {path: path.lstat() for path in folder.rglob("*")} == before


def test_byte_code_in_a_checkout_is_no_damage_and_stays_valid(store: Store, tree: Digest, python: RunPython) -> None:
    folder = checkout(store, tree)
    script = "import sys; sys.dont_write_bytecode = False; sys.path.insert(0, sys.argv[1]); import flow; print(flow.__cached__)"
    cached, complaint = python(script, folder).communicate()
    assert Path(cached.strip()).exists() or not cached.startswith(str(folder)), complaint
    inode = folder.stat().st_ino
    assert checkout(store, tree).stat().st_ino == inode


@pytest.mark.parametrize(
    "damage",
    ["edited", "same size and time", "removed", "added", "replaced by link", "gone", "no manifest", "bad manifest"],
)
def test_a_damaged_checkout_is_made_anew(store: Store, tree: Digest, source: Path, tmp_path: Path, damage: str) -> None:
    folder = checkout(store, tree)
    file, manifest = folder / "lib/a.py", folder.with_suffix(".manifest")
    outside = tmp_path / "outside"
    outside.write_text("precious")
    if damage in ("edited", "same size and time"):
        file.chmod(0o644)
        file.write_text("value = 2\n" if damage.startswith("same") else "value = 1000\n")
        os.utime(file, (FIXED_TIME, FIXED_TIME))
    elif damage in ("removed", "replaced by link"):
        file.unlink()
        if damage != "removed":
            file.symlink_to(outside)
    elif damage == "added":
        (folder / "numpy.py").write_text("evil")
    elif damage == "gone":
        shutil.rmtree(folder)
    else:
        manifest.unlink() if damage == "no manifest" else manifest.write_text("[")
    assert checkout(store, tree) == folder
    assert_same(folder, source)
    assert outside.read_text() == "precious"
    assert list((store.root / "tmp").iterdir()) == []


@pytest.mark.parametrize("lost", [False, True])
def test_after_a_restart_of_the_machine_a_checkout_is_hashed(
    store: Store, tree: Digest, source: Path, lost: bool
) -> None:
    folder = checkout(store, tree)
    manifest = folder.with_suffix(".manifest")
    if lost:
        file = folder / "lib/a.py"
        file.chmod(0o644)
        file.write_bytes(bytes(10))
        os.utime(file, (FIXED_TIME, FIXED_TIME))
    import json

    boot, stamps = json.loads(manifest.read_text())
    if lost:
        status = (folder / "lib/a.py").stat()
        stamps["lib/a.py"] = [status.st_size, status.st_mtime_ns, status.st_ino, status.st_ctime_ns]
    manifest.write_text(json.dumps(["another boot", stamps]))
    assert checkout(store, tree) == folder
    assert_same(folder, source)
    assert json.loads(manifest.read_text())[0] == boot


def test_many_builders_at_once_make_one_checkout(store: Store, tree: Digest, source: Path, python: RunPython) -> None:
    store.close()
    script = """
import sys
from pathlib import Path
from stillrun_snapshot.checkout import checkout
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.store import Store
with Store.open(Path(sys.argv[1])) as store:
    sys.stdin.readline()
    print(checkout(store, Digest(sys.argv[2])))
"""
    processes = [python(script, store.root, tree) for _ in range(4)]
    folders = {process.communicate("go\n") for process in processes}
    assert folders == {(f"{store.root / 'trees' / tree.hex}\n", "")}
    assert_same(store.root / "trees" / tree.hex, source)


def test_a_tree_with_a_missing_or_damaged_object_leaves_nothing(store: Store) -> None:
    missing = put_tree(store, {"a": FileEntry(store.put(b"a"), 1), "b": FileEntry(digest_of(b"absent"), 6)})
    with pytest.raises(ObjectMissing):
        checkout(store, missing)
    lying = put_tree(store, {"a": FileEntry(store.put(b"a"), 2)})
    with pytest.raises(ObjectCorrupt, match="a tree says 2 bytes, found 1"):
        checkout(store, lying)
    assert list((store.root / "tmp").iterdir()) == []
    assert not list((store.root / "trees").glob("*/"))


def test_an_export_is_a_plain_folder(store: Store, tree: Digest, source: Path, tmp_path: Path) -> None:
    out = tmp_path / "deep/er/out"
    export_tree(store, tree, out)
    assert_same(out, source)
    (out / "flow.py").write_text("mine now")
    assert (out / "run.sh").stat().st_mode & 0o200


def test_an_export_never_overwrites(store: Store, tree: Digest, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    export_tree(store, tree, tmp_path / "out")
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for out in (tmp_path / "out", tmp_path / "file", tmp_path / "link"):
        with pytest.raises(StoreError, match="is there already"):
            export_tree(store, tree, out)
