"""What the catalog says before anybody has brought it up to date: how far packs and log went when they were last read."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from pathlib import Path

from stillrun_snapshot.deferred import dataclass
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.errors import StoreError

__all__ = ["Remembered", "remembered"]


@dataclass(frozen=True)
class Remembered:
    """Packs with the bytes that were read of them and whether they were sealed; where the last line of the log stood."""

    packs: Mapping[str, tuple[int, bool]]
    log: tuple[int, int, Digest] | None  # start and end of the last line, and its digest
    problem: str | None = None


def remembered(root: Path) -> Remembered:
    """Read the catalog as it is. Damage of it is told, and nothing is taken from it then."""
    path = root / "catalog.sqlite"
    if not path.exists():
        return Remembered({}, None)
    try:
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
    except sqlite3.Error as err:
        return Remembered({}, None, str(err))
    try:
        found = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
        packs = {
            str(name): (int(end), bool(sealed))
            for name, end, sealed in connection.execute("SELECT name, scanned, sealed FROM packs")
        }
        row = connection.execute("SELECT value FROM meta WHERE key = 'log'").fetchone()
        return Remembered(packs, None if row is None else _log(row[0]), None if found == "ok" else str(found))
    except (sqlite3.Error, ValueError, TypeError, StoreError) as err:
        return Remembered({}, None, str(err))
    finally:
        connection.close()


def _log(value: str) -> tuple[int, int, Digest]:
    end, _, line, start = value.split()
    return int(start), int(end), Digest(line)
