"""What the catalog says before anybody has brought it up to date: how far packs and log went when they were last read."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path

from stillrun_snapshot._pack import CHUNK, pack_path
from stillrun_snapshot.deferred import dataclass
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.errors import StoreError

__all__ = ["Remembered", "remembered"]


@dataclass(frozen=True)
class Remembered:
    """Packs with the bytes that were read of them and whether they were sealed; where the last line of the log stood.

    gone: what was in packs that are no longer there. They may have gone as garbage.
    """

    packs: Mapping[str, tuple[int, bool]]
    log: tuple[int, int, Digest] | None  # start and end of the last line, and its digest
    problem: str | None = None
    gone: Mapping[str, tuple[Digest, ...]] = field(default_factory=dict)


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
        gone = {name: _digests(connection, name) for name in packs if not _is_there(root, name)}
        return Remembered(packs, None if row is None else _log(row[0]), None if found == "ok" else str(found), gone)
    except (sqlite3.Error, ValueError, TypeError, StoreError) as err:
        return Remembered({}, None, str(err))
    finally:
        connection.close()


def _is_there(root: Path, name: str) -> bool:
    return any(
        pack_path(root, name, sealed=sealed).exists() for sealed in (True, False, True)
    )  # it may be sealed meanwhile


def _digests(connection: sqlite3.Connection, name: str) -> tuple[Digest, ...]:
    rows = connection.execute(
        "SELECT digest FROM entries JOIN packs ON packs.id = pack WHERE name = ? AND kind != ?", (name, CHUNK)
    )
    return tuple(Digest.of_raw(row[0]) for row in rows)


def _log(value: str) -> tuple[int, int, Digest]:
    end, _, line, start = value.split()
    return int(start), int(end), Digest(line)
