"""`stillrun env ...`: make, look at, use and clean up environments. Each command is imported when it is called."""

from __future__ import annotations

import importlib

import click

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


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        if name not in _COMMANDS:
            return None
        command: click.Command = getattr(importlib.import_module(_COMMANDS[name][0]), f"{name}_command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, _COMMANDS[name][1]) for name in self.list_commands(ctx)])


@click.group(cls=_LazyGroup, short_help="Make, look at and use environments.")
def env_group() -> None:
    """Make, look at and use environments.

    ENV is a name, a digest or the beginning of one, FLOW/RUN/STEP, or a file such as environment.yml or pylock.toml.
    """
