"""Flows whose imports do not survive a fork get a new interpreter for each task, by themselves."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from tests.api.driver import HostProcess, write_flow

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other systems tell nothing of native threads")

FLOW = """
from stillrun import *
import os
{imports}
here = os.getpid()

class Flow(FlowSpec):
    @step
    def start(self):
        self.fresh = here == os.getpid()
        {work}
        self.next(self.end)
    @step
    def end(self): ...
"""


def begun(host: HostProcess, folder: Path, imports: str, work: str = "pass") -> tuple[str, str | None]:
    """Whether a task was a new interpreter, and why."""
    host.load(write_flow(folder, FLOW.replace("{imports}", imports).replace("{work}", work)))
    told: list[Any] = []
    host.start("a", "start")
    done = host.finish(1, lambda header, _: told.append(header))["a"]
    return done.artifacts["fresh"]["preview"], next(
        each.get("unsafe_to_fork") for each in told if each["op"] == "started"
    )


def test_plain_flows_are_forked(host: HostProcess, tmp_path: Path) -> None:
    assert begun(host, tmp_path, "import threading, socket, concurrent.futures") == ("False", None)


@pytest.mark.parametrize(
    "imports", ["import numpy", "import numpy, scipy.linalg", "import pandas, sklearn.linear_model"]
)
def test_numerical_libraries_are_forked(host: HostProcess, tmp_path: Path, imports: str) -> None:
    """Their threads are OpenBLAS's, which knows of forks."""
    work = "import numpy; self.x = float((numpy.ones((300, 300)) @ numpy.ones((300, 300))).sum())"
    assert begun(host, tmp_path, imports, work) == ("False", None)


def test_a_thread_that_the_import_started(host: HostProcess, tmp_path: Path) -> None:
    imports = "import threading; threading.Thread(target=threading.Event().wait, name='watcher', daemon=True).start()"
    assert begun(host, tmp_path, imports) == ("True", "code that leaves the thread 'watcher' running")


def test_a_thread_that_has_ended_does_not_count(host: HostProcess, tmp_path: Path) -> None:
    imports = "import threading; each = threading.Thread(target=print); each.start(); each.join()"
    assert begun(host, tmp_path, imports) == ("False", None)


def test_a_pool_that_a_library_has_started(host: HostProcess, tmp_path: Path) -> None:
    """Polars' threads would be waited for for ever by what is forked."""
    pytest.importorskip("polars")
    imports = "import polars; before = polars.DataFrame({'a': range(100_000)}).group_by('a').len()"
    work = "self.x = polars.DataFrame({'a': range(100_000)}).group_by('a').len().height"
    fresh, why = begun(host, tmp_path, imports, work)
    assert fresh == "True"
    assert why is not None
    assert why.startswith("a library that has started threads")


def test_native_threads_without_a_name(host: HostProcess, tmp_path: Path) -> None:
    """As an OpenMP pool leaves them after work at import."""
    imports = "import _thread, time; _thread.start_new_thread(time.sleep, (1000,))"
    assert begun(host, tmp_path, imports) == ("True", "a library that has started threads")
