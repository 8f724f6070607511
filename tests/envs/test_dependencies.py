"""Why packages are in a lock, and how two locks differ."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from stillrun_envs.contents import package_facts
from stillrun_envs.dependencies import chains_to, changes_between
from stillrun_envs.errors import LockError
from stillrun_envs.hints import known_locks, read_hints
from stillrun_envs.lock import read_lock
from stillrun_envs.request import EnvRequest
from stillrun_envs.resolver import lock_for
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.store import Store

PYTHON = Path(sys.executable)


def locked(store: Store, environ: dict[str, str], **asked: object) -> Digest:
    return lock_for(EnvRequest(**asked), store, base_python=PYTHON, environ=environ)  # type: ignore[arg-type]


def test_a_chain_leads_from_what_was_asked_for_to_the_package(store: Store, environ: dict[str, str]) -> None:
    lock = locked(store, environ, pypi=("beta", "alpha"))
    assert chains_to(store, lock, "Alpha") == [("alpha",), ("beta", "alpha <2")]
    with pytest.raises(LockError, match="has no package omega"):
        chains_to(store, lock, "omega")


def test_chains_cross_from_wheels_to_conda_packages(store: Store, environ: dict[str, str], channel: Path) -> None:
    lock = locked(store, environ, conda=("greet",), channels=(channel.as_uri(),), pypi=("greeter",))
    assert ("greeter", "greet >=1") in chains_to(store, lock, "greet")
    assert any(chain[-1].startswith("python >=") for chain in chains_to(store, lock, "python"))


def test_differences_say_what_and_why(lonely: Store, environ: dict[str, str]) -> None:
    one, other = locked(lonely, environ, pypi=("alpha", "bulky")), locked(lonely, environ, pypi=("beta",))
    told = [
        (change.kind, change.name, change.before, change.after, change.why)
        for change in changes_between(lonely, one, other)
    ]
    assert told == [
        ("changed", "alpha", "2.0", "1.0", ("beta", "alpha <2")),
        ("added", "beta", "", "1.0", ("beta",)),
        ("removed", "bulky", "1.0", "", ("bulky",)),
    ]
    assert changes_between(lonely, one, one) == []


def test_what_is_known_of_a_lock_lies_beside_it(store: Store, environ: dict[str, str]) -> None:
    lock = locked(store, environ, pypi=("beta",), index_url=environ["UV_DEFAULT_INDEX"].replace("//", "//ada:secret@"))
    hints = read_hints(store, lock)
    assert hints.requested() == ("beta",)
    assert lock in list(known_locks(store))
    for package in read_lock(store, lock).packages:
        origin = hints.origin(package.digest)
        assert origin is not None
        assert origin.url.endswith(package.file)
        assert "secret" not in origin.url
    assert EnvRequest.from_record(hints.request).pypi == ("beta",)


def test_a_kept_package_says_what_it_needs(store: Store, environ: dict[str, str], channel: Path) -> None:
    lock = read_lock(store, locked(store, environ, conda=("needs-old-greet",), channels=(channel.as_uri(),)))
    facts = {one.name: package_facts(store, one) for one in lock.packages}
    assert facts["needs-old-greet"].depends == ("python >=3.8", "greet <2")
    assert facts["greet"].licence == "X"
