"""conda environments without conda: solved, kept and installed by rattler."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from stillrun_envs import conda
from stillrun_envs.errors import BuildError, EnvError, FetchError, ResolveError
from stillrun_envs.hints import read_hints
from stillrun_envs.lock import read_lock
from stillrun_envs.prefix import Prefix, drop_prefix, prefix_for, verify_prefix
from stillrun_envs.request import EnvRequest
from stillrun_envs.resolver import lock_for
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.store import Store

PYTHON = Path(sys.executable)
Site = Any  # the server in conftest.py


def locked(
    store: Store, environ: dict[str, str], channel: str, specs: tuple[str, ...], wheels: tuple[str, ...] | None = None
) -> Digest:
    request = EnvRequest(conda=specs, channels=(channel,), pypi=wheels)
    lock = lock_for(request, store, base_python=PYTHON, environ=environ)
    store.sync()
    return lock


def said(prefix: Prefix, code: str) -> str:
    surroundings = {**os.environ, **prefix.variables}
    ended = subprocess.run([prefix.python, "-c", code], env=surroundings, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()


def test_an_environment_is_solved_kept_and_built_offline(store: Store, environ: dict[str, str], channel: Path) -> None:
    lock = locked(store, environ, channel.as_uri(), ("needs-old-greet", "numpy"))
    pinned = read_lock(store, lock)
    assert [one.name for one in pinned.packages] == ["greet", "needs-old-greet", "numpy", "python"]
    assert any(one.startswith("__glibc=") for one in read_hints(store, lock).machine)
    assert b"__archspec" not in store.get(lock)  # what the machine is must not name the lock
    assert pinned.python.digest is None
    prefix = prefix_for(lock, store, environ={**environ, "UV_OFFLINE": "1"})
    assert said(prefix, "import greet, numpy, sys; print(greet.hello(), sys.prefix)") == f"hello 1.0 {prefix.path}"
    verify_prefix(prefix, store)


def test_it_is_the_same_when_it_is_built_again(store: Store, environ: dict[str, str], channel: Path) -> None:
    lock = locked(store, environ, channel.as_uri(), ("greet", "packaging"))
    first = prefix_for(lock, store, environ=environ)
    drop_prefix(lock, store)
    assert prefix_for(lock, store, environ=environ) == first
    for path in first.path.rglob("*"):
        if path.is_file() and not path.is_symlink():
            assert path.stat().st_nlink == 1, path


def test_wheels_go_on_top_and_conda_packages_bind_them(
    store: Store, environ: dict[str, str], channel_site: Site
) -> None:
    lock = locked(store, environ, channel_site.url, ("greet <2", "packaging"), ("greeter", "alpha", "packaging"))
    names = [(one.manager, one.name) for one in read_lock(store, lock).packages]
    assert names == [
        ("conda", "greet"),
        ("conda", "packaging"),
        ("conda", "python"),
        ("pypi", "alpha"),
        ("pypi", "greeter"),
    ]
    prefix = prefix_for(lock, store, environ=environ)
    assert said(prefix, "import greet, greeter; print(greet.hello())") == "hello 1.0"
    command = prefix.path / "bin/alpha"
    assert subprocess.run([command], capture_output=True, text=True, check=True).stdout == "alpha 2.0\n"
    assert ".new-" not in command.read_text()
    first = prefix.tree
    drop_prefix(lock, store)
    assert prefix_for(lock, store, environ=environ).tree == first


def test_a_wheel_that_contradicts_conda_is_refused(store: Store, environ: dict[str, str], channel: Path) -> None:
    with pytest.raises(ResolveError, match=r"@pypi asks for greet>=5 and conda brings greet 1\.0"):
        locked(store, environ, channel.as_uri(), ("greet <2",), ("greet>=5",))


@pytest.mark.parametrize(
    ("specs", "said_of"),
    [
        (("no-such-thing",), "No candidates were found for no-such-thing"),
        (("greet ==9",), "greet ==9"),
        (("greet >=2", "needs-old-greet"), "greet <2"),
        (("needs-gpu",), "__cuda"),
    ],
)
def test_what_cannot_be_solved_is_named(
    store: Store, environ: dict[str, str], channel: Path, specs: tuple[str, ...], said_of: str
) -> None:
    with pytest.raises(ResolveError) as refused:
        locked(store, environ, channel.as_uri(), specs)
    assert said_of in str(refused.value)
    assert all(spec in str(refused.value) for spec in specs)


@pytest.mark.parametrize("address", ["file:///no/such/channel", "http://ada:hunter2@127.0.0.1:9/channel"])
def test_a_channel_out_of_reach_is_named(store: Store, environ: dict[str, str], address: str) -> None:
    with pytest.raises(FetchError) as refused:
        locked(store, environ, address, ("greet",))
    assert "cannot be read" in str(refused.value)
    assert "hunter2" not in str(refused.value)


def test_an_archive_that_is_not_what_the_channel_promised_is_refused(
    lonely: Store, environ: dict[str, str], channel_site: Site
) -> None:
    channel_site.tampered.add("greet-2.0-pyh0_0.conda")
    try:
        with pytest.raises(FetchError) as refused:
            locked(lonely, environ, channel_site.url, ("greet",))
    finally:
        channel_site.tampered.clear()
    assert str(refused.value).count("sha256:") == 2


def test_a_worker_that_crashes_is_asked_once_more(
    lonely: Store, environ: dict[str, str], channel: Path, tmp_path: Path
) -> None:
    """Each worker notes that it started; the first to solve and the first to install crash."""
    (tmp_path / "sitecustomize.py").write_text(f"""
import os, signal, sys
if "stillrun_envs.rattler_worker" in sys.orig_argv:
    with open({str(tmp_path / "started")!r}, "a+") as file:
        file.write("x")
        file.flush()
        file.seek(0)
        if len(file.read()) % 2:
            os.kill(os.getpid(), signal.SIGSEGV)
""")
    crashing = {**environ, "PYTHONPATH": str(tmp_path)}
    lock = locked(lonely, crashing, channel.as_uri(), ("greet",))
    assert (tmp_path / "started").read_text() == "xx"
    prefix = prefix_for(lock, lonely, environ=crashing)
    assert (tmp_path / "started").read_text() == "xxxx"
    assert said(prefix, "import greet; print(greet.hello())").startswith("hello")
    (tmp_path / "sitecustomize.py").write_text("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    with pytest.raises(EnvError, match="the conda worker ended with signal 11"):
        locked(lonely, crashing, channel.as_uri(), ("packaging",))


def test_a_worker_that_dies_is_an_error_of_ours(
    store: Store, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stillrun_envs.conda.sys.executable", "/bin/false")
    with pytest.raises(EnvError, match="the conda worker ended with code 1"):
        conda.solve(["greet"], ["file:///x"], "linux-64", store, environ)


def test_an_archive_that_is_none_is_refused(lonely: Store, environ: dict[str, str], channel: Path) -> None:
    lock = read_lock(lonely, locked(lonely, environ, channel.as_uri(), ("greet",)))
    scratch = lonely.scratch("x")
    bad = lonely.put(b"not an archive")
    broken = [type(one)("conda", one.name, one.version, one.file, bad, 14) for one in lock.packages[:1]]
    with pytest.raises(BuildError, match="cannot be installed"):
        conda.install(broken, scratch / "a", scratch / "b", "linux-64", lonely, scratch, environ)


def test_a_machine_can_be_told_from_outside_and_by_the_request(
    store: Store, environ: dict[str, str], channel: Path
) -> None:
    request = EnvRequest(conda=("needs-gpu",), channels=(channel.as_uri(),))
    with pytest.raises(ResolveError, match="__cuda"):
        lock_for(request, store, base_python=PYTHON, environ=environ)
    told = EnvRequest(conda=("needs-gpu",), channels=(channel.as_uri(),), virtual_packages=("__cuda=99.1",))
    lock = lock_for(told, store, base_python=PYTHON, environ=environ)
    assert "__cuda >=99" in read_lock(store, lock).needs
    assert lock_for(request, store, base_python=PYTHON, environ={**environ, "CONDA_OVERRIDE_CUDA": "99.1"}) == lock
    notes: list[str] = []
    prefix_for(lock, store, environ=environ, progress=notes.append)
    assert any("lacks __cuda >=99" in note for note in notes)


def test_packages_made_after_a_day_do_not_count(store: Store, environ: dict[str, str], channel: Path) -> None:
    late = EnvRequest(conda=("greet",), channels=(channel.as_uri(),), exclude_newer="2100-01-01")
    assert [
        one.version for one in read_lock(store, lock_for(late, store, base_python=PYTHON, environ=environ)).packages
    ]
    early = EnvRequest(conda=("greet",), channels=(channel.as_uri(),), exclude_newer="2020-01-01")
    with pytest.raises(ResolveError, match="greet"):
        lock_for(early, store, base_python=PYTHON, environ=environ)


def test_another_platform_is_solved_for_with_its_own_python(
    store: Store, environ: dict[str, str], channel: Path
) -> None:
    request = EnvRequest(conda=("greet",), channels=(channel.as_uri(),), platform="linux-aarch64")
    lock = read_lock(store, lock_for(request, store, base_python=PYTHON, environ=environ))
    assert lock.complete
    assert lock.python.platform == "linux-aarch64"
    assert {one.subdir for one in lock.packages} == {"linux-aarch64", "noarch"}
