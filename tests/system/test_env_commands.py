"""`stillrun env …` on real files, a small index and a small channel: lock, look, use, carry, clean up."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.conftest import Commands
from tests.system.test_environments import fixture, served, tinted

FAMILY = f"{sys.version_info[0]}.{sys.version_info[1]}"


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """tint 1.0 and 2.0 with a command, dye that needs tint<2, and cloth that needs dye and, with an extra, tint."""
    maker, folder = fixture("wheels/make_wheel.py"), tmp_path_factory.mktemp("wheels")
    for version in ("1.0", "2.0"):
        source = f"VERSION = {version!r}\ndef main():\n    print('tint', VERSION)\n"
        maker.make_wheel(folder, "tint", version, modules={"tint.py": source}, scripts={"tint": "tint:main"})
    maker.make_wheel(folder, "dye", "1.0", requires=["tint<2"])
    maker.make_wheel(folder, "cloth", "1.0", requires=["dye"])
    return Path(folder)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory, wheels: Path) -> Iterator[str]:
    """The wheels on an index on the loopback."""
    root = tmp_path_factory.mktemp("index")
    fixture("wheels/make_wheel.py").make_index(wheels, root)
    with served(root) as found:
        yield found


@pytest.fixture
def env(lonely: Commands, address: str) -> Commands:
    """The command of a user who has nothing set but our index, on a store of its own."""
    lonely.variables.update(UV_DEFAULT_INDEX=address, UV_HTTP_RETRIES="0", UV_NO_CONFIG="1")
    return lonely


def locked(env: Commands, *arguments: str) -> str:
    done = env("env", "lock", *arguments, "--json")
    assert done.code == 0, done.err
    lock: str = done.json["environments"][0]["lock"]
    return lock


def test_a_file_is_locked_once_and_from_memory_afterwards(env: Commands, wheels: Path, tmp_path: Path) -> None:
    root = tmp_path / "index"
    fixture("wheels/make_wheel.py").make_index(wheels, root)
    with served(root) as address:
        env.variables["UV_DEFAULT_INDEX"] = address
        env.write("requirements.txt", "dye\n")
        first = locked(env, "requirements.txt")
    env.write("elsewhere/requirements.txt", "# the same\n  dye  \n")  # the index is gone now
    assert locked(env, "elsewhere/requirements.txt", "--offline") == first
    env.write("requirements.txt", "cloth\n")
    done = env("env", "lock", "requirements.txt", "--offline")
    assert done.code == 2
    assert "run once with the network on" in done.err


@pytest.mark.slow
def test_the_environment_of_a_flow_is_locked_without_running_it(env: Commands) -> None:
    env.write("tinted.py", tinted("{'tint': '<2'}"))
    done = env("env", "lock", "tinted.py", "--json")
    assert [one["for"] for one in done.json["environments"]] == ["start"]
    run = env.run("tinted.py", "--offline")
    assert env("env", "show", f"{run}/start", "--json").json["lock"] == done.json["environments"][0]["lock"]


@pytest.mark.slow
def test_a_lock_can_be_named_shown_explained_and_found_by_its_beginning(env: Commands) -> None:
    env.write("requirements.txt", "cloth\n")
    lock = locked(env, "requirements.txt", "--name", "house")
    for name in ("house", lock, lock.removeprefix("sha256:")[:8], "requirements.txt"):
        shown = env("env", "show", name, "--json")
        assert shown.json["lock"] == lock, shown.err
    why = env("env", "why", "house", "tint", "--json").json["chains"]
    assert why == [["cloth", "dye", "tint <2"]]
    assert env("env", "why", "house", "numpy").code == 2
    listed = env("env", "list", "--json").json["environments"]
    assert [(one["lock"], one["names"], one["requested"]) for one in listed] == [(lock, ["house"], ["cloth"])]
    assert env("env", "unpin", "house").code == 0
    assert env("env", "show", "house").code == 2


def test_two_locks_are_compared_with_the_reason_of_each_difference(env: Commands) -> None:
    env.write("a.txt", "tint\n")
    env.write("b.txt", "cloth\n")
    done = env("env", "diff", "a.txt", "b.txt", "--json")
    assert done.code == 1, done.err
    told = {one["name"]: (one["kind"], one["before"], one["after"], one["why"]) for one in done.json["changes"]}
    assert told["tint"] == ("changed", "2.0", "1.0", ["cloth", "dye", "tint <2"])
    assert told["cloth"] == ("added", None, "1.0", ["cloth"])
    assert env("env", "diff", "a.txt", "a.txt").code == 0


def test_update_moves_what_is_named_and_keeps_the_rest(env: Commands, wheels: Path, tmp_path: Path) -> None:
    maker, own, root = fixture("wheels/make_wheel.py"), tmp_path / "wheels", tmp_path / "index"
    for name in ("ink", "pen"):
        maker.make_wheel(own, name, "1.0")
    maker.make_index(own, root)
    with served(root) as address:
        env.variables["UV_DEFAULT_INDEX"] = address
        env.write("requirements.txt", "ink\npen\n")
        before = locked(env, "requirements.txt", "--name", "desk")
        for name in ("ink", "pen"):
            maker.make_wheel(own, name, "2.0")
        maker.make_index(own, root)
        assert locked(env, "requirements.txt") == before
        done = env("env", "update", "desk", "pen", "--json")
        assert done.code == 0, done.err
        changes = done.json["environments"][0]["changes"]
        assert [(one["name"], one["before"], one["after"]) for one in changes] == [("pen", "1.0", "2.0")]
        assert env("env", "show", "desk", "--json").json["lock"] == done.json["environments"][0]["lock"] != before
        everything = env("env", "update", "requirements.txt", "--json").json["environments"][0]["changes"]
        assert [one["name"] for one in everything] == ["ink"]


def test_a_command_runs_in_an_environment_and_its_code_is_ours(env: Commands) -> None:
    env.write("requirements.txt", "tint<2\n")
    done = env("env", "run", "requirements.txt", "--", "tint")
    assert (done.code, done.out) == (0, "tint 1.0\n"), done.err
    done = env("env", "run", "requirements.txt", "python", "-c", "import sys; sys.exit(7)")
    assert done.code == 7
    assert env("env", "run", "requirements.txt", "no-such-command").code == 127
    env.variables["SHELL"] = "/bin/sh"
    with env.start("env", "shell", "requirements.txt") as shell:
        assert shell.wait(timeout=60) == 0
    built = env("env", "build", "requirements.txt").out.strip()
    assert (Path(built) / "bin" / "tint").is_file()


@pytest.mark.slow
def test_an_environment_in_use_is_not_cleaned_up(env: Commands) -> None:
    env.write("requirements.txt", "tint\n")
    code = "import sys, time; print('up', flush=True); time.sleep(60)"
    held = env.start("env", "run", "requirements.txt", "python", "-c", code)
    try:
        assert held.stdout is not None
        assert held.stdout.readline() == "up\n"
        done = env("env", "gc", "--unused-for", "0s", "--json")
        assert {one["reason"] for one in done.json["kept"]} == {"in use", "needed"} or done.json["removed"] == []
    finally:
        children = subprocess.run(["pgrep", "-P", str(held.pid)], capture_output=True, text=True).stdout.split()
        for child in children:
            os.kill(int(child), signal.SIGTERM)
        held.communicate(timeout=20)
    assert held.returncode == 128 + signal.SIGTERM
    time.sleep(1.1)  # "unused for 0 s" is told in whole seconds
    gone = env("env", "gc", "--unused-for", "0s", "--dry-run", "--json").json
    assert {one["kind"] for one in gone["removed"]} >= {"environment", "python"}
    env("env", "gc", "--unused-for", "0s")
    assert not [path for path in (env.store / "envs").iterdir() if path.is_dir()]
    assert env("env", "run", "requirements.txt", "tint").out == "tint 2.0\n"


def test_damage_is_found_and_named(env: Commands) -> None:
    env.write("requirements.txt", "tint\n")
    assert env("env", "build", "requirements.txt").code == 0
    assert env("env", "verify", "requirements.txt", "--json").json["verdict"] == "sound"
    python = env("env", "show", "requirements.txt", "--json").json["python"]["digest"].removeprefix("sha256:")
    kept = env.store / "objects" / python[:2] / python[2:]
    kept.chmod(0o644)
    data = bytearray(kept.read_bytes())
    data[len(data) // 2] ^= 1
    lock = env("env", "show", "requirements.txt", "--json").json["lock"]
    kept.write_bytes(data)
    done = env("env", "verify", lock, "--json")
    assert (done.code, done.json["verdict"]) == (2, "damaged")
    assert python[:12] in json.dumps(done.json["damage"])
    # to lock is to keep what is locked: the interpreter is at hand, and put anew
    assert env("env", "lock", "requirements.txt").code == 0
    assert env("env", "verify", lock, "--json").json["verdict"] == "sound"


@pytest.mark.parametrize("form", ["pylock", "requirements", "conda-lock", "pixi"])
def test_a_lock_goes_out_and_comes_back_the_same(env: Commands, form: str) -> None:
    env.write("requirements.txt", "cloth\n")
    lock = locked(env, "requirements.txt")
    name = {"pylock": "pylock.toml", "requirements": "pins.txt", "conda-lock": "conda-lock.yml", "pixi": "pixi.lock"}[
        form
    ]
    done = env("env", "export", lock, "--format", form, "-o", name)
    assert done.code == 0, done.err
    assert str(env.store) not in (env.cwd / name).read_text()
    again = env("env", "import", name, "--json")
    assert again.code == 0, again.err
    assert again.json["environments"][0]["lock"] == lock
    assert env("env", "list", "--json").json["environments"][0]["requested"] == ["cloth"]


def test_an_explicit_list_does_not_drop_wheels_silently(env: Commands) -> None:
    env.write("requirements.txt", "tint\n")
    done = env("env", "export", "requirements.txt", "--format", "explicit")
    assert done.code == 2
    assert "tint" in done.err


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("requirements.txt", "tint==9\n", "tint"),
        ("requirements.txt", "tint >=2\ndye\n", "dye"),
        ("requirements.txt", "not a requirement at all\n", "requirements.txt"),
        ("environment.yml", "dependencies: [", "environment.yml"),
        ("pylock.toml", "lock-version = '9.0'\n", "9.0"),
        ("conda-lock.yml", "version: 9\n", "9"),
        ("nothing.xyz", "?", "nothing.xyz"),
    ],
)
def test_a_bad_file_is_one_sentence(env: Commands, name: str, text: str, says: str) -> None:
    env.write(name, text)
    done = env("env", "lock", name)
    assert done.code == 2
    assert says in done.err
    assert "Traceback" not in done.err
    assert len(done.err.strip().splitlines()) == 1, done.err


def test_a_lock_for_other_machines_is_kept_beside_this_ones(env: Commands) -> None:
    env.write("requirements.txt", "dye\n")
    done = env("env", "lock", "requirements.txt", "--platform", "osx-arm64", "--python", FAMILY, "--json")
    assert done.code == 0, done.err
    rows = done.json["environments"]
    assert [one["platform"] for one in rows] == ["this one", "osx-arm64"]
    assert rows[0]["not_kept"] == []
    assert "osx-arm64" in rows[1]["not_kept"][0]
    refused = env("env", "build", rows[1]["lock"])
    assert refused.code == 2
    assert "osx-arm64" in refused.err
