from __future__ import annotations

from typing import Any

import pytest

from stillrun_snapshot.digest import digest_of
from stillrun_snapshot.errors import RecordError, StoreError
from stillrun_snapshot.store import Store
from stillrun_snapshot.tree import Entry, FileEntry, LinkEntry, link_stays_inside, put_tree, tree_files, tree_objects

FILE = FileEntry(digest_of(b"x"), 1)
ITEM = {"type": "file", "digest": digest_of(b"x"), "size": 1, "executable": False}


def test_round_trip_sorted_by_bytes(store: Store) -> None:
    files: dict[str, Entry] = {
        "b": FILE,
        "a/z": FileEntry(digest_of(b""), 0, executable=True),
        "a/ä": LinkEntry("z"),
        "a.b": FILE,
        "Z": FILE,
    }
    tree = put_tree(store, files)
    assert list(tree_files(store, tree)) == [(path, files[path]) for path in ["Z", "a/z", "a/ä", "a.b", "b"]]
    assert put_tree(store, dict(reversed(files.items()))) == tree
    assert list(tree_files(store, put_tree(store, {}))) == []


@pytest.mark.parametrize("path", ["", "/a", "a/", "a//b", "../a", "a/../b", "./a", ".git/config", "a/.GIT", "a\0"])
def test_a_path_that_could_lead_out_is_not_put(store: Store, path: str) -> None:
    with pytest.raises(StoreError, match="cannot be"):
        put_tree(store, {path: FILE})


def test_a_file_is_no_folder(store: Store) -> None:
    for files in ({"a": FILE, "a/b": FILE}, {"a/b": FILE, "a": FILE}):
        with pytest.raises(StoreError, match=r"below a file|both a file"):
            put_tree(store, files)


@pytest.mark.parametrize(
    "entries",
    [
        [{"name": "..", **ITEM}],
        [{"name": "a/b", **ITEM}],
        [{"name": "a", **ITEM}, {"name": "a", **ITEM}],
        [{"name": "b", **ITEM}, {"name": "a", **ITEM}],
        [{"name": ".git", **ITEM}],
        [{"name": "a", "type": "link", "target": "../x"}],
        [{"name": "a", "type": "link", "target": "/etc/passwd"}],
        [{"name": "a", "type": "device"}],
        [{"name": "a", **ITEM, "size": -1}],
        [{"name": "a", **ITEM, "size": True}],
        [{"name": "a", **ITEM, "executable": 1}],
        [ITEM],
        ["a"],
        None,
    ],
)
def test_a_foreign_tree_that_could_lead_out_is_refused(store: Store, entries: Any) -> None:
    tree = store.put_record({"schema": "stillrun/tree/1", "entries": entries})
    with pytest.raises(RecordError, match="not sound"):
        list(tree_files(store, tree))


def test_endless_nesting_is_refused(store: Store) -> None:
    tree = store.put_record({"schema": "stillrun/tree/1", "entries": []})
    for _ in range(150):
        entries = [{"name": "a", "type": "tree", "digest": tree}]
        tree = store.put_record({"schema": "stillrun/tree/1", "entries": entries})
    with pytest.raises(RecordError, match="nested too deeply"):
        list(tree_files(store, tree))


@pytest.mark.parametrize(
    ("path", "target", "inside"),
    [
        ("a", "b", True),
        ("a/b", "../c", True),
        ("a/b", "../../c", False),
        ("a", "", False),
        ("a", "/b", False),
        ("a", "b/../../c", False),
        ("a", "b/..", False),
        ("a/b", "..", True),
        ("a", "b//c", False),
        ("a", "./b", True),
    ],
)
def test_links_are_judged_by_their_text(path: str, target: str, inside: bool) -> None:
    assert link_stays_inside(path, target) == inside


def test_the_objects_of_a_tree_are_its_files_and_the_records_of_its_folders(store: Store) -> None:
    a, b = store.put(b"a"), store.put(b"b")
    tree = put_tree(store, {"x/y/a": FileEntry(a, 1), "x/b": FileEntry(b, 1), "l": LinkEntry("x/b")})
    found = dict(tree_objects(store, tree))
    assert found.keys() == {"", "x", "x/b", "x/y", "x/y/a"}
    assert set(found.values()) == set(store.digests())
