"""A Jupyter kernel in the environment of a kept task, which need not have Jupyter: its parts are borrowed from elsewhere.

Only the kernel's own packages are borrowed, and only where the environment has none of them: what a notebook imports is
what the task would import.
"""

from __future__ import annotations

import importlib.machinery
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

__all__ = ["borrow_kernel", "run_kernel"]

_BORROWED = frozenset(
    {
        "IPython",
        "appnope",
        "asttokens",
        "backcall",
        "comm",
        "dateutil",
        "debugpy",
        "decorator",
        "exceptiongroup",
        "executing",
    }
    | {
        "ipykernel",
        "ipython_pygments_lexers",
        "jedi",
        "jupyter_client",
        "jupyter_core",
        "matplotlib_inline",
        "nest_asyncio",
    }
    | {"packaging", "parso", "pexpect", "pickleshare", "platformdirs", "prompt_toolkit", "psutil", "ptyprocess"}
    | {
        "pure_eval",
        "pygments",
        "pyzmq",
        "six",
        "stack_data",
        "tornado",
        "traitlets",
        "typing_extensions",
        "wcwidth",
        "zmq",
    }
    | {"psutil_linux", "_argon2", "pyzmq.libs"}
)


class _Lender:
    """Finds the kernel's packages in other folders, after everything else has been looked through."""

    def __init__(self, folders: Sequence[str]) -> None:
        self._folders = list(folders)

    def find_spec(self, name: str, path: object = None, target: object = None) -> Any:  # noqa: ARG002
        """The spec of a package that is borrowed; None for all others. Within packages their own path is followed."""
        if path is not None or name not in _BORROWED:
            return None
        return importlib.machinery.PathFinder.find_spec(name, self._folders)


def borrow_kernel(folders: Sequence[str]) -> None:
    """Let the kernel's packages be found in ``folders`` where this environment has none."""
    sys.meta_path.append(_Lender(folders))


def run_kernel(connection_file: str, names: dict[str, Any]) -> None:
    """Serve a kernel at a connection file, with ``names`` defined, until it is told to end."""
    from ipykernel.kernelapp import IPKernelApp  # type: ignore[import-not-found,unused-ignore]

    app: Any = IPKernelApp.instance(user_ns=names)
    app.initialize(["-f", connection_file])
    app.start()
