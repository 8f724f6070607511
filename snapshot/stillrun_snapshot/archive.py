"""Trees as tar files: the same tree gives the same bytes. Rules: docs/spec/tree.md, section 5."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from stillrun_snapshot._disk import fresh_name, remove_quietly, writing
from stillrun_snapshot.checkout import content_of
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.errors import StoreError
from stillrun_snapshot.store import LOOSE_MIN, Store
from stillrun_snapshot.tree import Entry, LinkEntry, tree_files

__all__ = ["write_tar"]


def write_tar(store: Store, tree: Digest, out: Path) -> None:
    """Write the tree as ``.tar``, ``.tar.gz`` or ``.tar.zst``; raises StoreError when ``out`` exists."""
    if os.path.lexists(out):
        raise StoreError(f"{out} is there already. Name another file; nothing was written.")
    temporary = out.with_name(fresh_name("." + out.name))
    with writing(out, "archive"):
        out.parent.mkdir(parents=True, exist_ok=True)
        try:
            with (
                open(temporary, "xb") as raw,
                _packed(raw, out) as stream,
                tarfile.open(fileobj=stream, mode="w|", format=tarfile.PAX_FORMAT) as archive,
            ):
                for path, entry in sorted(tree_files(store, tree), key=lambda item: item[0].encode()):
                    _add(store, archive, path, entry)
            temporary.rename(out)
        except BaseException:
            remove_quietly(temporary)
            raise


def _add(store: Store, archive: tarfile.TarFile, path: str, entry: Entry) -> None:
    info = tarfile.TarInfo(path)  # its time, owner and group are 0 and its names empty
    if isinstance(entry, LinkEntry):
        info.type, info.linkname, info.mode = tarfile.SYMTYPE, entry.target, 0o777
        archive.addfile(info)
        return
    info.size, info.mode = entry.size, 0o755 if entry.executable else 0o644
    if entry.size < LOOSE_MIN:
        archive.addfile(info, io.BytesIO(b"".join(content_of(store, entry))))
        return
    with store.open_object(entry.digest) as stream:
        if store.size(entry.digest) != entry.size:
            raise StoreError(
                f"the tree says that {path} has {entry.size:,} bytes, its object {entry.digest} has others."
            )
        archive.addfile(info, stream)
        stream.read(1)  # the end is where the digest is judged


@contextmanager
def _packed(raw: BinaryIO, out: Path) -> Iterator[BinaryIO]:
    if out.name.endswith((".tar.gz", ".tgz")):
        with gzip.GzipFile(filename="", mode="wb", fileobj=raw, compresslevel=6, mtime=0) as stream:
            yield stream  # type: ignore[misc]  # a GzipFile is a binary stream, typeshed does not say so
    elif out.name.endswith(".tar.zst"):
        import zstandard

        with zstandard.ZstdCompressor(level=6).stream_writer(raw, closefd=False) as packed:
            yield packed
    elif out.name.endswith(".tar"):
        yield raw
    else:
        raise StoreError(f"{out.name} names no kind of archive: '.tar', '.tar.gz' and '.tar.zst' are known.")
