"""A function over many values with all cores of this machine, and the time of a piece of code."""

from __future__ import annotations

import os
import pickle
import sys
import time
import traceback
from contextlib import contextmanager

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

__all__ = ["parallel_imap_unordered", "parallel_map", "profile"]


def parallel_map(function: Callable[[Any], Any], values: Iterable[Any], max_parallel: int | None = None) -> list[Any]:
    """``function`` of each value, in order. It may be a lambda: processes are forked, and only results are pickled."""
    found = sorted(_unordered(function, values, max_parallel), key=lambda pair: pair[0])
    return [result for _, result in found]


def parallel_imap_unordered(
    function: Callable[[Any], Any], values: Iterable[Any], max_parallel: int | None = None
) -> Iterator[Any]:
    """``function`` of each value, as each is done."""
    for _, result in _unordered(function, values, max_parallel):
        yield result


def _unordered(
    function: Callable[[Any], Any], values: Iterable[Any], max_parallel: int | None
) -> Iterator[tuple[int, Any]]:
    most = max_parallel or len(
        os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    )
    waiting = enumerate(values)
    running: dict[int, tuple[int, int]] = {}
    exhausted = False
    try:
        while running or not exhausted:
            while not exhausted and len(running) < most:
                place, value = next(waiting, (-1, None))
                if place < 0:
                    exhausted = True
                else:
                    pid, descriptor = _forked(function, value)
                    running[descriptor] = (place, pid)
            if running:
                yield _first(running)
    finally:
        for descriptor, (_, pid) in running.items():
            os.close(descriptor)
            os.waitpid(pid, 0)


def _forked(function: Callable[[Any], Any], value: Any) -> tuple[int, int]:
    """A process that computes one value, and the pipe that its result comes through."""
    ours, theirs = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        os.close(theirs)
        return pid, ours
    code = 1
    try:
        os.close(ours)
        with open(theirs, "wb") as pipe:
            pickle.dump(function(value), pipe, protocol=5)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _first(running: dict[int, tuple[int, int]]) -> tuple[int, Any]:
    """The result of a process that has something to say."""
    import select

    ready, _, _ = select.select(list(running), [], [])
    descriptor = ready[0]
    place, pid = running.pop(descriptor)
    with open(descriptor, "rb") as pipe:
        data = pipe.read()
    _, status = os.waitpid(pid, 0)
    if status != 0:
        raise RuntimeError(f"the function failed for the value at position {place}; what it said is above.")
    return place, pickle.loads(data)  # noqa: S301  # of our own child


@contextmanager
def profile(label: str, stats_dict: dict[str, int] | None = None) -> Iterator[None]:
    """Tell how long the block takes, or add it to ``stats_dict`` in milliseconds."""
    begun = time.time()
    if stats_dict is None:
        sys.stdout.write(f"PROFILE: {label} starting\n")
    yield
    spent = int((time.time() - begun) * 1000)
    if stats_dict is None:
        sys.stdout.write(f"PROFILE: {label} completed in {spent}ms\n")
    else:
        stats_dict[label] = stats_dict.get(label, 0) + spent
