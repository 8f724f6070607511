from __future__ import annotations

import os
from pathlib import Path

import pytest

from stillrun_snapshot.digest import digest_of
from stillrun_snapshot.statcache import StatCache

HOUR = 3_600_000_000_000


def filled(tmp_path: Path, *, later_ns: int) -> tuple[Path, StatCache]:
    file = tmp_path / "file"
    file.write_bytes(b"content")
    cache = StatCache.load(tmp_path / "cache", tmp_path)
    status = file.stat()
    cache.add("file", status, digest_of(b"content"), status.st_ctime_ns + later_ns)
    cache.save()
    return file, StatCache.load(tmp_path / "cache", tmp_path)


def test_an_unchanged_file_is_known(tmp_path: Path) -> None:
    file, cache = filled(tmp_path, later_ns=HOUR)
    assert cache.digest("file", file.stat()) == digest_of(b"content")
    assert cache.digest("other", file.stat()) is None


def test_a_file_written_just_before_it_was_read_is_not_trusted(tmp_path: Path) -> None:
    file, cache = filled(tmp_path, later_ns=1_000_000)
    assert cache.digest("file", file.stat()) is None


def test_whole_second_stamps_are_trusted_later(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"content")
    second = 1_000_000_000
    now = file.stat().st_ctime_ns
    for mtime_ns, trusted in (
        (now // second * second + 2 * second, False),
        (now // second * second + second + 1, True),
    ):
        os.utime(file, ns=(mtime_ns, mtime_ns))
        cache = StatCache.load(tmp_path / "cache", tmp_path)
        cache.add("file", file.stat(), digest_of(b"content"), mtime_ns + second)
        assert bool(cache.fresh) == trusted


@pytest.mark.parametrize("change", ["bytes", "same size and time", "replaced"])
def test_a_changed_file_is_not_known(tmp_path: Path, change: str) -> None:
    file, cache = filled(tmp_path, later_ns=HOUR)
    before = file.stat()
    if change == "replaced":
        other = tmp_path / "other"
        other.write_bytes(b"CONTENT")
        other.replace(file)
    else:
        file.write_bytes(b"CONTENT" if change.startswith("same") else b"more content")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert cache.digest("file", file.stat()) is None


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"\xff", b'{"version":1,"root":"x"}', b'{"version":2}'])
def test_a_damaged_cache_is_an_empty_one(tmp_path: Path, content: bytes) -> None:
    file, cache = filled(tmp_path, later_ns=HOUR)
    cache.path.write_bytes(content)
    again = StatCache.load(tmp_path / "cache", tmp_path)
    assert again.digest("file", file.stat()) is None


def test_what_is_gone_is_forgotten(tmp_path: Path) -> None:
    _, cache = filled(tmp_path, later_ns=HOUR)
    cache.save()
    assert StatCache.load(tmp_path / "cache", tmp_path).known == {}


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file is in the way")
    cache = StatCache.load(tmp_path / "cache", tmp_path)
    cache.add_fact("name", "source", "value")
    cache.save()
    assert cache.fact("name", "source") == "value" and cache.fact("name", "other") is None
