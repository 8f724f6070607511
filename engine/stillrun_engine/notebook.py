"""A Jupyter notebook on an opened task: a kernel of its own, and a notebook that uses it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

from stillrun_engine.debugging import OpenedTask
from stillrun_engine.errors import EngineError
from stillrun_snapshot.deferred import dataclass

__all__ = ["Notebook", "notebook_of", "program_for"]

_NAME = "stillrun-task"
_ASK = (
    "import sys, site, json, ipykernel; "
    "print(json.dumps([list(sys.version_info[:2]), [each for each in sys.path if each.endswith('-packages')]]))"
)


@dataclass(frozen=True)
class Notebook:
    """page: its file; variables: those that Jupyter needs besides; kernels: the folder that JUPYTER_PATH names."""

    page: Path
    variables: dict[str, str]
    kernels: Path


def notebook_of(task: OpenedTask, python: Path, folder: Path) -> Notebook:
    """Make a kernel and a notebook for ``task`` in ``folder``. python: the interpreter that has Jupyter's kernel.

    Raises EngineError when it has none, or one for another Python than the task's.
    """
    asked = subprocess.run([python, "-c", _ASK], capture_output=True, text=True, check=False)
    if asked.returncode != 0:
        raise EngineError(
            f"{python} has no Jupyter kernel to lend; install 'ipykernel' and 'jupyterlab' there, or leave out --notebook."
        )
    version, folders = json.loads(asked.stdout.splitlines()[-1])
    ours = subprocess.run(
        [task.python, "-c", "import sys; print(*sys.version_info[:2])"], capture_output=True, text=True, check=True
    ).stdout.split()
    if [str(part) for part in version] != ours:
        raise EngineError(
            f"the task's Python is {'.'.join(ours)} and the Jupyter kernel of {python} is for "
            f"{'.'.join(map(str, version))}; activate an environment with 'ipykernel' for the former."
        )
    kernels = folder / "jupyter"
    spec = kernels / "kernels" / _NAME
    spec.mkdir(parents=True)
    argv = [*task.wrapper, *task.words[:-1], "kernel", "{connection_file}", os.pathsep.join(folders)]
    told = {"argv": argv, "display_name": task.pathspec, "language": "python", "env": dict(task.variables)}
    (spec / "kernel.json").write_text(json.dumps(told, indent=1), encoding="utf-8")
    page = folder / "task.ipynb"
    page.write_text(json.dumps(_page(task.pathspec)), encoding="utf-8")
    return Notebook(page, {"JUPYTER_PATH": str(kernels)}, kernels)


def program_for(python: Path, path: str) -> str:
    """The Jupyter that is beside ``python`` or on ``path``. Raises EngineError when there is none."""
    places = f"{python.parent}{os.pathsep}{path}"
    found = shutil.which("jupyter-lab", path=places) or shutil.which("jupyter-notebook", path=places)
    if found is None:
        raise EngineError(
            f"there is no jupyter-lab and no jupyter-notebook beside {python} or on the path; install 'jupyterlab' there, or "
            "leave out --notebook."
        )
    return found


def _page(pathspec: str) -> dict[str, object]:
    """A notebook that says where it is."""
    source = f"# {pathspec}: self is the flow as the step gets it; nothing that is done here is kept\nself"
    cell: dict[str, object] = {"cell_type": "code", "execution_count": None, "id": "first", "source": source}
    cell.update(metadata={}, outputs=[])
    kernel = {"kernelspec": {"name": _NAME, "display_name": pathspec, "language": "python"}}
    return {"cells": [cell], "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}
