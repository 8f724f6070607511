"""The folder of a store: how one is made and known. Format: docs/spec/store.md, section 1."""

from __future__ import annotations

import json
import os
from pathlib import Path

from stillrun_snapshot._disk import make_folder, write_atomically
from stillrun_snapshot.errors import StoreError, StoreVersion
from stillrun_snapshot.record import canonical_bytes

__all__ = ["FORMAT", "STORE_MARK", "create_store", "expected_mark", "is_store", "mend_store", "raise_format"]

FORMAT = 2  # the newest that is read
_FIRST = 1  # what a new store has, so that an older Stillrun can use it until it holds something newer
STORE_MARK = "stillrun-store.json"
_SHOWN = 300  # characters of a path in a message
_FOLDERS = ("objects", "packs", "tmp", "locks")
_MENDED = ("packs", "tmp", "locks")


def is_store(root: Path) -> bool:
    """Return whether a store is at ``root``; raises when something else is, or a newer one."""
    try:
        text = (root / STORE_MARK).read_bytes()
    except FileNotFoundError:
        if root.is_dir() and not all(_belongs(path.name) for path in root.iterdir()):
            if (root / STORE_MARK).exists():  # another process has finished making it meanwhile
                return is_store(root)
            raise StoreError(
                f"{root} is not a Stillrun store and not empty. Give an empty folder, or one that does not exist yet."
            ) from None
        return False
    except NotADirectoryError:
        raise StoreError(f"{root} is a file; a store is a folder. Give another path.") from None
    except OSError as error:
        shown = f"{str(root)[:100]}…" if len(str(root)) > _SHOWN else str(root)
        raise StoreError(f"no store can be at {shown}: {error.strerror}. Give another path.") from error
    try:
        version = json.loads(text)["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{root / STORE_MARK} cannot be read ({error}). Restore it: {expected_mark().decode()!r}."
        ) from error
    if type(version) is not int or not _FIRST <= version <= FORMAT:
        raise StoreVersion(
            f"the store {root} has format {version}, and this Stillrun reads formats up to {FORMAT}. Upgrade Stillrun to use it."
        )
    return True


def _belongs(name: str) -> bool:
    # Another process may be making the store right now.
    return name in _FOLDERS or name.startswith(("." + STORE_MARK, ".gitignore", "..gitignore"))


def expected_mark(version: int = _FIRST) -> bytes:
    """Return what stands in the file that makes a folder a store, of a format."""
    return canonical_bytes({"format": version, "schema": f"stillrun/store/{version}"}) + b"\n"


def raise_format(root: Path) -> None:
    """Mark the store as one that an older Stillrun cannot read: a pack of version 2 will be in it."""
    if json.loads((root / STORE_MARK).read_bytes())["format"] < FORMAT:
        write_atomically(root / STORE_MARK, expected_mark(FORMAT), durable=True)


def create_store(root: Path) -> None:
    """Make an empty store; whoever does the same at the same time makes the same."""
    make_folder(root)
    for name in _FOLDERS:
        (root / name).mkdir(exist_ok=True)
    write_atomically(root / ".gitignore", b"*\n", durable=False)  # a store in a work tree is not part of it
    write_atomically(root / STORE_MARK, expected_mark(), durable=True)


def mend_store(root: Path) -> bool:
    """Make folders again that a person has cleaned up; returns whether the store can be written to."""
    writable = os.access(root, os.W_OK)
    for name in _MENDED if writable else ():
        (root / name).mkdir(exist_ok=True)
    return writable
