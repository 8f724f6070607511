"""Which classes and functions of a captured tree a kept value refers to, read off its pickle without unpickling it."""

from __future__ import annotations

import pickletools
from collections.abc import Iterable, Mapping
from typing import Any

from stillrun_snapshot.digest import Digest
from stillrun_snapshot.store import Store

__all__ = ["references"]

_TEXTS = frozenset({"SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE"})
_PUTS = frozenset({"PUT", "BINPUT", "LONG_BINPUT"})
_GETS = frozenset({"GET", "BINGET", "LONG_BINGET"})


def references(store: Store, artifact: Mapping[str, Any], modules: Iterable[str]) -> frozenset[tuple[str, str]]:
    """The module and name of everything of ``modules`` that unpickling ``artifact`` would look up."""
    stream = store.get(Digest(artifact["parts"][0]["digest"]))
    names = [module for module in modules if module.encode() in stream]
    return frozenset(_globals(stream, frozenset(names))) if names else frozenset()


def _globals(stream: bytes, modules: frozenset[str]) -> Iterable[tuple[str, str]]:
    memo: list[str | None] = []
    recent: list[str | None] = []  # the last two things that were put on the stack; None for what is no text
    argument: Any
    for op, argument, _ in pickletools.genops(stream):
        if op.name in _TEXTS:
            recent = [*recent[-1:], argument]
        elif op.name == "MEMOIZE":
            memo.append(recent[-1] if recent else None)
        elif op.name in _PUTS:
            memo.extend([None] * (int(argument) + 1 - len(memo)))
            memo[int(argument)] = recent[-1] if recent else None
        elif op.name in _GETS:
            recent = [*recent[-1:], memo[int(argument)] if int(argument) < len(memo) else None]
        elif op.name in ("STACK_GLOBAL", "GLOBAL", "INST"):
            module, name = recent if op.name == "STACK_GLOBAL" else argument.split(" ", 1)
            if module in modules and name is not None:
                yield module, name.split(".")[0]
            recent = [*recent[-1:], None]
        elif op.name not in ("FRAME", "PROTO"):
            recent = [*recent[-1:], None]
