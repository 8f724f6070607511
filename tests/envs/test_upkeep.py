"""Upkeep removes what nobody uses or needs, never what is used, pinned or kept."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from tests.envs.pinned import wheel_lock, wheels_of

from stillrun_envs import prefix as prefixes
from stillrun_envs.prefix import drop_prefix, prefix_for
from stillrun_envs.upkeep import Collected, collect, environments
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.store import Store

HERE = Path(__file__).parent
DAY = 86_400


@dataclass
class Place:
    """A store with three locks, whose environments other processes use."""

    root: Path
    locks: dict[str, Digest]
    environ: dict[str, str]

    def use(self, name: str) -> subprocess.Popen[str]:
        """A process that uses an environment until it is ended; it has it when this returns."""
        command = [sys.executable, HERE / "user.py", self.root, self.locks[name]]
        process = subprocess.Popen(
            command, env=self.environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
        )
        assert process.stdout is not None
        assert process.stdout.readline().rstrip("\n"), process.wait()
        return process

    def used(self, *names: str) -> None:
        """Build environments, each by a process that has ended."""
        for name in names:
            end(self.use(name))

    def store(self) -> Store:
        """The store, opened."""
        return Store.open(self.root)

    def collect(self, **wishes: object) -> Collected:
        """Collect, a day from now where no clock is given."""
        with self.store() as store:
            return collect(store, **{"clock": lambda: datetime.now(timezone.utc) + timedelta(days=1), **wishes})  # type: ignore[arg-type] # whatever a test wishes

    def names(self) -> set[str]:
        """The environments that are there, by the names of their locks."""
        with self.store() as store:
            by_lock = {lock: name for name, lock in self.locks.items()}
            return {by_lock[one.lock] for one in environments(store) if one.lock}


def end(process: subprocess.Popen[str]) -> None:
    process.communicate(timeout=60)


@pytest.fixture(scope="module")
def kept(
    tmp_path_factory: pytest.TempPathFactory, environ: dict[str, str], wheelhouse: Path, interpreter_store: Path
) -> Place:
    """A store in which nothing was built yet."""
    root = shutil.copytree(interpreter_store, tmp_path_factory.mktemp("kept") / "store")
    with Store.open(root) as store:
        locks = {name: wheel_lock(store, environ, wheels_of(wheelhouse, name)) for name in ("alpha", "beta", "bulky")}
    return Place(root, locks, environ)


@pytest.fixture
def place(tmp_path: Path, kept: Place) -> Place:
    """A copy of it for one test."""
    shutil.copytree(kept.root, tmp_path / "store")
    return Place(tmp_path / "store", kept.locks, kept.environ)


@pytest.fixture
def aged(place: Place) -> Place:
    """All three built; alpha was used 30 days ago, beta 20, bulky 10."""
    place.used(*place.locks)
    with place.store() as store:
        for one in environments(store):
            name = next(name for name, lock in place.locks.items() if lock == one.lock)
            then = datetime.now().timestamp() - {"alpha": 30, "beta": 20, "bulky": 10}[name] * DAY
            os.utime(one.path.with_name(one.path.name + ".use"), (then, then))
    return place


def kept_objects(root: Path) -> set[tuple[str, int]]:
    places = [path for name in ("objects", "packs") for path in (root / name).rglob("*") if path.is_file()]
    return {(str(path), path.stat().st_size) for path in places}


def test_environments_are_told_with_all_that_a_person_decides_by(aged: Place) -> None:
    before = datetime.now(timezone.utc)
    user = aged.use("beta")
    with aged.store() as store:
        found = {one.lock: one for one in environments(store, keep=[aged.locks["alpha"]])}
        alpha, beta, bulky = (found[lock] for lock in aged.locks.values())
        assert next(iter(found)) == beta.lock
    end(user)
    assert (alpha.pinned, alpha.in_use, alpha.state) == (True, False, "ready")
    assert (beta.pinned, beta.in_use, beta.state) == (False, True, "ready")
    assert before - timedelta(seconds=1) <= beta.last_used <= datetime.now(timezone.utc) + timedelta(seconds=1)
    assert timedelta(days=29) < before - alpha.last_used < timedelta(days=31)
    assert alpha.python == sys.version.split()[0]
    files = [path for path in bulky.path.rglob("*") if path.is_symlink() or path.is_file()]
    assert bulky.files == len(files)
    assert bulky.size == sum(-(-path.lstat().st_size // 4096) * 4096 for path in files)


def test_a_changed_environment_is_told(aged: Place) -> None:
    with aged.store() as store:
        first = environments(store)[0]
        (first.path / "stray").write_text("x")
        assert environments(store)[0].state == "changed"
        assert environments(store, look=False)[0].state == "ready"


@pytest.mark.slow
def test_what_was_not_used_for_long_goes(aged: Place) -> None:
    objects = kept_objects(aged.root)
    done = aged.collect(unused_for_s=15 * DAY)
    assert aged.names() == {"bulky"}
    assert {one.kind for one in done.removed} == {"environment"}
    assert {one.reason for one in done.kept} == {"recent", "needed"}
    assert kept_objects(aged.root) == objects


@pytest.mark.slow
def test_beyond_a_total_the_longest_unused_go(aged: Place) -> None:
    with aged.store() as store:
        size = {one.lock: one.size for one in environments(store)}
    aged.collect(keep_bytes=size[aged.locks["beta"]] + size[aged.locks["bulky"]])
    assert aged.names() == {"beta", "bulky"}


def test_pinned_ones_stay(aged: Place) -> None:
    done = aged.collect(unused_for_s=0, keep_bytes=0, keep={aged.locks["alpha"]})
    assert aged.names() == {"alpha"}
    assert {one.reason for one in done.kept} == {"pinned", "needed"}


def test_a_dry_run_tells_the_same_and_removes_nothing(aged: Place) -> None:
    told = aged.collect(unused_for_s=15 * DAY, dry_run=True)
    assert aged.names() == {"alpha", "beta", "bulky"}
    done = aged.collect(unused_for_s=15 * DAY)
    assert done == told
    assert done.size == sum(one.size for one in done.removed) > 0


def test_a_python_goes_with_the_last_environment_that_needs_it(aged: Place) -> None:
    aged.collect(unused_for_s=15 * DAY)
    assert len([path for path in (aged.root / "pythons").iterdir() if path.is_dir()]) == 1
    done = aged.collect(keep_bytes=0)
    assert {one.kind for one in done.removed} == {"environment", "python"}
    assert list((aged.root / "pythons").iterdir()) == list((aged.root / "envs").iterdir()) == []
    aged.used("alpha")  # all of it is built again from what is kept
    assert aged.names() == {"alpha"}


def test_what_a_living_process_uses_stays_and_goes_when_it_was_killed(aged: Place) -> None:
    user = aged.use("alpha")
    done = aged.collect(unused_for_s=0, keep_bytes=0)
    assert aged.names() == {"alpha"}
    assert {one.reason for one in done.kept} <= {"in use", "needed"}
    user.kill()
    end(user)
    aged.collect(keep_bytes=0)
    assert aged.names() == set()


def test_a_program_that_a_user_starts_does_not_hold_it(aged: Place) -> None:
    script = (
        "import sys, subprocess; from pathlib import Path; from stillrun_envs.prefix import prefix_for;"
        "from stillrun_snapshot.store import Store;"
        "prefix_for(sys.argv[2], Store.open(Path(sys.argv[1])));"
        "child = subprocess.Popen(['sleep', '60'], close_fds=False, stdout=subprocess.DEVNULL); print(child.pid, flush=True)"
    )
    command = [sys.executable, "-W", "ignore", "-c", script, str(aged.root), str(aged.locks["alpha"])]
    user = subprocess.run(command, env=aged.environ, stdout=subprocess.PIPE, text=True, check=True)
    child = int(user.stdout)
    try:
        aged.collect(keep_bytes=0)
        assert aged.names() == set()
    finally:
        os.kill(child, 9)


@pytest.mark.parametrize("moment", ["Building", "work", "new"])
def test_leftovers_of_a_killed_builder_go_and_those_of_a_living_one_stay(place: Place, moment: str) -> None:
    place.used("alpha")
    command = [sys.executable, HERE / "builder.py", place.root, place.locks["bulky"]]
    with subprocess.Popen(command, env=place.environ, stdout=subprocess.PIPE, text=True) as builder:
        assert builder.stdout is not None
        builder.stdout.readline()
        while moment != "Building" and not list((place.root / "envs").glob(f"*.{moment}-*/*")):
            assert builder.poll() is None
        os.kill(builder.pid, 19)  # stopped: alive, and at work as far as anybody can tell
        place.collect()
        assert list((place.root / "envs").glob("*.new-*"))
        builder.kill()
    done = place.collect()
    assert {one.kind for one in done.removed} == {"unfinished"}
    assert not list((place.root / "envs").glob("*.new-*")) + list((place.root / "envs").glob("*.work-*"))
    assert place.names() == {"alpha"}


def test_bytecode_without_a_source_goes(aged: Place) -> None:
    with aged.store() as store:
        prefix = prefix_for(aged.locks["alpha"], store, environ=aged.environ)
        compiled = {**os.environ, **prefix.variables}
        compiled.pop("PYTHONDONTWRITEBYTECODE", None)
        subprocess.run([prefix.python, "-c", "import alpha, json"], env=compiled, check=True)
        folder = Path(prefix.variables["PYTHONPYCACHEPREFIX"])
    mine = folder / str(prefix.path).lstrip("/")
    assert list(mine.rglob("*.pyc"))
    shutil.rmtree(aged.root / "cache" / "pycache" / "nowhere", ignore_errors=True)
    stale = folder / "no" / "such" / "source"
    stale.mkdir(parents=True)
    (stale / "x.pyc").write_bytes(b"x")
    aged.collect()
    assert not (folder / "no").exists()
    assert list(mine.rglob("*.pyc"))
    with aged.store() as store:
        drop_prefix(aged.locks["alpha"], store)
    assert not mine.exists()


@pytest.mark.slow
def test_environments_that_no_stillrun_would_use_again_go(aged: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefixes, "BUILDER", prefixes.BUILDER + 1)
    with aged.store() as store:
        assert {one.state for one in environments(store)} == {"outdated"}
    aged.collect()
    assert aged.names() == set()


@pytest.mark.slow
def test_collectors_and_users_at_once_do_each_other_no_harm(place: Place) -> None:
    place.used("alpha", "beta")
    collectors = [
        subprocess.Popen(
            [sys.executable, HERE / "collector.py", place.root, "25"], env=place.environ, stdout=subprocess.PIPE
        )
        for _ in range(2)
    ]
    users = []
    for _ in range(3):
        users += [place.use(name) for name in ("alpha", "beta", "bulky")]
        for user in users[-3:]:
            end(user)
    assert [user.returncode for user in users] == [0] * 9
    for collector in collectors:
        collector.communicate(timeout=120)
        assert collector.returncode == 0


def test_a_store_that_cannot_be_written_to_still_serves_its_environments(aged: Place) -> None:
    """As root a read-only mount is the only thing that stops writing."""
    script = (
        "mount --bind {0} {0} && mount -o remount,bind,ro {0} && "
        'exec {1} -c "import sys; from pathlib import Path; from stillrun_envs.prefix import prefix_for; '
        "from stillrun_envs.upkeep import collect; from stillrun_snapshot.store import Store; "
        "store = Store.open(Path(sys.argv[1])); print(prefix_for(sys.argv[2], store).path); "
        'print(sorted({{k.reason for k in collect(store, keep_bytes=0).kept}})); store.close()" {0} {2}'
    ).format(aged.root, sys.executable, aged.locks["alpha"])
    ended = subprocess.run(["unshare", "-rm", "sh", "-c", script], env=aged.environ, capture_output=True, text=True)
    if "unshare failed" in ended.stderr or "mount:" in ended.stderr:
        pytest.skip(f"no mounts of one's own here: {ended.stderr}")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines()[1] == "['needed', 'not removable']"
    assert aged.names() == {"alpha", "beta", "bulky"}
