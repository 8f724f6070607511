"""A folder as a bucket: of this machine, or mounted from another (NFS, SSH)."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stillrun_snapshot._disk import fresh_name, make_folder, remove_quietly, sync_folder, write_all, writing
from stillrun_snapshot.bucket import BucketError, FileTooLong, KeyMissing, Listed, checked_key

__all__ = ["FolderBucket"]

_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK}


class FolderBucket:
    """Files below a folder. A file appears whole, under a name that it is linked to."""

    def __init__(self, root: Path) -> None:
        self._root = root

    @property
    def name(self) -> str:
        """Its path."""
        return str(self._root)

    def get(self, key: str, limit: int) -> bytes:
        """A whole file, or KeyMissing."""
        with self._opened(key) as descriptor:
            size = os.fstat(descriptor).st_size
            if size > limit:
                raise FileTooLong(f"{self.name}/{key} has {size:,} bytes, more than the {limit:,} that it may have.")
            return self._read(descriptor, key, 0, size)

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """A part of a file."""
        with self._opened(key) as descriptor:
            return self._read(descriptor, key, start, length)

    def put(self, key: str, data: bytes | memoryview) -> None:
        """Write a file by an atomic rename."""
        path = self._path(key)
        with writing(self._root, "remote"):
            temporary = self._written(path, data)
            temporary.replace(path)
            sync_folder(path.parent)

    def create(self, key: str, data: bytes) -> bool:
        """Write a file by a link, which no file system makes twice."""
        path = self._path(key)
        with writing(self._root, "remote"):
            temporary = self._written(path, data)
            try:
                path.hardlink_to(temporary)
            except FileExistsError:
                return False
            except OSError as err:
                if err.errno in _NO_LINKS:
                    raise BucketError(
                        f"{self.name} is on a file system without hard links, which a shared folder needs. Choose another folder."
                    ) from err
                raise
            finally:
                remove_quietly(temporary)
            sync_folder(path.parent)
        return True

    def size(self, key: str) -> int | None:
        """A file's length."""
        status = self._status(key)
        return None if status is None else status.st_size

    def written(self, key: str) -> float | None:
        """When a file was written."""
        status = self._status(key)
        return None if status is None else status.st_mtime

    def delete(self, key: str) -> None:
        """Remove a file."""
        with writing(self._root, "remote"):
            remove_quietly(self._path(key))

    def keys(self, prefix: str) -> Iterator[Listed]:
        """All files of which the name begins so, but unfinished ones."""
        for path in sorted(self._root.rglob("*")):
            key = path.relative_to(self._root).as_posix()
            seen = key.startswith(prefix) and not path.name.startswith(".") and path.is_file()
            if seen and (status := self._status(key)) is not None:
                yield Listed(key, status.st_size, status.st_mtime)

    def _status(self, key: str) -> os.stat_result | None:
        try:
            return self._path(key).stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as err:
            raise self._refused(key, err) from err

    def _path(self, key: str) -> Path:
        return self._root / checked_key(key)

    def _written(self, path: Path, data: bytes | memoryview) -> Path:
        """A new file beside ``path`` that holds ``data``, durable."""
        temporary = path.with_name(fresh_name(".new"))
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            descriptor = os.open(temporary, flags, 0o666)
        except FileNotFoundError:
            if not self._root.is_dir():
                raise BucketError(f"there is no folder {self._root}; make it, or mount it, first.") from None
            make_folder(path.parent)
            descriptor = os.open(temporary, flags, 0o666)
        try:
            try:
                write_all(descriptor, data)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except BaseException:
            remove_quietly(temporary)
            raise
        return temporary

    @contextmanager
    def _opened(self, key: str) -> Iterator[int]:
        try:
            descriptor = os.open(self._path(key), os.O_RDONLY | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise KeyMissing(f"there is no {key} in {self.name}.") from None
        except OSError as err:
            raise self._refused(key, err) from err
        try:
            yield descriptor
        except OSError as err:
            raise self._refused(key, err) from err
        finally:
            os.close(descriptor)

    def _read(self, descriptor: int, key: str, start: int, length: int) -> bytes:
        parts = []
        rest = length
        while rest and (part := os.pread(descriptor, rest, start + length - rest)):
            parts.append(part)
            rest -= len(part)
        if rest:
            raise BucketError(f"{self.name}/{key} ends {rest:,} bytes too early.")
        return b"".join(parts)

    def _refused(self, key: str, err: OSError) -> BucketError:
        return BucketError(f"{self.name}/{key} cannot be read: {err.strerror}.")
