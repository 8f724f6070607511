"""Flows run from Python, in scripts and notebooks: Runner and NBRunner, with the members that Metaflow's users know."""

from stillrun_engine.runner.errors import RunnerError
from stillrun_engine.runner.executing import ExecutingRun, ExecutingTask
from stillrun_engine.runner.notebook_runner import NBRunner
from stillrun_engine.runner.runner import Runner

__all__ = ["ExecutingRun", "ExecutingTask", "NBRunner", "Runner", "RunnerError"]
