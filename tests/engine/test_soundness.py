"""Whatever is changed in a store is found and told by name, with the runs that need it, and mended; the rest is not affected."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.conftest import Commands
from tests.engine.test_bundle_import import FLOW

from stillrun_engine.bundle_import import import_bundle
from stillrun_engine.repair import opened_sources, repair_store
from stillrun_engine.soundness import Soundness, check_store, opened_to_check
from stillrun_snapshot.checkout import checkout
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.errors import StillrunError
from stillrun_snapshot.store import Store

QUICK, ALL = 24, 1_000
_BESIDE = (".lock", ".manifest")
Change = Callable[[bytes, random.Random], bytes]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, interpreter_store: Path) -> tuple[Path, Path]:
    """A small store with a run in it, a checkout and a spare object; and the bundle that the run came in."""
    folder = tmp_path_factory.mktemp("made")
    made = Commands(folder, shutil.copytree(interpreter_store, folder / "first"))
    made.write("lib/deep/helper.py", "X = 1\n" * 3000)
    made.write("tiny.py", FLOW)
    run = made.run("tiny.py")
    assert made("export", run, "-o", "tiny.bundle", "--without", "packages").code == 0
    with Store.open(folder / "store") as store:
        import_bundle(store, folder / "tiny.bundle")
        record = store.get_record(store.refs.get(f"runs/{run}") or Digest("?"), "run")
        checkout(store, Digest(store.get_record(Digest(record["code"]), "code")["tree"]))
        spare = store.scratch("x") / "file"
        spare.write_bytes(b"spare" * 20_000)
        store.adopt(spare, store.put_file(spare), 100_000)
        shutil.rmtree(spare.parent)
        other = store.scratch("x") / "file"
        other.write_bytes(b"other" * 20_000)
        digest = Digest("sha256:" + __import__("hashlib").sha256(b"other" * 20_000).hexdigest())
        store.adopt(other, digest, 100_000, spare=True)
        shutil.rmtree(other.parent)
    with Store.open(folder / "store") as store:  # another pack, and an index that knows all of the log
        store.put_record({"schema": "stillrun/test/1", "text": "needed by nothing"})
        store.refs.get("")
    return folder / "store", folder / "tiny.bundle"


@pytest.fixture
def root(made: tuple[Path, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(made[0], tmp_path / "store"))


def checked(root: Path, *, full: bool = True) -> Soundness:
    with opened_to_check(root) as (store, before):
        return check_store(store, before, full=full)


def changed(path: Path, data: bytes) -> None:
    mode = path.stat().st_mode
    path.chmod(0o600)
    path.write_bytes(data)
    path.chmod(mode)


def test_a_sound_store_is_said_to_be_sound(root: Path) -> None:
    for full in (False, True):
        found = checked(root, full=full)
        assert (found.problems, found.runs, found.inspection.objects > 50) == ([], 1, True)


def flipped(data: bytes, chance: random.Random) -> bytes:
    place = chance.randrange(len(data))
    return data[:place] + bytes([data[place] ^ 1 << chance.randrange(8)]) + data[place + 1 :]


def cut(data: bytes, chance: random.Random) -> bytes:
    return data[: chance.randrange(len(data))]


def files_of(root: Path) -> dict[str, list[Path]]:
    """Files by kind; those below tmp, locks and the rest of the cache hold nothing that anything rests on."""
    kinds: dict[str, list[Path]] = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        top = "spare" if name.startswith("cache/objects/") else name.split("/")[0]
        if (
            path.is_file()
            and path.stat().st_size
            and top not in ("tmp", "locks", "cache")
            and path.suffix not in _BESIDE
        ):
            kinds.setdefault(top, []).append(path)
    return kinds


def tried(root: Path, scratch: Path, numbers: range) -> None:
    known = checked(root).inspection.sizes.keys()
    kinds = files_of(root)
    assert set(kinds) == {
        ".gitignore",
        "catalog.sqlite",
        "log",
        "objects",
        "packs",
        "spare",
        "stillrun-store.json",
        "trees",
    }
    for number in numbers:
        chance = random.Random(number)
        kind = sorted(kinds)[number % len(kinds)]
        path = chance.choice(kinds[kind])
        name = path.relative_to(root).as_posix()
        store = Path(shutil.copytree(root, scratch / str(number)))
        data = path.read_bytes()
        new = chance.choice([flipped, cut])(data, chance)
        changed(store / name, new)
        one_of_all(store, kind, name, known)
        shutil.rmtree(store)


def one_of_all(store: Path, kind: str, name: str, known: set[bytes]) -> None:  # type: ignore[type-arg]
    try:
        found = checked(store)
    except StillrunError as err:
        assert kind == "stillrun-store.json" and name in str(err), (name, err)
        return
    places = {one.finding.place for one in found.problems}
    if kind == "catalog.sqlite":  # a cache: what was changed is found, or makes no difference
        assert places <= {name} and found.inspection.sizes.keys() == known
        return
    assert any(place in name or name in place for place in places), (name, places)
    lost = known - found.inspection.sizes.keys()
    if kind not in ("packs", "objects", "spare"):
        assert not lost
    assert all(Digest.of_raw(raw) in found.lost for raw in lost), (name, lost)


def test_changes_of_every_kind_of_file_are_found_by_name(root: Path, tmp_path: Path) -> None:
    tried(root, tmp_path, range(QUICK))


@pytest.mark.slow
def test_a_thousand_changes_of_every_kind_of_file_are_found_by_name(root: Path, tmp_path: Path) -> None:
    tried(root, tmp_path, range(QUICK, ALL))


def test_damage_is_told_with_the_runs_that_need_it_and_mended_from_a_bundle(
    root: Path, made: tuple[Path, Path]
) -> None:
    before = checked(root)
    chance = random.Random(1)
    for path in files_of(root)["objects"]:
        changed(path, flipped(path.read_bytes(), chance))
    found = checked(root)
    needed = {one.needed_by[run] for one in found.lost.values() for run in one.needed_by if run.startswith("Tiny/")}
    assert needed == {f"artifact work/{number}/big" for number in range(3)}
    for path in files_of(root)["packs"]:
        for _ in range(3):
            changed(path, flipped(path.read_bytes(), chance))
    with opened_to_check(root) as (store, memory), opened_sources([made[1]], store) as sources:
        done = repair_store(store, check_store(store, memory, full=True), sources)
    assert not done.left and len(done.mended) >= len(needed) + 1
    after = checked(root)
    assert after.problems == []
    assert {Digest.of_raw(raw) for raw in before.inspection.sizes.keys() - after.inspection.sizes.keys()} <= set(
        done.dropped
    )


def test_a_lost_pack_is_told_and_mended_from_another_store(root: Path, made: tuple[Path, Path]) -> None:
    for path in files_of(root)["packs"]:
        path.unlink()
    found = checked(root, full=False)
    assert {one.finding.kind for one in found.problems} == {"missing"} and found.runs == 0
    with opened_to_check(root) as (store, memory), opened_sources([made[0]], store) as sources:
        done = repair_store(store, check_store(store, memory, full=False), sources)
    assert not done.left and len(done.mended) > 50
    assert checked(root).problems == []


def test_what_no_source_has_stays_to_be_seen(root: Path, tmp_path: Path) -> None:
    path = next(path for path in files_of(root)["objects"] if b"spare" not in path.read_bytes())
    changed(path, path.read_bytes()[:-1])
    Store.open(tmp_path / "empty").close()
    with opened_to_check(root) as (store, memory), opened_sources([tmp_path / "empty"], store) as sources:
        done = repair_store(store, check_store(store, memory, full=True), sources)
    assert len(done.left) == 1 and path.exists()
    assert [one.finding.digest for one in checked(root).problems] == list(done.left)


def test_a_quick_look_finds_cut_files_and_wrong_names(root: Path) -> None:
    path = next(path for path in files_of(root)["objects"] if b"spare" not in path.read_bytes())
    changed(path, path.read_bytes()[:-1])
    (root / "objects" / "zz").mkdir()
    (root / "packs" / "notes.txt").write_text("mine")
    places = {one.finding.place: one.finding.kind for one in checked(root, full=False).problems}
    assert places == {path.relative_to(root).as_posix(): "damaged", "packs/notes.txt": "stray"}


def test_a_folder_that_is_no_source_is_refused(root: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x" * 2000)
    with Store.open(root) as store:
        for path, says in (
            (tmp_path, "not a Stillrun store"),
            (tmp_path / "file", "no bundle"),
            (tmp_path / "no", "neither"),
        ):
            with pytest.raises(StillrunError, match=says), opened_sources([path], store):
                pass


def test_a_store_that_cannot_be_written_is_looked_through(root: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("permissions do not hold root back")
    for path in [root, *root.rglob("*")]:
        path.chmod(path.stat().st_mode & ~0o222)
    assert checked(root).problems == []
