"""The lock record: docs/spec/lock.md."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillrun_envs.errors import LockError
from stillrun_envs.lock import Interpreter, Lock, NotKept, PinnedPackage, Source
from stillrun_snapshot.digest import Digest, digest_of
from stillrun_snapshot.record import canonical_bytes, parse_record

ROOT = Path(__file__).parents[2]
GOLDEN = sorted((ROOT / "fixtures/formats/lock/v2").glob("*.json"))
FIRST = sorted((ROOT / "fixtures/formats/lock/v1").glob("*.json"))
SCHEMA, FIRST_SCHEMA = (json.loads((ROOT / f"docs/spec/schemas/lock-{n}.json").read_text()) for n in (2, 1))
D = digest_of(b"x")

digests = st.binary(max_size=4).map(digest_of)
names = st.text("abc-1", max_size=5).map("n{}".format)
sources = st.builds(
    Source,
    kind=st.sampled_from(["sdist", "git", "folder"]),
    digest=digests,
    size=st.integers(0, 1 << 40),
    commit=st.sampled_from(["", "a" * 40, "0" * 64]),
    subdirectory=st.sampled_from(["", "python/lib"]),
    build=st.none() | digests,
)
packages = st.builds(
    lambda source, **facts: PinnedPackage(**{**facts, "origin": "built"} if source else facts, source=source),
    source=st.none() | sources,
    manager=st.sampled_from(["conda", "pypi"]),
    name=names,
    version=st.integers(0, 9).map("1.{}".format),
    file=names.map("{}-1.whl".format),
    digest=digests,
    size=st.integers(0, 1 << 40),
    build=names,
    subdir=st.sampled_from(["", "noarch", "linux-64"]),
    origin=st.sampled_from(["fetched", "installed"]),
    edited=st.lists(names, max_size=2).map(tuple),
)
interpreters = st.builds(
    Interpreter,
    version=st.just("3.11.7"),
    implementation=st.just("cpython"),
    soabi=st.just("cpython-311-x86_64-linux-gnu"),
    platform=st.just("linux-x86_64"),
    executable=st.just("bin/python3.11"),
    digest=digests,
    size=st.integers(0, 1 << 40),
    libraries=st.lists(names, max_size=2).map(tuple),
)
locks = st.builds(
    Lock,
    python=interpreters,
    packages=st.lists(packages, max_size=4, unique_by=lambda one: (one.manager, one.name)).map(tuple),
    needs=st.lists(st.sampled_from(["__glibc >=2.17,<3.0.a0", "__unix"]), max_size=2).map(tuple),
    link_scripts=st.lists(names, max_size=2).map(tuple),
    not_kept=st.lists(st.builds(NotKept, names, names, st.text(max_size=9)), max_size=2).map(tuple),
)


@settings(max_examples=40, deadline=None)
@given(locks)
def test_reading_gives_back_what_was_written(lock: Lock) -> None:
    """from_record(to_record(lock)) == lock, through canonical bytes."""
    assert Lock.from_record(parse_record(canonical_bytes(lock.to_record()), "stillrun/lock/2")) == lock


@settings(max_examples=40, deadline=None)
@given(locks)
def test_the_order_of_packages_does_not_count(lock: Lock) -> None:
    """Equal sets of packages have equal bytes."""
    turned = dataclasses.replace(lock, packages=lock.packages[::-1], not_kept=lock.not_kept[::-1])
    assert canonical_bytes(turned.to_record()) == canonical_bytes(lock.to_record())


@settings(max_examples=40, deadline=None)
@given(locks)
def test_every_lock_keeps_to_its_schema(lock: Lock) -> None:
    """The JSON Schema that ships describes what is written."""
    jsonschema.validate(lock.to_record(), SCHEMA)


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_golden_locks_are_read_for_ever(path: Path) -> None:
    record = json.loads(path.read_text("utf-8"))
    lock = Lock.from_record(record)
    assert canonical_bytes(lock.to_record()) == canonical_bytes(record)
    jsonschema.validate(record, SCHEMA)


@pytest.mark.parametrize("path", FIRST, ids=lambda path: path.stem)
def test_locks_of_the_first_version_are_read_for_ever(path: Path) -> None:
    record = json.loads(path.read_text("utf-8"))
    jsonschema.validate(record, FIRST_SCHEMA)
    lock = Lock.from_record(record)
    written = lock.to_record()
    assert written["python"] == record["python"]
    assert written["packages"] == [{**one, "source": None} for one in record["packages"]]
    assert written["not_kept"] == record["not_kept"]


def test_there_are_golden_locks() -> None:
    assert len(GOLDEN) >= 4
    assert len(FIRST) >= 3


def test_a_newer_lock_is_refused_by_name() -> None:
    with pytest.raises(LockError, match="stillrun/lock/3"):
        Lock.from_record({"schema": "stillrun/lock/3"})


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("python", None, "named fields"),
        ("packages", [{"manager": "cargo", "origin": "fetched"}], "cargo"),
        ("packages", "none", "a list belongs"),
        ("link_scripts", {"numpy": "yes"}, "a list belongs"),
    ],
)
def test_a_malformed_lock_is_refused(field: str, value: object, said: str) -> None:
    record = json.loads(GOLDEN[0].read_text("utf-8")) | {field: value}
    with pytest.raises(LockError, match=said):
        Lock.from_record(record)


def test_a_file_name_that_leads_elsewhere_is_refused() -> None:
    with pytest.raises(LockError, match="file name"):
        PinnedPackage("pypi", "a", "1", "../a-1.whl", D, 1)


def test_an_executable_outside_its_tree_is_refused() -> None:
    with pytest.raises(LockError, match="outside its tree"):
        Interpreter("3.11.7", "cpython", "", "linux-x86_64", "../bin/sh", D)


def test_a_package_stands_once() -> None:
    python = Interpreter("3.11.7", "cpython", "", "linux-x86_64", "bin/python3.11", Digest(D))
    one = PinnedPackage("pypi", "a", "1", "a-1.whl", D, 1)
    with pytest.raises(LockError, match="twice"):
        Lock(python, (one, dataclasses.replace(one, version="2")))
