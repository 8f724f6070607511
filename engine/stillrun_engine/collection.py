"""Garbage of a whole store: objects that no run needs, and the checkouts and built environments that go with them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from stillrun_engine.archive import newest_runs
from stillrun_engine.named_locks import pinned
from stillrun_envs.upkeep import Collected, built_trees, collect
from stillrun_snapshot.checkout import checkouts, drop_checkout
from stillrun_snapshot.deferred import dataclass
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.garbage import Found, Garbage, find_garbage
from stillrun_snapshot.lease import leases_held
from stillrun_snapshot.store import Store
from stillrun_snapshot.sweeping import sweep
from stillrun_snapshot.upkeep import upkeep

__all__ = ["Collection", "collect_garbage"]


@dataclass(frozen=True)
class Collection:
    """What went, or with a dry run would go. kept: objects that are needed; waiting: that are not, and stay for now."""

    garbage: Garbage
    kept: int
    waiting: int
    checkouts: int
    environments: Collected


def collect_garbage(
    store: Store,
    *,
    grace_s: int,
    delete: bool,
    told: Callable[[str, int], None] = lambda _name, _size: None,
) -> Collection:
    """Find what nothing needs and, with ``delete``, remove it. UpkeepBusy while another process is at that."""
    with upkeep(store.root, "gc"):
        found = find_garbage(store, grace_s=grace_s, roots=[*_origins(store), *built_trees(store)])
        trees = [tree for tree in checkouts(store) if not found.stays(tree)]
        gone = sweep(found, told) if delete else found.amount
        for tree in trees if delete else ():
            told(f"trees/{tree.hex}", drop_checkout(store, tree))
        built = _environments(store, found, delete=delete)
    left = found.waiting + found.amount.objects - gone.objects
    return Collection(gone, found.kept, left, len(trees), built)


def _origins(store: Store) -> Iterator[Digest]:
    """The runs that runs in progress came from: those may read them still, though their records only mention them."""
    if not leases_held(store.root):
        return  # no run is in progress
    for run in newest_runs(store):
        if run.record["status"] == "running" and run.status == "running" and run.record["origin"]:
            yield Digest(run.record["origin"]["record"])


def _environments(store: Store, found: Found, *, delete: bool) -> Collected:
    names = {lock for _, lock in pinned(store)}
    return collect(store, keep=names, going=lambda lock: not found.stays(lock), dry_run=not delete)
