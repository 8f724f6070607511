"""The process that compares results: ``python -c "… from stillrun.compare_jobs import main; main()" FACE_DIR``.

Reads jobs from standard input and answers each, as docs/spec/verdict.md says, "Differences". The engine times it; imports
do not count, so this tells when the clock is to stand.
"""

from __future__ import annotations

import builtins
import json
import os
import sys

from stillrun.compare import compared

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TextIO

    from stillrun.reader import ArtifactReader

__all__ = ["main"]

_ERROR_MAX = 500


def main() -> None:
    """Answer one job after the other, each a line of JSON, until there are no more."""
    import warnings

    from stillrun.flowfile import Refused, load_as_asked
    from stillrun.reader import ArtifactReader

    warnings.simplefilter("ignore")
    answers = _Answers(os.fdopen(os.dup(1), "w", encoding="utf-8"))
    os.dup2(2, 1)  # what the flow prints is no answer
    first = json.loads(sys.stdin.readline())
    try:
        load_as_asked(first)
    except Refused as refused:
        answers.say(error=refused.error["message"])
        return
    answers.say(ready=True)
    _ImportWatch(answers).begin()
    for line in sys.stdin:
        answers.say(**_answer(json.loads(line), ArtifactReader(b""), answers))


def _answer(job: dict[str, Any], reader: ArtifactReader, answers: _Answers) -> dict[str, Any]:
    """The DIFFERENCE between the two values that a job names."""
    verb = "opened"
    try:
        before, after = (reader.load(job[side], job["name"]) for side in ("before", "after"))
        answers.say(clock="anew")
        verb = "compared"
        return compared(before, after, job["name"], job.get("rtol", 0.0), job.get("atol", 0.0))
    except BaseException as err:  # the values' own code may raise anything
        return {"error": f"it cannot be {verb} ({type(err).__name__}: {err})"[:_ERROR_MAX]}


class _Answers:
    """The way to the engine."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def say(self, **told: Any) -> None:
        """One line of JSON."""
        print(json.dumps(told), file=self._stream, flush=True)


class _ImportWatch:
    """Lets the clock stand while modules that are not there yet are imported: a library may take longer than any value."""

    def __init__(self, answers: _Answers) -> None:
        self._answers, self._import = answers, builtins.__import__
        self._within = self._stands = False

    def begin(self) -> None:
        """Watch every import from now on."""
        builtins.__import__ = self._imported
        sys.meta_path.insert(0, self)  # finds nothing, but is asked

    def find_spec(self, *_: Any) -> None:
        """Called by Python for a module that was not imported before."""
        if self._within and not self._stands:
            self._stands = True
            self._answers.say(clock="stop")

    def _imported(self, *asked: Any, **named: Any) -> Any:
        if self._within:
            return self._import(*asked, **named)
        self._within = True
        try:
            return self._import(*asked, **named)
        finally:
            self._within = False
            if self._stands:
                self._stands = False
                self._answers.say(clock="go")
