"""What is kept in `benchmarks/store.py`: the same bytes on every machine, but for the source tree, which is this Python's."""

from __future__ import annotations

import pickle
import random
import struct
import sys
from array import array
from pathlib import Path

__all__ = ["artifacts", "changed_rows", "doubles", "edited", "inserted", "numbers", "source_tree", "table"]

ROW = 80  # bytes that a changed row of doubles has


def source_tree(folder: Path, files: int) -> int:
    """Copy so many Python files of this interpreter's own libraries; returns how many there were."""
    roots = [Path(sys.base_prefix) / "lib", Path(sys.prefix) / "lib"]
    found = sorted({path for root in roots for path in root.rglob("*.py") if path.is_file() and not path.is_symlink()})
    (folder / "a").mkdir(parents=True)
    (folder / "a_flow.py").write_text("# the flow\n")
    for number, path in enumerate(found[:files]):
        place = folder / "a" / f"{number // 50:03}" / path.name
        place.parent.mkdir(parents=True, exist_ok=True)
        place = place.with_stem(f"{place.stem}_{number}") if place.exists() else place
        place.write_bytes(path.read_bytes())
        if number + 1 == files:
            break
    return min(files, len(found))


def edited(folder: Path, round_: int, files: int) -> None:
    """Change so many files of a source tree, each by one line in its middle."""
    source = random.Random(round_)
    paths = sorted((folder / "a").rglob("*.py"))
    for path in source.sample(paths, files):
        lines = path.read_bytes().splitlines(keepends=True)
        lines.insert(len(lines) // 2, b"x = %d\n" % source.randrange(10**9))
        path.write_bytes(b"".join(lines))


def artifacts(folder: Path, count: int) -> None:
    """Small results of steps, 1 KiB each: pickled scores, names and short series of numbers."""
    source = random.Random(1)
    folder.mkdir(parents=True)
    for number in range(count):
        value = {
            "model": f"model-{number % 17}",
            "step": number,
            "scores": [round(source.random(), 4) for _ in range(40)],
            "weights": array("d", (source.gauss(0, 1) for _ in range(50))).tobytes(),
        }
        data = pickle.dumps(value, protocol=5)
        (folder / f"{number:06}").write_bytes(data[:1024].ljust(1024, b"\0"))


def numbers(count: int, seed: int = 0) -> bytes:
    """So many random normal doubles."""
    source = random.Random(seed)
    pool = array("d", (source.gauss(0, 1) for _ in range(1 << 16)))
    # each piece of the pool is shifted by a number of its own: no two are alike, and a gigabyte takes seconds
    out = []
    while count > 0:
        shift = source.random()
        out.append(array("d", (value + shift for value in pool[: min(count, len(pool))])).tobytes())
        count -= len(pool)
    return b"".join(out)


def doubles(path: Path, megabytes: int) -> None:
    """A file of random normal doubles."""
    path.parent.mkdir(parents=True)
    path.write_bytes(numbers(megabytes * 131_072))


def changed_rows(old: Path, new: Path) -> None:
    """The same with a hundredth of its rows changed, in ten places."""
    data = bytearray(old.read_bytes())
    length = len(data) // 1000 // ROW * ROW
    for place in range(10):
        start = (len(data) // 10 * place + 123_456) // ROW * ROW
        data[start : start + length] = numbers(length // 8, seed=place + 1)
    new.parent.mkdir(parents=True)
    new.write_bytes(data)


def inserted(old: Path, new: Path) -> None:
    """The same with 1,000 bytes inserted after a third."""
    data = old.read_bytes()
    new.parent.mkdir(parents=True)
    new.write_bytes(data[: len(data) // 3] + random.Random(9).randbytes(1000) + data[len(data) // 3 :])


def table(path: Path, megabytes: int) -> None:
    """A table as text: keys, words, dates, and numbers of four digits."""
    source = random.Random(4)
    words = ["".join(source.choices("abcdefghijklmnopqrstuvwxyz", k=source.randrange(3, 12))) for _ in range(2000)]
    path.parent.mkdir(parents=True)
    written, number = 0, 0
    with open(path, "w") as stream:
        while written < megabytes << 20:
            fields = (
                number,
                source.choice(words),
                source.choice(words),
                20200101 + number // 700,
                source.random(),
                source.gauss(50, 9),
            )
            written += stream.write("{},{},{},{},{:.4f},{:.4f}\n".format(*fields))
            number += 1


assert struct.calcsize("d") == 8, "doubles have eight bytes everywhere that this runs"
