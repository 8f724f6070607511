"""The step host as a process: what it loads and refuses, what it relays, and that nothing survives it."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from .driver import HostProcess, children_of, python, write_flow

STEP = """
import os, sys, time, signal, subprocess, threading, atexit
from stillrun import FlowSpec, step
class F(FlowSpec):
    @step
    def start(self):
{body}
        self.next(self.end)
    @step
    def end(self):
        self.x = 1
"""


def one_step(folder: Path, body: str, name: str = "flow.py") -> Path:
    lines = "".join(f"        {line}\n" for line in body.strip().splitlines())
    return write_flow(folder, STEP.format(body=lines), name)


def gone(pid: int) -> bool:
    """True when a process has ended; a zombie that waits for its parent has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def wait_until_gone(pid: int) -> None:
    descriptor = os.pidfd_open(pid) if not gone(pid) else None
    if descriptor is not None:
        import select

        assert select.select([descriptor], [], [], 30)[0], f"process {pid} is still there"
        os.close(descriptor)


# -- loading ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["3.8", "3.11", "3.13"])
def test_loaded_names_python_flow_and_outside_modules(new_host: Any, tmp_path: Path, version: str) -> None:
    answer = new_host(python(version)).load(one_step(tmp_path, "pass"))
    assert (answer["op"], answer["protocol"]) == ("loaded", 1)
    assert answer["python"].startswith(version + ".")
    assert answer["description"]["name"] == "F"
    assert answer["modules"] == []


@pytest.mark.parametrize("name", ["my-flow.py", "my flow.py", "flöw.py", "sub/ünter ordner/flow", "a.b.py"])
def test_file_names_of_all_kinds(host: HostProcess, tmp_path: Path, name: str) -> None:
    body = "class_here = type(self)\nself.names = (__name__, sys.argv, __file__)\nself.kept = Kept()"
    file = one_step(tmp_path, body, name)
    file.write_text(file.read_text() + "class Kept:\n    pass\n", encoding="utf-8")
    assert host.load(file)["op"] == "loaded"
    done = host.task("start")
    refs = host.kept(done)
    end = host.task("end", inputs=[{"step": "start", "task": "1", "index": None, "artifacts": refs}])
    assert end.ok
    import pickle

    names = pickle.loads(Path(refs["names"]["parts"][0]["path"]).read_bytes())
    assert names == (os.path.splitext(file.name)[0].replace(".", "_"), [str(file)], str(file))


REFUSED = [
    ("class F(FlowSpec:\n    pass\n", "syntax", "line 2", 2),
    ("import no_such_module_here\nclass F: pass\n", "import", "no_such_module_here", 1),
    ("from os import no_such_name\nclass F: pass\n", "import", "no_such_name", 1),
    ("1 / 0\nclass F: pass", "user", "division by zero", 2),
    ("import sys; sys.exit(3)\nclass F: pass", "user", "ended Python", 1),
    ("x = 1\n", "no_flow", "has no flow", None),
    ("class A(FlowSpec): pass\nclass B(FlowSpec): pass\n", "no_flow", "2 flows: A, B", None),
]


@pytest.mark.parametrize(("text", "kind", "told", "line"), REFUSED)
def test_refused_files(host: HostProcess, tmp_path: Path, text: str, kind: str, told: str, line: int | None) -> None:
    source = "/home/somebody/flow.py"
    answer = host.load(write_flow(tmp_path, text), source=source)
    assert answer["op"] == "refused"
    error = answer["error"]
    assert error["kind"] == kind
    assert told in error["message"]
    assert error["cure"] or kind == "user"
    assert (error["file"], error["line"]) == (source, line)
    assert str(tmp_path) not in (error["traceback"] or "")
    if kind == "syntax":
        assert "^" in error["traceback"]


def test_which_flow(new_host: Any, tmp_path: Path) -> None:
    text = "class A(FlowSpec): pass\nclass B(A): pass\nclass C(A): pass\n"
    file = write_flow(tmp_path, text)
    assert new_host().load(file)["error"]["cure"] == "Say which: flow.py:B."
    assert new_host().load(file, **{"class": "C"})["description"]["class"] == "C"
    assert "Did you mean" not in new_host().load(file, **{"class": "Z"})["error"]["cure"]
    assert (
        new_host().load(write_flow(tmp_path, "class Base(FlowSpec): pass\nclass Leaf(Base): pass\n", "other.py"))[
            "description"
        ]["class"]
        == "Leaf"
    )


def test_refuses_names_that_python_needs_and_files_that_are_not_there(new_host: Any, tmp_path: Path) -> None:
    assert new_host().load(write_flow(tmp_path, "class F(FlowSpec): pass", "json.py"))["error"]["kind"] == "import"
    assert new_host().load(tmp_path / "nowhere.py")["error"]["kind"] == "no_flow"
    assert (
        new_host().load(write_flow(tmp_path, "class F(FlowSpec): pass"), cwd="/nowhere/here")["error"]["kind"] == "flow"
    )


def test_refuses_what_is_not_the_protocol(new_host: Any, tmp_path: Path) -> None:
    file = one_step(tmp_path, "pass")
    host = new_host()
    assert "speaks protocol 1" in host.load(file, protocol=2)["error"]["message"]
    assert host.load(file)["op"] == "loaded"
    assert host.load(file)["error"]["kind"] == "protocol"
    host.send({"op": "dance"})
    assert "'dance'" in host.receive()[0]["error"]["message"]
    host.start("k", "start")
    host.start("k", "start")
    assert {host.receive()[0]["op"] for _ in range(2)} >= {"refused"}
    host = new_host()
    host.start("k", "start")
    assert "before a flow was loaded" in host.receive()[0]["error"]["message"]


def test_a_user_file_beside_the_flow_hides_nothing_of_the_host(host: HostProcess, tmp_path: Path) -> None:
    for name in ("stillrun", "pickle", "canonical", "decimal", "fractions", "ctypes", "queue", "selectors"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the wrong module')\n")
    (tmp_path / "mine.py").write_text("value = 5\n")
    host.load(one_step(tmp_path, "import mine\nself.x = [mine.value] * 100000"))
    assert host.task("start").ok


# -- tasks -----------------------------------------------------------------------------------------


def test_output_is_relayed_as_bytes_and_in_order(host: HostProcess, tmp_path: Path) -> None:
    body = """
print("täxt 猫", flush=True); print("lone \\udc80")
sys.stdout.buffer.write(bytes(range(256))); sys.stdout.flush(); os.write(2, b"err\\xff")
subprocess.run(["echo", "child"])
sys.stdin.read() and 1 / 0
print("unfinished", end="")
"""
    host.load(one_step(tmp_path, body))
    done = host.task("start")
    text = "täxt 猫\nlone \\udc80\n".encode() + bytes(range(256)) + b"child\nunfinished"
    assert (done.stdout, done.stderr) == (text, b"err\xff")


def test_a_locale_without_unicode_prints_unicode(new_host: Any, tmp_path: Path) -> None:
    for fresh in (False, True):
        host = new_host(LC_ALL="POSIX", PYTHONCOERCECLOCALE="0", PYTHONUTF8="0")
        host.load(one_step(tmp_path, "print('猫')"))
        assert host.task("start", fresh=fresh).stdout == "猫\n".encode()


def test_a_flood_of_output_arrives_whole(host: HostProcess, tmp_path: Path) -> None:
    host.load(one_step(tmp_path, "line = b'x' * 9999 + b'\\n'\nfor _ in range(5000): os.write(1, line)"))
    done = host.task("start")
    assert len(done.stdout) == 50_000_000
    assert done.ok


def test_a_slow_engine_does_not_make_the_host_grow(host: HostProcess, tmp_path: Path) -> None:
    host.load(one_step(tmp_path, "for _ in range(6000): os.write(1, b'x' * 10000)"))
    host.start("a", "start")
    header, _ = host.receive()
    pid = header["pid"]
    while b"pipe_write" not in Path(f"/proc/{pid}/wchan").read_bytes() and not gone(pid):
        os.sched_yield()  # until the task waits for us
    peak = int(Path(f"/proc/{host.process.pid}/status").read_text().split("VmHWM:")[1].split()[0])
    assert peak < 60_000
    assert len(host.finish()["a"].stdout) == 60_000_000


ENDS = [
    ("os._exit(5)", {"code": 5, "signal": None}, None),
    ("os.kill(os.getpid(), 9)", {"code": None, "signal": 9}, None),
    ("import ctypes; ctypes.string_at(0)", {"code": None, "signal": 11}, None),
    ("sys.exit(0)", {"code": 0, "signal": None}, "SystemExit"),
    ("sys.exit(3)", {"code": 3, "signal": None}, "SystemExit"),
    ("sys.exit('words')", {"code": 1, "signal": None}, "SystemExit"),
    ("raise KeyboardInterrupt", {"code": 1, "signal": None}, "KeyboardInterrupt"),
    ("raise ValueError('é\\udc80')", {"code": 1, "signal": None}, "ValueError"),
    ("os.closerange(3, 100); os._exit(1)", {"code": 1, "signal": None}, None),
    ("def f(): f()\nf()", {"code": 1, "signal": None}, "RecursionError"),
    ("class E(Exception):\n    def __str__(self): 1 / 0\nraise E", {"code": 1, "signal": None}, None),
]


@pytest.mark.parametrize("fresh", [False, True])
def test_ends_of_all_kinds(host: HostProcess, tmp_path: Path, fresh: bool) -> None:
    steps = ""
    for at, (body, _, _) in enumerate(ENDS):
        lines = "".join(f"        {line}\n" for line in body.splitlines())
        steps += f"    @step\n    def s{at}(self):\n{lines}\n"
    host.load(write_flow(tmp_path, f"import os, sys\nfrom stillrun import *\nclass F(FlowSpec):\n{steps}"))
    for at, _ in enumerate(ENDS):
        host.start(f"k{at}", f"s{at}", fresh=fresh)
    done = host.finish(len(ENDS))
    for at, (body, ended, kind) in enumerate(ENDS):
        finished = done[f"k{at}"]
        assert finished.exit == ended, body
        if kind is not None:
            assert finished.error["type"] == kind
            assert finished.error["line"] and finished.error["file"] == str(tmp_path / "flow.py")
            assert "/stillrun/" not in finished.error["traceback"]
        elif at != len(ENDS) - 1:
            assert finished.header["result"] is None
    assert done["k6"].error["kind"] == "interrupted"
    assert "cannot be shown" in done[f"k{len(ENDS) - 1}"].error["message"]


def test_a_task_leaves_as_a_program_does(host: HostProcess, tmp_path: Path) -> None:
    body = """
atexit.register(print, "exit function")
def later():
    time.sleep(0.05); print("thread")
threading.Thread(target=later).start()
self.file = None
open("forgotten.txt", "w").write("whole")
"""
    file = one_step(tmp_path, body)
    file.write_text("import atexit\natexit.register(print, 'of the host')\n" + file.read_text())
    host.load(file)
    done = host.task("start")
    assert done.stdout == b"thread\nexit function\n"
    assert (tmp_path / "forgotten.txt").read_text() == "whole"


def test_multiprocessing_works_in_a_step(host: HostProcess, tmp_path: Path) -> None:
    text = """
    import multiprocessing, concurrent.futures
    from stillrun import *
    def double(x): return x * 2
    class F(FlowSpec):
        @step
        def start(self):
            with multiprocessing.get_context("fork").Pool(2) as pool:
                self.a = pool.map(double, range(3))
            with concurrent.futures.ThreadPoolExecutor() as pool:
                self.b = list(pool.map(double, range(3)))
            self.next(self.end)
        @step
        def end(self): pass
    """
    host.load(write_flow(tmp_path, text))
    done = host.task("start")
    assert done.artifacts["a"]["preview"] == done.artifacts["b"]["preview"] == "[0, 2, 4]"


def test_stop_asks_and_then_kills(host: HostProcess, tmp_path: Path) -> None:
    body = "{}child = subprocess.Popen(['sleep', '1000'])\nprint(child.pid, flush=True)\ntime.sleep(1000)"
    text = one_step(tmp_path, body.format("")).read_text()
    stubborn = body.format("signal.signal(signal.SIGTERM, signal.SIG_IGN)\n")
    lines = "".join(f"        {line}\n" for line in stubborn.splitlines())
    file = write_flow(tmp_path, text + f"    @step\n    def stubborn(self):\n{lines}\n")
    host.load(file)
    seen: dict[str, int] = {}

    def stop(header: dict[str, Any], body: bytes) -> None:
        if header["op"] == "output":
            seen[header["key"]] = int(body)
            host.send({"op": "stop", "key": header["key"], "grace_ms": 50})
            host.send({"op": "stop", "key": "nobody", "grace_ms": 50})

    host.start("start", "start")
    host.start("stubborn", "stubborn")
    done = host.finish(2, stop)
    assert done["start"].exit == {"code": None, "signal": signal.SIGTERM}
    assert done["stubborn"].exit == {"code": None, "signal": signal.SIGKILL}
    for pid in seen.values():
        wait_until_gone(pid)


def test_what_a_task_leaves_running_is_killed_with_its_end(host: HostProcess, tmp_path: Path) -> None:
    host.load(one_step(tmp_path, "print(subprocess.Popen(['sleep', '1000']).pid)"))
    done = host.task("start")
    assert done.ok
    wait_until_gone(int(done.stdout))


def test_a_daemon_that_keeps_the_pipes_does_not_hold_the_task(host: HostProcess, tmp_path: Path) -> None:
    body = """
if os.fork() == 0:
    os.setsid()
    print("daemon", os.getpid(), flush=True)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    while True:
        os.write(1, b"x" * 1000)
os.waitpid(-1, os.WNOHANG)
time.sleep(0.1)
"""
    host.load(one_step(tmp_path, body))
    done = host.task("start")
    assert done.ok
    daemon = int(done.stdout.split()[1])
    wait_until_gone(daemon)  # of the closed pipe


def test_nothing_survives_a_killed_engine(host: HostProcess, tmp_path: Path) -> None:
    body = "child = subprocess.Popen(['sleep', '1000'])\nprint(child.pid, flush=True)\ntime.sleep(1000)"
    host.load(one_step(tmp_path, body))
    for key in ("a", "b"):
        host.start(key, "start")
    pids: list[int] = []
    while len(pids) < 4:
        header, data = host.receive()
        pids.append(header["pid"] if header["op"] == "started" else int(data))
    assert host.close() == 0
    for pid in pids:
        wait_until_gone(pid)


def test_nothing_survives_a_killed_host(host: HostProcess, tmp_path: Path) -> None:
    host.load(one_step(tmp_path, "time.sleep(1000)"))
    host.start("a", "start")
    header, _ = host.receive()
    host.process.kill()
    wait_until_gone(header["pid"])


def test_exit_ends_the_host_and_its_tasks(host: HostProcess, tmp_path: Path) -> None:
    host.load(one_step(tmp_path, "time.sleep(1000)"))
    host.start("a", "start")
    header, _ = host.receive()
    host.send({"op": "exit"})
    assert host.process.wait(30) == 0
    wait_until_gone(header["pid"])


@pytest.mark.slow
def test_two_thousand_tasks_leave_nothing_behind(host: HostProcess, tmp_path: Path) -> None:
    host.load(one_step(tmp_path, "pass"))
    host.task("end")
    before = sorted(os.listdir(f"/proc/{host.process.pid}/fd"))
    for _ in range(100):
        for at in range(20):
            host.start(str(at), "end")
        assert all(done.ok for done in host.finish(20).values())
    assert sorted(os.listdir(f"/proc/{host.process.pid}/fd")) == before
    assert list(children_of(host.process.pid)) == []
    assert os.listdir(host.spill) == []


def test_large_messages_both_ways_at_once(host: HostProcess, tmp_path: Path) -> None:
    text = """
    class F(FlowSpec):
        @step
        def start(self):
            for number in range(300):
                setattr(self, f"a{number}", bytes([number % 256]) * 60000)
            self.next(self.end)
        @step
        def end(self): pass
    """
    host.load(write_flow(tmp_path, text))
    junk = os.urandom(30_000_000)
    for key in ("a", "b", "c"):
        host.start(key, "start", body=junk)
    done = host.finish(3)
    assert all(len(each.body) > 300 * 60000 for each in done.values())


def test_usage_and_missing_working_directory(host: HostProcess, tmp_path: Path) -> None:
    host.load(
        one_step(tmp_path, "x = bytearray(50_000_000)\nself.here = os.getcwd()\nself.v = os.environ['STILLRUN_TEST']")
    )
    (tmp_path / "elsewhere").mkdir()
    done = host.task("start", cwd=str(tmp_path / "elsewhere"), variables={"STILLRUN_TEST": "é"})
    assert done.artifacts["here"]["preview"] == repr(str(tmp_path / "elsewhere"))
    usage = done.header["usage"]
    assert usage["max_rss_kib"] > 50_000_000 // 1024
    assert usage["wall_us"] > 0
    lost = host.task("start", cwd="/nowhere/here")
    assert lost.error["kind"] == "flow"
    assert "/nowhere/here" in lost.error["message"]


def test_a_task_that_cannot_be_started_is_finished_with_an_error(host: HostProcess, tmp_path: Path) -> None:
    host.load(one_step(tmp_path, "pass"))
    done = host.task("start", fresh=True, spill="/nowhere/here")
    assert done.error["kind"] == "storage"
    assert host.task("end").ok


def test_outside_modules_are_named(host: HostProcess, tmp_path: Path) -> None:
    pytest.importorskip("numpy")
    (tmp_path / "mine.py").write_text("")
    host.load(one_step(tmp_path, "import mine, json, numpy, decimal"))
    assert "numpy" in host.task("start").result["modules"]
    assert not {"mine", "json", "decimal", "stillrun", "flow"} & set(host.task("start").result["modules"])


def test_errors_name_the_user_s_file(host: HostProcess, tmp_path: Path) -> None:
    tree, home = tmp_path / "trees/abc/sub", "/home/somebody/project/sub/flow.py"
    (tree / "inner").mkdir(parents=True)
    (tree / "inner/deep.py").write_text("def fail():\n    raise KeyError('x')\n")
    file = one_step(tree, "from inner.deep import fail\nfail()")
    host.load(file, source=home)
    error = host.task("start").error
    assert (error["file"], error["line"], error["kind"], error["step"]) == (
        "/home/somebody/project/sub/inner/deep.py",
        2,
        "user",
        "start",
    )
    assert f'File "{home}", line' in error["traceback"]
    assert str(tmp_path) not in error["traceback"]


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_task_holds_no_descriptor_of_the_host(host: HostProcess, tmp_path: Path) -> None:
    host.load(one_step(tmp_path, "self.fds = sorted(os.listdir('/proc/self/fd'))"))
    for key in ("a", "b", "c"):
        host.start(key, "start")
    done = host.finish(3)
    assert all(
        len(each.artifacts["fds"]["preview"].split(",")) == 5 for each in done.values()
    )  # 0 1 2, result, the listing
