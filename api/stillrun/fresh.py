"""Tasks in new interpreters: the flow is imported anew for each. Slower than a fork, for libraries that cannot be forked."""

from __future__ import annotations

import os
import sys
import time

from stillrun import remote
from stillrun.children import Child, leave, spawn, usable_output
from stillrun.failure import error
from stillrun.flowfile import LoadedFlow, Refused, load_as_asked
from stillrun.frames import pack, unpack
from stillrun.places import FACE
from stillrun.task import Outcome, run_task

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Mapping

__all__ = ["NOTHING", "load_in_place", "main", "report", "spawn_fresh"]

NOTHING: dict[str, Any] = {"artifacts": {}, "next": None}
"""What a RESULT says of a task that did not come to run."""
_COMMAND = "import sys; sys.path[0] = sys.argv[1]; from stillrun.fresh import main; main()"


def spawn_fresh(load: Mapping[str, Any], spec: Mapping[str, Any], body: bytes, forget: Callable[[], None]) -> Child:
    """A child that becomes a new interpreter and runs the task of ``spec``. load: the message that named the flow."""
    with _nameless_file(spec["spill"]) as order:
        for piece in pack({"load": load, "spec": spec}, body):
            order.write(piece)
        order.seek(0)

        def run(result: int) -> int:
            os.set_inheritable(order.fileno(), True)
            os.set_inheritable(result, True)
            command = [sys.executable, *_options(), "-c", _COMMAND, os.path.dirname(FACE)]
            command += [str(order.fileno()), str(result), *remote.passed_on()]
            os.execv(sys.executable, command)  # noqa: S606  # no shell

        return spawn(run, forget)


def load_in_place(header: Mapping[str, Any]) -> LoadedFlow:
    """The flow of a load message, in its working directory. Raises Refused."""
    try:
        os.chdir(header["cwd"])
    except OSError as err:
        what = f"the working directory {header['cwd']} cannot be entered ({err.strerror})."
        raise Refused(error("flow", what, cure="Start the run from a folder that exists.")) from err
    return load_as_asked(header)


def report(outcome: Outcome, result: int) -> int:
    """Send a task's result to the host, last of all that the task does; its exit code comes back."""
    leave()
    with open(result, "wb", buffering=0) as pipe:
        for piece in pack(outcome.result, outcome.body):
            view = memoryview(piece)
            while len(view):
                view = view[pipe.write(view) or 0 :]
    return outcome.code


def _nameless_file(folder: str) -> Any:
    path = os.path.join(folder, f"order-{os.getpid()}-{time.monotonic_ns()}")
    file = open(path, "x+b")  # noqa: SIM115 - the caller closes it
    os.unlink(path)
    return file


def _options() -> list[str]:
    """The options that this interpreter was started with, as far as an engine gives them."""
    flags = (
        ("-s", sys.flags.no_user_site),
        ("-B", sys.flags.dont_write_bytecode),
        ("-E", sys.flags.ignore_environment),
    )
    return [option for option, given in flags if given]


def main() -> None:
    """Run one task in this new interpreter: ``FACE_DIR ORDER_FD RESULT_FD [SERVICE_FD]`` on the command line."""
    usable_output()
    order, result = int(sys.argv[2]), int(sys.argv[3])
    remote.serve_from(sys.argv[4:])
    for descriptor in (order, result):
        os.set_inheritable(descriptor, False)
    with open(order, "rb") as file:
        header, body = next(unpack(bytearray(file.read())))
    try:
        outcome = run_task(load_in_place(header["load"]), header["spec"], body)
    except Refused as refused:
        why = {**refused.error, "step": header["spec"]["step"]}
        outcome = Outcome({"ok": False, **NOTHING, "error": why}, b"", 1)
    os._exit(report(outcome, result))
