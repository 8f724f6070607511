"""What every test of a running Stillrun shares: a store of its own, and the real command line."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from tests.warm import WarmProcess

from stillrun_envs.discovery import describe_python
from stillrun_envs.interpreter import keep_interpreter
from stillrun_envs.memo import Memo
from stillrun_snapshot.store import Store

# How long a machine takes says nothing about us
settings.register_profile("stillrun", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("stillrun")

COMMAND = ("-m", "stillrun_cli")
_SETTINGS = (
    "STILLRUN_",
    "METAFLOW_",
    "VIRTUAL_ENV",
    "CONDA_PREFIX",
    "PYTHONPATH",
    "PYTHONHASHSEED",
    "PYTHONDONTWRITEBYTECODE",
)


def _heed_interrupts() -> None:
    """A shell's background jobs ignore Ctrl-C, and so would all that the tests start there."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@dataclass
class Done:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The JSON object on the last line of standard output."""
        value: dict[str, Any] = json.loads(self.out.splitlines()[-1])
        return value


@dataclass
class Commands:
    """The `stillrun` command in a folder and on a store of its own."""

    cwd: Path
    store: Path
    variables: dict[str, str] = field(default_factory=dict)
    anew: bool = False  # each command is started, for tests that look at all of it
    warm: ClassVar[WarmProcess | None] = None
    """What all other commands are forked off; begun when it is wanted."""

    def environment(self) -> dict[str, str]:
        """This process's variables without settings of Stillrun's, and with our store."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(_SETTINGS)}
        places = {"STILLRUN_STORE": str(self.store), "STILLRUN_KEYS": f"{self.store}-keys"}
        return {**kept, **places, "NO_COLOR": "1", **self.variables}

    def start(self, *arguments: str | Path, command: tuple[str, ...] = COMMAND) -> subprocess.Popen[str]:
        """Begin a command and do not wait for it."""
        words = [sys.executable, *command, *map(str, arguments)]
        return subprocess.Popen(
            words,
            cwd=self.cwd,
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=_heed_interrupts,
        )

    def __call__(self, *arguments: str | Path, command: tuple[str, ...] = COMMAND) -> Done:
        """Run a command to its end."""
        if command == COMMAND and not self.anew and hasattr(os, "pidfd_open"):
            warm = Commands.warm = Commands.warm or WarmProcess(Commands(self.cwd, self.store).environment())
            if warm.serves(variables := self.environment()):
                return Done(*warm.run([*map(str, arguments)], self.cwd, variables, timeout=120))
        process = self.start(*arguments, command=command)
        out, err = process.communicate(timeout=120)
        return Done(process.returncode, out, err)

    def run(self, flow: str, *arguments: str) -> str:
        """Run a flow that must succeed; FLOW/RUN."""
        done = self("run", flow, "--json", *arguments)
        assert done.code == 0, done.err
        name: str = done.json["run"]
        return name

    def write(self, name: str, text: str) -> Path:
        """A file in the working directory."""
        path = self.cwd / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path


def pytest_sessionfinish() -> None:
    """Let the process end that commands were forked off."""
    if Commands.warm is not None:
        Commands.warm.close()
        Commands.warm = None


@pytest.fixture(scope="session")
def interpreter_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of nothing but the interpreter that runs the tests, to be copied: packing it costs more than most runs."""
    root = tmp_path_factory.mktemp("interpreter") / "store"
    with Store.open(root) as store, Memo(store) as memo:
        keep_interpreter(describe_python(Path(sys.executable), memo, os.environ), store, memo, os.environ)
    return root


@pytest.fixture(scope="session")
def warm_store(tmp_path_factory: pytest.TempPathFactory, interpreter_store: Path) -> Path:
    """One store for tests that only add runs to it."""
    return shutil.copytree(interpreter_store, tmp_path_factory.mktemp("store") / "store")


@pytest.fixture
def stillrun(tmp_path: Path, warm_store: Path) -> Commands:
    """The command in an empty folder, on the shared store."""
    cwd = tmp_path / "work"
    cwd.mkdir()
    return Commands(cwd, warm_store)


@pytest.fixture
def lonely(tmp_path: Path, interpreter_store: Path) -> Commands:
    """The command in an empty folder, on a store of its own without runs, for tests that damage it."""
    cwd = tmp_path / "work"
    cwd.mkdir()
    return Commands(cwd, shutil.copytree(interpreter_store, tmp_path / "store"))
