"""Changed bits and lengths in stores with blocks, chunks, leases and signatures, in remotes and in keys: found, or harmless.

What is found is told by name, and no object is lost that does not stand in the file. Harmless are, by construction:

- ``catalog.sqlite`` and ``cache/``: made anew; what is read from there is hashed.
- ``.gitignore`` of the store and ``head`` of a remote: hints, which nothing rests on.
- ``locks/``: who holds them is known by the kernel; a note leads only to objects that are held.
- ``tmp/``: unfinished writes, which nothing reads.
"""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.engine import store_bench, store_work
from tests.engine.test_soundness import changed, checked, cut, flipped

from stillrun_engine.remote_check import check_remote
from stillrun_engine.remotes import known_remotes
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.ed25519 import PrivateKey
from stillrun_snapshot.errors import StillrunError
from stillrun_snapshot.keys import publish_key
from stillrun_snapshot.own_keys import OwnKeys
from stillrun_snapshot.record import canonical_bytes
from stillrun_snapshot.refs import RefChange
from stillrun_snapshot.store import LOOSE_MIN, Store

ALL = int(os.environ.get("FLIPS", "360"))
_HARMLESS = ("catalog.sqlite", "cache/", "locks/", "tmp/")
_SCARCE = 12  # files of a kind that are enough


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with packs of both versions, recipes, files, a signed key, a lease with notes; and a remote."""
    place = store_bench.prepared(tmp_path_factory.mktemp("flips"))
    store_work.pack(place)
    with Store.open(place / "store") as store:
        publish_key(store, PrivateKey.new(), "Ada")
        store.refs.set([RefChange("tests/file", store.put(random.Random(1).randbytes(LOOSE_MIN)))])
        small = store.put(b"small and new")
        store.refs.set([RefChange("tests/small", small)])
        for digest in list(store.digests()):
            store.checked(digest)  # which makes copies of what is made of chunks
        (store.root / "tmp" / "left").write_bytes(b"half a file")
    store_work.push(place)
    (place / "store" / "locks" / "run").write_text(f'999999\n{{"ref": "tasks/noted", "to": "{small}"}}\n')
    for bundle in place.glob("*.bundle"):
        bundle.unlink()
    return place


def kinds_of(place: Path) -> dict[str, list[Path]]:
    kinds: dict[str, list[Path]] = {}
    for path in sorted(place.glob("store/**/*")) + sorted(place.glob("ours/**/*")):
        if path.is_file() and path.stat().st_size and "probes" not in path.parts:
            name = path.relative_to(place)
            kind = "/".join(name.parts[:2])
            if path.suffix == ".pack":
                kind += path.read_bytes()[:15].decode()[-2:]
            kinds.setdefault(kind, []).append(path)
    return {kind: paths[:_SCARCE] for kind, paths in kinds.items()}


def tried(place: Path, scratch: Path, numbers: range) -> dict[str, int]:
    whole = checked(Path(shutil.copytree(place / "store", scratch / "whole"))).inspection.sizes.keys()
    kinds, counts = kinds_of(place), dict[str, int]()
    assert {"store/packs/1", "store/packs/2", "store/objects", "store/locks", "store/remotes.json", "store/log"} <= set(
        kinds
    )
    assert {"ours/segments", "ours/manifests", "ours/log", "ours/head", "ours/stillrun-remote.json"} <= set(kinds)
    for number in numbers:
        chance = random.Random(number)
        kind = sorted(kinds)[number % len(kinds)]
        name = chance.choice(kinds[kind]).relative_to(place).as_posix()
        copy = Path(shutil.copytree(place, scratch / "copy"))
        data = (copy / name).read_bytes()
        changed(copy / name, chance.choice([flipped, cut])(data, chance))
        try:
            found = found_in_remote(copy, name) if kind.startswith("ours/") else found_in_store(copy, name, whole)
        except BaseException as error:
            error.add_note(f"change number {number}: {name}")
            raise
        counts[f"{kind}: {'told' if found else 'harmless'}"] = (
            counts.get(f"{kind}: {'told' if found else 'harmless'}", 0) + 1
        )
        shutil.rmtree(copy)
    return counts


def found_in_store(copy: Path, name: str, whole: set[bytes]) -> bool:  # type: ignore[type-arg]  # keys of a dict
    """Whether it is told; it must be, unless it is harmless."""
    inside = name.removeprefix("store/")
    if inside == "remotes.json":
        with Store.open(copy / "store") as store:
            return told_by(lambda: known_remotes(store), "remotes.json") or known_remotes(store) != {}
    try:
        found = checked(copy / "store")
    except StillrunError as err:
        assert inside == "stillrun-store.json" and inside in str(err), err
        return True
    places = {one.finding.place for one in found.problems}
    lost = whole - found.inspection.sizes.keys()
    if inside.startswith(_HARMLESS) and not inside.startswith("cache/unpacked"):
        assert not lost and places <= {inside}, places
        return bool(places)
    assert any(place in inside or inside in place for place in places), (inside, places)
    assert all(Digest.of_raw(raw) in found.lost for raw in lost)
    if not inside.startswith(("packs/", "objects/")):
        assert not lost
    return True


def found_in_remote(copy: Path, name: str) -> bool:
    """Whether it is told with its name; it must be, unless it is a hint."""
    key = name.removeprefix("ours/")
    remotes = copy / "store" / "remotes.json"
    record = json.loads(remotes.read_bytes())
    record["remotes"]["ours"]["url"] = str(copy / "ours")
    remotes.write_bytes(canonical_bytes(record))
    shutil.rmtree(copy / "store" / "cache" / "remotes")

    def check() -> None:
        # by who has pushed there, and so knows the last event: no other one vouches for it
        with Store.open(copy / "store") as store:
            problems = check_remote(store_work.remote_at(store, copy, "ours"), whole=True).problems
        if problems:
            raise StillrunError(" ".join(problems))

    objects = ["sha256:"] if key.startswith("segments/") else []  # of a segment the objects in it are told
    told = told_by(check, key.rsplit("/", 1)[-1][:20].lstrip("0"), *objects)
    assert told or key == "head", "it must be told"
    return told


def told_by(work: Callable[[], object], *names: str) -> bool:
    """Whether it raises an error that names the file, in one of these ways."""
    try:
        work()
    except StillrunError as err:
        assert any(name in str(err) for name in names), (names, err)
        return True
    return False


@pytest.mark.slow
def test_hundreds_of_changes_of_packs_chunks_leases_signatures_and_remotes_are_found_or_harmless(
    place: Path, tmp_path: Path
) -> None:
    """FLIPS says how many."""
    counts = tried(place, tmp_path, range(ALL))
    print("\n".join(f"{what}: {count}" for what, count in sorted(counts.items())))


def test_a_changed_key_of_ones_own_is_refused_by_name_or_is_the_same_key(tmp_path: Path) -> None:
    for number in range(60):
        chance = random.Random(number)
        keys = OwnKeys(tmp_path / str(number))
        secret = keys.new("Ada")
        path = chance.choice(sorted(keys.folder.iterdir()))
        data = path.read_bytes()
        path.write_bytes(chance.choice([flipped, cut])(data, chance))
        try:
            assert keys.secret(keys.find(secret.keyid)).pem == secret.pem
        except StillrunError as err:
            assert secret.keyid[:16] in str(err) or str(keys.folder) in str(err)  # or it is the same
