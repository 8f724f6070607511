"""What people see while a run or a replay goes on: notes, and every task's output with its prefix."""

from __future__ import annotations

import codecs
import os
import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TextIO

import click

from stillrun_cli.console import clean, duration, paint, word
from stillrun_engine.reporter import Reporter

if TYPE_CHECKING:
    from stillrun_engine.archive import KeptRun

__all__ = ["Narrator", "counted", "tell_unfinished"]

_LEFT_OUT_SHOWN = 5


class Narrator(Reporter):
    """Prints to ``out``: standard output for people, standard error when standard output carries JSON."""

    def __init__(self, *, as_json: bool, quiet: bool = False) -> None:
        self._out: TextIO = sys.stderr if as_json else sys.stdout
        self._quiet = quiet
        self._lines: dict[tuple[str, str, str], _Lines] = {}

    def say(self, text: str) -> None:
        """One line of our own."""
        try:
            print(text, file=self._out, flush=True)
        except BrokenPipeError:  # nobody reads any more; the work goes on
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._out.fileno())
            os.close(nowhere)

    def note(self, text: str) -> None:
        if not self._quiet:
            self.say(paint(clean(text), dim=True))

    def run_begins(self, pathspec: str, facts: Mapping[str, Any]) -> None:
        if "origin" in facts:
            self.say(f"Replaying {facts['origin']} as {paint(pathspec, bold=True)}: {counted(facts['tasks'], 'task')}")
            return
        code = facts["code"]
        given = ", ".join(f"{name}={clean(entry['text'])}" for name, entry in facts["parameters"].items())
        self.say(f"{paint(pathspec, bold=True)}" + (f"  {given}" if given else ""))
        self.note(
            f"code {code.tree[7:19]} ({counted(code.files, 'file')}), {counted(facts['environments'], 'environment')}"
        )
        for remark in code.notes:
            self.note(remark)
        for left in code.left_out[:_LEFT_OUT_SHOWN]:
            self.note(f"not captured: {left.path} ({left.reason})")
        if len(code.left_out) > _LEFT_OUT_SHOWN:
            self.note(
                f"not captured: {len(code.left_out) - _LEFT_OUT_SHOWN} more; 'stillrun code {pathspec} --json' names them"
            )

    def task_writes(self, step: str, task: str, stream: str, data: bytes) -> None:
        lines = self._lines.setdefault((step, task, stream), _Lines())
        for line in lines.feed(data):
            self._line(step, task, line)

    def task_ends(self, step: str, task: str, status: str, wall_us: int, error: Mapping[str, Any] | None) -> None:
        for stream in ("stdout", "stderr"):
            lines = self._lines.pop((step, task, stream), None)
            if lines is not None and (rest := lines.rest()):
                self._line(step, task, rest)
        if status == "failed" and error is not None and error.get("traceback"):
            for line in error["traceback"].rstrip().splitlines():
                self._line(step, task, line)
        if status != "reused" and (status != "ok" or not self._quiet):
            self.say(f"{_prefix(step, task)} {word(status)} in {duration(wall_us)}")

    def _line(self, step: str, task: str, line: str) -> None:
        self.say(f"{_prefix(step, task)} {clean(line)}")


class _Lines:
    """Bytes cut into lines of text, whatever the pieces they came in."""

    def __init__(self) -> None:
        self._decode = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._rest = ""

    def feed(self, data: bytes) -> list[str]:
        *lines, self._rest = (self._rest + self._decode.decode(data)).split("\n")
        return [line.rstrip("\r") for line in lines]

    def rest(self) -> str:
        return self._rest + self._decode.decode(b"", final=True)


def _prefix(step: str, task: str) -> str:
    return paint(f"[{step}/{task}]", fg="cyan")


def counted(number: int, noun: str) -> str:
    """A number with its noun: 1 task, 1,000 tasks."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def tell_unfinished(runs: Iterable[KeptRun]) -> None:
    """Say of which runs there will be more than can be looked at now."""
    for name in dict.fromkeys(run.pathspec for run in runs if run.status == "running"):
        click.echo(clean(f"{name} is still going on: only what has ended is looked at."), err=True)
