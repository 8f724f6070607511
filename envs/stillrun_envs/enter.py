"""Run a command with its own view of the machine: folders at other places, no network. Linux; a script, imported by nobody.

``python -I -S enter.py ORDER COMMAND...``: ORDER is JSON with ``mounts`` (pairs: what is seen, where it is seen), ``keep``
(folders that stay to be seen when something is laid over a folder above them) and ``network`` (false: none at all).
The view belongs to the command and to all that it starts; nothing on the machine is changed, and it ends with them.
Folders that a place needs and that are not there are made in memory (tmpfs). mount_namespaces(7), user_namespaces(7).
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from collections.abc import Iterable

_NEWNS, _NEWUSER, _NEWNET = 0x00020000, 0x10000000, 0x40000000
_BIND, _REC, _PRIVATE = 4096, 16384, 1 << 18
_libc = ctypes.CDLL(None, use_errno=True)


def main() -> None:
    """Change the view and become the command."""
    order = json.loads(sys.argv[1])
    try:
        _enter(_NEWNS | (0 if order["network"] else _NEWNET))
        _mount(None, "/", _REC | _PRIVATE)
        seen = [(os.open(source, os.O_PATH), place) for source, place in order["mounts"]]
        kept = [(os.open(folder, os.O_PATH), folder) for folder in order["keep"] if os.path.isdir(folder)]
        places = [place for _, place in seen]
        for held, place in [*seen, *(each for each in kept if _is_below(each[1], places))]:
            _make_room(place)
            _mount(f"/proc/self/fd/{held}", place, _BIND | _REC)
        for held, _ in (*seen, *kept):
            os.close(held)
        os.chdir(os.getcwd())  # what is seen there now
    except OSError as err:
        sys.exit(f"this system lets nobody see it otherwise: {err.strerror or err}")
    os.execvp(sys.argv[2], sys.argv[2:])  # noqa: S606  # no shell


def _enter(flags: int) -> None:
    """New namespaces; by way of a user namespace, in which one is who one was, where more is not allowed."""
    user, group = os.geteuid(), os.getegid()
    if user == 0 and _libc.unshare(flags) == 0:
        return
    _checked(_libc.unshare(flags | _NEWUSER))
    for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)


def _mount(source: str | None, target: str, flags: int, kind: str | None = None) -> None:
    words = [None if each is None else os.fsencode(each) for each in (source, target, kind)]
    _checked(_libc.mount(words[0], words[1], words[2], flags, None))


def _checked(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _is_below(folder: str, places: Iterable[str]) -> bool:
    return any(os.path.commonpath([folder, place]) == place for place in places)


def _make_room(place: str) -> None:
    """See to it that there is a folder at ``place``; where none can be made, its nearest one is rebuilt in memory."""
    if os.path.isdir(place):
        return
    above = place
    while not os.path.isdir(above):
        above = os.path.dirname(above)
    if above == "/":
        _rebuild_root()
    elif not _is_ours(above):
        _rebuild(above)
    os.makedirs(place, exist_ok=True)


_ours: list[str] = []


def _is_ours(folder: str) -> bool:
    return any(os.path.commonpath([folder, each]) == each for each in _ours)


def _rebuild(folder: str) -> None:
    """Lay a folder in memory over ``folder``, in which all that it holds is seen as before."""
    held = os.open(folder, os.O_RDONLY)
    _mount("tmpfs", folder, 0, "tmpfs")
    _ours.append(folder)
    _fill(f"/proc/self/fd/{held}", folder)
    os.close(held)


def _rebuild_root() -> None:
    """The same for the root of the file system; in an empty folder of it, which nobody misses while it is covered."""
    empty = (
        each for each in ("/mnt", "/media", "/srv", "/opt", "/home") if os.path.isdir(each) and not os.listdir(each)
    )
    folder = next(empty, None)
    if folder is None:
        raise OSError(0, "no empty folder in / to lay it out in")
    held, here = os.open("/", os.O_RDONLY), os.getcwd()
    _mount("tmpfs", folder, 0, "tmpfs")
    _fill(f"/proc/self/fd/{held}", folder)
    os.chroot(folder)
    os.chdir(here)
    os.close(held)
    _ours.append("/")


def _fill(source: str, target: str) -> None:
    for name in os.listdir(source):
        here, there = os.path.join(source, name), os.path.join(target, name)
        if os.path.islink(here):
            os.symlink(os.readlink(here), there)
            continue
        if os.path.isdir(here):
            os.mkdir(there)
        else:
            os.close(os.open(there, os.O_CREAT | os.O_WRONLY, 0o644))
        if os.path.realpath(here) != os.path.realpath(target):  # the folder that it is laid out in stays empty
            _mount(here, there, _BIND | _REC)


main()
