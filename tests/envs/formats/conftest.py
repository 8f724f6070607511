"""The tools that judge what was written."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest
from tests.envs.formats.kit import BIN, ROOT


@pytest.fixture(scope="session")
def conda(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A conda that conda-lock can call."""
    script = tmp_path_factory.mktemp("conda") / "conda"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} {ROOT}/fixtures/conda/rattler_conda.py "$@"\n')
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return script


@pytest.fixture(scope="session")
def offline(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Variables with which no tool finds a network, a conda or settings of a user."""
    home = tmp_path_factory.mktemp("home")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("UV_", "PIP_", "CONDA", "MAMBA"))}
    nowhere = "http://127.0.0.1:9"
    proxies = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), nowhere)
    return {
        **kept,
        **proxies,
        "no_proxy": "127.0.0.1",
        "NO_PROXY": "127.0.0.1",
        "HOME": str(home),
        "PATH": f"{BIN}:/usr/bin:/bin",
        "UV_CACHE_DIR": str(home / "uv"),
        "UV_HTTP_RETRIES": "0",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_CONFIG_FILE": os.devnull,
    }
