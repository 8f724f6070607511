"""Codes of values that are nested deeper than the stack of whoever asks allows: on a large stack of their own."""

from __future__ import annotations

import sys
import threading

from stillrun.canonical import Coder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

__all__ = ["DEPTH_MAX", "code_on_a_large_stack"]

DEPTH_MAX = 5000  # containers within containers
STACK = 256 * 1024 * 1024  # address space, used as far as it is needed: up to 12 calls a container, 2 KiB each
CALLS_MAX = 12 * DEPTH_MAX + 1000


def code_on_a_large_stack(value: Any, digests: Mapping[tuple[int, int], str]) -> bytes:
    """The code of a value. Raises what the coder raises."""
    codes: list[bytes] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            codes.append(Coder(digests, DEPTH_MAX).code(value))
        except BaseException as err:  # handed to whoever asked
            errors.append(err)

    limit, size = sys.getrecursionlimit(), threading.stack_size(STACK)
    try:
        sys.setrecursionlimit(max(limit, CALLS_MAX))
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        thread.join()
    finally:
        threading.stack_size(size)
        sys.setrecursionlimit(limit)
    if errors:
        raise errors[0]
    return codes[0]
