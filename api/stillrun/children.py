"""Tasks as child processes: forked, in a process group of their own, watched by their pipes and reaped with their usage."""

from __future__ import annotations

import atexit
import gc
import os
import signal
import sys
import time
import traceback
import warnings
import weakref

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Iterable

__all__ = ["Child", "die_with_parent", "leave", "own_session", "spawn", "usable_output"]

READ_SIZE = 64 * 1024
DRAIN_MAX = 1024 * 1024  # more than a pipe holds: what a task left behind in it, but not what a survivor keeps writing
STREAMS = ("stdout", "stderr", "result")


class Child:
    """One task's process, as its parent sees it."""

    def __init__(self, pid: int, pipes: dict[str, int]) -> None:
        self.pid = pid
        self.pipes = pipes  # stream -> descriptor to read from, while it is open
        self.started = time.monotonic()
        self.kill_at: float | None = None  # when it was asked to end
        self.limit_at: float | None = None  # when it has had its time

    def read(self, stream: str) -> bytes | None:
        """What has come on a stream; empty at its end, None when nothing is there now."""
        try:
            return os.read(self.pipes[stream], READ_SIZE)
        except BlockingIOError:
            return None

    def drain(self, stream: str) -> Iterable[bytes]:
        """What is still in a pipe, without waiting for others that hold it open."""
        total = 0
        while stream in self.pipes and total < DRAIN_MAX:
            data = self.read(stream)
            if not data:
                return
            total += len(data)
            yield data

    def close(self, stream: str) -> None:
        """Let go of a stream."""
        os.close(self.pipes.pop(stream))

    def signal_group(self, number: int) -> None:
        """Signal every process of the task."""
        try:
            os.killpg(self.pid, number)
        except (ProcessLookupError, PermissionError):  # gone; macOS says the latter of a group of zombies
            return

    def reap(self) -> tuple[dict[str, int | None], dict[str, int]] | None:
        """Exit and usage if the task's process has ended, after killing what it left in its group; else None."""
        if hasattr(os, "waitid"):
            # not reaped yet: as long as it is a zombie, nobody else can get the number of its group
            if os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                return None
            self.signal_group(signal.SIGKILL)
        pid, status, usage = os.wait4(self.pid, os.WNOHANG)
        if pid == 0:
            return None
        self.signal_group(signal.SIGKILL)
        signaled = os.WIFSIGNALED(status)
        code = None if signaled else os.WEXITSTATUS(status)
        number = os.WTERMSIG(status) if signaled else None
        kib = 1024 if sys.platform == "darwin" else 1  # macOS counts bytes
        return {"code": code, "signal": number}, {
            "wall_us": int((time.monotonic() - self.started) * 1_000_000),
            "user_us": int(usage.ru_utime * 1_000_000),
            "system_us": int(usage.ru_stime * 1_000_000),
            "max_rss_kib": usage.ru_maxrss // kib,
        }


def spawn(run: Callable[[int], int], forget: Callable[[], None]) -> Child:
    """Fork a child that calls ``run`` with the descriptor for its result, and exits with what it returns.

    forget: called in the child first, to close what only the parent uses.
    """
    pairs = _pipes()
    parent = os.getpid()
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()  # or the child would write it once more
    try:
        pid = _fork()
    except OSError:
        for pair in pairs.values():
            os.close(pair[0])
            os.close(pair[1])
        raise
    if pid == 0:
        _live(run, forget, pairs, parent)
    _own_group(pid)  # both sides do it: whoever comes second finds it done
    for reading, writing in pairs.values():
        os.close(writing)
        os.set_blocking(reading, False)
    return Child(pid, {stream: pair[0] for stream, pair in pairs.items()})


def _pipes() -> dict[str, tuple[int, int]]:
    pairs: dict[str, tuple[int, int]] = {}
    try:
        for stream in STREAMS:
            pairs[stream] = os.pipe()
    except OSError:
        for pair in pairs.values():
            os.close(pair[0])
            os.close(pair[1])
        raise
    return pairs


def _fork() -> int:
    with warnings.catch_warnings():
        # Python 3.12 warns when threads exist; those that the flow's imports start know how to live with a fork
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def _own_group(pid: int) -> None:
    try:
        os.setpgid(pid, pid)
    except (PermissionError, ProcessLookupError):  # it did so itself and has called exec, or it is gone
        return


def _live(
    run: Callable[[int], int], forget: Callable[[], None], pairs: dict[str, tuple[int, int]], parent: int
) -> None:
    """The child's whole life; never returns."""
    code = 70  # EX_SOFTWARE: this package is at fault if it is seen
    try:
        _own_group(os.getpid())
        die_with_parent(parent)
        forget()
        os.dup2(pairs["stdout"][1], 1)
        os.dup2(pairs["stderr"][1], 2)
        for stream, (reading, writing) in pairs.items():
            os.close(reading)
            if stream != "result":
                os.close(writing)
        _drop_exit_functions()
        code = run(pairs["result"][1])
    except BaseException:
        os.write(2, traceback.format_exc().encode("utf-8", "backslashreplace"))
    finally:
        os._exit(code)


def die_with_parent(parent: int) -> None:
    """End this process when its parent ends, however that happens; on Linux only, elsewhere nothing."""
    if _prctl is None:
        return
    _prctl(1, int(signal.SIGKILL), 0, 0, 0)  # PR_SET_PDEATHSIG, prctl(2)
    if os.getppid() != parent:
        os._exit(1)


def _find_prctl() -> Any:
    if sys.platform != "linux":
        return None
    try:
        import ctypes

        return ctypes.CDLL(None).prctl
    except (ImportError, OSError, AttributeError):  # a Python without libffi, or a C library without prctl
        return None


_prctl = _find_prctl()


def usable_output() -> None:
    """Text of any language, seen as soon as its line is written, whatever the locale says.

    Before a fork, not after it: a stream that stood on a file cannot be changed once it stands on a pipe.
    """
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)


def _drop_exit_functions() -> None:
    """Forget what the parent wants done at its exit: a temporary folder made by the flow's imports is everybody's."""
    atexit._clear()
    for each in list(getattr(weakref.finalize, "_registry", ())):
        each.atexit = False
    processes = sys.modules.get("multiprocessing.process")
    if processes is not None:
        processes._children.clear()  # the parent's children; we may not wait for them
    pools = sys.modules.get("multiprocessing.util")
    if pools is not None:
        pools._finalizer_registry.clear()
        atexit.register(pools._exit_function)
    if "logging" in sys.modules:
        atexit.register(sys.modules["logging"].shutdown)  # handlers that buffer write out what they hold
    weakref.finalize._registered_with_atexit = False  # type: ignore[attr-defined]  # its hook was cleared above


def leave() -> None:
    """What Python does when a program ends: wait for threads, call exit functions, write out what is buffered."""
    threads: Any = sys.modules.get("threading")  # absent when nothing has started one
    for last in (getattr(threads, "_shutdown", None), atexit._run_exitfuncs):
        try:
            if last is not None:
                last()
        except BaseException:
            traceback.print_exc()
    gc.collect()  # files that the step forgot to close are written out when they are collected
    for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):  # the step closed it
            continue


def own_session() -> None:
    """Leave the terminal's session, so that its signals reach the engine alone."""
    if os.getsid(0) != os.getpid():
        try:
            os.setsid()
        except PermissionError:  # leader of a group already: then signals of a terminal do not reach it either way
            return
