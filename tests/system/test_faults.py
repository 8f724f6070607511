"""Bad input and faults: one clear sentence, a non-zero exit, nothing lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from tests.conftest import Commands

HEAD = "from stillrun import FlowSpec, Parameter, conda, current, pypi, step\n"

END = "@step\ndef end(self):\n    pass\n"


def flow(body: str, name: str = "Bad") -> str:
    """A flow file with one class whose body is given."""
    lines = "\n".join("    " + line if line else "" for line in body.strip("\n").splitlines())
    return f"{HEAD}\nclass {name}(FlowSpec):\n{lines}\n"


GOOD = flow(
    """
@step
def start(self):
    self.x = 1
    self.next(self.end)
@step
def end(self):
    pass
""",
    "Good",
)


def refused(stillrun: Commands, *words: str, says: tuple[str, ...], code: int = 2) -> None:
    """The command ends with ``code`` and one clear message."""
    done = stillrun(*words)
    assert done.code == code, done.out + done.err
    assert "Traceback" not in done.err, done.err
    told = done.err + done.out
    for word in says:
        assert word in told, told


# -- flow files


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("missing.py", None, ("missing.py",)),
        ("text.txt", "hello", ("text.txt",)),
        ("plain.py", "x = 1\n", ("plain.py", "FlowSpec")),
        ("broken.py", "class A(\n", ("broken.py", "1")),
        ("needs.py", "import no_such_module_here\n", ("no_such_module_here",)),
    ],
)
def test_what_is_not_a_flow_is_refused(stillrun: Commands, name: str, text: str | None, says: tuple[str, ...]) -> None:
    if text is not None:
        stillrun.write(name, text)
    refused(stillrun, "run", name, says=says)


GRAPHS = {
    "no_start": (
        "@step\ndef a(self):\n    self.next(self.end)\n@step\ndef b(self):\n    self.next(self.end)\n" + END,
        ("'start'", "first"),
    ),
    "dead_end": (
        "@step\ndef start(self):\n    self.next(self.a)\n@step\ndef a(self):\n    pass\n" + END,
        ("'a'", "self.next"),
    ),
    "unknown": (
        "@step\ndef start(self):\n    self.next(self.ennd)\n" + END,
        ("ennd", "end"),
    ),
    "no_inputs": (
        "@step\ndef start(self):\n    self.next(self.a, self.b)\n@step\ndef a(self):\n    self.next(self.j)\n"
        "@step\ndef b(self):\n    self.next(self.j)\n"
        "@step\ndef j(self):\n    self.next(self.end)\n" + END,
        ("'j'", "inputs"),
    ),
    "cycle": (
        "@step\ndef start(self):\n    self.next(self.a)\n@step\ndef a(self):\n    self.next(self.b)\n"
        "@step\ndef b(self):\n    self.next(self.a)\n" + END,
        ("cycle",),
    ),
    "unjoined": (
        "@step\ndef start(self):\n    self.xs = [1]\n    self.next(self.a, foreach='xs')\n"
        "@step\ndef a(self):\n    self.next(self.end)\n" + END,
        ("join",),
    ),
}


@pytest.mark.parametrize("name", sorted(GRAPHS))
def test_a_faulty_graph_is_refused_with_its_line_before_anything_runs(stillrun: Commands, name: str) -> None:
    body, says = GRAPHS[name]
    stillrun.write("bad.py", flow(body))
    refused(stillrun, "run", "bad.py", says=("bad.py:", *says))
    assert "Bad" not in stillrun("list").out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--sed", "1"), ("sed", "seed")),
        (("--seed", "many"), ("seed", "many", "int")),
        (("--seed",), ("seed",)),
        (("stray",), ("stray",)),
        ((), ("name",)),
    ],
)
def test_faulty_parameters_are_refused(stillrun: Commands, words: tuple[str, ...], says: tuple[str, ...]) -> None:
    body = "name = Parameter('name', required=True)\nseed = Parameter('seed', default=1)\n" + GRAPH_OK
    stillrun.write("bad.py", flow(body))
    given = words if not words else ("--name", "n", *words)
    refused(stillrun, "run", "bad.py", *given, says=says)


GRAPH_OK = "@step\ndef start(self):\n    self.next(self.end)\n" + END


# -- tasks


def test_a_failing_task_fails_the_run_with_its_traceback_and_keeps_the_rest(stillrun: Commands) -> None:
    stillrun.write(
        "bad.py",
        flow(
            "@step\ndef start(self):\n    self.x = 5\n    self.next(self.end)\n"
            "@step\ndef end(self):\n    raise ValueError('no luck')\n"
        ),
    )
    done = stillrun("run", "bad.py")
    assert done.code == 1
    assert "ValueError: no luck" in done.out
    assert "line" in done.out
    shown = stillrun("show", "Bad/latest", "--json").json
    assert [task["status"] for task in shown["tasks"]] == ["ok", "failed"]
    assert shown["status"] == "failed"
    assert stillrun("artifact", "Bad/latest/start/x", "--json").json["value"] == "5"


def test_an_artifact_that_cannot_be_pickled_is_named_with_step_and_line(stillrun: Commands) -> None:
    stillrun.write(
        "bad.py",
        flow("@step\ndef start(self):\n    self.fine = 1\n    self.odd = lambda: 1\n    self.next(self.end)\n" + END),
    )
    refused(stillrun, "run", "bad.py", says=("'odd'", "start", "7"), code=1)


@pytest.mark.parametrize(
    ("line", "says"), [("os._exit(3)", "3"), ("os.kill(os.getpid(), 9)", "SIGKILL"), ("sys.exit(4)", "4")]
)
def test_a_task_that_dies_fails_the_run(stillrun: Commands, line: str, says: str) -> None:
    stillrun.write(
        "bad.py",
        flow(f"@step\ndef start(self):\n    import os, sys\n    {line}\n    self.next(self.end)\n" + END),
    )
    refused(stillrun, "run", "bad.py", says=(says,), code=1)


def test_a_foreach_over_nothing_fails_and_says_so(stillrun: Commands) -> None:
    stillrun.write(
        "bad.py",
        flow(
            "@step\ndef start(self):\n    self.xs = []\n    self.next(self.a, foreach='xs')\n"
            "@step\ndef a(self):\n    self.next(self.j)\n"
            "@step\ndef j(self, inputs):\n    self.next(self.end)\n" + END
        ),
    )
    refused(stillrun, "run", "bad.py", says=("xs",), code=1)


# -- names


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("show", "Goood/1"), ("Goood", "Good")),
        (("show", "Good"), ("Good",)),
        (("show", "Good/latest/strat"), ("strat", "start")),
        (("show", "Good/latest/start/9"), ("start/9", "start/0")),
        (("show", "Good/nope"), ("nope",)),
        (("show", "a//b"), ("a//b",)),
        (("artifact", "Good/latest/start/y"), ("'y'", "x")),
        (("artifact", "Good/latest"), ("Good/latest",)),
        (("replay", "Good/latest/start/0/x"), ("pathspec",)),
        (("replay", "Good/nope"), ("nope",)),
        (("logs", "Nope/1"), ("Nope",)),
        (("verify", "Nope/1"), ("Nope",)),
        (("runn", "x.py"), ("runn", "run")),
    ],
)
def test_a_name_that_does_not_exist_offers_the_nearest(
    stillrun: Commands, words: tuple[str, ...], says: tuple[str, ...]
) -> None:
    stillrun.write("good.py", GOOD)
    stillrun.run("good.py")
    refused(stillrun, *words, says=says)


# -- the store


def test_a_folder_that_is_not_a_store_is_refused(lonely: Commands) -> None:
    lonely.store = lonely.cwd / "papers"
    lonely.store.mkdir()
    (lonely.store / "thesis.tex").write_text("precious")
    lonely.write("good.py", GOOD)
    refused(lonely, "run", "good.py", says=(str(lonely.store),))
    assert os.listdir(lonely.store) == ["thesis.tex"]


def test_a_store_of_a_newer_version_is_refused(lonely: Commands) -> None:
    lonely.write("good.py", GOOD)
    lonely.run("good.py")
    mark = lonely.store / "stillrun-store.json"
    facts = json.loads(mark.read_text())
    facts["format"] = 99
    mark.unlink()
    mark.write_text(json.dumps(facts))
    refused(lonely, "list", says=("99",))
    refused(lonely, "run", "good.py", says=("99",))


def flip(path: Path, place: int) -> None:
    """Change one bit, as a failing disk would."""
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.seek(place)
        byte = file.read(1)
        file.seek(place)
        file.write(bytes([byte[0] ^ 1]))


@pytest.mark.slow
def test_a_flipped_byte_in_a_large_artifact_is_named_and_refused(lonely: Commands) -> None:
    lonely.write(
        "big.py",
        flow(
            "@step\ndef start(self):\n    self.big = bytes(200_000)\n    self.next(self.end)\n" + END,
            "Big",
        ),
    )
    run = lonely.run("big.py")
    digest = lonely("artifact", f"{run}/start/big", "--json").json["digest"].removeprefix("sha256:")
    flip(lonely.store / "objects" / digest[:2] / digest[2:], 1000)
    for words in (("artifact", f"{run}/start/big"), ("replay", run), ("replay", f"{run}/end"), ("verify", run)):
        refused(lonely, *words, says=(digest,))
    done = lonely("replay", run, "--json")
    assert (done.code, done.json["verdict"]) == (2, "error")


def test_a_flipped_byte_in_a_pack_is_named_and_refused(lonely: Commands) -> None:
    lonely.write("good.py", GOOD.replace("self.x = 1", "self.x = 'needle-in' + '-the-pack'"))
    run = lonely.run("good.py")
    digest = lonely("artifact", f"{run}/start/x", "--json").json["digest"].removeprefix("sha256:")
    (pack,) = [p for p in (lonely.store / "packs").iterdir() if b"needle-in-the-pack" in p.read_bytes()]
    flip(pack, pack.read_bytes().index(b"needle-in-the-pack"))
    for words in (("artifact", f"{run}/start/x"), ("replay", run), ("verify", run)):
        refused(lonely, *words, says=(digest,))


def test_a_damaged_package_is_named_by_verify(lonely: Commands) -> None:
    lonely.write("good.py", GOOD)
    run = lonely.run("good.py")
    python = lonely("env", "show", f"{run}/start", "--json").json["python"]["digest"].removeprefix("sha256:")
    flip(lonely.store / "objects" / python[:2] / python[2:], 5000)
    refused(lonely, "verify", run, says=(python, "interpreter"))
    refused(lonely, "replay", run, says=(python, "interpreter"))


@pytest.mark.slow
def test_a_damaged_package_is_named_by_a_replay_whose_environment_stands(lonely: Commands) -> None:
    lonely.write("good.py", GOOD)
    run = lonely.run("good.py")
    assert lonely("replay", run).code == 0
    python = lonely("env", "show", f"{run}/start", "--json").json["python"]["digest"].removeprefix("sha256:")
    flip(lonely.store / "objects" / python[:2] / python[2:], 5000)
    refused(lonely, "replay", run, says=(python, "interpreter", "nothing was replayed"))


def test_a_store_made_read_only_can_be_read_and_says_so_when_written(lonely: Commands) -> None:
    lonely.write("good.py", GOOD)
    run = lonely.run("good.py")
    inside = f"mount --bind {lonely.store} {lonely.store} && mount -o remount,ro,bind {lonely.store} && exec"
    ready = subprocess.run(["unshare", "-m", "sh", "-c", f"{inside} true"], capture_output=True, check=False)
    if ready.returncode != 0:
        pytest.skip("this system does not let tests mount a folder read-only")
    for words, code in ((f"show {run}", 0), (f"artifact {run}/start/x", 0), ("list", 0), ("run good.py", 2)):
        done = subprocess.run(
            ["unshare", "-m", "sh", "-c", f"{inside} python -m stillrun_cli {words}"],
            cwd=lonely.cwd,
            env={**lonely.environment(), "PATH": f"{Path(os.sys.executable).parent}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, (words, done.stderr)
        assert "Traceback" not in done.stderr
    assert "cannot be written" in done.stderr


def test_no_space_left_is_said_and_the_store_stays_whole(lonely: Commands, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    if (
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=60m", "none", small], capture_output=True, check=False
        ).returncode
        != 0
    ):
        pytest.skip("this system does not let tests mount a small file system")
    try:
        lonely.store = small / "store"
        lonely.write("good.py", GOOD)
        first = lonely.run("good.py")
        lonely.write(
            "big.py",
            flow(
                "@step\ndef start(self):\n    import os\n    self.big = os.urandom(100_000_000)\n    self.next(self.end)\n"
                + END,
                "Big",
            ),
        )
        done = lonely("run", "big.py")
        assert done.code in (1, 2)
        assert "no space" in (done.out + done.err).lower(), done.out + done.err
        assert "Traceback" not in done.err
        assert lonely("verify", first).code == 0
        assert lonely.run("good.py").startswith("Good/")
        assert os.listdir(lonely.store / "tmp") == []
    finally:
        subprocess.run(["umount", small], check=True)


# -- being stopped

SLOW = flow(
    """
@step
def start(self):
    self.done = 1
    self.next(self.wait)
@step
def wait(self):
    import pathlib, subprocess, time
    child = subprocess.Popen(["sleep", "600"])
    pathlib.Path("pids").write_text(f"{__import__('os').getpid()} {child.pid}")
    time.sleep(600)
    self.next(self.end)
@step
def end(self):
    pass
""",
    "Slow",
)


def alive(pid: int) -> bool:
    """True while the process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def until(condition: object, seconds: float = 20) -> None:
    """Wait for something another process does."""
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def started_slow(stillrun: Commands) -> tuple[subprocess.Popen[str], list[int]]:
    """A run that waits in its second step, and the processes of that step."""
    stillrun.write("slow.py", SLOW)
    process = stillrun.start("run", "slow.py")
    pids = stillrun.cwd / "pids"
    until(lambda: pids.exists() and len(pids.read_text().split()) == 2)
    return process, [int(pid) for pid in pids.read_text().split()]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stop_signal_leaves_no_orphan_and_a_run_marked_interrupted(
    stillrun: Commands, number: int, code: int
) -> None:
    process, pids = started_slow(stillrun)
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert process.returncode == code, out + err
    assert "Traceback" not in err
    until(lambda: not any(map(alive, pids)))
    shown = stillrun("show", "Slow/latest", "--json").json
    assert shown["status"] == "interrupted"
    assert [(t["step"], t["status"]) for t in shown["tasks"]] == [("start", "ok"), ("wait", "interrupted")]
    replayed = stillrun("replay", "Slow/latest", "--json")
    assert replayed.code == 0, replayed.err
    assert replayed.json["not_replayed"] == [{"step": "wait", "task": "0", "reason": "interrupted"}]
    assert "the original was interrupted: only what had ended is judged" in stillrun("replay", "Slow/latest").out


def test_kill_9_of_the_engine_loses_nothing_that_was_finished(stillrun: Commands) -> None:
    process, pids = started_slow(stillrun)
    process.kill()
    process.communicate()
    until(lambda: not any(map(alive, pids)))
    shown = stillrun("show", "Slow/latest", "--json").json
    assert shown["status"] == "interrupted"
    assert [(t["step"], t["status"]) for t in shown["tasks"]] == [("start", "ok")]
    assert stillrun("artifact", "Slow/latest/start/done").code == 0
    assert "interrupted" in stillrun("list", "Slow").out
    assert "not fully: it was cut off" in stillrun("show", "Slow/latest").out
    assert stillrun("replay", "Slow/latest/start").code in (0, 2)
    stillrun.write("good.py", GOOD)
    stillrun.run("good.py")


MANY = flow(
    """
@step
def start(self):
    self.items = list(range(40))
    self.next(self.work, foreach="items")
@step
def work(self):
    self.square = self.input ** 2
    self.next(self.join)
@step
def join(self, inputs):
    self.squares = [task.square for task in inputs]
    self.next(self.end)
"""
    + END,
    "Many",
)


@pytest.mark.slow
def test_kill_9_at_any_moment_leaves_a_store_that_works(lonely: Commands) -> None:
    lonely.write("many.py", MANY)
    lonely.run("many.py")
    for moment in range(8):
        process = lonely.start("run", "many.py")
        time.sleep(0.05 + 0.08 * moment)  # from start-up to the last tasks
        process.kill()
        process.communicate()
        listed = lonely("list", "--json")
        assert listed.code == 0, listed.err
        for run in listed.json["runs"]:
            assert run["status"] in ("ok", "interrupted")
            assert lonely("verify", run["run"]).code == 0
    assert lonely.run("many.py").startswith("Many/")


def test_two_runs_at_once_into_one_store_do_not_disturb_each_other(stillrun: Commands) -> None:
    stillrun.write("good.py", GOOD)
    running = [stillrun.start("run", "good.py", "--json") for _ in range(4)]
    ended = [(p, *p.communicate(timeout=60)) for p in running]
    names = set()
    for process, out, err in ended:
        assert process.returncode == 0, err
        names.add(json.loads(out)["run"])
    assert len(names) == 4
    for name in names:
        assert stillrun("verify", name).code == 0


# -- odd folders


@pytest.mark.slow
def test_a_folder_with_spaces_unicode_and_many_files(stillrun: Commands) -> None:
    folder = stillrun.cwd / "my flöws ♥" / "deep er"
    folder.mkdir(parents=True)
    stillrun.cwd = folder
    for place in range(10_000):
        path = folder / f"package {place % 10}" / f"módulo_{place}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"N = {place}\n")
    stillrun.write("göod flow.py", GOOD)
    run = stillrun.run("göod flow.py")
    assert stillrun("replay", run).code == 0
    assert len(stillrun("code", run, "--json").json["files"]) == 10_001
