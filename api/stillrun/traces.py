"""What a step opened, listed, connected to and started, by Python's audit events (PEP 578).

Sees what goes through Python: ``open``, ``os.open``, ``os.listdir``, ``os.scandir``, ``socket``, ``subprocess``. C code that
opens files or connections of its own is not seen, nor what a started program does.
"""

from __future__ import annotations

import hashlib
import os
import stat
import sys
from functools import partial

from stillrun.earlier import EarlierContents

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Iterable

__all__ = ["TraceRecorder", "names_digest"]

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_SYSTEM = ("/proc/", "/sys/", "/dev/")
_STARTING = frozenset({"subprocess.Popen", "os.exec", "os.posix_spawn", "os.spawn", "os.system"})
_ADDRESSED = frozenset({"socket.connect", "socket.sendto", "socket.sendmsg"})
_LOOKED_UP = frozenset({"socket.getaddrinfo", "socket.gethostbyname"})
_LISTED = frozenset({"os.listdir", "os.scandir"})
_CHANGED = frozenset({"os.rename", "os.remove", "os.truncate"})
_EVENTS = frozenset({"open"}) | _LISTED | _CHANGED | _STARTING | _ADDRESSED | _LOOKED_UP
_LOOKED_MAX = 1000  # folders and files that were not there, of one task
_REACHED_MAX = 100  # addresses, and programs, that are told of one task
_SPAWNING = (  # imported when their first process is started
    "multiprocessing.popen_spawn_posix",
    "multiprocessing.popen_forkserver",
    "joblib.externals.loky.backend.popen_loky_posix",
    "loky.backend.popen_loky_posix",
)


class TraceRecorder:
    """Records reads, with each file's identity when it was first opened, and writes, while it is on.

    outside: folders, each with a separator at its end, whose files are not recorded. copies: the folder for what files held
    that the step reads and then changes.
    """

    def __init__(self, outside: Iterable[str], copies: str | None = None) -> None:
        self._outside = (*outside, *_SYSTEM)
        self._earlier = EarlierContents(copies)
        self._reads: dict[str, os.stat_result] = {}
        self._writes: dict[str, None] = {}
        self._looked: dict[str, str | None] = {}
        self._metadata: set[str] = set()
        self._children = False
        self._addresses: set[str] = set()
        self._programs: set[str] = set()
        self._on = False

    def start(self) -> None:
        """Record from now on; an audit hook cannot be taken out again, so start once per process."""
        self._on = True
        sys.addaudithook(self._hook)

    def stop(self) -> None:
        """Record no more."""
        self._on = False

    def quietly(self, action: Callable[[], Any]) -> Any:
        """The result of an action whose files are not the step's."""
        was, self._on = self._on, False
        try:
            return action()
        finally:
            self._on = was

    def seen(self) -> dict[str, Any]:
        """What of a RESULT of the host protocol is known of the step's doings; mostly nothing."""
        borrowed, reached = self.borrowed, self.reached
        return {
            "reads": self.reads,
            "writes": self.writes,
            "looked": self.looked,
            "borrowed": borrowed if any(borrowed.values()) else None,
            "reached": reached if any(reached.values()) else None,
        }

    @property
    def reads(self) -> list[dict[str, Any]]:
        """Files that were read, as in a RESULT of the host protocol."""
        return [
            {
                "path": path,
                "size": each.st_size,
                "mtime_ns": each.st_mtime_ns,
                "inode": each.st_ino,
                "device": each.st_dev,
                **self._earlier.told(path),
            }
            for path, each in self._reads.items()
        ]

    @property
    def writes(self) -> list[str]:
        """Absolute paths of files that were opened to be written."""
        return list(self._writes)

    @property
    def looked(self) -> list[dict[str, Any]]:
        """Folders that were listed and are still there, and files that were wanted and not there, as in a RESULT."""
        found = [
            {"path": path, "names": names}
            for path, names in self._looked.items()
            if (os.path.isdir(path) if names is not None else not os.path.lexists(path))
        ]
        return found if len(self._looked) < _LOOKED_MAX else [*found, {"path": os.sep, "names": None}]

    @property
    def borrowed(self) -> dict[str, Any]:
        """What the step used of its environment without importing it, as in a RESULT of the host protocol."""
        spawned = any(name in sys.modules for name in _SPAWNING)
        return {"metadata": sorted(self._metadata), "children": self._children or spawned}

    @property
    def reached(self) -> dict[str, list[str]]:
        """What the step connected to and started, as in a RESULT of the host protocol."""
        return {"addresses": sorted(self._addresses), "programs": sorted(self._programs)}

    def _hook(self, event: str, args: Any) -> None:
        if not self._on or event not in _EVENTS:
            return
        try:
            if event == "open":
                self._opened(args[0], args[2])
            elif event in _LISTED:
                self._lists(args[0])
            elif event in _CHANGED:
                self._changes(args[:2] if event == "os.rename" else args[:1])
            elif event in _STARTING:
                words = [os.fsdecode(each) for each in _words(args)]
                self._started(" ".join(words))
                _note(self._programs, _program(event, words))
            else:
                _note(self._addresses, _address(args[1] if event in _ADDRESSED else args[:2]))
        except Exception:  # whatever is wrong with this path, the step's own open() will say
            return

    def _opened(self, path: Any, flags: Any) -> None:
        if isinstance(path, int) or not isinstance(flags, int):
            return
        text = path if type(path) is str else os.fsdecode(path)
        if ".dist-info" in text or ".egg-info" in text:
            self._metadata.update(part for part in text.split(os.sep) if part.endswith((".dist-info", ".egg-info")))
        if text.startswith(self._outside):
            return
        text = os.path.abspath(text)
        if text.startswith(self._outside) or text in self._writes:
            return
        if not flags & _WRITES:
            self._read(text)
            return
        if flags & os.O_RDWR and not flags & os.O_TRUNC:
            self._read(text)  # "r+" and its like see what was there
        self._changes((text,))
        self._writes[text] = None

    def _changes(self, paths: Iterable[Any]) -> None:
        """Have what files hold kept that were read, before it is gone."""
        for path in paths if self._reads else ():
            text = "" if isinstance(path, int) else os.path.abspath(os.fsdecode(path))
            seen = self._reads.get(text)
            if seen is not None:
                self.quietly(partial(self._earlier.keep, text, seen))

    def _lists(self, path: Any) -> None:
        """Note which names a folder has, when it is first listed."""
        if isinstance(path, int):
            return
        text = os.path.abspath("." if path is None else os.fsdecode(path))
        if (text + os.sep).startswith(self._outside) or text in self._looked or len(self._looked) >= _LOOKED_MAX:
            return
        self._looked[text] = self.quietly(lambda: names_digest(text))

    def _started(self, command: str) -> None:
        """Note whether a program is of this environment; a shell's words are looked at as they stand."""
        folder = os.path.dirname(sys.executable)
        mine = any(os.path.exists(os.path.join(folder, word)) for word in command.split() if os.sep not in word)
        self._children = self._children or mine or "python" in command or sys.prefix in command

    def _read(self, path: str) -> None:
        if path in self._reads:
            return
        try:
            found = os.stat(path)
        except FileNotFoundError:
            if len(self._looked) < _LOOKED_MAX and not path.endswith(".pyc"):
                self._looked.setdefault(path, None)
            return
        except OSError:
            return
        if stat.S_ISREG(found.st_mode):
            self._reads[path] = found


def names_digest(folder: str) -> str | None:
    """A digest of the names in a folder, bytecode aside; None when there is none."""
    try:
        names = sorted(name for name in os.listdir(folder) if name != "__pycache__")
    except OSError:
        return None
    return "sha256:" + hashlib.sha256("\0".join(names).encode("utf-8", "surrogateescape")).hexdigest()


def _note(found: set[str], name: str | None) -> None:
    if name is not None and len(found) < _REACHED_MAX:
        found.add(name)


def _program(event: str, words: list[str]) -> str | None:
    """The program that is started; never its arguments, which may hold a secret."""
    if not words:
        return None
    return words[0].split()[0] if event == "os.system" and words[0].split() else words[0]


def _address(where: Any) -> str | None:
    """host:port, unix:path, or a host's name; None for what is neither."""
    if isinstance(where, (str, bytes)):
        return "unix:" + os.fsdecode(where).replace("\0", "@")
    if not isinstance(where, tuple) or not where or where[0] in (None, "", b""):
        return None
    host = where[0].decode("utf-8", "replace") if isinstance(where[0], bytes) else str(where[0])
    port = where[1] if len(where) > 1 else None
    return f"[{host}]:{port}" if port and ":" in host else f"{host}:{port}" if port else host


def _words(args: Any) -> list[Any]:
    """The words of a command in an audit event, whatever its shape: a program, a list of arguments."""
    found: list[Any] = []
    for each in args:
        if isinstance(each, (str, bytes, os.PathLike)):
            found.append(each)
        elif isinstance(each, (list, tuple)):
            found.extend(word for word in each if isinstance(word, (str, bytes, os.PathLike)))
    return found
