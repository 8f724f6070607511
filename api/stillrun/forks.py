"""Whether what a flow imported can be forked. What cannot gets a new interpreter for each task, which is slower and always right.

A fork copies one thread. Others are gone in the child, with whatever locks they held; pools that believe in their threads
wait for them for ever, and a GPU's context is not usable there. OpenBLAS, which NumPy and SciPy start threads of at import,
shuts its pool down before a fork and is fine.
"""

from __future__ import annotations

import os
import re
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

__all__ = ["unsafe_to_fork"]

_MODULES = {
    "jax": "JAX, which runs threads of its own",
    "tensorflow": "TensorFlow, which runs threads of its own",
}
_HARMLESS = frozenset({"jemalloc_bg_thd"})  # names of threads that fork knows of: allocators'
_GPUS = ("/dev/nvidia", "/dev/kfd", "/dev/dri/")
_BLAS_THREADS = ("OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS", "OMP_NUM_THREADS")  # in the order in which OpenBLAS asks


def unsafe_to_fork() -> str | None:
    """What in this process does not survive a fork, as the end of a sentence that begins with 'it imports'; else None."""
    for name, what in _MODULES.items():
        if name in sys.modules:
            return what
    return _python_thread() or _gpu() or _native_threads()


def _python_thread() -> str | None:
    threading: Any = sys.modules.get("threading")
    if threading is None:
        return None
    main = threading.main_thread()
    others = [each for each in threading.enumerate() if each is not main and each.is_alive()]
    return f"code that leaves the thread {others[0].name!r} running" if others else None


def _gpu() -> str | None:
    torch: Any = sys.modules.get("torch")
    cuda = getattr(torch, "cuda", None)
    if cuda is not None and getattr(cuda, "is_initialized", bool)():
        return "code that has initialised CUDA"
    for target in _links("/proc/self/fd"):
        if target.startswith(_GPUS):
            return f"code that holds a GPU open ({target})"
    return None


def _native_threads() -> str | None:
    """Threads that Python knows nothing of, beyond those that OpenBLAS has; by what Linux tells."""
    names = _thread_names()
    if len(names) <= 1:
        return None
    own, others = names[0], [name for name in names[1:] if name not in _HARMLESS]
    named = [name for name in others if name != own]
    if named:
        return f"a library that has started threads ({named[0]})"
    return "a library that has started threads" if len(others) > _blas_threads(os.environ) else None


def _thread_names() -> list[str]:
    """Names of this process's threads, its first one's first; nothing where the system does not tell."""
    folder, first = "/proc/self/task", str(os.getpid())
    try:
        found = sorted(os.listdir(folder), key=lambda each: (each != first, each))
    except OSError:
        return []
    names = []
    for each in found:
        try:
            with open(f"{folder}/{each}/comm", encoding="utf-8", errors="replace") as file:
                names.append(file.read().strip())
        except OSError:  # it has ended meanwhile
            continue
    return names


def _blas_threads(variables: Mapping[str, str]) -> int:
    """How many threads the copies of OpenBLAS that are loaded may have started."""
    try:
        with open("/proc/self/maps", encoding="utf-8", errors="replace") as file:
            loaded = set(re.findall(r"/\S*openblas\S*", file.read()))
    except OSError:
        return 0
    asked = next((variables[name] for name in _BLAS_THREADS if variables.get(name, "").isdigit()), None)
    return len(loaded) * max(int(asked) - 1 if asked else (os.cpu_count() or 1), 0)


def _links(folder: str) -> list[str]:
    found = []
    try:
        for each in os.listdir(folder):
            try:
                found.append(os.readlink(os.path.join(folder, each)))
            except OSError:  # the folder's own descriptor
                continue
    except OSError:
        return []
    return found
