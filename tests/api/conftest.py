"""Step hosts that are ended with their test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .driver import HostProcess


@pytest.fixture
def new_host(tmp_path: Path) -> Iterator[Callable[..., HostProcess]]:
    """Starts step hosts in the test's folder."""
    hosts: list[HostProcess] = []

    def start(*arguments: Any, **variables: Any) -> HostProcess:
        hosts.append(HostProcess(tmp_path, *arguments, **variables))
        return hosts[-1]

    yield start
    for host in hosts:
        host.close()


@pytest.fixture
def host(new_host: Callable[..., HostProcess]) -> HostProcess:
    """A step host of the interpreter that runs the tests."""
    return new_host()
