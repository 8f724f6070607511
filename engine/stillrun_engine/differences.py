"""What differs between two kept artifacts: asked of a process in the environment that they were made in.

Nothing is unpickled here. The process may crash, hang or lie without harm: then the artifacts are not comparable.
"""

from __future__ import annotations

import json
import selectors
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from stillrun_engine.host_process import Launch
from stillrun_engine.policy import Tolerance
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.store import Store

__all__ = ["Differ"]

_BOOT = "import sys; sys.path[0] = sys.argv[1]; from stillrun.compare_jobs import main; main()"
_START_S = 120.0  # to import the flow
_IMPORTS_S = 120.0  # to import what the values of one artifact need
_ANSWER_MAX = 4 << 20  # bytes


class Differ:
    """Compares artifacts in one environment. Its process starts with the first question, and anew after it was lost.

    launch: how the environment's hosts are started. face: today's, which need not be the run's. load: the 'load'
    request of the flow, so that its classes can be found. limit_s: most time to open the two values of one artifact, and
    again to compare them; imports do not count.
    """

    def __init__(
        self, store: Store, launch: Launch, face: Path, load: Mapping[str, Any], limit_s: float = 60.0
    ) -> None:
        self._store, self._launch, self._face, self._load, self._limit_s = store, launch, face, load, limit_s
        self._process: subprocess.Popen[bytes] | None = None
        self._scratch = store.scratch("compare")
        self._received = b""
        self._broken: str | None = None

    def __enter__(self) -> Differ:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()
        shutil.rmtree(self._scratch, ignore_errors=True)

    def between(self, name: str, before: Digest, after: Digest, tolerance: Tolerance | None) -> dict[str, Any]:
        """The DIFFERENCE of docs/spec/verdict.md between two artifact records; ``error`` in it when there is no answer."""
        allowed = tolerance or Tolerance()
        if self._broken is not None:
            return {"error": self._broken}
        job = {
            "name": name,
            "before": self._reference(before),
            "after": self._reference(after),
            "rtol": allowed.rtol,
            "atol": allowed.atol,
        }
        if self._process is None:
            started = self._started()
            if "error" in started:
                self._end()
                self._broken = str(started["error"])
                return {"error": self._broken}
        answer = self._asked(job, self._limit_s)
        if answer.pop("lost", False):
            self._end()
        found: dict[str, Any] = _without_floats(answer)
        return found

    def _started(self) -> dict[str, Any]:
        launch = self._launch
        flags = [] if launch.user_site else ["-s"]
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        try:
            self._process = subprocess.Popen(
                [*launch.wrapper, launch.python, *flags, "-B", "-c", _BOOT, self._face],
                env=dict(launch.variables),
                cwd=launch.cwd,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                start_new_session=True,
            )
        except OSError as err:
            return {"error": f"{launch.python} cannot be started ({err.strerror})"}
        return self._asked(self._load, _START_S)

    def _asked(self, question: Mapping[str, Any], limit_s: float) -> dict[str, Any]:
        process = self._process
        assert process is not None and process.stdin is not None and process.stdout is not None, "it was started"
        try:
            process.stdin.write(json.dumps(question).encode() + b"\n")
            process.stdin.flush()
        except OSError:
            return self._lost()
        clock = _Clock(limit_s)
        while True:
            answer = self._line(process, clock)
            if "clock" not in answer:
                return answer
            clock.heed(answer["clock"])

    def _line(self, process: subprocess.Popen[bytes], clock: _Clock) -> dict[str, Any]:
        """The next line of an answer, or why there is none."""
        stream = process.stdout
        assert stream is not None, "it was started with a pipe"
        with selectors.DefaultSelector() as selector:
            selector.register(stream, selectors.EVENT_READ)
            while b"\n" not in self._received:
                if not selector.select(clock.left):
                    return {"error": clock.told, "lost": True}
                data = stream.read1(1 << 16)  # type: ignore[attr-defined]  # it is buffered
                if not data:
                    return self._lost()
                self._received += data
                if len(self._received) > _ANSWER_MAX:
                    return {"error": "the answer has no end", "lost": True}
        line, _, self._received = self._received.partition(b"\n")
        try:
            answer: dict[str, Any] = json.loads(line)
        except ValueError:
            return {"error": "the answer is not one", "lost": True}
        return answer

    def _lost(self) -> dict[str, Any]:
        assert self._process is not None, "it was started"
        self._process.kill()
        code = self._process.wait()
        self._errors.seek(0)
        said = self._errors.read()[-300:].decode("utf-8", "replace").strip().rpartition("\n")[2]
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        return {
            "error": f"the process that compared it ended with {how}" + (f" ({said})" if said else ""),
            "lost": True,
        }

    def _end(self) -> None:
        if self._process is None:
            return
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with suppress(OSError):
                    stream.close()
        self._process.kill()
        self._process.wait()
        self._errors.close()
        self._process, self._received = None, b""

    def _reference(self, artifact: Digest) -> dict[str, Any]:
        """A REF of the host protocol whose parts are all files."""
        parts = []
        for part in self._store.get_record(artifact, "artifact")["parts"]:
            digest = Digest(part["digest"])
            location = self._store.checked(digest)
            place, offset = location.path, location.offset
            if location.data is not None or place is None:
                place, offset = self._scratch / digest.hex, 0
                if not place.exists():
                    place.write_bytes(location.data or b"")
            parts.append(
                {"digest": digest, "size": part["size"], "path": str(place), "offset": offset, "checked": True}
            )
        return {"artifact": artifact, "parts": parts}


class _Clock:
    """Times one answer: imports have an allowance of their own, and comparing begins anew once the values are open."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._spare_s = _IMPORTS_S
        self._until = time.monotonic() + limit_s
        self._stopped: float | None = None  # seconds that are left when the imports are done
        self._opened = False

    @property
    def left(self) -> float:
        """Seconds until it is up."""
        return max(0.0, self._until - time.monotonic())

    @property
    def told(self) -> str:
        """What took too long."""
        if self._stopped is not None:
            return f"importing what it needs took more than {_IMPORTS_S:g} s"
        return f"{'comparing' if self._opened else 'opening'} it took more than {self._limit_s:g} s"

    def heed(self, word: str) -> None:
        """Stop for imports, go on, or begin anew: that but once, so that nobody can hold it."""
        if word == "stop" and self._stopped is None:
            self._stopped = self.left
            self._until = time.monotonic() + self._spare_s
        elif word == "go" and self._stopped is not None:
            self._spare_s, self._until = self.left, time.monotonic() + self._stopped
            self._stopped = None
        elif word == "anew" and not self._opened:
            self._opened, self._until = True, time.monotonic() + self._limit_s


def _without_floats(value: Any) -> Any:
    """The value as a record can hold it: floats as text."""
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, dict):
        return {key: _without_floats(item) for key, item in value.items()}
    return [_without_floats(item) for item in value] if isinstance(value, list) else value
