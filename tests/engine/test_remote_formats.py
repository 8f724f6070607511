"""What is written to a remote: read back as it was, golden files for ever, and refusal of anything else."""

from __future__ import annotations

import json
import shutil
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # it ships no types

from stillrun_engine.remote_log import START, Change, Known, RemoteLog, RemoteUnsound
from stillrun_engine.remote_manifest import Manifest, Packed, Whole, fetched_manifest, pieces_of, sent_manifest
from stillrun_engine.remote_sweep import swept_files
from stillrun_engine.remotes import RemoteSettings, add_remote
from stillrun_snapshot._layout import expected_mark
from stillrun_snapshot.digest import digest_of
from stillrun_snapshot.errors import RecordError
from stillrun_snapshot.folder_bucket import FolderBucket
from stillrun_snapshot.record import canonical_bytes
from stillrun_snapshot.segments import SEGMENT_MAX, SMALL_MAX, Entry, segments_of, unpacked
from stillrun_snapshot.store import Store

SCHEMAS = Path(__file__).parents[2] / "docs" / "spec" / "schemas"
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


def test_each_document_of_a_remote_fits_its_schema(tmp_path: Path) -> None:
    packed = next((GOLDEN / "manifests").iterdir()).read_bytes()
    with Store.open(tmp_path / "s") as store:
        add_remote(store, RemoteSettings("team", "s3://runs/x"))
        settings = (store.root / "remotes.json").read_bytes()
    seen = {"schema": "stillrun/remote-seen/1", "remote": "0" * 32, "seq": 2, "line": A}
    fetched = {"schema": "stillrun/fetched/1", "remote": "0" * 32, "run": "F/1", "manifest": A}
    documents = {
        "remote": (GOLDEN / "stillrun-remote.json").read_bytes(),
        "remote-head": (GOLDEN / "head").read_bytes(),
        "remote-event": (GOLDEN / "log" / "0000000002").read_bytes(),
        "remote-state": (GOLDEN / "states" / "0000000002").read_bytes(),
        "remote-run": zstandard.ZstdDecompressor().decompress(packed),
        "remotes": settings,
        "remote-seen": canonical_bytes(seen),
        "fetched": canonical_bytes(fetched),
        "ref-event": (GOLDEN.parents[1] / "log" / "v1" / "log").read_bytes().split(b"\n")[0],
        "store": expected_mark(),
    }
    for name, data in documents.items():
        schema = json.loads((SCHEMAS / f"{name}-1.json").read_text())
        Draft202012Validator.check_schema(schema)
        Draft202012Validator(schema).validate(json.loads(data))
        assert not Draft202012Validator(schema).is_valid({**json.loads(data), "schema": f"stillrun/{name}/2"})
    swept = GOLDEN.with_name("v2")
    later = {
        "remote-event": (swept / "log" / "0000000005").read_bytes(),
        "remote-state": (swept / "states" / "0000000005").read_bytes(),
        "remote-sweep": zstandard.ZstdDecompressor().decompress(next((swept / "sweeps").iterdir()).read_bytes()),
    }
    for name, data in later.items():
        version = json.loads(data)["schema"].rpartition("/")[2]
        schema = json.loads((SCHEMAS / f"{name}-{version}.json").read_text())
        Draft202012Validator.check_schema(schema)
        Draft202012Validator(schema).validate(json.loads(data))
    run = Draft202012Validator(json.loads((SCHEMAS / "remote-run-1.json").read_text()))
    assert not run.is_valid({**json.loads(documents["remote-run"]), "run": "../x"})


@settings(deadline=None)
@given(st.lists(st.binary(max_size=3000), unique=True))
def test_what_is_put_in_segments_comes_out_of_them(objects: list[bytes]) -> None:
    """unpacked . segments_of = identity."""
    found = []
    for segment in segments_of((digest_of(data), data) for data in objects):
        assert len(segment.data) <= SEGMENT_MAX
        found += [unpacked(segment.data[e.offset : e.offset + e.stored], e) for e in segment.entries]
    assert found == objects


@settings(deadline=None)
@given(st.binary(max_size=500), st.integers(0, 600), st.integers(0, 1))
def test_a_payload_is_the_object_or_nothing(payload: bytes, size: int, codec: int) -> None:
    entry = Entry(A, 0, size if codec == 0 else len(payload), size, codec)
    assert unpacked(payload, entry) in (None, b"a")


@settings(deadline=None)
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


def named(number: int) -> str:
    return f"log/{number:010}"


def test_an_event_that_stands_far_behind_is_no_reason_to_prepare_for_all_before_it(tmp_path: Path) -> None:
    log_of(tmp_path).append(START, lambda _: [Change("F/1", A)])
    (tmp_path / named(9_999_999_999)).write_bytes(b"x")
    (tmp_path / "head").write_text(json.dumps({"schema": "stillrun/remote-head/1", "seq": 9_999_999_999}))
    with pytest.raises(RemoteUnsound, match="its event 2 is gone"):
        log_of(tmp_path).read(None, None)


def test_a_service_that_says_of_every_name_that_it_is_there_is_refused(tmp_path: Path) -> None:
    class Agreeing(FolderBucket):
        def size(self, key: str) -> int | None:
            return 1

    with pytest.raises(RemoteUnsound, match="every name"):
        RemoteLog(Agreeing(tmp_path), clock).read(None, None)


def test_a_manifest_that_says_it_is_much_longer_than_its_frame_is_refused_unread(tmp_path: Path) -> None:
    data = manifest()[:-1] + b" " * 9_000_000 + b"}"
    (tmp_path / "manifests").mkdir()
    (tmp_path / "manifests" / digest_of(data).hex).write_bytes(zstandard.ZstdCompressor().compress(data))
    with pytest.raises(RecordError, match="which none may"):
        fetched_manifest(FolderBucket(tmp_path), digest_of(data))
