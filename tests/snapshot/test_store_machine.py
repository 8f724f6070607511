"""The store against a dictionary, with packing, reopening, lost catalogs and a second reader in between."""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, precondition, rule

from stillrun_snapshot.digest import Digest
from stillrun_snapshot.errors import RefConflict
from stillrun_snapshot.packing import pack_store
from stillrun_snapshot.refs import ANY, RefChange
from stillrun_snapshot.store import LOOSE_MIN, Store

names = st.sampled_from(["runs/a/1", "runs/a/2", "runs/b/1", "tasks/a"])


class StoreMachine(RuleBasedStateMachine):
    objects = Bundle("objects")

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.store = Store.open(self.folder / "s")
        self.model: dict[Digest, bytes] = {}
        self.refs: dict[str, Digest] = {}
        self.changes = 0

    @rule(
        target=objects,
        data=st.binary(max_size=50),
        repeat=st.sampled_from([1, 400, LOOSE_MIN // 25]),
        compress=st.booleans(),
    )
    def put(self, data: bytes, repeat: int, compress: bool) -> Digest:
        digest = self.store.put(data * repeat, compress=compress)
        assert self.model.setdefault(digest, data * repeat) == data * repeat
        return digest

    @rule(target=objects, data=st.binary(max_size=50), repeat=st.sampled_from([1, LOOSE_MIN // 25]))
    def put_file(self, data: bytes, repeat: int) -> Digest:
        path = self.folder / "source"
        path.write_bytes(data * repeat)
        digest = self.store.put_file(path)
        self.model[digest] = data * repeat
        return digest

    @rule(name=names, to=objects)
    def set_any(self, name: str, to: Digest) -> None:
        self.store.refs.set([RefChange(name, to, ANY)])
        self.changes += self.refs.get(name) != to
        self.refs[name] = to

    @rule(name=names, to=objects, expect=objects | st.none())
    def set_expecting(self, name: str, to: Digest, expect: Digest | None) -> None:
        found = self.refs.get(name)
        if found != expect:
            with pytest.raises(RefConflict) as caught:
                self.store.refs.set([RefChange(name, to, expect)])
            assert (caught.value.ref, caught.value.found, caught.value.expected) == (name, found, expect)
            return
        self.store.refs.set([RefChange(name, to, expect)])
        self.changes += found != to
        self.refs[name] = to

    @rule(name=names)
    def delete(self, name: str) -> None:
        self.store.refs.set([RefChange(name, None)])
        self.changes += self.refs.pop(name, None) is not None

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store = Store.open(self.folder / "s")

    @rule()
    def lose_catalog(self) -> None:
        self.store.close()
        for path in self.store.root.glob("catalog.sqlite*"):
            path.unlink()
        self.store = Store.open(self.folder / "s")

    @rule()
    def pack(self) -> None:
        done = pack_store(self.folder / "s", older_than_ns=time.time_ns() + 10**9)
        assert not done.damaged  # files that this store counts on wait

    @rule(digest=consumes(objects))
    def another_process_reads(self, digest: Digest) -> None:
        with Store.open(self.folder / "s") as other:
            assert other.get(digest) == self.model[digest]
            assert dict(other.refs.names()) == self.refs

    @precondition(lambda self: self.model)
    @invariant()
    def holds_exactly_the_model(self) -> None:
        assert {digest: self.store.get(digest) for digest in self.store.digests()} == self.model

    @invariant()
    def names_exactly_the_refs(self) -> None:
        assert dict(self.store.refs.names()) == self.refs
        assert self.store.refs.check() == self.changes

    def teardown(self) -> None:
        self.store.close()
        shutil.rmtree(self.folder)


StoreMachine.TestCase.settings = settings(
    max_examples=8, stateful_step_count=18, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestStoreMachine = StoreMachine.TestCase
