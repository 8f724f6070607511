"""One group whose commands are imported when they are called, and errors turned into exit codes."""

from __future__ import annotations

import importlib
import io
import sys
from collections.abc import Mapping
from typing import Any

import click

from stillrun_cli.console import store_option

__all__ = ["LazyGroup", "run_group", "stillrun"]

_COMMANDS = {
    "run": ("stillrun_cli.run", "run_command", "Run a flow and keep everything."),
    "resume": ("stillrun_cli.resume", "resume_command", "Go on from an earlier run."),
    "spin": ("stillrun_cli.spin", "spin_command", "Run one step on the artifacts of an earlier task."),
    "replay": ("stillrun_cli.replay", "replay_command", "Run a kept run, step or task again and judge it."),
    "debug": ("stillrun_cli.debug", "debug_command", "Open a task by hand, in its environment and with its inputs."),
    "diff": ("stillrun_cli.compare", "diff_command", "Show how two runs, steps or tasks differ."),
    "why": ("stillrun_cli.compare", "why_command", "Say in one sentence why two runs differ."),
    "bisect": (
        "stillrun_cli.bisect",
        "bisect_command",
        "Find the package or the commit that made a result another one.",
    ),
    "list": ("stillrun_cli.listing", "list_command", "List kept runs."),
    "show": ("stillrun_cli.show", "show_command", "Show a run, a step or a task."),
    "tag": ("stillrun_cli.tag", "tag_group", "Add, remove and list the tags of a run."),
    "logs": ("stillrun_cli.logs", "logs_command", "Print what tasks wrote."),
    "artifact": ("stillrun_cli.artifact", "artifact_command", "Show an artifact, or write it to a file."),
    "inputs": ("stillrun_cli.inputs", "inputs_command", "List the files that tasks read, or write a kept copy of one."),
    "code": ("stillrun_cli.code", "code_command", "List or extract the captured code."),
    "env": ("stillrun_cli.env", "env_group", "Look at kept environments."),
    "verify": ("stillrun_cli.verify", "verify_command", "Hash everything that a run stands on."),
    "log": ("stillrun_cli.log", "log_command", "List what was done in the store, by the log."),
    "sign": ("stillrun_cli.sign", "sign_command", "Sign a run: who, when, and what it means."),
    "key": ("stillrun_cli.key", "key_group", "Make, list, hand out and revoke the keys that sign."),
    "checkpoint": (
        "stillrun_cli.checkpoint",
        "checkpoint_group",
        "Lines to keep elsewhere that show later whether the log was changed.",
    ),
    "scan": ("stillrun_cli.scan", "scan_command", "Look for secrets in a flow's code, or in what a run has kept."),
    "redact": (
        "stillrun_cli.redact",
        "redact_command",
        "Take an object's bytes out of the store, by a signed tombstone.",
    ),
    "audit": ("stillrun_cli.audit", "audit_command", "Write a report of a run for people who doubt it."),
    "export": ("stillrun_cli.carry", "export_command", "Put runs in one file that replays anywhere."),
    "import": ("stillrun_cli.carry", "import_command", "Take in the runs of a file that 'export' wrote."),
    "forget": ("stillrun_cli.forget", "forget_command", "Forget runs; the log says why."),
    "pin": ("stillrun_cli.pin", "pin_command", "Pin a run, so that it is never forgotten; list pins."),
    "unpin": ("stillrun_cli.pin", "unpin_command", "Take the pin off a run."),
    "remote": ("stillrun_cli.remote", "remote_group", "Places to share runs through: buckets and folders."),
    "push": ("stillrun_cli.sharing", "push_command", "Put runs in a remote."),
    "pull": ("stillrun_cli.sharing", "pull_command", "Take runs from a remote, whole."),
    "fetch": (
        "stillrun_cli.sharing",
        "fetch_command",
        "Take the records of runs from a remote; results when asked for.",
    ),
    "store": ("stillrun_cli.store", "store_group", "Look after the store."),
    "completion": ("stillrun_cli.completion", "completion_command", "Print the shell completion script."),
    "flow": ("stillrun_cli.flow", "flow_group", ""),
}
_READER_LEFT = 141  # 128 + SIGPIPE


class LazyGroup(click.Group):
    """Knows its commands' names and summaries, and imports a command only to run it or to show its own help."""

    def __init__(self, *args: Any, lazy: Mapping[str, tuple[str, str, str]], **kwargs: Any) -> None:
        """lazy: for each command the module, the name there, and the summary; one without summary is not listed."""
        super().__init__(*args, **kwargs)
        self._lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*super().list_commands(ctx), *(name for name, (_, _, summary) in self._lazy.items() if summary)]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in self._lazy:
            return super().get_command(ctx, name)
        module, attribute, _ = self._lazy[name]
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, self._summary(ctx, name)) for name in self.list_commands(ctx)])

    def _summary(self, ctx: click.Context, name: str) -> str:
        if name in self._lazy:
            return self._lazy[name][2]
        command = self.get_command(ctx, name)
        return "" if command is None else command.get_short_help_str(limit=100)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and not args[0].startswith("-") and args[0] not in {*self._lazy, *self.commands}:
            import difflib

            close = difflib.get_close_matches(args[0], self.list_commands(ctx), n=1)
            hint = f" Did you mean '{close[0]}'?" if close else ""
            ctx.fail(f"there is no command '{args[0]}'.{hint}")
        return super().resolve_command(ctx, args)


@click.group(cls=LazyGroup, lazy=_COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="stillrun", prog_name="stillrun")
@store_option
def stillrun() -> None:
    """Data-science flows whose runs still run years later.

    \b
    stillrun run flow.py            run it and keep code, environments, data and results
    stillrun replay Flow/latest     rebuild all of that and run it again: is it the same?
    """


def run_group(arguments: list[str]) -> int:
    """Run the command line; its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    return _guarded(arguments)


def _guarded(arguments: list[str]) -> int:
    try:
        result = stillrun.main(args=arguments, prog_name="stillrun", standalone_mode=False)
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.Abort:
        return 130
    except KeyboardInterrupt:
        return 130
    except SystemExit:  # click's answer to a reader that has left
        return _READER_LEFT
    except click.ClickException as err:
        err.show()
        return 2
    except Exception as err:
        return _told(err, as_json="--json" in arguments)
    return result if isinstance(result, int) else 0


def _told(err: Exception, *, as_json: bool) -> int:
    """Print an error raised on purpose as one sentence; let anything else show its traceback."""
    from stillrun_snapshot.errors import StillrunError

    if not isinstance(err, StillrunError):
        raise err
    if as_json:
        import json

        facts = {"error": {"type": type(err).__name__, "message": str(err), "problems": getattr(err, "facts", [])}}
        click.echo(json.dumps({"verdict": "error", **facts}))
    click.echo(f"stillrun: {err}", err=True)
    return err.exit_code
