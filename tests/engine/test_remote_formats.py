"""What is written to a remote: read back as it was, golden files for ever, and refusal of anything else."""

from __future__ import annotations

import json
import shutil
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillrun_engine.remote_log import START, Change, Known, RemoteLog, RemoteUnsound
from stillrun_engine.remote_manifest import Manifest, Packed, Whole, fetched_manifest, pieces_of, sent_manifest
from stillrun_engine.remote_sweep import swept_files
from stillrun_snapshot.digest import digest_of
from stillrun_snapshot.errors import RecordError
from stillrun_snapshot.folder_bucket import FolderBucket
from stillrun_snapshot.segments import SEGMENT_MAX, SMALL_MAX, Entry, segments_of, unpacked

GOLDEN = Path(__file__).parents[2] / "fixtures" / "formats" / "remote" / "v1"
A, B, C = (digest_of(text) for text in (b"a", b"b", b"c"))


def clock() -> datetime:
    return datetime(2026, 11, 26, tzinfo=timezone.utc)


def log_of(folder: Path) -> RemoteLog:
    return RemoteLog(FolderBucket(folder), clock)


def test_the_golden_remote_is_read_as_ever() -> None:
    known = log_of(GOLDEN).read(None, None)
    assert known.seq == 2
    assert list(known.runs) == ["Tiny/1"]
    manifest = Manifest.parse(fetched_manifest(FolderBucket(GOLDEN), known.runs["Tiny/1"]))
    assert (manifest.run, manifest.kind) == ("Tiny/1", "run")
    segment = next(iter(manifest.segments))
    data = (GOLDEN / "segments" / segment.hex).read_bytes()
    found = [unpacked(data[e.offset : e.offset + e.stored], e) for e in manifest.segments[segment].entries]
    assert set(found) == {b"", b"small", b"text that is packed " * 40}
    ((large, whole),) = manifest.objects.items()
    assert whole == Whole(300_000, False)
    key = next(pieces_of(large, whole.size))[0]
    assert digest_of((GOLDEN / key).read_bytes()) == large


def test_the_golden_remote_that_was_swept_is_read_as_ever() -> None:
    """Its last sweep is not done; one before it, of the same files, is."""
    folder = GOLDEN.with_name("v2")
    known = log_of(folder).read(None, None)
    ((listed, seq),) = known.sweeping.items()
    assert (known.seq, seq, known.runs, known.swept) == (5, 5, {}, {(listed, 3)})
    assert Known.parse((folder / "states" / "0000000005").read_bytes()) == known
    assert swept_files(FolderBucket(folder), listed) == {"manifests/" + A.hex, "segments/" + B.hex}


@given(st.lists(st.binary(max_size=3000), unique=True))
def test_what_is_put_in_segments_comes_out_of_them(objects: list[bytes]) -> None:
    """unpacked . segments_of = identity."""
    found = []
    for segment in segments_of((digest_of(data), data) for data in objects):
        assert len(segment.data) <= SEGMENT_MAX
        found += [unpacked(segment.data[e.offset : e.offset + e.stored], e) for e in segment.entries]
    assert found == objects


@given(st.binary(max_size=500), st.integers(0, 600), st.integers(0, 1))
def test_a_payload_is_the_object_or_nothing(payload: bytes, size: int, codec: int) -> None:
    entry = Entry(A, 0, size if codec == 0 else len(payload), size, codec)
    assert unpacked(payload, entry) in (None, b"a")


@given(st.integers(SMALL_MAX, 1 << 33))
def test_pieces_cover_an_object_once(size: int) -> None:
    """The pieces lie side by side from 0 to the size, each under a name of its own."""
    end, keys = 0, set()
    for key, start, length in pieces_of(A, size):
        assert (start, length > 0) == (end, True)
        end += length
        keys.add(key)
    assert end == size
    assert len(keys) == -(-size // (8 << 20))


def manifest(**changes: Any) -> bytes:
    places = {A: Whole(300_000, True), B: Packed(C, 10, Entry(B, 0, 4, 4, 0))}
    record = json.loads(Manifest.of("F/1", "run", {"runs/F/1": A}, places, {A}).to_bytes())
    record.update(changes)
    return json.dumps(record, sort_keys=True, separators=(",", ":")).encode()


def test_a_manifest_is_read_back_as_it_was(tmp_path: Path) -> None:
    found = Manifest.parse(manifest())
    assert found.to_bytes() == manifest()
    digest = sent_manifest(FolderBucket(tmp_path), found)
    assert fetched_manifest(FolderBucket(tmp_path), digest) == manifest()


@pytest.mark.parametrize(
    "changes",
    [
        {"run": "../x"},
        {"run": "F"},
        {"kind": "spin"},
        {"schema": "stillrun/remote-run/2"},
        {"objects": {A: {"size": 1, "first": True}}},
        {"objects": {A: {"size": -1, "first": True}}},
        {"objects": {A: {"size": 1 << 60, "first": True}}},
        {"objects": {"../../etc": {"size": 300_000, "first": True}}},
        {"segments": {C: {"size": 10, "first": True, "entries": [[B, 8, 4, 4, 0]]}}},
        {"segments": {C: {"size": 10, "first": True, "entries": [[B, -1, 4, 4, 0]]}}},
        {"segments": {C: {"size": 10, "first": True, "entries": [[B, 0, 4, 1 << 40, 1]]}}},
        {"segments": {C: {"size": 10, "first": True, "entries": [[B, 0, 4, 4, 7]]}}},
        {"segments": {C: {"size": 10, "first": True, "entries": [[A, 0, 4, 4, 0]]}}},
        {"segments": {C: {"size": 1 << 40, "first": True, "entries": []}}},
        {"refs": {"runs/F/1": "nothing"}},
        {"more": 1},
    ],
)
def test_a_manifest_that_says_more_than_it_may_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(RecordError):
        Manifest.parse(manifest(**changes))


def test_two_that_write_at_once_both_stand_in_the_log(tmp_path: Path) -> None:
    ours, theirs = log_of(tmp_path), log_of(tmp_path)
    known = ours.read(None, None)
    assert known == START
    theirs.append(known, lambda now: [Change("F/2", B)] if "F/2" not in now.runs else [])
    asked = []

    def decide(now: Known) -> list[Change]:
        asked.append(now.seq)
        return [Change("F/1", A)]

    after = ours.append(known, decide)
    assert asked == [0, 1]  # decided anew, with what the other had written
    assert (after.seq, dict(after.runs)) == (2, {"F/1": A, "F/2": B})
    assert theirs.read(None, None) == after


@pytest.mark.parametrize("count", [1, 64, 130])
@pytest.mark.parametrize("head", [None, 1, 10_000, "?"])
def test_the_end_is_found_whatever_the_hint_says(tmp_path: Path, count: int, head: object) -> None:
    log = log_of(tmp_path)
    known = START
    for number in range(count):
        known = log.append(known, lambda now, number=number: [Change(f"F/{number}", A)])  # type: ignore[misc]
    (tmp_path / "head").unlink()
    if head is not None:
        (tmp_path / "head").write_text(json.dumps({"schema": "stillrun/remote-head/1", "seq": head}))
    assert log_of(tmp_path).read(None, None) == known
    assert log.read_whole(known) == known


@pytest.mark.parametrize("what", ["cut", "replaced", "middle"])
def test_a_log_that_is_not_what_was_seen_is_refused(tmp_path: Path, what: str) -> None:
    log, known = log_of(tmp_path), START
    for number in range(5):
        known = log.append(known, lambda now, number=number: [Change(f"F/{number}", A)])  # type: ignore[misc]
    seen = (known.seq, known.line)
    if what == "cut":
        (tmp_path / "log" / "0000000005").unlink()
    elif what == "replaced":
        shutil.copy(tmp_path / "log" / "0000000004", tmp_path / "log" / "0000000005")
    else:
        path = tmp_path / "log" / "0000000003"
        path.write_bytes(path.read_bytes().replace(b"F/2", b"F/9"))
    with pytest.raises(RemoteUnsound):
        log.read(None, seen)
