"""What a loss of power may leave of a folder: made from the system calls by which a program changed it.

The model of a file system, which is weaker than any that people use:

- What was written to a file, and its length, is on the disk when ``fsync`` or ``fdatasync`` of the file has returned since.
  Until then each write is there or not, whatever became of others before or behind it; or a part of it, cut anywhere; or its
  length is, with zeros for all or some of its pages. What is not there of a rewritten range is the old bytes.
- A name that was made, moved or removed is so on the disk when ``fsync`` of its folder has returned since. ``fsync`` of the
  file does not do it, nor does that of a folder for the folder's own name. Until then each change is there or not,
  whatever became of others. A rename puts the new name and takes the old one away at once; between two folders the old name
  may stay, but never are both gone.
- What ``fsync`` has made durable stays. Bits do not rot.
- Memory that is mapped to be written is lost: of SQLite's files that is ``-shm``, which it makes anew.

The order of calls is the one in which they returned. Times and inode numbers of files are new after the crash.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

CALLS = (
    "openat,write,writev,pwrite64,pwritev,ftruncate,truncate,fsync,fdatasync,sync_file_range,fallocate,rename,renameat,"
    "renameat2,link,linkat,symlink,symlinkat,unlink,unlinkat,mkdir,mkdirat,rmdir,lseek,copy_file_range,sendfile,dup,dup2,dup3"
)
"""What is traced; the options that ``recorded`` reads are ``-f -y -xx`` and ``-s`` with more than is ever written."""
PAGE = 4096
_FEW = 5
_LINE = re.compile(r"^(\d+)\s+(.*)$")
_CALL = re.compile(r"^(\w+)\((.*)\)\s+= (-?\d+)(?:<(.*)>)?.*$")
_UNFINISHED, _RESUMED = " <unfinished ...>", re.compile(r"^<\.\.\. \w+ resumed>")
_TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_DESCRIPTOR = re.compile(r"^(AT_FDCWD|\d+)<((?:\\x[0-9a-f]{2})*)>(\(deleted\))?")


@dataclass(eq=False)
class Node:
    """A file, with its bytes when the recording began, or a folder, with the names in it then."""

    data: bytes | None
    names: dict[str, Node] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Write:
    """Bytes at a place of a file; without bytes, its new length."""

    node: Node
    place: int
    data: bytes | None


@dataclass(frozen=True, eq=False)
class Rename:
    """Names that change together: what each leads to then. The first one is the new name."""

    names: tuple[tuple[Node, str, Node | None], ...]


@dataclass(frozen=True, eq=False)
class Sync:
    """All of a node up to here is on the disk."""

    node: Node


@dataclass(frozen=True)
class Said:
    """What the program told the world, and so has to stand by."""

    text: str


Step = Write | Rename | Sync | Said


class Recording:
    """What a program did to a folder, step by step."""

    def __init__(self, root: Path) -> None:
        self.root = str(root)
        self.start = _read(root)
        self.steps: list[Step] = []
        self._now: dict[Node, dict[str, Node]] = {}
        self._sizes: dict[Node, int] = {}
        self._index: set[Node] = set()
        self._opened: dict[str, tuple[int, bool]] = {}  # by descriptor: where it stands, and whether it appends

    def read(self, trace: Iterable[str]) -> Recording:
        """Take in what strace wrote. The program has one process."""
        begun: dict[str, str] = {}
        for line in trace:
            match = _LINE.match(line.rstrip("\n"))
            if match is None:
                continue
            thread, text = match.groups()
            if text.endswith(_UNFINISHED):
                begun[thread] = text.removesuffix(_UNFINISHED)
                continue
            if text.startswith("<... "):
                text = begun.pop(thread) + _RESUMED.sub("", text)
            call = _CALL.match(text)
            if call is not None and not call[3].startswith("-"):
                self._take(call[1], call[2], int(call[3]))
        return self

    def _take(self, call: str, words: str, result: int) -> None:
        if call in (
            "dup",
            "dup2",
            "dup3",
            "copy_file_range",
            "sendfile",
            "pwritev",
            "truncate",
            "symlink",
            "symlinkat",
        ):
            assert self.root.encode().hex() not in words.replace("\\x", ""), (
                f"{call} of a file of the store is not modelled"
            )
        elif call == "openat":
            self._open(words, result)
        elif call in ("mkdir", "mkdirat"):
            self._name(_path(words), Node(None))
        elif call in ("rename", "renameat", "renameat2"):
            self._rename(*_paths(words))
        elif call in ("link", "linkat"):
            old, new = _paths(words)
            if (node := self._find(old)) is not None:
                self._name(new, node)
        elif call in ("unlink", "unlinkat", "rmdir"):
            self._name(_path(words), None)
        elif call == "lseek":
            self._opened[words.split("<")[0]] = (result, self._opened.get(words.split("<")[0], (0, False))[1])
        else:
            self._change(call, words, result)

    def _open(self, words: str, descriptor: int) -> None:
        path = _path(words)
        self._opened[str(descriptor)] = (0, "O_APPEND" in words)
        node = self._find(path)
        if node is None and "O_CREAT" in words:
            self._name(path, Node(b""))
        elif node is not None and "O_TRUNC" in words:
            self._write(node, 0, None)

    def _change(self, call: str, words: str, result: int) -> None:
        descriptor, path = _opened(words)
        if descriptor == "1" and call == "write":
            self.steps.append(Said(_text(words).decode()))
        node = self._find(path)
        if node is None:
            return
        if call in ("fsync", "fdatasync"):
            self.steps.append(Sync(node))
        elif call == "ftruncate":
            self._write(node, int(words.rsplit(",", 1)[1]), None)
        elif call == "pwrite64":
            self._write(node, int(words.rsplit(",", 1)[1]), _text(words)[:result])
        elif call in ("write", "writev"):
            place, appends = self._opened[descriptor]
            place = self._sizes[node] if appends else place
            self._write(node, place, _text(words)[:result])
            self._opened[descriptor] = (place + result, appends)
        else:
            raise AssertionError(f"{call} of a file of the store is not modelled")

    def _write(self, node: Node, place: int, data: bytes | None) -> None:
        self.steps.append(Write(node, place, data))
        self._sizes[node] = place if data is None else max(self._sizes[node], place + len(data))

    def _folder(self, node: Node) -> dict[str, Node]:
        return self._now.setdefault(node, dict(node.names))

    def _find(self, path: str) -> Node | None:
        if path != self.root and not path.startswith(self.root + "/"):
            return None
        node: Node | None = self.start
        for name in PurePosixPath(path).relative_to(self.root).parts:
            node = None if node is None else self._folder(node).get(name)
        if node is not None and node.data is not None:
            self._sizes.setdefault(node, len(node.data))
            if ".sqlite" in path:
                self._index.add(node)
        return None if path.endswith("-shm") else node

    def _place(self, path: str) -> tuple[Node, str] | None:
        folder, _, name = path.rpartition("/")
        parent = self._find(folder)
        return None if parent is None or name.endswith("-shm") else (parent, name)

    def _name(self, path: str, to: Node | None) -> None:
        place = self._place(path)
        if place is None:
            return
        self.steps.append(Rename(((*place, to),)))
        self._point(*place, to)

    def _rename(self, old: str, new: str) -> None:
        source, target, node = self._place(old), self._place(new), self._find(old)
        assert source is not None and target is not None and node is not None, (old, new)
        self.steps.append(Rename(((*target, node), (*source, None))))
        self._point(*target, node)
        self._point(*source, None)

    def _point(self, folder: Node, name: str, to: Node | None) -> None:
        if to is None:
            self._folder(folder).pop(name, None)
        else:
            self._folder(folder)[name] = to
            if to.data is not None:
                self._sizes.setdefault(to, len(to.data))

    def end(self) -> Disk:
        """The disk when all is on it."""
        number = len(self.steps)
        return self._disk(number, set(range(2 * number)), _Chooser(None))

    def said(self, point: int) -> list[str]:
        """The whole lines that were told before step number ``point``."""
        text = "".join(step.text for step in self.steps[:point] if isinstance(step, Said))
        return text.split("\n")[:-1]

    def points(self, step: int) -> list[int]:
        """Where the power may go: behind each ``step``-th; of writes to SQLite's files few are enough."""
        found = []
        for number, done in enumerate(self.steps):
            index = isinstance(done, Write) and done.node in self._index
            if not isinstance(done, Said) and (not index or number % _FEW == 0):
                found.append(number + 1)
        return [0, *found[:-1:step], len(self.steps)]

    def states(self, point: int, seeds: Iterable[int]) -> Iterator[tuple[str, Disk]]:
        """Disks as they may be when the power goes before step ``point``: the plain ones by name, and one for each seed."""
        durable = self._durable(point)
        for name, chooser in (
            ("nothing that was not synced", _Chooser(None, names=False, data="gone")),
            ("names, no data", _Chooser(None, names=True, data="gone")),
            ("names and lengths, zeros for data", _Chooser(None, names=True, data="zeros")),
            ("data, no names", _Chooser(None, names=False, data="there")),
            *((f"seed {seed}", _Chooser(random.Random(f"{point} {seed}"))) for seed in seeds),
        ):
            yield name, self._disk(point, durable, chooser)

    def _durable(self, point: int) -> set[int]:
        """The steps that a sync before ``point`` covers; of a rename, with its part as a number: 2 · step + part."""
        synced: set[Node] = set()
        found: set[int] = set()
        for number in range(point - 1, -1, -1):
            step = self.steps[number]
            if isinstance(step, Sync):
                synced.add(step.node)
            elif isinstance(step, Write) and step.node in synced:
                found.add(2 * number)
            elif isinstance(step, Rename):
                parts = [part for part, (folder, _, _) in enumerate(step.names) if folder in synced]
                found.update(2 * number + part for part in (range(len(step.names)) if 1 in parts else parts))
        return found

    def _disk(self, point: int, durable: set[int], chooser: _Chooser) -> Disk:
        disk = Disk(self.start)
        for number, step in enumerate(self.steps[:point]):
            if isinstance(step, Write):
                disk.write(step, *((step.data, True) if 2 * number in durable else chooser.write(step)))
            elif isinstance(step, Rename):
                there = chooser.rename(step)
                one_folder = len({folder for folder, _, _ in step.names}) == 1
                for part, (folder, name, node) in enumerate(step.names):
                    if 2 * number + part in durable or (there[0] if one_folder else there[part]):
                        disk.point(folder, name, node)
        return disk


class _Chooser:
    """What becomes of steps that no sync covers: all the same, or by chance."""

    def __init__(self, chance: random.Random | None, *, names: bool = True, data: str = "there") -> None:
        self._chance, self._names, self._data = chance, names, data

    def rename(self, step: Rename) -> tuple[bool, bool]:
        if self._chance is None:
            return self._names, self._names
        new = self._chance.random() < 0.6
        return new, new and self._chance.random() < 0.7

    def write(self, step: Write) -> tuple[bytes | None, bool]:
        """The bytes that get there, and whether the step happens at all."""
        if step.data is None or self._chance is None:
            data = step.data if step.data is None or self._data == "there" else bytes(len(step.data))
            return data, self._data != "gone"
        kind = self._chance.choice(["there", "there", "gone", "zeros", "cut", "holes"])
        if kind == "cut":
            return step.data[: self._chance.randrange(len(step.data) + 1)], True
        if kind == "holes":
            return self._with_holes(step), True
        return bytes(len(step.data)) if kind == "zeros" else step.data, kind != "gone"

    def _with_holes(self, step: Write) -> bytes:
        assert step.data is not None and self._chance is not None
        data, at = bytearray(step.data), 0
        while at < len(data):
            end = min(len(data), (step.place + at) // PAGE * PAGE + PAGE - step.place)
            if self._chance.random() < 0.5:
                data[at:end] = bytes(end - at)
            at = end
        return bytes(data)


class Disk:
    """What is there after the power came back."""

    def __init__(self, start: Node) -> None:
        self._start = start
        self._data: dict[Node, bytearray] = {}
        self._names: dict[Node, dict[str, Node]] = {}

    def write(self, step: Write, data: bytes | None, happens: bool) -> None:
        """Change a file, unless it does not happen."""
        if not happens:
            return
        held = self._data.setdefault(step.node, bytearray(step.node.data or b""))
        if data is None:
            del held[step.place :]
            held.extend(bytes(max(0, step.place - len(held))))
            return
        held.extend(bytes(max(0, step.place - len(held))))
        held[step.place : step.place + len(data)] = data

    def point(self, folder: Node, name: str, node: Node | None) -> None:
        """Change a name."""
        names = self._names.setdefault(folder, dict(folder.names))
        if node is None:
            names.pop(name, None)
        else:
            names[name] = node

    def files(self) -> Iterator[tuple[str, bytes | None]]:
        """Every path below the root, folders before what is in them, with the bytes of files."""
        waiting = [("", self._start)]
        while waiting:
            place, folder = waiting.pop()
            for name, node in sorted(self._names.get(folder, folder.names).items()):
                path = f"{place}{name}"
                if node.data is None:
                    yield path, None
                    waiting.append((path + "/", node))
                else:
                    yield path, bytes(self._data.get(node, node.data))

    def digest(self) -> str:
        """Equal for equal disks."""
        state = hashlib.sha256()
        for path, data in sorted(self.files()):
            state.update(f"{path}\0{-1 if data is None else len(data)}\0".encode() + (data or b""))
        return state.hexdigest()

    def make(self, root: Path) -> None:
        """Write it all to a new folder."""
        root.mkdir(parents=True)
        for path, data in self.files():
            if data is None:
                (root / path).mkdir()
            else:
                (root / path).write_bytes(data)


def _read(root: Path) -> Node:
    node = Node(None)
    for path in root.iterdir():
        if path.name.endswith("-shm"):
            continue
        node.names[path.name] = _read(path) if path.is_dir() else Node(path.read_bytes())
    return node


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))


def _text(words: str) -> bytes:
    return b"".join(_bytes(text) for text in _TEXT.findall(words))


def _opened(words: str) -> tuple[str, str]:
    match = _DESCRIPTOR.match(words)
    assert match is not None, words[:200]
    return match[1], "" if match[3] else _bytes(match[2]).decode()


def _paths(words: str) -> list[str]:
    """The paths that a call names, each below the folder whose descriptor stands before it, if one does."""
    found, place = [], ""
    for word in re.split(r", (?=AT_FDCWD|\d+<|\")", words):
        if word.startswith('"'):
            path = _bytes(_TEXT.match(word)[1]).decode()  # type: ignore[index]  # it begins so
            found.append(path if path.startswith("/") else f"{place}/{path}")
        elif _DESCRIPTOR.match(word):
            place = _opened(word)[1]
    return found


def _path(words: str) -> str:
    return _paths(words)[0]
