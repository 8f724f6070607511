"""Members of a bundle: headers that any tar reads, and that follow from name and size alone."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillrun_snapshot.plain_tar import END, TarDamage, blocks_of_member, member_header, padding, read_header

NAMES = st.text("abcdef0123456789/.-", min_size=1, max_size=100)
SIZES = st.one_of(st.integers(0, 10_000), st.integers(8**11 - 2, 8**11 + 2), st.integers(0, 2**80))


@given(NAMES, SIZES)
def test_a_header_is_read_as_it_was_written(name: str, size: int) -> None:
    assert read_header(io.BytesIO(member_header(name, size))) == (name, size)


@given(NAMES, st.integers(0, 8**11 - 1))
def test_a_header_is_that_of_pythons_own_ustar(name: str, size: int) -> None:
    info = tarfile.TarInfo(name)
    info.size = size
    assert member_header(name, size) == info.tobuf(tarfile.USTAR_FORMAT)


@given(NAMES, SIZES, st.integers(0, 511), st.integers(1, 255))
def test_a_header_with_another_byte_is_refused_or_names_something_else(
    name: str, size: int, at: int, turn: int
) -> None:
    header = bytearray(member_header(name, size))
    header[at] ^= turn
    with pytest.raises(TarDamage):
        read_header(io.BytesIO(bytes(header)))


@pytest.mark.parametrize(
    "changes",
    [
        {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"},
        {"type": tarfile.LNKTYPE, "linkname": "a"},
        {"type": tarfile.DIRTYPE},
        {"type": tarfile.CHRTYPE},
        {"mode": 0o755},
        {"uid": 5},
        {"uname": "root"},
        {"mtime": 1},
        {"name": "x" * 120},
    ],
)
def test_what_is_no_plain_file_is_refused(changes: dict[str, object]) -> None:
    info = tarfile.TarInfo("objects/a")
    for name, value in changes.items():
        setattr(info, name, value)
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        with pytest.raises(TarDamage):
            read_header(io.BytesIO(info.tobuf(form)))


@pytest.mark.parametrize("size", [0, 1, 511, 512, 513, 3 << 20])
def test_content_comes_back_whole_and_its_end_is_checked(size: int) -> None:
    data = bytes(range(256)) * (size // 256 + 1)
    stream = io.BytesIO(data[:size] + padding(size) + END)
    assert b"".join(blocks_of_member(stream, size)) == data[:size]
    assert stream.read() == END
    for bad in (data[:size][:-1], data[:size] + b"\1" * (-size % 512)):
        if size % 512:
            with pytest.raises(TarDamage):
                list(blocks_of_member(io.BytesIO(bad), size))


def test_tar_itself_reads_what_is_written(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(member_header("dir/a", 3) + b"abc" + padding(3) + member_header("b", 0) + END)
    done = subprocess.run(["tar", "tvf", path], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert [line.split()[-1] for line in done.stdout.splitlines()] == ["dir/a", "b"]
