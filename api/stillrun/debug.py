"""A task of a kept run, opened up by hand: its inputs bound in a Python prompt, or the step run to where it fails.

``python -c "… from stillrun.debug import main; main()" FACE_DIR ORDER MODE``: ORDER is a file with one frame of the host
protocol whose header holds ``load`` and ``spec``; MODE is ``python``, ``pdb``, or ``kernel CONNECTION_FILE FOLDERS``.
"""

from __future__ import annotations

import code
import os
import sys
import traceback

from stillrun.context import current
from stillrun.flowfile import Refused, load_as_asked
from stillrun.frames import unpack
from stillrun.kernel import borrow_kernel, run_kernel
from stillrun.reader import ArtifactReader
from stillrun.task import opened

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["main"]


def main() -> None:
    """Open one task."""
    words = list(sys.argv)  # a flow is loaded with words of its own
    with open(words[2], "rb") as file:
        header, body = next(unpack(bytearray(file.read())))
    mode, asked, spec = words[3], header["load"], header["spec"]
    if mode == "kernel":
        borrow_kernel(words[5].split(os.pathsep))
    try:
        loaded = load_as_asked(asked)
    except Refused as refused:
        sys.exit(f"stillrun: {refused.error['message']}")
    flow, arguments = opened(loaded, spec, ArtifactReader(body))
    if mode == "pdb":
        sys.exit(_to_the_failure(flow, spec["step"], arguments))
    names: dict[str, Any] = {"self": flow, "current": current, "flow": loaded.flow}
    names.update({"inputs": arguments[0]} if arguments else {})
    if mode == "kernel":
        run_kernel(words[4], names)
        return
    told = ", ".join(sorted(names))
    banner = (
        f"{spec['flow']}/{spec['run']}/{spec['step']}/{spec['task']} with its recorded inputs: {told}.\n"
        f"self.{spec['step']}({'inputs' if arguments else ''}) runs the step; nothing that is done here is kept."
    )
    code.interact(banner=banner, local=names, exitmsg="")


def _to_the_failure(flow: Any, step: str, arguments: list[Any]) -> int:
    """Run the step; where it fails, a debugger stands. The exit code: 1 when it failed."""
    import pdb

    try:
        getattr(flow, step)(*arguments)
    except BaseException as err:
        traceback.print_exc()
        pdb.post_mortem(err.__traceback__)
        return 1
    sys.stderr.write(f"the step {step!r} ended without a failure.\n")
    return 0
