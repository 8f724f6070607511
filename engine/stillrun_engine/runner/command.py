"""A command in a process of its own, whose output goes to files: it can be read while it is written, and ever after."""

from __future__ import annotations

import asyncio
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

__all__ = ["Command"]

_LOOK = 0.02
"""Seconds between two looks at what a command has written."""
_GRACE = 15.0
"""Seconds that a command has to end in good order when it is asked to; then it is killed."""
_STREAMS = ("stdout", "stderr")


class Command:
    """A started command. show: copy what it writes to this process's own output, as it comes."""

    def __init__(
        self,
        words: Sequence[str],
        variables: Mapping[str, str],
        cwd: Path | None,
        *,
        show: bool = False,
        folder: str | None = None,
    ) -> None:
        """folder: a temporary one for its files, which is removed with it; made when None."""
        self.command = list(words)
        self.timed_out = False
        self._ended_words: dict[str, str] = {}
        self._folder = Path(folder or tempfile.mkdtemp(prefix="stillrun-runner-"))
        self._removed = weakref.finalize(self, shutil.rmtree, str(self._folder), ignore_errors=True)
        self.log_files = {stream: str(self._folder / f"{stream}.log") for stream in _STREAMS}
        with open(self.log_files["stdout"], "wb") as out, open(self.log_files["stderr"], "wb") as err:
            self.process = subprocess.Popen(
                self.command,
                cwd=cwd,
                env=dict(variables),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,  # Ctrl-C reaches it through us, once
            )
        self._relay = threading.Thread(target=self._show, daemon=True) if show else None
        if self._relay is not None:
            self._relay.start()

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self.process.poll() is None

    def read(self, stream: str) -> str:
        """What it has written to 'stdout' or 'stderr' so far."""
        if stream in self._ended_words:
            return self._ended_words[stream]
        return Path(self.log_files[stream]).read_text("utf-8", "replace")

    def sync_wait(self, timeout: float | None = None) -> int:
        """Wait for its end; the exit code. When we are interrupted, or after ``timeout`` seconds, it is ended first."""
        try:
            code = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self._give_up()
            raise TimeoutError(self._too_long(timeout)) from None
        except BaseException:  # KeyboardInterrupt above all
            self.end(signal.SIGINT)
            raise
        if self._relay is not None:
            self._relay.join()
        return code

    async def wait(self, timeout: float | None = None, stream: str | None = None) -> None:
        """Wait for its end without holding up others; it is ended after ``timeout`` seconds. stream: printed meanwhile."""
        printing = None if stream is None else asyncio.create_task(self._print(stream))
        begun = time.monotonic()
        try:
            while self.running:
                if timeout is not None and time.monotonic() - begun > timeout:
                    await asyncio.get_running_loop().run_in_executor(None, self._give_up)
                    raise TimeoutError(self._too_long(timeout))
                await asyncio.sleep(_LOOK)
        finally:
            if printing is not None:
                await printing

    async def stream_log(self, stream: str, position: int | None = None) -> AsyncIterator[tuple[int, str]]:
        """The lines of 'stdout' or 'stderr' as they come, each with the position behind it, from ``position`` on."""
        if stream not in self.log_files:
            raise ValueError(f"{stream!r} is no stream of a command; there are 'stdout' and 'stderr'.")
        place, rest = position or 0, b""
        with open(self.log_files[stream], "rb") as file:
            file.seek(place)
            while True:
                ended = not self.running  # before reading: then nothing can come after
                rest += file.read()
                *lines, rest = rest.split(b"\n")
                for line in lines:
                    place += len(line) + 1
                    yield place, line.decode("utf-8", "replace")
                if ended:
                    break
                await asyncio.sleep(_LOOK)
        if rest:
            yield place + len(rest), rest.decode("utf-8", "replace")

    async def emit_logs(self, stream: str = "stdout") -> None:
        """Print the lines of a stream until the command ends."""
        await self._print(stream)

    def end(self, number: int = signal.SIGTERM) -> None:
        """Ask it to end and wait until it has; it is killed when it does not heed that."""
        if self.running:
            with suppress(ProcessLookupError):
                self.process.send_signal(number)
            try:
                self.process.wait(_GRACE)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def kill(self) -> None:
        """Ask it to end, as Ctrl-C does."""
        self.end(signal.SIGINT)

    def cleanup(self) -> None:
        """End it and remove its files."""
        self.end()
        if self._relay is not None:
            self._relay.join()
        self._ended_words = {stream: self.read(stream) for stream in _STREAMS}
        self._removed()

    def _give_up(self) -> None:
        self.timed_out = True
        self.end()

    def _too_long(self, timeout: float | None) -> str:
        return f"the command took more than {timeout:g} seconds and was ended: {' '.join(self.command[3:])}"

    async def _print(self, stream: str) -> None:
        async for _, line in self.stream_log(stream):
            _say(stream, line + "\n")

    def _show(self) -> None:
        """Copy both streams to our own until the command has ended."""
        with open(self.log_files["stdout"], "rb") as out, open(self.log_files["stderr"], "rb") as err:
            while True:
                ended = not self.running
                for stream, file in (("stdout", out), ("stderr", err)):
                    data = file.read()
                    if data:
                        _say(stream, data.decode("utf-8", "replace"))
                if ended:
                    return
                time.sleep(_LOOK)


def _say(stream: str, text: str) -> None:
    output = sys.stdout if stream == "stdout" else sys.stderr
    output.write(text)
    output.flush()
