"""Objects that runs need, hashed: small ones many at a time, which takes half as long."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from stillrun_engine.closure import Needed
from stillrun_snapshot.deferred import dataclass
from stillrun_snapshot.errors import ObjectCorrupt, ObjectMissing, ObjectRedacted
from stillrun_snapshot.store import LOOSE_MIN, Store

__all__ = ["Damage", "check_objects"]

_TOGETHER = 1000  # objects that are read at a time; those in packs have less than 64 KiB


@dataclass(frozen=True)
class Damage:
    """An object that is missing or whose bytes no longer match its name."""

    needed: Needed
    problem: str


def check_objects(
    store: Store,
    needed: Iterable[Needed],
    told: Callable[[Needed, int], None] | None = None,
    redacted: Callable[[Needed], None] | None = None,
) -> tuple[int, int, list[Damage]]:
    """Hash every object of ``needed``: how many, how many bytes, and what is damaged.

    redacted: hears of objects that were taken out on purpose; without it they count as damage.
    """
    check = _Hashing(store, told, redacted)
    try:
        for item in needed:
            check.take(item)
    except (ObjectMissing, ObjectCorrupt) as err:  # a record on the way
        check.damaged.append(Damage(Needed(err.digest, "a record that names others"), str(err)))
    check.catch_up()
    return check.count, check.total, check.damaged


class _Hashing:
    """Objects that are hashed as they come: small ones wait until there are enough of them to read together."""

    def __init__(
        self, store: Store, told: Callable[[Needed, int], None] | None, redacted: Callable[[Needed], None] | None
    ) -> None:
        self.store, self.told, self.redacted = store, told, redacted
        self.count, self.total = 0, 0
        self.damaged: list[Damage] = []
        self._waiting: list[Needed] = []

    def take(self, item: Needed) -> None:
        """Hash an object, now or with those that come next."""
        self.count += 1
        if item.size is not None and item.size >= LOOSE_MIN:
            self._hash(item)
            return
        self._waiting.append(item)
        if len(self._waiting) == _TOGETHER:
            self.catch_up()

    def catch_up(self) -> None:
        """Hash those that wait: what stands small in packs together, the others one by one."""
        waiting, self._waiting = self._waiting, []
        read = self.store.packed(item.digest for item in waiting)
        for item in waiting:
            if item.digest in read:
                self._sound(item, len(read[item.digest]))
            else:
                self._hash(item)

    def _hash(self, item: Needed) -> None:
        try:
            self._sound(item, self.store.verify(item.digest))
        except (ObjectMissing, ObjectCorrupt) as err:
            if self.redacted is not None and isinstance(err, ObjectRedacted):
                self.redacted(item)
            else:
                self.damaged.append(Damage(item, str(err)))

    def _sound(self, item: Needed, size: int) -> None:
        self.total += size
        if self.told:
            self.told(item, size)
