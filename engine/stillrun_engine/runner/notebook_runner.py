"""NBRunner: a flow that is defined in a notebook, written to a file with all that it uses, and run from there."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stillrun_engine.client.runs import Run
from stillrun_engine.runner.cells import flow_text
from stillrun_engine.runner.errors import RunnerError
from stillrun_engine.runner.executing import ExecutingRun, ExecutingTask
from stillrun_engine.runner.runner import Runner

__all__ = ["NBRunner"]

_MARK = "# Written by Stillrun's NBRunner from a notebook; it is removed when the runner is cleaned up.\n"


class NBRunner:
    """Runs a flow class of this notebook: ``NBRunner(Study).nbrun(alpha=3)``.

    base_dir: the folder to run in, where the file is written; the current one when None. Other arguments: as of Runner.
    The file holds the class, and the imports, functions, classes and simple values of all cells that it refers to.
    """

    def __init__(
        self,
        flow: type,
        show_output: bool = True,
        profile: str | None = None,
        env: Mapping[str, str] | None = None,
        base_dir: str | os.PathLike[str] | None = None,
        file_read_timeout: int = 3600,
        **options: Any,
    ) -> None:
        text = flow_text(flow)
        folder = Path.cwd() if base_dir is None else Path(base_dir).absolute()
        self.flow_script = folder / f"nb_{flow.__name__}.py"
        if self.flow_script.exists() and not self.flow_script.read_text("utf-8", "replace").startswith(_MARK):
            raise RunnerError(
                f"{self.flow_script} is a file of yours, and would be written over; choose another base_dir."
            )
        self.flow_script.write_text(f"{_MARK}{text}\n\nif __name__ == '__main__':\n    {flow.__name__}()\n", "utf-8")
        self.runner = Runner(self.flow_script, show_output, profile, env, folder, file_read_timeout, **options)

    def nbrun(self, **kwargs: Any) -> Run:
        """Run the flow to its end and clean up; the run."""
        try:
            return self.runner.run(**kwargs).run
        finally:
            self.cleanup()

    def nbresume(self, **kwargs: Any) -> Run:
        """Go on from an earlier run, to the end, and clean up; the new run."""
        try:
            return self.runner.resume(**kwargs).run
        finally:
            self.cleanup()

    def run(self, **kwargs: Any) -> ExecutingRun:
        """Run the flow to its end; ``cleanup`` is yours to call."""
        return self.runner.run(**kwargs)

    def resume(self, **kwargs: Any) -> ExecutingRun:
        """Go on from an earlier run, to the end; ``cleanup`` is yours to call."""
        return self.runner.resume(**kwargs)

    async def async_run(self, **kwargs: Any) -> ExecutingRun:
        """Begin to run the flow; ``cleanup`` is yours to call."""
        return await self.runner.async_run(**kwargs)

    async def async_resume(self, **kwargs: Any) -> ExecutingRun:
        """Begin to go on from an earlier run; ``cleanup`` is yours to call."""
        return await self.runner.async_resume(**kwargs)

    def spin(self, pathspec: str, **kwargs: Any) -> ExecutingTask:
        """Run one step on the artifacts of an earlier task; ``cleanup`` is yours to call."""
        return self.runner.spin(pathspec, **kwargs)

    def cleanup(self) -> None:
        """End what still runs, and remove the file."""
        self.runner.cleanup()
        self.flow_script.unlink(missing_ok=True)
