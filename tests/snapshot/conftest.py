"""Real stores, folders and git work trees."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stillrun_snapshot.store import Store

RunGit = Callable[..., str]
RunPython = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A new store."""
    with Store.open(tmp_path / "store") as opened:
        yield opened


@pytest.fixture
def git() -> RunGit:
    """Runs git without anybody's settings."""
    identity = ("-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "protocol.file.allow=always")
    variables = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}

    def run(folder: Path, *arguments: str) -> str:
        command = ["git", *identity, *arguments]
        done = subprocess.run(command, cwd=folder, env=variables, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    return run


@pytest.fixture
def python() -> Iterator[RunPython]:
    """Starts a script in a process of its own; those still alive at the end are killed."""
    started: list[subprocess.Popen[str]] = []

    def run(script: str, *arguments: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", script, *map(str, arguments)]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()
