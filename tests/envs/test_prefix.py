"""A prefix is built from the store alone, is whole or absent, and is checked before each use."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.envs.pinned import wheel_lock, wheels_of

from stillrun_envs.errors import EnvDamaged
from stillrun_envs.lock import read_lock
from stillrun_envs.prefix import Prefix, drop_prefix, expected_prefix, prefix_for, verify_prefix
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.errors import ObjectCorrupt, ObjectMissing
from stillrun_snapshot.store import Store

BUILDER = Path(__file__).with_name("builder.py")


Locked = Callable[..., Digest]


@pytest.fixture
def locked(wheelhouse: Path, environ: dict[str, str]) -> Locked:
    """Keeps the lock of packages of the wheelhouse, and what they need: locked(store, name...)."""

    def kept(store: Store, *names: str) -> Digest:
        return wheel_lock(store, environ, wheels_of(wheelhouse, *names))

    return kept


def said(prefix: Prefix, code: str) -> str:
    # byte code of a file whose time was put back would be taken for its own
    surroundings = {**os.environ, **prefix.variables, "PYTHONPYCACHEPREFIX": os.devnull}
    return subprocess.run(
        [prefix.python, "-c", code], env=surroundings, capture_output=True, text=True, check=True
    ).stdout.strip()


def module(prefix: Prefix, name: str) -> Path:
    return next(prefix.path.glob(f"lib/python*/site-packages/{name}/__init__.py"))


def test_it_holds_what_the_lock_pins_and_nothing_else(store: Store, environ: dict[str, str], locked: Locked) -> None:
    prefix = prefix_for(locked(store, "beta", "bulky"), store, environ=environ)
    listed = "import importlib.metadata as m; print(sorted(d.name + d.version for d in m.distributions()))"
    assert said(prefix, listed) == "['alpha1.0', 'beta1.0', 'bulky1.0']"
    assert said(prefix, "import sys; print(sys.prefix)") == str(prefix.path)
    assert said(prefix, "import sys; print(sys.base_prefix)").startswith(str(store.root.resolve() / "pythons"))


def test_its_commands_run_from_where_it_is(store: Store, environ: dict[str, str], locked: Locked) -> None:
    prefix = prefix_for(locked(store, "alpha"), store, environ=environ)
    ended = subprocess.run([prefix.path / "bin/alpha"], capture_output=True, text=True, check=True, cwd="/")
    assert ended.stdout == "alpha 1.0\n"


def test_building_uses_neither_the_network_nor_the_users_cache(
    store: Store, environ: dict[str, str], locked: Locked, tmp_path: Path
) -> None:
    lock = locked(store, "gamma")
    drop_prefix(lock, store)
    nowhere = {**environ, "UV_DEFAULT_INDEX": "http://127.0.0.1:9/simple", "UV_CACHE_DIR": str(tmp_path / "cache")}
    prefix = prefix_for(lock, store, environ=nowhere)
    assert said(prefix, "import gamma") == ""
    assert not (tmp_path / "cache").exists()


def test_the_second_use_builds_nothing(store: Store, environ: dict[str, str], locked: Locked) -> None:
    lock = locked(store, "beta")
    first = prefix_for(lock, store, environ=environ)
    told: list[str] = []
    assert prefix_for(lock, store, environ=environ, progress=told.append) == first
    assert told == []


def test_built_twice_in_one_place_it_is_the_same(store: Store, environ: dict[str, str], locked: Locked) -> None:
    lock = locked(store, "beta", "bulky")
    first = prefix_for(lock, store, environ=environ)
    drop_prefix(lock, store)
    assert not first.path.exists()
    assert prefix_for(lock, store, environ=environ) == first


def test_no_two_environments_share_a_file(store: Store, environ: dict[str, str], locked: Locked) -> None:
    one = prefix_for(locked(store, "beta"), store, environ=environ)
    two = prefix_for(locked(store, "beta", "bulky"), store, environ=environ)
    assert module(one, "alpha").read_bytes() == module(two, "alpha").read_bytes()
    assert module(one, "alpha").stat().st_nlink == module(two, "alpha").stat().st_nlink == 1


def changed(prefix: Prefix) -> None:
    path = module(prefix, "alpha")
    before = path.stat()
    path.write_text(path.read_text().replace("1.0", "6.6"))  # as long as before, and with its time put back
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def missing(prefix: Prefix) -> None:
    module(prefix, "beta").unlink()


def added(prefix: Prefix) -> None:
    (module(prefix, "beta").parent / "stray.pyc").write_bytes(b"bytecode")


@pytest.mark.parametrize(
    ("damage", "word"), [(changed, "alpha/__init__.py changed"), (missing, "missing"), (added, "stray.pyc added")]
)
def test_damage_is_named_and_mended(
    store: Store, environ: dict[str, str], locked: Locked, damage: object, word: str
) -> None:
    assert callable(damage)
    lock = locked(store, "beta")
    prefix = prefix_for(lock, store, environ=environ)
    said(prefix, "import alpha, beta")  # leaves bytecode of the good files behind
    damage(prefix)
    with pytest.raises(EnvDamaged, match=word):
        verify_prefix(prefix, store)
    with pytest.raises(EnvDamaged):
        verify_prefix(prefix, store, full=False)
    told: list[str] = []
    again = prefix_for(lock, store, environ=environ, progress=told.append)
    assert word in told[0]
    assert again == prefix
    verify_prefix(again, store)
    assert said(again, "import alpha, beta; print(alpha.__version__)") == "1.0"


def test_files_may_be_looked_at_after_something_was_started(
    store: Store, environ: dict[str, str], locked: Locked
) -> None:
    lock = locked(store, "beta")
    prefix = prefix_for(lock, store, environ=environ)
    whole = expected_prefix(lock, store, environ=environ)
    assert whole.prefix == prefix
    assert whole.checked()
    changed(prefix)
    damaged = expected_prefix(lock, store, environ=environ)
    assert said(damaged.prefix, "import alpha; print(alpha.__version__)") == "6.6"
    assert not damaged.checked()
    assert said(damaged.prefix, "import alpha; print(alpha.__version__)") == "1.0"
    drop_prefix(lock, store)
    assert expected_prefix(lock, store, environ=environ).checked()


def test_a_damaged_python_makes_what_was_started_in_doubt_too(
    lonely: Store, environ: dict[str, str], locked: Locked
) -> None:
    lock = locked(lonely, "alpha")
    prefix = prefix_for(lock, lonely, environ=environ)
    library = next((prefix.python.resolve().parents[1] / "lib").glob("python*/json/__init__.py"))
    library.write_text("lies = True\n")
    assert not expected_prefix(lock, lonely, environ=environ).checked()
    assert expected_prefix(lock, lonely, environ=environ).checked()


def test_a_file_added_deep_down_is_noticed_by_its_folder(store: Store, environ: dict[str, str], locked: Locked) -> None:
    prefix = prefix_for(locked(store, "bulky"), store, environ=environ)
    verify_prefix(prefix, store, full=False)
    (module(prefix, "bulky").parent / "data" / "new").mkdir()
    verify_prefix(prefix, store, full=False)  # an empty folder is no file
    (module(prefix, "bulky").parent / "data" / "new" / "c.txt").write_text("stray")
    with pytest.raises(EnvDamaged, match=r"bulky/data/new/c\.txt added"):
        verify_prefix(prefix, store, full=False)


def test_bytecode_folders_do_not_count(store: Store, environ: dict[str, str], locked: Locked) -> None:
    lock = locked(store, "beta")
    prefix = prefix_for(lock, store, environ=environ)
    folder = module(prefix, "beta").parent / "__pycache__"
    folder.mkdir(exist_ok=True)
    (folder / "x.pyc").write_bytes(b"")
    told: list[str] = []
    prefix_for(lock, store, environ=environ, progress=told.append)
    assert told == []


def test_a_file_that_was_only_touched_is_read_and_accepted(
    store: Store, environ: dict[str, str], locked: Locked
) -> None:
    lock = locked(store, "beta")
    prefix = prefix_for(lock, store, environ=environ)
    os.utime(module(prefix, "beta"))
    told: list[str] = []
    prefix_for(lock, store, environ=environ, progress=told.append)
    assert told == []
    verify_prefix(prefix, store, full=False)


def test_a_kept_package_that_was_changed_is_refused_before_anything_is_built(
    lonely: Store, environ: dict[str, str], locked: Locked
) -> None:
    lock = locked(lonely, "bulky")
    digest = read_lock(lonely, lock).packages[0].digest
    path = lonely.locate(digest).path
    assert path is not None
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[1000] ^= 1
    path.write_bytes(data)
    with pytest.raises(ObjectCorrupt) as refused:
        prefix_for(lock, lonely, environ=environ)
    assert refused.value.digest == digest
    path.unlink()
    with pytest.raises(ObjectMissing):
        prefix_for(lock, lonely, environ=environ)
    assert {entry.suffix for entry in (lonely.root / "envs").iterdir()} == {".lock", ".use"}


@pytest.fixture
def away(tmp_path: Path, locked: Locked, interpreter_store: Path) -> tuple[Path, Digest]:
    """A store that no process has open, in a place with a space and letters of other languages, and a lock in it."""
    root = shutil.copytree(interpreter_store, tmp_path / "mon été 実験" / "store")
    with Store.open(root) as store:
        lock = locked(store, "beta", "bulky")
    return root, lock


def builder(root: Path, lock: Digest, environ: dict[str, str]) -> subprocess.Popen[str]:
    command = [sys.executable, str(BUILDER), str(root), str(lock)]
    return subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_killed_build_leaves_nothing_that_looks_ready_and_two_at_once_get_one(
    away: tuple[Path, Digest], environ: dict[str, str]
) -> None:
    root, lock = away
    killed = builder(root, lock, environ)
    assert killed.stdout is not None and killed.stderr is not None
    assert killed.stdout.readline().startswith("Building")
    killed.kill()
    killed.wait()
    killed.stdout.close()
    killed.stderr.close()
    # unfinished folders have a dot in their name: nothing stands under a final one
    assert [path.name for path in (root / "envs").iterdir() if path.is_dir() and "." not in path.name] == []

    both = [builder(root, lock, environ) for _ in range(2)]
    outputs = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    last = {out.splitlines()[-1] for out, _ in outputs}
    assert len(last) == 1
    assert sum(out.startswith("Building") for out, _ in outputs) == 1
    assert [path.name for path in (root / "envs").iterdir() if ".new-" in path.name or ".work-" in path.name] == []
    with Store.open(root) as store:
        prefix = prefix_for(lock, store, environ=environ)
        assert said(prefix, "import alpha; print(alpha.__version__)") == "1.0"
        ended = subprocess.run([prefix.path / "bin/alpha"], capture_output=True, text=True, check=True)
        assert ended.stdout == "alpha 1.0\n"
