"""The ground a task stands on: the folder for its large parts, and the request that makes a host know the flow."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stillrun_engine.host_process import PROTOCOL
from stillrun_snapshot.store import Store

__all__ = ["INLINE_MAX", "Spills", "load_request"]

INLINE_MAX = 64 * 1024
"""Bytes up to which an artifact's part travels in a frame; larger ones go through a spill file."""


def load_request(tree: Path, flow_file: str, source: Path, class_name: str | None, cwd: Path) -> dict[str, Any]:
    """The 'load' request of docs/spec/host-protocol.md: import ``flow_file`` of ``tree``, known to its user as ``source``."""
    return {
        "op": "load",
        "protocol": PROTOCOL,
        "file": str(tree / flow_file),
        "root": str(tree),
        "source": str(source),
        "class": class_name,
        "cwd": str(cwd),
    }


@dataclass
class Spills:
    """The folder where tasks leave large parts, and one folder in it for each attempt."""

    store: Store
    root: Path = field(init=False)

    def __post_init__(self) -> None:
        self.root = self.store.scratch("spill")

    def folder(self, name: str) -> Path:
        """The folder of one attempt; its task makes it when it needs it."""
        return self.root / name.replace("/", "-")

    def drop(self, name: str) -> None:
        """Remove what the attempt left behind."""
        folder = self.folder(name)
        if folder.exists():
            shutil.rmtree(folder)

    def close(self) -> None:
        """Remove everything."""
        shutil.rmtree(self.root, ignore_errors=True)
