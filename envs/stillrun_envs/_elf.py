"""What an ELF file says of the libraries it needs: names, search paths and the C library version.

Source: System V ABI, chapter 5 (dynamic section), and the GNU symbol versioning tables. Little-endian 64-bit
files only; any other file is not read.
"""

from __future__ import annotations

import struct
from pathlib import Path

from stillrun_snapshot.deferred import dataclass

__all__ = ["Elf", "read_elf"]

_DT_NEEDED, _DT_STRTAB, _DT_SONAME, _DT_RPATH, _DT_RUNPATH = 1, 5, 14, 15, 29
_DT_VERNEED, _DT_VERNEEDNUM = 0x6FFFFFFE, 0x6FFFFFFF
_PT_LOAD, _PT_DYNAMIC = 1, 2


@dataclass(frozen=True)
class Elf:
    """The dynamic section of one file."""

    needed: tuple[str, ...]
    rpath: tuple[str, ...]  # RUNPATH, or RPATH where there is none
    versions: tuple[str, ...]  # symbol versions asked of other libraries, such as GLIBC_2.34

    @property
    def glibc(self) -> tuple[int, ...]:
        """The least C library version that has all that is asked for; empty when none is named."""
        found = [name[6:] for name in self.versions if name.startswith("GLIBC_")]
        return max((tuple(map(int, text.split("."))) for text in found if text[:1].isdigit()), default=())


def read_elf(path: Path) -> Elf | None:
    """The dynamic section of ``path``; None when it is no such file or has none."""
    with path.open("rb") as file:
        head = file.read(64)
        if len(head) < 64 or head[:6] != b"\x7fELF\x02\x01":
            return None
        data = head + file.read()
    try:
        return _dynamic(data)
    except (struct.error, IndexError, ValueError):
        return None  # a damaged or unusual table is as good as none: the file is kept as it is


def _dynamic(data: bytes) -> Elf | None:
    offset, size, count = struct.unpack_from("<Q", data, 32)[0], *struct.unpack_from("<HH", data, 54)
    segments = [struct.unpack_from("<IIQQQQ", data, offset + size * index) for index in range(count)]
    loads = [(vaddr, where, length) for kind, _, where, vaddr, _, length in segments if kind == _PT_LOAD]
    table = next(((where, length) for kind, _, where, _, _, length in segments if kind == _PT_DYNAMIC), None)
    if table is None:
        return None
    entries = [struct.unpack_from("<qQ", data, table[0] + step) for step in range(0, table[1], 16)]
    values = dict(entries)

    def place(address: int) -> int:
        for vaddr, where, length in loads:
            if vaddr <= address < vaddr + length:
                return int(where + address - vaddr)
        raise ValueError(f"no segment holds address {address:#x}")

    strings = place(values[_DT_STRTAB])

    def text(index: int) -> str:
        start = strings + index
        return data[start : data.index(b"\0", start)].decode("utf-8", "surrogateescape")

    search = [text(value) for tag in (_DT_RUNPATH, _DT_RPATH) for key, value in entries if key == tag]
    versions: list[str] = []
    if _DT_VERNEED in values:
        position = place(values[_DT_VERNEED])
        for _ in range(values.get(_DT_VERNEEDNUM, 0)):
            _, number, _, first, following = struct.unpack_from("<HHIII", data, position)
            item = position + first
            for _ in range(number):
                _, _, _, name, step = struct.unpack_from("<IHHII", data, item)
                versions.append(text(name))
                item += step
            position += following
    return Elf(
        needed=tuple(text(value) for key, value in entries if key == _DT_NEEDED),
        rpath=tuple(search[0].split(":")) if search else (),
        versions=tuple(sorted(set(versions))),
    )
