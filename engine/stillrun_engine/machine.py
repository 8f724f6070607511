"""What the machine is: facts that may explain a difference and are never part of a verdict."""

from __future__ import annotations

import getpass
import os
import platform
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

__all__ = ["RECORDED_VARIABLES", "graphics_of", "machine_facts", "recorded_variables"]

RECORDED_VARIABLES = (
    "BLIS_NUM_THREADS",
    "CUDA_VISIBLE_DEVICES",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "LC_NUMERIC",
    "LC_TIME",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "OMP_NUM_THREADS",
    "OPENBLAS_CORETYPE",
    "OPENBLAS_NUM_THREADS",
    "PYTHONHASHSEED",
    "TZ",
    "VECLIB_MAXIMUM_THREADS",
)
"""Environment variables that are kept with a run and put back at its replay. No other value is ever stored."""


def recorded_variables(variables: Mapping[str, str]) -> dict[str, str]:
    """The part of ``variables`` that a run keeps."""
    return {name: variables[name] for name in RECORDED_VARIABLES if name in variables}


@lru_cache(maxsize=1)
def machine_facts() -> dict[str, str | int]:
    """System, kernel, libc, processor and size of this machine, and its GPUs where a driver tells of some."""
    name, version = platform.libc_ver()
    gpus = graphics_of(Path("/proc/driver/nvidia"))
    return {
        **({"gpus": gpus} if gpus else {}),
        "system": platform.system(),
        "release": platform.release(),
        "machine": platform.machine(),
        "libc": f"{name} {version}".strip(),
        "processor": _processor(),
        "cores": os.cpu_count() or 1,
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
    }


def graphics_of(driver: Path) -> str:
    """The models of GPUs and the driver's version, as NVIDIA's driver tells them below ``driver``; empty where there is none."""
    try:
        told = [(path / "information").read_text() for path in sorted((driver / "gpus").iterdir())]
        version = re.search(r"Kernel Module.*?\s(\d+\.[\d.]+)", (driver / "version").read_text())
    except OSError:
        return ""
    models = [model[1].strip() for one in told if (model := re.search(r"^Model:(.*)$", one, re.MULTILINE))]
    return ", ".join(models) + (f"; driver {version[1]}" if models and version else "")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def user_of(variables: Mapping[str, str]) -> str | None:
    """Who runs it: METAFLOW_USER, as Metaflow's users know it, or the login name."""
    if variables.get("STILLRUN_USER") or variables.get("METAFLOW_USER"):
        return variables.get("STILLRUN_USER") or variables["METAFLOW_USER"]
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return None
