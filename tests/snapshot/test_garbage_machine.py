"""A store in which refs come and go, processes are killed and garbage is removed, against a model of what is needed."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from stillrun_snapshot.digest import Digest, digest_of
from stillrun_snapshot.errors import ObjectMissing
from stillrun_snapshot.garbage import find_garbage
from stillrun_snapshot.intake import take_in
from stillrun_snapshot.packing import pack_store
from stillrun_snapshot.refs import RefChange
from stillrun_snapshot.store import LOOSE_MIN, Store
from stillrun_snapshot.sweeping import sweep

names = st.sampled_from(["runs/a/1", "runs/a/2", "tags/a/1", "pins/a/1"])
contents = st.tuples(st.binary(min_size=1, max_size=20), st.sampled_from([1, 900, LOOSE_MIN]))


CALLS = (
    "open",
    "write",
    "writev",
    "fsync",
    "fdatasync",
    "rename",
    "replace",
    "unlink",
    "ftruncate",
    "mkdir",
    "chmod",
    "pwrite",
)


def killed_at(number: int) -> None:
    """Have this process killed instead of the call of that number by which it would change a file; SQLite's do not count."""
    left = iter(range(number))

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def before(*args: Any, **words: Any) -> Any:
            if next(left, None) is None:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*args, **words)

        return before

    for name in CALLS:
        setattr(os, name, counted(getattr(os, name)))


class GarbageMachine(RuleBasedStateMachine):
    """Held objects with the bytes they have, and which other objects each of them names."""

    objects = Bundle("objects")

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.root = self.folder / "s"
        self.store = Store.open(self.root)
        self.model: dict[Digest, bytes] = {}
        self.named: dict[Digest, list[Digest]] = {}
        self.refs: dict[str, Digest] = {}
        self.counted: set[Digest] = set()  # on which the store that is open counts

    @rule(target=objects, content=contents)
    def put(self, content: tuple[bytes, int]) -> Digest:
        data = content[0] * content[1]
        digest = self.store.put(data)
        self.model[digest] = data
        self.counted.add(digest)
        return digest

    @rule(target=objects, content=contents)
    def import_object(self, content: tuple[bytes, int]) -> Digest:
        data = content[0] * content[1]
        take_in(self.store, iter([memoryview(data)]), digest_of(data), lambda found, _: AssertionError(found))  # type: ignore[arg-type,return-value]  # never called
        self.model[digest_of(data)] = data
        self.counted.add(digest_of(data))
        return digest_of(data)

    @rule(target=objects, below=st.lists(objects, max_size=3))
    def put_record(self, below: list[Digest]) -> Digest:
        there = [digest for digest in below if not self.store.absent([digest])]
        assert set(there) == {digest for digest in below if digest in self.model}
        self.counted.update(there)
        digest = self.store.put_record({"schema": "stillrun/test/1", "objects": there})
        self.model[digest], self.named[digest] = self.store.get(digest), there
        self.counted.add(digest)
        return digest

    @rule(name=names, to=objects)
    def set_ref(self, name: str, to: Digest) -> None:
        if to not in self.model:
            with pytest.raises(ObjectMissing):
                self.store.refs.set([RefChange(name, to)])
            return
        self.store.refs.set([RefChange(name, to)])
        self.refs[name] = to

    @rule(name=names)
    def forget(self, name: str) -> None:
        self.store.refs.set([RefChange(name, None, note="forgotten")])
        self.refs.pop(name, None)

    @rule(content=contents, name=names, sets=st.booleans())
    def a_writer_is_killed(self, content: tuple[bytes, int], name: str, sets: bool) -> None:
        data = content[0] * content[1]
        child = os.fork()
        if not child:
            try:
                store = Store.open(self.root)
                digest = store.put(data)
                if sets:
                    store.refs.set([RefChange(name, digest)])
            finally:
                os.kill(os.getpid(), signal.SIGKILL)
        os.waitpid(child, 0)
        self.model[digest_of(data)] = data
        if sets:
            self.refs[name] = digest_of(data)

    @rule(
        content=contents, name=names, work=st.sampled_from(["put", "collect", "pack", "reindex"]), at=st.integers(0, 60)
    )
    def a_process_is_killed_at_a_call(self, content: tuple[bytes, int], name: str, work: str, at: int) -> None:
        """What was needed stays; what it was about to do is done, or is not."""
        data = content[0] * content[1]
        child = os.fork()
        if not child:
            try:
                killed_at(at)
                self.do(work, data, name)
            finally:
                os.kill(os.getpid(), signal.SIGKILL)
        os.waitpid(child, 0)
        needed = self.reached({*self.refs.values(), *self.counted})
        with Store.open(self.root) as other:
            held, refs = set(other.digests()), dict(other.refs.names())
        new = {digest_of(data): data} if work == "put" else {}
        assert needed <= held <= self.model.keys() | new.keys()
        assert refs in (self.refs, self.refs | dict.fromkeys([name], digest_of(data)))
        self.model, self.refs = {digest: (self.model | new)[digest] for digest in held}, refs

    def do(self, work: str, data: bytes, name: str) -> None:
        if work == "pack":
            pack_store(self.root, older_than_ns=time.time_ns() + 10**9)
            return
        with Store.open(self.root) as store:
            if work == "put":
                store.refs.set([RefChange(name, store.put(data))])
            elif work == "collect":
                sweep(find_garbage(store, grace_s=-1))
            else:
                store.reindex()

    @rule()
    def pack(self) -> None:
        """Another process makes blocks of all that this store does not count on."""
        assert not pack_store(self.root, older_than_ns=time.time_ns() + 10**9).damaged

    @rule()
    def reindex(self) -> None:
        self.store.reindex()

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store = Store.open(self.root)
        self.counted.clear()

    @rule()
    def lose_catalog(self) -> None:
        self.reopen()
        self.store.close()
        for path in self.root.glob("catalog.sqlite*"):
            path.unlink()
        self.store = Store.open(self.root)

    @rule(again=st.booleans())
    def collect(self, again: bool) -> None:
        """Another process removes what is not needed, twice if need be, beside the store that is open here."""
        needed = self.reached({*self.refs.values(), *self.counted})
        for _ in range(1 + again):
            with Store.open(self.root) as other:
                sweep(find_garbage(other, grace_s=-1))
        with Store.open(self.root) as other:
            held = set(other.digests())
        assert needed <= held <= self.model.keys()
        self.model = {digest: self.model[digest] for digest in held}

    @rule()
    def everything_else_goes(self) -> None:
        self.reopen()
        self.store.close()
        needed = self.reached(set(self.refs.values()))
        with Store.open(self.root) as other:
            found = find_garbage(other, grace_s=-1)
            assert {digest for digest in self.model if found.holdings.needs(digest.raw)} == needed
            assert sweep(found) == found.amount
        self.store = Store.open(self.root)
        self.model = {digest: self.model[digest] for digest in self.store.digests()}

    @rule()
    def grace_keeps_all(self) -> None:
        with Store.open(self.root) as other:
            assert sweep(find_garbage(other, grace_s=3600)).objects == 0

    @invariant()
    def holds_exactly_the_model(self) -> None:
        assert {digest: self.store.get(digest) for digest in self.store.digests()} == self.model
        assert dict(self.store.refs.names()) == self.refs

    def reached(self, roots: set[Digest]) -> set[Digest]:
        found: set[Digest] = set()
        waiting = list(roots)
        while waiting:
            digest = waiting.pop()
            if digest not in found:
                found.add(digest)
                waiting += self.named.get(digest, [])
        return found

    def teardown(self) -> None:
        self.store.close()
        shutil.rmtree(self.folder)


@pytest.mark.slow
def test_many_orders_of_all_that_is_done_to_a_store() -> None:
    run_state_machine_as_test(  # type: ignore[no-untyped-call]  # hypothesis does not say
        GarbageMachine,
        settings=settings(
            max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
        ),
    )


GarbageMachine.TestCase.settings = settings(
    max_examples=8, stateful_step_count=20, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestGarbageMachine = GarbageMachine.TestCase
