"""`stillrun debug FLOW/RUN/STEP[/TASK]`: a prompt in a task's rebuilt environment, with its recorded inputs."""

from __future__ import annotations

import os
import subprocess

import click

from stillrun_cli.console import store_option
from stillrun_cli.narrator import Narrator
from stillrun_cli.settings import caller, open_store
from stillrun_engine.archive import open_run
from stillrun_engine.debugging import opened_task
from stillrun_engine.pathspec import parse_pathspec
from stillrun_snapshot.store import Store

__all__ = ["debug_command", "open_by_hand"]


@click.command("debug", short_help="Open a task by hand, in its environment and with its inputs.")
@click.argument("pathspec", metavar="FLOW/RUN/STEP[/TASK]")
@click.option("--pdb", "to_failure", is_flag=True, help="Run the step; where it fails, a debugger stands.")
@click.option("--notebook", is_flag=True, help="Open a Jupyter notebook there; Jupyter is taken from your environment.")
@click.option("--shell", is_flag=True, help="Open a shell there instead of a Python prompt.")
@store_option
@click.pass_context
def debug_command(ctx: click.Context, pathspec: str, to_failure: bool, notebook: bool, shell: bool) -> int:
    """Rebuild a task's environment, code, inputs and files, and open a Python prompt in it, with `self` as the step gets it.

    Nothing that is done there is kept. The exit code is that of the prompt, the shell or the debugger.
    """
    if to_failure + notebook + shell > 1:
        raise click.UsageError("--pdb, --notebook and --shell are three ways to open a task; choose one.")
    with open_store(ctx) as store:
        mode = "notebook" if notebook else "shell" if shell else "pdb" if to_failure else "python"
        return open_by_hand(store, pathspec, mode)


def open_by_hand(store: Store, pathspec: str, mode: str) -> int:
    """Open one task: 'python' for a prompt, 'pdb' at its failure, 'shell', 'notebook'. The exit code of what was opened."""
    narrator = Narrator(as_json=True)  # standard output is the prompt's
    run = open_run(store, parse_pathspec(pathspec, least=3, most=4))
    with opened_task(run, caller(), "pdb" if mode == "pdb" else "python", narrator) as task:
        words, variables = list(task.words), dict(task.variables)
        if mode == "shell":
            narrator.note(f"a shell in the environment of {task.pathspec}; leave it with 'exit'.")
            words = [os.environ.get("SHELL") or "/bin/sh"]
            variables["PATH"] = f"{task.python.parent}{os.pathsep}{variables.get('PATH', '')}"
        if mode == "notebook":
            from stillrun_engine.notebook import notebook_of, program_for

            python = caller().python
            opened = notebook_of(task, python, task.folder)
            words = [program_for(python, os.environ.get("PATH", "")), str(opened.page)]
            return subprocess.call(words, env={**os.environ, **opened.variables}, cwd=task.folder)
        return subprocess.call([*task.wrapper, *words], env=variables, cwd=task.cwd)
