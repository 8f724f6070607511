"""Files of other tools: requests and locks, read and written. Nothing here opens a connection or runs a tool."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from stillrun_envs.errors import LockError, RequestError

if TYPE_CHECKING:
    from stillrun_envs.formats.listing import Asked, Listing
    from stillrun_envs.platforms import Target

__all__ = ["FORMATS", "is_lock", "read_lock_file", "read_request_file", "write_lock"]

FORMATS: tuple[str, ...] = ("conda-lock", "pylock", "requirements", "pixi", "explicit")


def is_lock(path: Path) -> bool:
    """Whether the file says exactly which packages there are, by its name and else by what is in it.

    Raises RequestError when the file cannot be read, or is of no kind that is known.
    """
    from stillrun_envs.formats.kinds import kind_of

    return kind_of(path, RequestError).lock


def read_lock_file(path: Path, target: Target, *, extras: Sequence[str] = (), groups: Sequence[str] = ()) -> Listing:
    """The packages that a lock file lists for ``target``.

    extras, groups: what to take besides the default; of a conda-lock.yml these are categories, and of a pixi.lock the
    one environment to take instead of the default one. Raises LockError for a file that is no lock, is malformed, is
    newer than what is known here, or is locked for other machines.
    """
    from stillrun_envs.formats.kinds import kind_of

    kind = kind_of(path, LockError)
    if not kind.lock:
        raise LockError(f"{path.name} asks for packages and pins no files; it is no lock. Write file={path.name!r}.")
    return kind.read_lock(path, target, tuple(extras), tuple(groups))


def read_request_file(path: Path, target: Target, *, extras: Sequence[str] = (), groups: Sequence[str] = ()) -> Asked:
    """What a request file asks for on ``target``.

    extras, groups: what to take besides the default; of a pixi.toml these are environments or features. Raises
    RequestError for a file that is none, is malformed, or asks for what has no meaning here.
    """
    from stillrun_envs.formats.kinds import kind_of

    kind = kind_of(path, RequestError)
    if kind.lock:
        raise RequestError(f"{path.name} is a lock; write lock={path.name!r}.")
    return kind.read_request(path, target, tuple(extras), tuple(groups))


def write_lock(form: str, listing: Listing, *, drop_wheels: bool = False) -> str:
    """The listing as the text of a lock file; form: one of ``FORMATS``. Equal listings give equal bytes.

    drop_wheels: write an @EXPLICIT list although conda passes over the wheels in it, which stand there as comments.
    Raises LockError when the format cannot hold what the listing says. No credentials are written.
    """
    from stillrun_envs.formats.kinds import write

    if form not in FORMATS:
        raise LockError(f"{form!r} is no format of a lock file; write one of {', '.join(FORMATS)}.")
    return write(form, listing, drop_wheels=drop_wheels)
