"""Building holds wherever it happens: odd paths, killed builders, full disks, homes that are missing or read-only."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.envs.pinned import conda_lock, wheel_lock, wheels_of

from stillrun_envs import command
from stillrun_envs.errors import BuildError
from stillrun_envs.prefix import prefix_for, verify_prefix
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.store import Store

BUILDER = Path(__file__).with_name("builder.py")
LONG = "/".join(["a folder with a long name, très long 長い"] * 4)
USE = "import alpha; print(alpha.__version__)"


@pytest.fixture(scope="module")
def kept(
    tmp_path_factory: pytest.TempPathFactory, environ: dict[str, str], wheelhouse: Path, interpreter_store: Path
) -> tuple[Path, Digest]:
    """A store that no process has open, and a lock in it of which nothing was built."""
    root = shutil.copytree(interpreter_store, tmp_path_factory.mktemp("kept") / "store")
    with Store.open(root) as store:
        lock = wheel_lock(store, environ, wheels_of(wheelhouse, "beta", "bulky"))
    return root, lock


@pytest.fixture
def copied(kept: tuple[Path, Digest], tmp_path: Path) -> tuple[Path, Digest]:
    """A copy of it for one test."""
    shutil.copytree(kept[0], tmp_path / "store")
    return tmp_path / "store", kept[1]


def output(words: list[object], environ: dict[str, str]) -> str:
    ended = subprocess.run([str(word) for word in words], env=environ, capture_output=True, encoding="utf-8")
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def mounted(script: str, *arguments: object, environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a shell script in which things can be mounted; skips where that is not allowed."""
    words = ["unshare", "-rm", "sh", "-euc", script, "sh", *map(str, arguments)]
    ended = subprocess.run(words, env=environ, capture_output=True, encoding="utf-8")
    if "unshare" in ended.stderr or "mount:" in ended.stderr:
        pytest.skip(f"no mounts of one's own here: {ended.stderr.strip()}")
    return ended


def unfinished(root: Path) -> list[Path]:
    """What is in the way of saying that nothing was left behind."""
    return [path for name in ("envs", "pythons") for path in (root / name).glob("*.*-*")]


def whole(root: Path) -> list[Path]:
    """The environments that look ready."""
    return [path for path in (root / "envs").iterdir() if path.is_dir() and "." not in path.name]


def test_wheels_run_from_a_long_path_with_spaces_and_letters_of_other_languages(
    kept: tuple[Path, Digest], tmp_path: Path, environ: dict[str, str]
) -> None:
    root = tmp_path / LONG / "store"
    shutil.copytree(kept[0], root)
    with Store.open(root) as store:
        prefix = prefix_for(kept[1], store, environ=environ)
        assert output([prefix.python, "-c", USE], environ) == "1.0\n"
        assert output([prefix.path / "bin/alpha"], environ) == "alpha 1.0\n"
        verify_prefix(prefix, store)


@pytest.mark.parametrize(
    "place", ["with a space", LONG, *(pytest.param(place, marks=pytest.mark.slow) for place in ("plain", "l" * 150))]
)
def test_conda_and_wheel_commands_run_from_any_path(
    tmp_path: Path, environ: dict[str, str], channel: Path, wheelhouse: Path, place: str
) -> None:
    archives = [next(channel.glob(name)) for name in ("linux-64/python-3*.conda", "noarch/greet-2*.conda")]
    with Store.open(tmp_path / place / "store") as store:
        prefix = prefix_for(conda_lock(store, archives, wheels_of(wheelhouse, "alpha")), store, environ=environ)
        assert output([prefix.path / "bin/alpha"], environ) == "alpha 1.0\n"
        said = subprocess.run([prefix.path / "bin/greet"], env=environ, capture_output=True, text=True)
        assert "hello" in said.stdout + said.stderr  # what an entry point returns is the exit code's text
        assert output([prefix.python, "-c", "import sys; print(sys.prefix)"], environ) == f"{prefix.path}\n"
        verify_prefix(prefix, store)


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 6))])
def test_killed_at_any_moment_it_leaves_nothing_that_looks_ready_and_the_next_use_works(
    copied: tuple[Path, Digest], environ: dict[str, str], seed: int
) -> None:
    root, lock = copied
    chance = random.Random(seed)
    killed, whole_s = 0, 60.0
    for _ in range(8):
        for path in whole(root) if (root / "envs").exists() else ():
            shutil.rmtree(path)  # its seal and locks stay, as when a person cleans up
        begun = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, BUILDER, root, lock], env=environ, stdout=subprocess.DEVNULL, start_new_session=True
        )
        try:
            process.wait(chance.uniform(0.1, 0.9) * whole_s)
            whole_s = time.monotonic() - begun  # a build takes longer on one machine than on another
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            killed += 1
        for path in whole(root) if (root / "envs").exists() else ():
            assert json.loads((path / "stillrun-env.json").read_bytes())["lock"] == lock
    with Store.open(root) as store:
        prefix = prefix_for(lock, store, environ=environ)
        verify_prefix(prefix, store)
        assert output([prefix.python, "-c", USE], environ) == "1.0\n"
        shutil.rmtree(prefix.path)  # it may have been whole already, and whoever builds clears away
        prefix = prefix_for(lock, store, environ=environ)
    assert killed
    assert whole(root) == [prefix.path]
    assert [path for path in unfinished(root) if path.name.startswith(prefix.path.name)] == []


FULL = """
mount -t tmpfs -o size=900m none "$1"
cp -a "$2" "$1/store"
"$4" "$5" "$1/store" "$3" >"$1/first"
for gone in $6; do rm -rf "$1/store/$gone"/*; done
mount -o remount,size=$(( $(du -sk "$1" | cut -f1) + $7 ))k "$1"
set +e
"$4" "$5" "$1/store" "$3" >/dev/null; echo "code $?"
ls -A "$1/store/envs" "$1/store/pythons" "$1/store/tmp" | grep -e new- -e work-; echo "left $?"
mount -o remount,size=900m "$1"
"$4" "$5" "$1/store" "$3" | tail -n 1 >"$1/last"; tail -n 1 "$1/first" | cmp - "$1/last"; echo "same $?"
"""


@pytest.mark.parametrize(
    ("gone", "spare_kib"),
    [("envs pythons", 100), ("envs pythons", 20_000), ("envs", 0), ("envs", 60), ("envs", 250)],
)
@pytest.mark.slow
def test_a_full_disk_is_one_clear_error_and_leaves_nothing(
    kept: tuple[Path, Digest], tmp_path: Path, environ: dict[str, str], gone: str, spare_kib: int
) -> None:
    (tmp_path / "disk").mkdir()
    ended = mounted(FULL, tmp_path / "disk", *kept, sys.executable, BUILDER, gone, spare_kib, environ=environ)
    assert ended.stdout.splitlines() == ["code 1", "left 1", "same 0"], ended.stderr
    last = ended.stderr.strip().splitlines()[-1]
    assert last.startswith(("stillrun_envs.errors.BuildError", "stillrun_snapshot.errors.StoreFull")), ended.stderr
    assert "no space left" in last.lower() or "is full" in last, last


def built_by(environ: dict[str, str], place: tuple[Path, Digest]) -> None:
    """Build in a process with these variables, and use what was built."""
    python = output([sys.executable, BUILDER, *place], environ).splitlines()[-1].split()[0] + "/bin/python"
    assert output([python, "-c", USE], environ) == "1.0\n"


def test_it_needs_no_home(copied: tuple[Path, Digest], environ: dict[str, str]) -> None:
    built_by({name: value for name, value in environ.items() if name not in ("HOME", "UV_CACHE_DIR")}, copied)


def test_it_needs_no_home_that_exists(copied: tuple[Path, Digest], environ: dict[str, str]) -> None:
    built_by({**environ, "HOME": "/nonexistent", "XDG_CACHE_HOME": "/nonexistent/cache"}, copied)


ELSEWHERE = """
mount -t tmpfs -o size=64m{options} none "$1"
HOME="$1" TMPDIR="$1" XDG_CACHE_HOME="$1/cache" "$2" "$3" "$4" "$5"
ls -A "$1" | wc -l
"""


@pytest.mark.parametrize("options", ["", ",ro", ",noexec"])
def test_home_and_temporary_folder_may_be_on_another_disk_read_only_or_not_executable(
    copied: tuple[Path, Digest], tmp_path: Path, environ: dict[str, str], options: str
) -> None:
    (tmp_path / "disk").mkdir()
    script = ELSEWHERE.replace("{options}", options)
    ended = mounted(script, tmp_path / "disk", sys.executable, BUILDER, *copied, environ=environ)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines()[-1] == "0"  # nothing was written there
    assert len(whole(copied[0])) == 1


@pytest.fixture
def meddled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A uv in whose cache somebody edits a file between unpacking and the end, which it does not notice."""
    script = tmp_path / "uv"
    edit = "find . -path '*.new-*/alpha/__init__.py' -exec sh -c 'echo \"# edited\" >> {}' ';'"
    script.write_text(f'#!/bin/sh\n"{command.uv()}" "$@" || exit $?\ncd "$MEDDLED" && {edit}\n')
    script.chmod(0o755)
    monkeypatch.setattr(command, "uv", lambda: str(script))


@pytest.mark.usefixtures("meddled")
def test_a_file_that_is_edited_while_it_is_installed_is_noticed(
    copied: tuple[Path, Digest], environ: dict[str, str]
) -> None:
    root, lock = copied
    with Store.open(root) as store:
        (root / "envs").mkdir()
        with pytest.raises(BuildError, match=r"alpha/__init__\.py was installed otherwise than the wheel alpha-1\.0"):
            prefix_for(lock, store, environ={**environ, "MEDDLED": str(root / "envs")})
    assert whole(root) == []
    assert unfinished(root) == []
