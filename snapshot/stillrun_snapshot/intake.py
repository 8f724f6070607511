"""Objects that come from elsewhere under a name that is only promised: a bundle's, another store's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain

from stillrun_snapshot.digest import Digest, digest_of
from stillrun_snapshot.errors import StillrunError
from stillrun_snapshot.store import LOOSE_MIN, Store

__all__ = ["take_in"]


def take_in(
    store: Store,
    blocks: Iterator[memoryview],
    promised: Digest,
    refused: Callable[[Digest, int], StillrunError],
    *,
    new: bool = False,
) -> int:
    """Keep what ``blocks`` hold when it is the object ``promised``, and return its length; otherwise keep nothing of it.

    blocks: all but the last have LOOSE_MIN bytes or more. refused: the error for what was found instead.
    """
    sizes: list[int] = []

    def check(found: Digest, size: int) -> None:
        sizes.append(size)
        if found != promised:
            raise refused(found, size)

    first = next(blocks, memoryview(b""))
    if len(first) < LOOSE_MIN:
        check(digest_of(first), len(first))
        store.put(first, compress=True, new=new)
    else:
        store.put_blocks(chain([first], blocks), check, new=new)
    return sizes[0]
