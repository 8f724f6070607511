"""pip-tools as the second resolver: the same pins as uv's, by pip's own rules."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from stillrun_envs.errors import EnvError, ResolveError
from stillrun_envs.lock import read_lock
from stillrun_envs.request import EnvRequest
from stillrun_envs.resolver import lock_for
from stillrun_snapshot.store import Store

PYTHON = Path(sys.executable)


def locked(store: Store, environ: dict[str, str], *requirements: str, **others: Any) -> list[str]:
    request = EnvRequest(pypi=requirements, **others)
    lock = lock_for(request, store, base_python=PYTHON, environ=environ)
    return [f"{one.file} {one.digest}" for one in read_lock(store, lock).packages]


@pytest.mark.parametrize("requirements", [("alpha",), ("beta", "bulky"), ("gamma",), ("alpha<2", "bulky")])
def test_it_pins_what_uv_pins(store: Store, environ: dict[str, str], requirements: tuple[str, ...]) -> None:
    assert locked(store, environ, *requirements, resolver="pip-tools") == locked(store, environ, *requirements)


def test_constraints_bind(store: Store, environ: dict[str, str]) -> None:
    files = locked(store, environ, "alpha", resolver="pip-tools", constraints=("alpha<2",))
    assert [file.split(" ")[0] for file in files] == ["alpha-1.0-py3-none-any.whl"]


def test_what_it_cannot_resolve_is_told(store: Store, environ: dict[str, str]) -> None:
    with pytest.raises(ResolveError, match="beta") as refused:
        locked(store, environ, "beta", "gamma", resolver="pip-tools")
    assert "gamma" in str(refused.value)
    with pytest.raises(ResolveError, match="no-such-thing"):
        locked(store, environ, "no-such-thing", resolver="pip-tools")


@pytest.mark.slow
def test_an_index_out_of_reach_is_told_without_credentials(store: Store, environ: dict[str, str]) -> None:
    with pytest.raises(EnvError) as refused:
        locked(store, environ, "alpha", resolver="pip-tools", index_url="http://ada:secret@127.0.0.1:9/simple")
    assert "secret" not in str(refused.value)


def test_what_it_does_not_know_is_refused(store: Store, environ: dict[str, str]) -> None:
    with pytest.raises(ResolveError, match="knows no overrides"):
        locked(store, environ, "alpha", resolver="pip-tools", overrides=("alpha<2",))
    with pytest.raises(ResolveError, match="not for osx-arm64"):
        locked(store, environ, "alpha", resolver="pip-tools", platform="osx-arm64")
