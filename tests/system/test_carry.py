"""Runs carried to a machine that never saw them: in a file, or fetched out of another store's folder."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.conftest import Commands, Done
from tests.system.test_environments import fixture, served, tinted

SIMPLE = """
from stillrun import FlowSpec, step

class Simple(FlowSpec):
    @step
    def start(self):
        with open("data.txt") as file:
            self.text = file.read()
        self.next(self.end)
    @step
    def end(self):
        self.length = len(self.text)
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, interpreter_store: Path) -> Path:
    """A folder and a store with a run that read a file."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "work").mkdir()
    user = Commands(folder / "work", shutil.copytree(interpreter_store, folder / "store"))
    user.write("data.txt", "hello " * 30_000)
    user.write(".stillrunignore", "data.txt\n")  # it is an input, not code
    user.write("simple.py", SIMPLE)
    user.run("simple.py")
    return folder


@pytest.fixture
def simple(made: Path, tmp_path: Path) -> Commands:
    """That run, in a folder and a store that are free to be damaged."""
    for name in ("work", "store"):
        shutil.copytree(made / name, tmp_path / name, symlinks=True)
    return Commands(tmp_path / "work", tmp_path / "store")


def elsewhere(user: Commands, tmp_path: Path, name: str = "there") -> Commands:
    """The command of somebody else: another home, another folder, another store."""
    home = tmp_path / name / "home"
    home.mkdir(parents=True)
    settings = {"HOME": str(home), "XDG_DATA_HOME": str(home / "data"), "UV_DEFAULT_INDEX": "http://127.0.0.1:1/"}
    return Commands(home, tmp_path / name / "store", {**user.variables, **settings})


def without_network(user: Commands, *words: str) -> Done:
    """A command in a network of its own that leads nowhere, where this system lets tests make one."""
    ready = subprocess.run(["unshare", "-rn", "true"], capture_output=True, check=False).returncode == 0
    command = [*(("unshare", "-rn") if ready else ()), sys.executable, "-m", "stillrun_cli", *words]
    done = subprocess.run(command, cwd=user.cwd, env=user.environment(), capture_output=True, text=True, check=False)
    return Done(done.returncode, done.stdout, done.stderr)


def exported(user: Commands, run: str, *words: str) -> Path:
    """The file of a run."""
    path = user.cwd.parent / "run.bundle"
    done = user("export", run, "-o", path, *words)
    assert done.code == 0, done.err
    return path


@pytest.fixture
def painting(lonely: Commands, tmp_path: Path) -> Iterator[Commands]:
    """A flow whose first step has packages of its own, from an index that is there for the run only."""
    maker, wheels = fixture("wheels/make_wheel.py"), tmp_path / "wheels"
    maker.make_wheel(wheels, "tint", "1.0", modules={"tint.py": "VERSION = '1.0'\n"})
    maker.make_index(wheels, tmp_path / "index")
    with served(tmp_path / "index") as address:
        lonely.variables.update(UV_DEFAULT_INDEX=address, UV_HTTP_RETRIES="0", UV_NO_CONFIG="1")
        lonely.write("painting.py", tinted("{'tint': '1.0'}"))
        yield lonely


def test_a_run_replays_on_a_machine_that_never_saw_it_and_has_no_network(painting: Commands, tmp_path: Path) -> None:
    run = painting.run("painting.py")
    bundle = exported(painting, run)
    for gone in (painting.store, painting.cwd, tmp_path / "index", tmp_path / "wheels"):
        shutil.rmtree(gone)
    there = elsewhere(painting, tmp_path)
    taken = without_network(there, "import", str(bundle))
    assert taken.code == 0, taken.err
    replayed = without_network(there, "replay", run, "--offline", "--json")
    assert (replayed.code, replayed.json["verdict"]) == (0, "identical"), replayed.err
    assert {place["how"] for place in replayed.json["environments"]} == {"rebuilt"}
    assert without_network(there, "verify", run).code == 0


def test_a_file_checks_with_tar_and_sha256sum_alone(simple: Commands, tmp_path: Path) -> None:
    bundle = exported(simple, "Simple/latest")
    out = tmp_path / "out"
    out.mkdir()
    subprocess.run(["tar", "xf", bundle, "-C", out], check=True)
    check = ["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"]
    assert subprocess.run(check, cwd=out, check=False).returncode == 0
    listed = subprocess.run(["tar", "tf", bundle], capture_output=True, text=True, check=True).stdout.splitlines()
    assert [listed[0], listed[-1]] == ["stillrun-bundle.json", "SHA256SUMS"]
    victim = out / listed[5]
    victim.write_bytes(victim.read_bytes() + b"?")
    assert subprocess.run(check, cwd=out, capture_output=True, check=False).returncode == 1


def test_the_same_runs_give_the_same_bytes_whatever_happened_since_and_wherever_they_are(
    simple: Commands, tmp_path: Path
) -> None:
    first = simple("list", "Simple", "--json").json["runs"][0]["run"]
    before = exported(simple, first).read_bytes()
    simple.run("simple.py")
    second = exported(simple, first)
    assert second.read_bytes() == before
    there = elsewhere(simple, tmp_path)
    assert there("import", second).code == 0
    assert exported(there, first).read_bytes() == before


@pytest.mark.slow
def test_several_runs_share_what_they_have_in_common(simple: Commands, tmp_path: Path) -> None:
    simple.run("simple.py")
    replayed = simple("replay", "Simple/latest", "--json").json["replay"]
    runs = [one["run"] for one in simple("list", "--json").json["runs"]]
    assert replayed in runs
    bundle = tmp_path / "all.bundle"
    done = simple("export", *runs, runs[0], "-o", bundle, "--json")
    assert done.code == 0, done.err
    assert done.json["runs"] == sorted(runs)
    assert done.json["size"] < 1.5 * exported(simple, runs[0]).stat().st_size
    there = elsewhere(simple, tmp_path)
    assert there("import", bundle).code == 0
    assert there("show", replayed).out == simple("show", replayed).out
    assert {one["run"] for one in there("list", "--json").json["runs"]} == set(runs)


@pytest.mark.slow
def test_what_was_left_out_is_said_by_the_file_and_missed_by_name(simple: Commands, tmp_path: Path) -> None:
    for number, (kind, one) in enumerate(
        (("packages", "interpreter"), ("artifacts", "artifact start/0/text"), ("inputs", "data.txt"))
    ):
        bundle = exported(simple, "Simple/latest", "--without", kind)
        there = elsewhere(simple, tmp_path, f"there{number}")
        taken = there("import", bundle, "--json")
        assert taken.code == 0, taken.err
        left = taken.json["left_out"]
        assert left and {entry["kind"] for entry in left} == {kind.removesuffix("s")}
        shown = there("show", "Simple/latest").out
        assert "captured      everything; not brought here: " in shown, shown
        assert there("show", "Simple/latest", "--json").json["absent"][0]["kind"] == kind.removesuffix("s")
        assert one in there("verify", "Simple/latest").out
        replayed = there("replay", "Simple/latest")
        assert (replayed.code, "Traceback" in replayed.err) == (2, False), replayed.err
        assert left[0]["digest"][7:19] in replayed.err or one.split()[-1] in replayed.err
        whole = exported(simple, "Simple/latest")
        assert there("import", whole).code == 0
        assert there("replay", "Simple/latest").code == 0
        assert "not brought" not in there("show", "Simple/latest").out


def test_replay_from_a_file_takes_it_in_and_says_so(simple: Commands, tmp_path: Path) -> None:
    bundle = exported(simple, "Simple/latest")
    there = elsewhere(simple, tmp_path)
    done = there("replay", "Simple/latest", "--from", bundle, "--offline")
    assert done.code == 0, done.err
    assert f"taken from {bundle}" in done.out
    again = there("replay", "Simple/latest/end", "--from", bundle, "--json")
    assert (again.code, again.json["verdict"]) == (0, "identical")
    assert "here already" in again.err
    missing = there("replay", "Other/latest", "--from", bundle)
    assert (missing.code, "Other/latest" in missing.err) == (2, True)


def test_replay_from_another_stores_folder_fetches_what_is_missing(simple: Commands, tmp_path: Path) -> None:
    there = elsewhere(simple, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in (simple.store / "objects").rglob("*")}
    done = there("replay", "Simple/latest", "--from", simple.store)
    assert done.code == 0, done.err
    assert f"taken from {simple.store}" in done.out
    assert before == {path: path.stat().st_mtime_ns for path in (simple.store / "objects").rglob("*")}
    run = simple("list", "Simple", "--json").json["runs"][0]["run"]
    assert exported(there, run).read_bytes() == exported(simple, run).read_bytes()
    assert there("verify", run).code == 0


def test_a_damaged_folder_gives_no_ref_and_what_came_is_not_fetched_again(simple: Commands, tmp_path: Path) -> None:
    there = elsewhere(simple, tmp_path)
    victim = max((simple.store / "objects").glob("*/*"), key=lambda path: path.stat().st_size)
    data = victim.read_bytes()
    victim.chmod(0o644)
    victim.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    refused = there("replay", "Simple/latest", "--from", simple.store)
    assert (refused.code, "Traceback" in refused.err) == (2, False)
    assert victim.name[:6] in refused.err
    assert "Simple" not in there("list").out
    assert os.listdir(there.store / "tmp") == []
    victim.write_bytes(data)
    done = there("replay", "Simple/latest", "--from", simple.store)
    assert done.code == 0, done.err
    assert "1 of them new" in done.out


@pytest.mark.parametrize("words", [("--from", "none.bundle"), ("--from", "."), ("--from", "/dev/null")])
def test_what_is_no_source_is_refused(simple: Commands, tmp_path: Path, words: tuple[str, ...]) -> None:
    done = elsewhere(simple, tmp_path)("replay", "Simple/latest", *words)
    assert (done.code, "Traceback" in done.err) == (2, False), done.err


def test_the_store_in_use_is_no_source(simple: Commands) -> None:
    done = simple("replay", "Simple/latest", "--from", simple.store)
    assert (done.code, "store in use" in done.err) == (2, True)


def test_a_run_in_progress_is_not_exported_and_one_that_was_killed_is(lonely: Commands, tmp_path: Path) -> None:
    lonely.write(
        "long.py",
        "from pathlib import Path\nimport time\n" + SIMPLE.replace("Simple", "Long").replace(
            "self.length = len(self.text)", "Path('begun').touch()\n        time.sleep(600)"
        ),
    )  # fmt: skip
    lonely.write("data.txt", "x")
    process = lonely.start("run", "long.py")
    try:
        while not (lonely.cwd / "begun").exists():
            assert process.poll() is None
            time.sleep(0.02)
        refused = lonely("export", "Long/latest", "-o", tmp_path / "long.bundle")
        assert (refused.code, "still going on" in refused.err) == (2, True)
        assert not (tmp_path / "long.bundle").exists()
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    bundle = exported(lonely, "Long/latest")
    there = elsewhere(lonely, tmp_path)
    assert there("import", bundle).code == 0
    assert "interrupted" in there("show", "Long/latest").out
    done = there("replay", "Long/latest/start", "--json")
    assert done.json["verdict"] in ("identical", "different") or done.code == 2


def test_two_imports_at_once_and_a_killed_one_leave_one_whole_run(simple: Commands, tmp_path: Path) -> None:
    bundle = exported(simple, "Simple/latest")
    there = elsewhere(simple, tmp_path)
    killed = there.start("import", bundle)
    while killed.poll() is None and not list(there.store.glob("tmp/import-*/store/objects/*/*")):
        time.sleep(0.001)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    both = [there.start("import", bundle) for _ in range(2)]
    for process in both:
        _, err = process.communicate()
        assert process.returncode == 0, err
    assert os.listdir(there.store / "tmp") == []
    assert there("verify", "Simple/latest").code == 0
    assert there("replay", "Simple/latest").code == 0


def test_no_space_left_leaves_no_run_and_no_leftovers(simple: Commands, tmp_path: Path) -> None:
    bundle = exported(simple, "Simple/latest")
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=9m", "none", small], capture_output=True, check=False
    ).returncode:
        pytest.skip("this system does not let tests mount a small file system")
    try:
        there = elsewhere(simple, tmp_path)
        there.store = small / "store"
        done = there("import", bundle)
        assert done.code == 2
        assert "no room left" in done.err
        assert "Traceback" not in done.err
        assert "Simple" not in there("list").out
        assert os.listdir(there.store / "tmp") == []
        full = simple("export", "Simple/latest", "-o", small / "out.bundle")
        assert full.code == 2
        assert "Traceback" not in full.err
        assert not list(small.glob("*out*")) and not list(small.glob("tmp*"))
    finally:
        subprocess.run(["umount", small], check=True)


@pytest.mark.slow
def test_memory_does_not_grow_with_what_is_carried(lonely: Commands, tmp_path: Path) -> None:
    lonely.write("big.py", SIMPLE.replace("self.text = file.read()", "self.text = bytearray(300_000_000)"))
    lonely.write("data.txt", "x")
    lonely.run("big.py")
    there = elsewhere(lonely, tmp_path)
    bundle = tmp_path / "big.bundle"
    limit = "import resource; resource.setrlimit(resource.RLIMIT_DATA, (200 << 20,) * 2)\n"
    limit += "from stillrun_cli.main import main; main()"
    for user, words in ((lonely, ("export", "Simple/latest", "-o", bundle)), (there, ("import", bundle))):
        done = user(*words, command=("-c", limit))
        assert done.code == 0, done.err


def test_json_tells_programs_what_was_carried(simple: Commands, tmp_path: Path) -> None:
    done = simple("export", "Simple/latest", "-o", tmp_path / "a.bundle", "--json")
    facts = json.loads(done.out)
    assert facts["size"] == (tmp_path / "a.bundle").stat().st_size
    there = elsewhere(simple, tmp_path)
    taken = there("import", tmp_path / "a.bundle", "--json").json
    assert (taken["added"], taken["new_objects"], taken["runs"]) == (True, facts["objects"], facts["runs"])
    refused = there("import", tmp_path / "none", "--json")
    assert (refused.code, refused.json["verdict"]) == (2, "error")


def damage(path: Path) -> None:
    """Change one byte in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)


def test_what_was_damaged_here_is_mended_by_a_file_that_has_it(simple: Commands, tmp_path: Path) -> None:
    bundle = exported(simple, "Simple/latest")
    for pattern in ("packs/*", "objects/*/*"):
        for path in simple.store.glob(pattern):
            damage(path)
    assert simple("verify", "Simple/latest").code == 2
    done = simple("import", bundle)
    assert done.code == 0, done.err
    assert re.search(r"[1-9]\d* damaged objects? mended", done.out), done.out
    assert simple("verify", "Simple/latest").code == 0
    assert simple("replay", "Simple/latest").code == 0
    assert simple("import", bundle, "--json").json["mended_objects"] == 0
