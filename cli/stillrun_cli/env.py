"""`stillrun env ...`: make, look at, use and clean up environments. Each command is imported when it is called."""

from __future__ import annotations

import click

from stillrun_cli.group import LazyGroup

__all__ = ["env_group"]

_COMMANDS = {
    "lock": ("stillrun_cli.env_make", "Lock what a flow or a file asks for, and keep it."),
    "update": ("stillrun_cli.env_make", "Lock again with newer versions, of all or of some packages."),
    "import": ("stillrun_cli.env_make", "Keep exactly what a lock file of another tool says."),
    "match": ("stillrun_cli.env_make", "Find on the index the wheels that an environment was installed from."),
    "export": ("stillrun_cli.env_make", "Write a lock as a file of another tool."),
    "list": ("stillrun_cli.env_look", "List locks, names and built environments."),
    "show": ("stillrun_cli.env_look", "Show the Python and the packages of an environment."),
    "diff": ("stillrun_cli.env_look", "Show what differs between two environments, and why it is there."),
    "why": ("stillrun_cli.env_look", "Show what a package is there for."),
    "build": ("stillrun_cli.env_use", "Build an environment from what is kept, without network."),
    "run": ("stillrun_cli.env_use", "Run a command in an environment."),
    "shell": ("stillrun_cli.env_use", "Open a shell in an environment."),
    "verify": ("stillrun_cli.env_use", "Hash what is kept and what is built of an environment."),
    "pin": ("stillrun_cli.env_use", "Give a lock a name; it is never cleaned up."),
    "unpin": ("stillrun_cli.env_use", "Forget a name."),
    "gc": ("stillrun_cli.env_use", "Remove built environments that nobody used for long."),
}
_LAZY = {name: (module, f"{name}_command", summary) for name, (module, summary) in _COMMANDS.items()}


@click.group(cls=LazyGroup, lazy=_LAZY, short_help="Make, look at and use environments.")
def env_group() -> None:
    """Make, look at and use environments.

    ENV is a name, a digest or the beginning of one, FLOW/RUN/STEP, or a file such as environment.yml or pylock.toml.
    """
