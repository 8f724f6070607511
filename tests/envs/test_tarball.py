"""The reader of kept trees lets nothing out of the folder it fills."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
import zstandard

from stillrun_envs._tarball import Entry, TarballError, unpack, write


def packed(*members: tuple[str, bytes, str]) -> io.BytesIO:
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as archive:
        for name, kind, payload in members:
            member = tarfile.TarInfo(name)
            member.type = kind
            if kind == tarfile.REGTYPE:
                member.size = len(payload)
                member.mode = 0o4777
                archive.addfile(member, io.BytesIO(payload.encode()))
            else:
                member.linkname = payload
                archive.addfile(member)
    return io.BytesIO(zstandard.compress(plain.getvalue()))


FILE, LINK, HARD, FIFO, FOLDER = tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE


@pytest.mark.parametrize(
    "members",
    [
        [("../evil", FILE, "x")],
        [("/tmp/evil", FILE, "x")],
        [("a/../../evil", FILE, "x")],
        [("out", LINK, "/etc")],
        [("out", LINK, "..")],
        [("a/out", LINK, "../../etc")],
        [("s/t/u", LINK, "../.."), ("m", LINK, "s/t/u/..")],
        [("here", LINK, "sub"), ("here/evil", FILE, "x")],
        [("file", FILE, "x"), ("file/evil", FILE, "x")],
        [("hard", HARD, "/etc/passwd")],
        [("pipe", FIFO, "")],
        [("twice", FILE, "x"), ("twice", FILE, "y")],
    ],
    ids=lambda members: "+".join(name for name, *_ in members),
)
def test_what_would_leave_the_folder_is_refused(tmp_path: Path, members: list[tuple[str, bytes, str]]) -> None:
    into = tmp_path / "into"
    into.mkdir()
    (tmp_path / "sub").mkdir()
    with pytest.raises((TarballError, FileExistsError, NotADirectoryError)):
        unpack(packed(*members), into)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["into", "sub"]
    assert not any((tmp_path / "sub").iterdir())


def test_rights_are_reduced_to_running_or_not(tmp_path: Path) -> None:
    unpack(packed(("bin/run", FILE, "x")), tmp_path)
    assert (tmp_path / "bin/run").stat().st_mode & 0o7777 == 0o755


def test_a_cut_archive_is_refused(tmp_path: Path) -> None:
    whole = packed(("a", FILE, "x" * 100_000)).getvalue()
    with pytest.raises(TarballError, match="read to its end"):
        unpack(io.BytesIO(whole[: len(whole) // 2]), tmp_path)


def test_a_tree_comes_back_and_its_bytes_do_not_depend_on_order(tmp_path: Path) -> None:
    (tmp_path / "one").write_text("1")
    (tmp_path / "two").write_text("2")
    entries = [
        Entry("lib/one", tmp_path / "one"),
        Entry("bin/two", tmp_path / "two", executable=True),
        Entry("bin/link", link="../lib/one"),
    ]
    first, second = io.BytesIO(), io.BytesIO()
    write(entries, first)
    write(entries[::-1], second)
    assert first.getvalue() == second.getvalue()
    into = tmp_path / "into"
    into.mkdir()
    unpack(io.BytesIO(first.getvalue()), into)
    assert (into / "bin/link").read_text() == "1"
    assert (into / "bin/two").stat().st_mode & 0o111
