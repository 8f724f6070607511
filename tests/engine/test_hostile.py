"""Seeded changes of a bundle, a remote and packs: each is refused in one sentence or does no harm, and writes nowhere else."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard
from tests.carrying import Members, canonical, forged, members_of, with_contents, with_sums
from tests.conftest import Commands
from tests.engine.test_bundle_import import renamed

from stillrun_cli.group import run_group
from stillrun_engine.archive import open_run
from stillrun_engine.bundle_import import import_bundle
from stillrun_engine.pathspec import Pathspec
from stillrun_engine.remote_pull import pull_run
from stillrun_engine.remote_push import push_runs
from stillrun_engine.remotes import RemoteSettings, add_remote, opened_remote, remove_remote
from stillrun_snapshot.digest import Digest, digest_of
from stillrun_snapshot.errors import StillrunError
from stillrun_snapshot.refs import RefChange
from stillrun_snapshot.store import Store

pytestmark = pytest.mark.slow
FORMATS = Path(__file__).parents[2] / "fixtures" / "formats"
BUNDLE = FORMATS / "bundle" / "v1" / "tiny.bundle"
FLOW = """
from stillrun import FlowSpec, step

class Tiny(FlowSpec):
    @step
    def start(self):
        self.big = bytes(range(256)) * 40_000
        self.next(self.end)
    @step
    def end(self):
        pass
"""
NASTY: tuple[Any, ...] = (
    *(None, True, -1, 0, 2**63, 2**70, 10**400, "", "..", "../../etc/passwd", "a\0b", "/abs", "é" * 300, "\u202e"),
    *([], {}, [[]], [None], {"": None}, "sha256:" + "0" * 64, ["x", "x"], "x" * 5000, json.loads("[" * 150 + "]" * 150)),
)  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value inside a value."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inside:
        yield (*path, key)
        yield from places(one, (*path, key))


def change(record: dict[str, Any], chance: random.Random) -> None:
    """Something else somewhere in a record."""
    *way, last = chance.choice([path for path in places(record) if path != ("schema",)])
    at: Any = record
    for key in way:
        at = at[key]
    how = chance.randrange(4)
    if how == 0:
        del at[last]
    elif how == 1 and isinstance(at, list):
        at.append(at[last])
    elif how == 2 and isinstance(at, dict):
        at[chance.choice(["x", "..", "a\0b", ""])] = at.pop(last)
    else:
        at[last] = chance.choice(NASTY)


def changed_bundle(members: Members, chance: random.Random, path: Path) -> Path:
    """A bundle that fits together, with something else in one of its records."""
    index = chance.choice([place for place, (_, data) in enumerate(members) if data[:1] == b"{"])
    record = json.loads(members[index][1])
    for _ in range(chance.choice([1, 1, 2])):
        change(record, chance)
    data = canonical(record)
    if index == 0:
        return forged(path, with_sums([(members[0][0], data), *members[1:]]))
    return forged(path, with_contents(renamed(members, index, data)))


def refused(attempt: Callable[[], object]) -> bool:
    """Whether it ended in one sentence; any other error than those of ours is the test's failure."""
    try:
        attempt()
    except StillrunError as err:
        assert "\n" not in str(err), err
        return True
    return False


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if "store" not in path.relative_to(folder).parts)


@pytest.mark.parametrize("seed", range(8))
def test_a_bundle_with_changed_bytes_is_refused(tmp_path: Path, seed: int) -> None:
    chance, whole = random.Random(seed), BUNDLE.read_bytes()
    with Store.open(tmp_path / "store") as store:
        for _ in range(100):
            data = bytearray(whole)
            for _ in range(chance.choice([1, 1, 3])):
                place = chance.randrange(len(data))
                how = chance.randrange(4)
                if how == 0:
                    data[place] ^= 1 << chance.randrange(8)
                elif how == 1:
                    del data[place : place + chance.choice([1, 512, 1024])]
                elif how == 2:
                    data[place:place] = data[place : place + 512]
                else:
                    data[place : place + 12] = chance.choice([b"\xff" * 12, bytes(12), b"7" * 11 + b"\0"])
            if bytes(data) != whole:
                (tmp_path / "bad").write_bytes(data)
                assert refused(lambda: import_bundle(store, tmp_path / "bad"))
        assert not list(store.digests()) and not list(store.refs.names())
    assert files(tmp_path) == [tmp_path / "bad"]


def test_a_bundle_cut_at_any_block_is_refused(tmp_path: Path) -> None:
    whole = BUNDLE.read_bytes()
    with Store.open(tmp_path / "store") as store:
        for end in range(0, len(whole), 512):
            (tmp_path / "bad").write_bytes(whole[:end])
            assert refused(lambda: import_bundle(store, tmp_path / "bad"))
        assert not list(store.digests())


@pytest.mark.parametrize("seed", range(8))
def test_what_a_changed_bundle_brings_can_be_read(
    tmp_path: Path, seed: int, capsys: pytest.CaptureFixture[str]
) -> None:
    chance, members = random.Random(seed), members_of(BUNDLE)
    run = json.loads(members[0][1])["runs"][0]
    for number in range(100):
        path, root = changed_bundle(members, chance, tmp_path / "bad"), tmp_path / "store" / str(number)
        with Store.open(root) as store:
            if refused(lambda path=path, store=store: import_bundle(store, path)):  # type: ignore[misc]
                assert not list(store.digests()) and not list(store.refs.names())
                shutil.rmtree(root)
                continue
        for words in (
            ["list"],
            ["show", run],
            ["show", f"{run}/start"],
            ["logs", run],
            ["verify", run],
            ["store", "fsck"],
        ):
            run_group([*words, "--store", str(root)])
        run_group(["audit", run, "-o", str(root / "audit"), "--store", str(root)])
        capsys.readouterr()
    assert files(tmp_path) == [tmp_path / "bad"]


@pytest.fixture(scope="module")
def pushed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A remote with a run, in a folder."""
    made = tmp_path_factory.mktemp("pushed")
    user = Commands(made, made / "store")
    user.write("tiny.py", FLOW)
    user.run("tiny.py")
    (made / "team").mkdir()
    with Store.open(user.store) as store:
        add_remote(store, RemoteSettings("team", str(made / "team")))
        (name,) = [name.removeprefix("runs/") for name, _ in store.refs.names("runs/")]
        run = open_run(store, Pathspec(*name.split("/")))
        push_runs(store, opened_remote(store, "team", os.environ, create=True), [run])
    return made / "team"


def pull_all(store: Store) -> list[str]:
    remote = opened_remote(store, "team", os.environ)
    known = remote.known()
    for run in known.runs:
        pull_run(store, remote, known, run)
    return list(known.runs)


def changed_remote(folder: Path, chance: random.Random) -> None:
    """Something else in one of a remote's files, which then says what it is named for, or not."""
    path = chance.choice(sorted(path for path in folder.rglob("*") if path.is_file() and "probes" not in path.parts))
    data, how = bytearray(path.read_bytes()), chance.randrange(5)
    path.chmod(0o644)
    if path.parent.name == "manifests" and how:
        record = json.loads(zstandard.ZstdDecompressor().decompress(bytes(data)))
        change(record, chance)
        made = canonical(record)
        (path.parent / digest_of(made).hex).write_bytes(zstandard.ZstdCompressor().compress(made))
        event = json.loads((folder / "log" / "0000000001").read_bytes())
        event["changes"][0]["to"] = digest_of(made)
        (folder / "log" / "0000000001").chmod(0o644)
        (folder / "log" / "0000000001").write_bytes(canonical(event))
    elif data[:1] == b"{" and how:
        record = json.loads(data)
        change(record, chance)
        path.write_bytes(canonical(record))
    elif how == 1:
        path.unlink()
    elif how == 2:
        path.write_bytes(data[: chance.randrange(len(data) + 1)])
    else:
        for _ in range(chance.choice([1, 20])):
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        path.write_bytes(data)


@pytest.mark.parametrize("seed", range(6))
def test_what_a_changed_remote_gives_is_what_its_names_say_or_nothing(tmp_path: Path, pushed: Path, seed: int) -> None:
    chance = random.Random(seed)
    with Store.open(tmp_path / "store") as store:
        add_remote(store, RemoteSettings("team", str(tmp_path / "team")))
        for _ in range(60):
            shutil.rmtree(tmp_path / "team", ignore_errors=True)
            shutil.copytree(pushed, tmp_path / "team")
            changed_remote(tmp_path / "team", chance)
            before = files(tmp_path)
            if not refused(lambda: pull_all(store)):
                for name, digest in store.refs.names():
                    assert store.verify(digest), name
            assert files(tmp_path) == before
            for digest in store.digests():
                assert digest_of(store.get(digest)) == digest
            store.refs.set([RefChange(name, None) for name, _ in store.refs.names()])
            remove_remote(store, "team")
            add_remote(store, RemoteSettings("team", str(tmp_path / "team")))


@pytest.mark.parametrize("seed", range(6))
def test_a_changed_pack_gives_what_its_names_say_or_nothing(
    tmp_path: Path, seed: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every object reads as its digest says or is refused, whatever was done to the bytes of packs."""
    chance = random.Random(seed)
    with Store.open(shutil.copytree(FORMATS / "store" / "v2", tmp_path / "first")) as store:
        truth = {digest: store.get(digest) for digest in store.digests()}
    for number in range(40):
        root = shutil.copytree(FORMATS / "store" / "v2", tmp_path / f"store{number}")
        path = chance.choice(sorted((root / "packs").iterdir()))
        data = bytearray(path.read_bytes())
        for _ in range(chance.choice([1, 3, 30])):
            place = chance.randrange(len(data) - 16)
            how = chance.randrange(4)
            if how == 0:
                data[place] ^= 1 << chance.randrange(8)
            elif how == 1:
                del data[place : place + chance.choice([1, 60, 4000])]
            elif how == 2:
                data[place:place] = data[place : place + 300]
            else:
                data[place : place + 8] = b"\xff" * 8
            if len(data) < 40:
                break
        path.chmod(0o644)
        path.write_bytes(data)
        with Store.open(root) as store:
            for digest, content in truth.items():
                if not refused(lambda digest=digest, store=store: store.get(Digest(digest))):  # type: ignore[misc]
                    assert store.get(digest) == content
        for words in (["fsck", "--full"], ["gc", "--delete", "--grace", "0s"], ["pack", "--all"], ["reindex"]):
            assert run_group(["store", *words, "--store", str(root)]) in (0, 2)
        capsys.readouterr()
        with Store.open(root) as store:
            for digest in store.digests():
                if not refused(lambda digest=digest, store=store: store.get(digest)):  # type: ignore[misc]
                    assert store.get(digest) == truth.get(digest, store.get(digest))
        shutil.rmtree(root)
