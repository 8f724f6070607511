"""Runs out of a file that anybody may have made: checked as a whole beside the store, then taken in as a whole.

Rules: docs/spec/bundle.md §5. Nothing is unpickled, and nothing that the file says is believed before it was compared.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from stillrun_engine.archive import open_run
from stillrun_engine.bundle import CONTENTS, SUMS, BundleRefused, Contents, member_name, sums_line
from stillrun_engine.carry import (
    Carried,
    Landed,
    Told,
    check_records,
    check_runs,
    refuse_clashes,
    set_refs,
    sound_records,
)
from stillrun_engine.errors import EngineError, sentence
from stillrun_engine.pathspec import Pathspec
from stillrun_engine.run_refs import beside, whole_closure
from stillrun_snapshot.deferred import dataclass
from stillrun_snapshot.digest import Digest, digest_of
from stillrun_snapshot.errors import ObjectCorrupt, ObjectMissing, RecordError, StoreError
from stillrun_snapshot.intake import take_in
from stillrun_snapshot.lease import Lease
from stillrun_snapshot.plain_tar import END, TarDamage, blocks_of_member, read_header
from stillrun_snapshot.refs import RefChange
from stillrun_snapshot.store import LOOSE_MIN, Store

__all__ = ["import_bundle"]

_CONTENTS_MAX = 256 << 20
_STAGE = "import"


def import_bundle(store: Store, path: Path, *, told: Told | None = None, check_only: bool = False) -> Carried:
    """Take in the runs of the bundle at ``path``, or only check it.

    Raises BundleRefused, and leaves the store as it was, when anything in it is not as the format says.
    """
    with _opened(path) as stream, _stage(store) as staged:
        try:
            contents = _read_all(
                stream, path.stat().st_size, staged, lambda found: refuse_clashes(store, found.refs), told
            )
            _check_complete(staged, contents)
        except (BundleRefused, TarDamage, RecordError) as err:
            raise BundleRefused(f"{path} is no sound bundle: {sentence(str(err))} Nothing was taken from it.") from err
        new, size, mended = (0, 0, 0) if check_only else _land(staged, store)
        landed = Landed(added=False) if check_only else set_refs(store, contents.refs)
    left_out = tuple(contents.left_out)
    return Carried(contents.runs, contents.objects, new, size, left_out, landed.added, mended, landed.doubts)


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    if not path.is_file():
        raise EngineError(f"there is no bundle at {path}; 'stillrun export FLOW/RUN -o FILE' makes one.")
    try:
        with open(path, "rb") as stream:
            yield stream
    except PermissionError as err:
        raise EngineError(f"{path} cannot be read: {err.strerror}.") from err


@contextmanager
def _stage(store: Store) -> Iterator[Store]:
    """A store beside the objects, on the same disk, that goes with whatever is left in it."""
    for left in (store.root / "tmp").glob(f"{_STAGE}-*"):
        if not Lease.is_held(store.root, left.name):  # of an import that was killed
            shutil.rmtree(left, ignore_errors=True)
    folder = store.scratch(_STAGE)
    with Lease.take(store.root, folder.name):
        try:
            with Store.open(folder / "store") as staged:
                yield staged
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@dataclass
class _Source:
    """The file as it is read: what there is of it, and the sums of what was read."""

    stream: BinaryIO
    length: int

    def __post_init__(self) -> None:
        self._sums = hashlib.sha256()
        self._sums_size = 0

    def header(self) -> tuple[str, int]:
        name, size = read_header(self.stream)
        if size > self.length - self.stream.tell():
            raise TarDamage(f"{name} should have {size:,} bytes, and the file ends before.")
        return name, size

    def passed(self, name: str, digest: Digest) -> None:
        line = sums_line(name, digest)
        self._sums.update(line)
        self._sums_size += len(line)

    def end(self, size: int) -> None:
        """Compare the last member with what was read, and see that nothing follows."""
        state = hashlib.sha256()
        if size == self._sums_size:
            for block in blocks_of_member(self.stream, size):
                state.update(block)
        if size != self._sums_size or state.digest() != self._sums.digest():
            raise BundleRefused(f"{SUMS} does not list what is in it.")
        if self.stream.read(len(END) + 1) != END:
            raise BundleRefused("it does not end where it should.")


def _read_all(
    stream: BinaryIO, length: int, staged: Store, promised: Callable[[Contents], None], told: Told | None
) -> Contents:
    """Put every object into ``staged`` and return the contents. promised: is told them before objects are read."""
    source = _Source(stream, length)
    contents = _read_contents(source)
    promised(contents)
    last, count, total = "", 0, 0
    while True:
        name, size = source.header()
        if name == SUMS:
            break
        digest = _digest_of_name(name)
        if digest <= last:
            raise BundleRefused(f"{name} is there twice or out of order.")
        last, count, total = digest, count + 1, total + size
        if count > contents.objects or total > contents.size:
            raise BundleRefused("it holds more objects than it says.")
        take_in(staged, blocks_of_member(stream, size), digest, _other_bytes)
        source.passed(name, digest)
        if told:
            told(name, size)
    source.end(size)
    if (count, total) != (contents.objects, contents.size):
        raise BundleRefused(f"it says that it has {contents.objects:,} objects, and has {count:,}.")
    return contents


def _read_contents(source: _Source) -> Contents:
    name, size = source.header()
    if name != CONTENTS or size > _CONTENTS_MAX:
        raise BundleRefused(f"it does not begin with {CONTENTS}.")
    data = b"".join(blocks_of_member(source.stream, size))
    source.passed(CONTENTS, digest_of(data))
    return Contents.parse(data)


def _digest_of_name(name: str) -> Digest:
    try:
        digest = Digest("sha256:" + name.removeprefix("objects/").replace("/", "", 1))
    except StoreError:
        digest = None
    if digest is None or member_name(digest) != name:
        raise BundleRefused(f"{name!r} does not belong in it.")
    return digest


def _other_bytes(found: Digest, size: int) -> BundleRefused:
    return BundleRefused(
        f"the {size:,} bytes of one of its objects are {found}, and it stands there under another name."
    )


def _check_complete(staged: Store, contents: Contents) -> None:
    """See that the runs are what their refs say, and that the bundle holds all that they need and nothing else."""
    held = set(staged.digests())
    if dangling := sorted(set(contents.refs.values()) - held):
        raise BundleRefused(f"its refs lead to {dangling[0]}, which is not in it.")
    with sound_records(", ".join(contents.runs)):
        check_runs(staged, contents.runs, contents.refs)
        staged.refs.set([RefChange(name, digest) for name, digest in contents.refs.items()])
        runs = [open_run(staged, Pathspec(*run.split("/"))) for run in contents.runs]
        needed = whole_closure(runs)
        needed.update(beside(contents.refs))
        check_records(staged, runs, [one for one in needed.values() if one.digest in held])
    _check_amounts(contents, held, set(needed))


def _check_amounts(contents: Contents, held: set[Digest], needed: set[Digest]) -> None:
    left_out = {one.digest for one in contents.left_out}
    if missing := sorted(needed - held - left_out):
        raise BundleRefused(f"{missing[0]} is needed and not in it.")
    if extra := sorted((held | left_out) - needed):
        raise BundleRefused(f"{extra[0]} is in it and needed for nothing.")
    if both := sorted(held & left_out):
        raise BundleRefused(f"{both[0]} is in it, and it says that it was left out.")


def _land(staged: Store, store: Store) -> tuple[int, int, int]:
    """Move every object into the store; how many it did not have, their bytes, and how many it had damaged."""
    new, total, mended = 0, 0, 0
    arrived = list(staged.digests())
    absent = store.absent(arrived)
    for digest in arrived:
        size = staged.size(digest)
        is_new = digest in absent or store.is_spare(digest)
        is_damaged = not is_new and not _is_sound(store, digest)
        if is_new:
            new, total = new + 1, total + size
        mended += is_damaged
        path = staged.locate(digest).path if size >= LOOSE_MIN else None
        if path is not None:
            store.adopt(path, digest, size, new=is_damaged)
        else:
            store.put(staged.get(digest), compress=True, new=is_damaged)
    return new, total, mended


def _is_sound(store: Store, digest: Digest) -> bool:
    try:
        store.verify(digest)
    except (ObjectCorrupt, ObjectMissing):  # missing: the index names an entry that its pack has lost
        return False
    return True
