"""From a request to a lock that keeps everything; and every way in which that can fail, told."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from stillrun_envs.errors import EnvError, FetchError, InterpreterError, Offline, ResolveError
from stillrun_envs.lock import read_lock
from stillrun_envs.request import EnvRequest
from stillrun_envs.resolver import lock_for
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.store import Store

PYTHON = Path(sys.executable)
FAMILY = f"{sys.version_info[0]}.{sys.version_info[1]}"
Site = Any  # the server in conftest.py


def pypi(*requirements: str, **others: object) -> EnvRequest:
    return EnvRequest(pypi=requirements, **others)  # type: ignore[arg-type]


def locked(request: EnvRequest, store: Store, environ: dict[str, str], **others: object) -> Digest:
    return lock_for(request, store, base_python=PYTHON, environ=environ, **others)  # type: ignore[arg-type]


def files(store: Store, lock: Digest) -> list[str]:
    return [package.file for package in read_lock(store, lock).packages]


def test_a_lock_pins_and_keeps_every_package(store: Store, environ: dict[str, str]) -> None:
    lock = read_lock(store, locked(pypi("beta", "bulky"), store, environ))
    assert [f"{one.name} {one.version}" for one in lock.packages] == ["alpha 1.0", "beta 1.0", "bulky 1.0"]
    assert lock.complete
    for digest in lock.digests():
        store.verify(digest)


def test_the_lock_says_nothing_of_where_or_when(store: Store, environ: dict[str, str], index: Site) -> None:
    data = store.get(locked(pypi("alpha"), store, environ)).decode()
    for word in ("http", "://", index.url.rpartition(":")[2], str(store.root), "uv"):
        assert word not in data


def test_an_unchanged_request_asks_nobody(
    store: Store, environ: dict[str, str], index: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = locked(pypi("alpha>=1"), store, environ)
    index.requests.clear()
    monkeypatch.setattr("stillrun_envs.command.run", None)
    assert locked(pypi("alpha>=1"), store, environ) == first
    assert locked(pypi("alpha>=1"), store, environ, offline=True) == first
    assert index.requests == []


def test_offline_without_a_lock_says_so(store: Store, environ: dict[str, str]) -> None:
    with pytest.raises(Offline, match=r"gamma==1.0 has not been locked.*run once with the network on"):
        locked(pypi("gamma==1.0"), store, environ, offline=True)


def test_a_lock_whose_package_is_gone_is_resolved_again(lonely: Store, environ: dict[str, str]) -> None:
    first = locked(pypi("bulky"), lonely, environ)
    digest = read_lock(lonely, first).packages[0].digest
    lonely.checked(digest)
    location = lonely.locate(digest)
    assert location.path is not None
    location.path.unlink()
    assert locked(pypi("bulky"), lonely, environ) == first
    assert lonely.has(digest)


def test_the_newest_wins_and_refresh_asks_again(lonely: Store, environ: dict[str, str], index: Site) -> None:
    assert files(lonely, locked(pypi("alpha"), lonely, environ)) == ["alpha-2.0-py3-none-any.whl"]
    index.requests.clear()
    locked(pypi("alpha"), lonely, environ, refresh=True)
    assert any(path.startswith("/simple/alpha") for path in index.requests)


@pytest.mark.parametrize(
    ("requirements", "said"),
    [
        (("no-such-thing",), "no-such-thing was not found"),
        (("alpha==9.9",), "no version of alpha==9.9"),
        (("beta", "gamma"), "beta"),
        (("elsewhere",), "elsewhere"),
    ],
)
def test_what_cannot_be_resolved_is_named(
    store: Store, environ: dict[str, str], requirements: tuple[str, ...], said: str
) -> None:
    with pytest.raises(ResolveError) as refused:
        locked(pypi(*requirements), store, environ)
    assert said in str(refused.value)
    assert all(one.partition("==")[0] in str(refused.value) for one in requirements)
    assert len(str(refused.value)) < 700


def test_an_index_out_of_reach_is_named_without_its_credentials(store: Store, environ: dict[str, str]) -> None:
    with pytest.raises(FetchError) as refused:
        locked(pypi("alpha==1.0", index_url="http://ada:secret@127.0.0.1:9/simple"), store, environ)
    assert "127.0.0.1:9" in str(refused.value)
    assert "secret" not in str(refused.value)


def test_a_file_that_is_not_what_the_index_promised_is_refused(
    lonely: Store, environ: dict[str, str], broken_index: Site
) -> None:
    broken_index.tampered.add("alpha-2.0-py3-none-any.whl")
    with pytest.raises(FetchError) as refused:
        locked(pypi("alpha", index_url=f"{broken_index.url}/simple"), lonely, environ)
    assert str(refused.value).count("sha256:") == 2
    assert "nothing was kept" in str(refused.value)
    assert not any("alpha" in str(path) for path in lonely.root.rglob("*"))


def test_a_broken_connection_is_told(lonely: Store, environ: dict[str, str], broken_index: Site) -> None:
    broken_index.cut.add("bulky-1.0-py3-none-any.whl")
    with pytest.raises(FetchError, match=r"bulky-1\.0-py3-none-any\.whl cannot be fetched"):
        locked(pypi("bulky", index_url=f"{broken_index.url}/simple"), lonely, environ)


def test_credentials_open_the_index_and_are_written_nowhere(
    lonely: Store, environ: dict[str, str], broken_index: Site
) -> None:
    broken_index.protected = True
    address = broken_index.url.replace("http://", "http://ada:hunter2@") + "/simple"
    locked(pypi("bulky", index_url=address), lonely, environ)
    lonely.sync()
    held = b"".join(path.read_bytes() for path in lonely.root.rglob("*") if path.is_file())
    assert b"hunter2" not in held


def test_the_index_of_pip_serves_where_uv_has_none(lonely: Store, environ: dict[str, str]) -> None:
    pips = {**environ, "PIP_INDEX_URL": environ["UV_DEFAULT_INDEX"]}
    del pips["UV_DEFAULT_INDEX"]
    assert files(lonely, locked(pypi("alpha"), lonely, pips)) == ["alpha-2.0-py3-none-any.whl"]


def test_a_folder_of_wheels_serves_as_well(lonely: Store, environ: dict[str, str], wheelhouse: Path) -> None:
    local = {**environ, "UV_NO_INDEX": "1", "UV_FIND_LINKS": str(wheelhouse)}
    assert files(lonely, locked(pypi("beta"), lonely, local)) == [
        "alpha-1.0-py3-none-any.whl",
        "beta-1.0-py3-none-any.whl",
    ]


def test_a_lock_outlives_the_python_it_was_made_with(
    lonely: Store, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = locked(pypi("alpha", python=FAMILY), lonely, environ)

    def gone(*_: object) -> None:
        raise InterpreterError("Python 3.11 is not on this machine")

    monkeypatch.setattr("stillrun_envs.resolver.find_python", gone)
    assert locked(pypi("alpha", python=FAMILY), lonely, environ) == first
    with pytest.raises(InterpreterError):
        locked(pypi("gamma", python=FAMILY), lonely, environ)


def test_every_failure_has_one_root(store: Store, environ: dict[str, str]) -> None:
    with pytest.raises(EnvError):
        locked(pypi("no-such-thing"), store, environ)
