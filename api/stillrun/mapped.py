"""Memory maps of kept bytes: private and writable, and whether a page of one was written to.

A step may change an inherited array in place; the map is copy-on-write, so the kept file never changes.
"""

from __future__ import annotations

import mmap
import os
import sys

from stillrun.errors import ArtifactCorrupt

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["MAP_MIN", "address_of", "is_untouched", "map_file", "read_file"]

MAP_MIN = 64 * 1024  # below this, reading is cheaper than a map and its page faults
_CURE = "The store was damaged after it was written: run 'stillrun store verify'."


def map_file(path: str, offset: int, size: int, digest: str) -> memoryview:
    """A private, writable view of ``size`` bytes of a file; what is written to it stays in this process."""
    descriptor = _open(path, offset, size, digest)
    try:
        start = offset - offset % mmap.ALLOCATIONGRANULARITY
        # trackfd: without it, each map keeps a duplicate of the descriptor open for as long as it lives
        options: dict[str, Any] = {"trackfd": False} if sys.version_info >= (3, 13) else {}
        length = offset - start + size
        mapping = mmap.mmap(descriptor, length, access=mmap.ACCESS_COPY, offset=start, **options)
    finally:
        os.close(descriptor)
    return memoryview(mapping)[offset - start :]


def read_file(path: str, offset: int, size: int, digest: str) -> bytearray:
    """``size`` bytes of a file, in memory of their own; fewer if the file was cut while it was read."""
    descriptor = _open(path, offset, size, digest)
    try:
        data = bytearray()
        while len(data) < size:
            more = os.pread(descriptor, size - len(data), offset + len(data))
            if not more:
                break
            data += more
    finally:
        os.close(descriptor)
    return data


def _open(path: str, offset: int, size: int, digest: str) -> int:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as err:
        raise ArtifactCorrupt(
            f"object {digest} cannot be read from {path} ({err.strerror}).", digest=digest, cure=_CURE
        ) from err
    held = os.fstat(descriptor).st_size
    if held < offset + size:
        os.close(descriptor)
        raise ArtifactCorrupt(
            f"object {digest} in {path}: {offset + size:,} bytes expected, {held:,} found.",
            digest=digest,
            cure=_CURE,
        )
    return descriptor


def address_of(view: memoryview) -> int | None:
    """Where the bytes of a contiguous view stand in memory; None if that cannot be told here."""
    owner = view.obj
    interface = getattr(owner, "__array_interface__", None)
    if isinstance(interface, dict) and getattr(owner, "nbytes", None) == view.nbytes:
        return int(interface["data"][0])
    return _address_by_ctypes(view)


def _address_by_ctypes(view: memoryview) -> int | None:
    try:
        import ctypes
    except ImportError:  # a Python that was built without libffi
        return None
    if not view.readonly:
        return ctypes.addressof(ctypes.c_char.from_buffer(view.cast("B")))

    class Buffer(ctypes.Structure):
        """Py_buffer of the C API."""

        _fields_ = [
            ("buf", ctypes.c_void_p),
            ("obj", ctypes.py_object),
            ("len", ctypes.c_ssize_t),
            ("itemsize", ctypes.c_ssize_t),
            ("readonly", ctypes.c_int),
            ("ndim", ctypes.c_int),
            ("format", ctypes.c_char_p),
            ("shape", ctypes.c_void_p),
            ("strides", ctypes.c_void_p),
            ("suboffsets", ctypes.c_void_p),
            ("internal", ctypes.c_void_p),
        ]

    buffer = Buffer()
    ctypes.pythonapi.PyObject_GetBuffer(ctypes.py_object(view), ctypes.byref(buffer), 0)
    address: int | None = buffer.buf
    ctypes.pythonapi.PyBuffer_Release(ctypes.byref(buffer))
    return address


def is_untouched(address: int, size: int) -> bool:
    """True when every page of that range still shows the mapped file; False also when it cannot be told.

    A page of a private map that was written to is anonymous from then on (proc(5), smaps), swapped out or not.
    """
    try:
        with open("/proc/self/smaps", "rb") as smaps:
            lines = smaps.read().split(b"\n")
    except OSError:
        return False
    covered, inside = 0, False
    for line in lines:
        first, _, rest = line.partition(b" ")
        if first[-1:] != b":" and rest:
            low, _, high = first.partition(b"-")
            begin, end = max(int(low, 16), address), min(int(high, 16), address + size)
            inside = begin < end
            covered += end - begin if inside else 0
        elif inside and first in (b"Anonymous:", b"Swap:") and int(rest.split()[0]) != 0:
            return False
    return covered == size
