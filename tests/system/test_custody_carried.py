"""Signatures that travel with runs: in bundles, through remotes, from folders; and what others may not do with that."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.conftest import Commands

from stillrun_engine.archive import open_run
from stillrun_engine.bundle import BundleRefused
from stillrun_engine.bundle_export import write_bundle
from stillrun_engine.bundle_import import import_bundle
from stillrun_engine.carry import Carried
from stillrun_engine.pathspec import parse_pathspec
from stillrun_engine.remote import FolderRemote, fetch_run
from stillrun_engine.remote_pull import Pulled, pull_run
from stillrun_engine.remote_push import push_runs
from stillrun_engine.remotes import OpenRemote, RemoteSettings, add_remote, known_remotes, opened_remote
from stillrun_engine.signing import sign_run
from stillrun_engine.verification import Asked, verify_run, verify_store
from stillrun_snapshot.dsse import envelope
from stillrun_snapshot.ed25519 import PrivateKey
from stillrun_snapshot.keys import known_keys, publish_key, revoke_key
from stillrun_snapshot.record import canonical_bytes
from stillrun_snapshot.refs import RefChange
from stillrun_snapshot.store import Store

FLOW = """
from stillrun import FlowSpec, step

class Vouched(FlowSpec):
    @step
    def start(self):
        self.total = 7
        self.next(self.end)

    @step
    def end(self):
        pass
"""
WAYS = ["remote", pytest.param("bundle", marks=pytest.mark.slow), pytest.param("folder", marks=pytest.mark.slow)]


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with one run that nobody has signed."""
    folder = tmp_path_factory.mktemp("vouched")
    user = Commands(folder, folder / "store")
    user.write("flow.py", FLOW)
    user.run("flow.py")
    return folder / "store"


class Place:
    """A store of somebody's, and the ways from and to others."""

    def __init__(self, root: Path, remote: Path) -> None:
        self.root, self.remote = root, remote
        remote.mkdir(exist_ok=True)

    @contextmanager
    def opened(self) -> Iterator[Store]:
        with Store.open(self.root) as store:
            yield store

    def sign(self, key: PrivateKey, who: str = "Ada") -> None:
        with self.opened() as store:
            sign_run(open_run(store, parse_pathspec("Vouched/latest")), key, who, "approved for use")

    def give(self, other: Place, way: str) -> Carried | Pulled:
        """Have the run, and what vouches for it, go to another store."""
        with self.opened() as store, other.opened() as there:
            run = open_run(store, parse_pathspec("Vouched/latest"))
            if way == "folder":
                return fetch_run(FolderRemote(store), there, run.spec)
            if way == "remote":
                push_runs(store, self._team(store), [run])
                team = other._team(there)
                return pull_run(there, team, team.known(), run.pathspec)
            path = self.root.parent / f"{os.urandom(4).hex()}.bundle"
            with open(path, "wb") as file:
                write_bundle(store, [run], file)
            return import_bundle(there, path)

    def _team(self, store: Store) -> OpenRemote:
        if "team" not in known_remotes(store):
            add_remote(store, RemoteSettings("team", str(self.remote)))
        return opened_remote(store, "team", {}, create=True)

    def standings(self, *trusted: PrivateKey) -> list[str]:
        """How the signatures of the run stand here, and what is wrong with it."""
        with self.opened() as store:
            run = open_run(store, parse_pathspec("Vouched/latest"))
            found = verify_run(run, Asked(tuple(key.public for key in trusted)))
            assert verify_store(store, Asked()).problems == []
        return [each.standing for each in found.runs[0].signatures] + found.problems + found.runs[0].problems


@pytest.fixture
def ours(origin: Path, tmp_path: Path) -> Place:
    shutil.copytree(origin, tmp_path / "ours" / "store", symlinks=True)
    return Place(tmp_path / "ours" / "store", tmp_path / "team")


@pytest.fixture
def theirs(tmp_path: Path) -> Place:
    (tmp_path / "theirs").mkdir()
    return Place(tmp_path / "theirs" / "store", tmp_path / "team")


@pytest.mark.parametrize("way", WAYS)
def test_who_takes_a_signed_run_verifies_it_with_the_key_that_they_were_handed(
    ours: Place, theirs: Place, way: str
) -> None:
    key, stranger = PrivateKey.new(), PrivateKey.new()
    ours.sign(key)
    ours.give(theirs, way)
    assert theirs.standings(key) == ["sound"]
    assert theirs.standings(stranger) == ["stranger", "no key that you trust has signed it."]


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_what_was_signed_or_revoked_later_comes_with_the_next_time(ours: Place, theirs: Place, way: str) -> None:
    first, second = PrivateKey.new(), PrivateKey.new()
    ours.give(theirs, way)
    assert theirs.standings() == []
    ours.sign(first)
    ours.give(theirs, way)
    ours.sign(second, "Grace")
    with ours.opened() as store:
        revoke_key(store, first.keyid, "stolen", "Ada", compromised=True, signer=first)
    ours.give(theirs, way)
    assert sorted(theirs.standings()) == ["revoked", "sound"]


@pytest.mark.slow
def test_signatures_of_several_stores_come_together_in_a_remote(ours: Place, theirs: Place, tmp_path: Path) -> None:
    keys = [PrivateKey.new(), PrivateKey.new()]
    ours.give(theirs, "remote")
    for place, key in zip((ours, theirs), keys, strict=True):
        place.sign(key)
    reviewer = Place(tmp_path / "reviewer", tmp_path / "team")
    theirs.give(reviewer, "remote")
    ours.give(reviewer, "remote")
    ours.give(theirs, "remote")
    for place in (reviewer, theirs):
        assert place.standings(*keys) == ["sound", "sound"]


@pytest.mark.slow
@pytest.mark.parametrize("way", ["bundle", "remote"])
def test_what_was_signed_before_its_key_was_replaced_counts_elsewhere(ours: Place, theirs: Place, way: str) -> None:
    """Whoever gets both at once learns their order from what was signed, not from when they came."""
    old, new = PrivateKey.new(), PrivateKey.new()
    ours.sign(old)
    with ours.opened() as store:
        publish_key(store, new, "Ada", replaces=old)
        revoke_key(store, old.keyid, "a new laptop", "Ada", signer=new)
    ours.give(theirs, way)
    assert theirs.standings(old) == ["sound"]
    with theirs.opened() as store:
        gone = known_keys(store)[old.keyid].revocation
        assert gone is not None
        assert gone.signers == (new.keyid,)
        assert new.keyid in known_keys(store)


@pytest.mark.slow
def test_what_was_signed_after_its_key_was_revoked_does_not_count_elsewhere(ours: Place, theirs: Place) -> None:
    key = PrivateKey.new()
    with ours.opened() as store:
        publish_key(store, key, "Ada")
        revoke_key(store, key.keyid, "left the team", "Ada", signer=key)
        gone = store.refs.get(f"revocations/{key.keyid}")
        store.refs.set([RefChange(f"revocations/{key.keyid}", None)])
    ours.sign(key)
    with ours.opened() as store:
        store.refs.set([RefChange(f"revocations/{key.keyid}", gone)])
    with theirs.opened():
        ours.give(theirs, "bundle")
    assert theirs.standings() == ["revoked"]


def test_a_revocation_that_anybody_may_have_written_takes_no_force_from_a_key_that_is_known(
    ours: Place, theirs: Place
) -> None:
    key = PrivateKey.new()
    ours.sign(key)
    ours.give(theirs, "bundle")
    with ours.opened() as store:
        revoke_key(store, key.keyid, "says somebody", "Eve", compromised=True)
    (doubt,) = ours.give(theirs, "bundle").doubts
    assert "has signed that" in doubt
    assert theirs.standings(key) == ["sound"]


@pytest.mark.slow
@pytest.mark.parametrize("what", ["another run's", "a key of another name", "another name"])
def test_what_does_not_vouch_for_the_run_is_refused(ours: Place, theirs: Place, what: str, tmp_path: Path) -> None:
    key = PrivateKey.new()
    ours.sign(key)
    with ours.opened() as store:
        run = open_run(store, parse_pathspec("Vouched/latest"))
        ((_, digest),) = store.refs.names(f"signatures/{run.pathspec}/")
        statement = {"schema": "stillrun/statement/1", "run": "Other/1", "record": run.digest, "meaning": "x"}
        payload = canonical_bytes({**statement, "signer": "Eve", "time": "now", "log": None})
        forged = {
            "schema": "stillrun/signature/1",
            **envelope("application/vnd.stillrun.statement+json", payload, key),
        }
        *bad, said = {
            "another run's": (f"signatures/{run.pathspec}/{'0' * 16}", store.put_record(forged), "is for Other/1"),
            "a key of another name": (f"keys/{'0' * 64}", store.refs.get(f"keys/{key.keyid}"), "holds another key"),
            "another name": (f"signatures/{run.pathspec}/{'1' * 16}", digest, "CustodyUnsound"),
        }[what]

        class Hostile(FolderRemote):
            def refs(self, spec):  # type: ignore[no-untyped-def]
                return {**super().refs(spec), bad[0]: bad[1]}

        with theirs.opened() as there, pytest.raises(BundleRefused, match=said):
            fetch_run(Hostile(store), there, run.spec)
    with theirs.opened() as there:
        assert list(there.refs.names()) == []


@pytest.mark.slow
def test_bundles_of_runs_that_nobody_signed_are_of_the_first_version(ours: Place, tmp_path: Path) -> None:
    for version in (1, 2):
        with ours.opened() as store, open(tmp_path / "file", "wb") as file:
            write_bundle(store, [open_run(store, parse_pathspec("Vouched/latest"))], file)
        assert f'"schema":"stillrun/bundle/{version}"'.encode() in (tmp_path / "file").read_bytes()
        ours.sign(PrivateKey.new())
