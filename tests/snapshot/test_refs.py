from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillrun_snapshot.digest import Digest, digest_of
from stillrun_snapshot.errors import ObjectMissing, RefConflict, StoreError
from stillrun_snapshot.refs import ANY, RefChange
from stillrun_snapshot.store import Store

RunPython = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def objects(store: Store) -> list[Digest]:
    return [store.put(b"%d" % index) for index in range(5)]


def log_of(store: Store) -> Path:
    return store.root / "log"


def test_a_change_is_a_line_that_names_the_line_before(tmp_path: Path) -> None:
    moments: Iterator[datetime] = (
        datetime(2026, 11, 23, 4, 0, 0, 123456, tzinfo=timezone.utc) + timedelta(hours=hour) for hour in range(9)
    )
    with Store.open(tmp_path / "s", clock=lambda: next(moments)) as store:
        one, two = store.put(b"1"), store.put(b"2")
        store.refs.set([RefChange("a/b", one)])
        store.refs.set([RefChange("a/b", two), RefChange("c", one)])
        lines = log_of(store).read_bytes().splitlines()
        assert json.loads(lines[0]) == {
            "schema": "stillrun/ref-event/1",
            "seq": 1,
            "prev": "sha256:" + "0" * 64,
            "time": "2026-11-23T04:00:00.123Z",
            "ref": "a/b",
            "from": None,
            "to": one,
        }
        assert [json.loads(line)["prev"] for line in lines[1:]] == [digest_of(line) for line in lines[:-1]]
        events = [(event.seq, event.name, event.old, event.new) for event in store.refs.events()]
        assert events == [(1, "a/b", None, one), (2, "a/b", one, two), (3, "c", None, one)]
        assert [event.time[11:13] for event in store.refs.events()] == ["04", "05", "05"]
        assert store.refs.check() == 3


def test_an_expectation_that_fails_changes_nothing(store: Store, objects: list[Digest]) -> None:
    store.refs.set([RefChange("a", objects[0], expect=None)])
    for expect in (None, objects[1]):
        with pytest.raises(RefConflict) as caught:
            store.refs.set([RefChange("b", objects[2]), RefChange("a", objects[1], expect)])
        assert (caught.value.ref, caught.value.found, caught.value.expected) == ("a", objects[0], expect)
    assert dict(store.refs.names()) == {"a": objects[0]}
    store.refs.set([RefChange("a", objects[1], expect=objects[0]), RefChange("b", None, expect=None)])
    store.refs.set([RefChange("a", None, expect=ANY)])
    assert store.refs.get("a") is None
    assert store.refs.check() == 3


def test_no_change_leaves_no_line(store: Store, objects: list[Digest]) -> None:
    for _ in range(3):
        store.refs.set([RefChange("a", objects[0]), RefChange("never", None)])
    assert store.refs.check() == 1


def test_a_ref_never_points_at_what_is_not_held(store: Store) -> None:
    with pytest.raises(ObjectMissing):
        store.refs.set([RefChange("a", digest_of(b"absent"))])
    assert store.refs.get("a") is None


@pytest.mark.parametrize("name", ["", "/", "a/", "/a", "a//b", "a/../b", ".", "a\nb", "a\0", "x" * 1025])
def test_a_name_that_could_confuse_is_refused(name: str) -> None:
    with pytest.raises(StoreError, match="no name for a ref"):
        RefChange(name, None)


def test_names_are_sorted_and_chosen_by_prefix(store: Store, objects: list[Digest]) -> None:
    chosen = ["runs/b/1", "runs/a/2", "runs/a/10", "tasks/a", "runs%/x", "Runs/a", "runs/ä"]
    store.refs.set([RefChange(name, objects[0]) for name in chosen])
    assert [name for name, _ in store.refs.names()] == sorted(chosen)
    assert [name for name, _ in store.refs.names("runs/a/")] == ["runs/a/10", "runs/a/2"]
    assert [name for name, _ in store.refs.names("runs/")] == ["runs/a/10", "runs/a/2", "runs/b/1", "runs/ä"]


def test_a_torn_last_line_is_ignored_and_cut_by_the_next_writer(store: Store, objects: list[Digest]) -> None:
    store.refs.set([RefChange("a", objects[0])])
    whole = log_of(store).read_bytes()
    with open(log_of(store), "ab") as log:
        log.write(b'{"schema":"stillrun/ref-ev')
    for opened in (store, Store.open(store.root)):
        assert dict(opened.refs.names()) == {"a": objects[0]}
        assert opened.refs.check() == 1
    store.refs.set([RefChange("a", objects[1])])
    assert log_of(store).read_bytes().startswith(whole + b"{")
    assert store.refs.check() == 2


@pytest.mark.parametrize("line", [2, 3, 4])
def test_a_changed_line_is_named(store: Store, objects: list[Digest], line: int) -> None:
    for digest in objects:
        store.refs.set([RefChange("a", digest)])
    lines = log_of(store).read_bytes().splitlines(keepends=True)
    lines[line - 1] = lines[line - 1].replace(b'"ref":"a"', b'"ref":"b"')
    log_of(store).write_bytes(b"".join(lines))
    with pytest.raises(StoreError, match=f"line {line + 1} of the log .* continue line {line};"):
        store.refs.check()
    (store.root / "catalog.sqlite").unlink()
    with Store.open(store.root) as again, pytest.raises(StoreError, match=f"line {line + 1} of the log"):
        again.refs.get("a")


@pytest.mark.parametrize("damage", [b"", b"garbage", b'{"schema":"stillrun/ref-event/2"}'])
def test_a_line_that_is_none_is_named(store: Store, objects: list[Digest], damage: bytes) -> None:
    for digest in objects:
        store.refs.set([RefChange("a", digest)])
    lines = log_of(store).read_bytes().splitlines()
    lines[1] = damage
    log_of(store).write_bytes(b"\n".join(lines) + b"\n")
    with pytest.raises(StoreError, match="line 2 of the log"):
        store.refs.check()
    with pytest.raises(StoreError, match="line 2 of the log"):
        list(store.refs.events())


def test_a_log_that_was_exchanged_is_read_anew(tmp_path: Path) -> None:
    logs = []
    for name in ("one", "two"):
        with Store.open(tmp_path / name) as store:
            digest = store.put(b"x")
            for index in range(3):
                store.refs.set([RefChange(f"{name}/{index}", digest)])
            assert len(dict(store.refs.names())) == 3
            logs.append(log_of(store))
    logs[0].write_bytes(logs[1].read_bytes())
    with Store.open(tmp_path / "one") as store:
        assert [name for name, _ in store.refs.names()] == ["two/0", "two/1", "two/2"]
    logs[0].write_bytes(b"".join(logs[1].read_bytes().splitlines(keepends=True)[:1]))
    with Store.open(tmp_path / "one") as store:
        assert [name for name, _ in store.refs.names()] == ["two/0"]


COUNTER = """
import sys
from pathlib import Path
from stillrun_snapshot.errors import RefConflict
from stillrun_snapshot.refs import RefChange
from stillrun_snapshot.store import Store
with Store.open(Path(sys.argv[1])) as store:
    done = 0
    while done < 25:
        found = store.refs.get("count")
        number = int(store.get(found)) if found else 0
        try:
            store.refs.set([RefChange("count", store.put(b"%d" % (number + 1)), expect=found)])
            done += 1
        except RefConflict:
            continue
"""


def test_no_change_is_lost_among_many_processes(tmp_path: Path, python: RunPython) -> None:
    processes = [python(COUNTER, tmp_path / "s") for _ in range(4)]
    for process in processes:
        _, complaint = process.communicate()
        assert process.returncode == 0, complaint
    with Store.open(tmp_path / "s") as store:
        found = store.refs.get("count")
        assert found is not None and store.get(found) == b"100"
        assert store.refs.check() == 100


def test_a_change_says_why_in_the_log(store: Store) -> None:
    digest = store.put(b"a")
    store.refs.set([RefChange("runs/a/1", digest, note="made by hand, größer"), RefChange("b", digest)])
    store.refs.set([RefChange("runs/a/1", None, note="forgotten")])
    assert [event.note for event in store.refs.events()] == ["made by hand, größer", None, "forgotten"]
    assert store.refs.check() == 3 and dict(store.refs.names()) == {"b": digest}


@pytest.mark.parametrize("note", ["", "two\nlines", "x" * 501, "\x1b[31m"])
def test_a_note_is_one_line(note: str) -> None:
    with pytest.raises(StoreError, match="is no note"):
        RefChange("a", None, note=note)


def test_refs_that_are_held_still_wait(store: Store, python: RunPython) -> None:
    digest = store.put(b"a")
    store.refs.set([RefChange("a", digest)])
    script = """
import sys
from pathlib import Path
from stillrun_snapshot.refs import RefChange
from stillrun_snapshot.store import Store
with Store.open(Path(sys.argv[1])) as store:
    print("begins", flush=True)
    store.refs.set([RefChange("b", store.refs.get("a"))])
"""
    with store.refs.held_still() as length:
        process = python(script, store.root)
        assert process.stdout is not None and process.stdout.readline() == "begins\n"
        assert [name for name, _ in store.refs.names()] == ["a"] and store.refs.length() == length
    assert process.wait() == 0
    assert [name for name, _ in store.refs.names()] == ["a", "b"]


@settings(deadline=None, max_examples=25)
@given(
    st.sets(st.from_regex(r"[a-d]{1,2}(/[a-dü\u07ff\U0001f600-]{1,3}){1,2}", fullmatch=True), max_size=30),
    st.sampled_from(["", "a", "a/", "b/", "ab/c"]),
)
def test_names_from_both_ends_and_their_parts_agree(names: set[str], prefix: str) -> None:
    with tempfile.TemporaryDirectory() as folder, Store.open(Path(folder)) as store:
        digest = store.put(b"x")
        if names:
            store.refs.set([RefChange(name, digest) for name in sorted(names)])
        wanted = sorted((name for name in names if name.startswith(prefix)), key=str.encode)
        assert [name for name, _ in store.refs.names(prefix)] == wanted
        assert [name for name, _ in store.refs.newest(prefix)] == wanted[::-1]
        assert store.refs.parts(prefix) == sorted(
            {name[len(prefix) :].split("/")[0] for name in wanted}, key=str.encode
        )


def test_the_newest_of_many_names_come_in_pages_without_gaps(store: Store) -> None:
    digest = store.put(b"x")
    store.refs.set([RefChange(f"runs/A/{number:04}", digest) for number in range(500)])
    assert [name[-4:] for name, _ in store.refs.newest("runs/A/")] == [
        f"{number:04}" for number in reversed(range(500))
    ]
