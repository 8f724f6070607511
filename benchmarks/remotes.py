"""A run of 1 GiB pushed to and pulled from an S3 server on loopback, beside obstore alone and `aws s3 cp` on the same server."""

from __future__ import annotations

import hashlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.s3 import CREDENTIALS, s3_server

from stillrun_engine.archive import open_run
from stillrun_engine.pathspec import Pathspec
from stillrun_engine.remote_pull import pull_run
from stillrun_engine.remote_push import push_runs
from stillrun_engine.remotes import RemoteSettings, add_remote, opened_remote
from stillrun_snapshot.store import Store

__all__ = ["remotes"]

_MIB = int(os.environ.get("MIB", "1024"))
_SIZE = _MIB << 20
_FLOW = """
import random
from stillrun import FlowSpec, step

class Gibi(FlowSpec):
    @step
    def start(self):
        source = random.Random(1)
        self.data = b"".join(source.randbytes(1 << 26) for _ in range(SIZE >> 26))
        self.next(self.end)
    @step
    def end(self):
        pass
"""


def remotes(work: Path, rounds: int) -> None:
    """Print the rows."""
    os.environ.update(CREDENTIALS)
    work.mkdir(parents=True, exist_ok=True)
    file = _made(work)
    with s3_server() as address:
        raw = {"obstore": _obstore(address, file, work)}
        if aws := shutil.which("aws"):
            raw["aws s3 cp"] = _aws(aws, address, file, work)
        ours = _ours(address, work)
        times: dict[tuple[str, str], list[float]] = {}
        spent: dict[tuple[str, str], list[float]] = {}
        for number in range(rounds):
            for name, (up, down) in {"stillrun": ours, **raw}.items():
                for way, work_ in (("push", up), ("pull", down)):
                    wall, cpu = _timed(work_, number)
                    times.setdefault((name, way), []).append(wall)
                    spent.setdefault((name, way), []).append(cpu)
    for way in ("push", "pull"):
        own = statistics.median(times["stillrun", way])
        for name in raw:
            other = statistics.median(times[name, way])
            speed = f"{_SIZE / own / 1e6:.0f} MB/s"
            cpu, others = (statistics.median(spent[who, way]) for who in ("stillrun", name))
            told = (
                f"{own:.2f} s ({speed}), CPU {cpu:.2f} s | {name}: {other:.2f} s, CPU {others:.2f} s | "
                f"{other / own:.2f} of its speed"
            )
            print(f"| {way} of a run of {_MIB} MiB, S3 on loopback | {told} | 0.7 |", flush=True)


def _timed(work: Callable[[int], None], number: int) -> tuple[float, float]:
    """Seconds that it took, and seconds of CPU of this process and of those that it started and awaited; not the server's."""
    begun, before = time.perf_counter(), os.times()
    work(number)
    return time.perf_counter() - begun, sum(os.times()[:4]) - sum(before[:4])


def _made(work: Path) -> Path:
    """A store with the run, and a plain file of as many bytes."""
    if not (work / "store").exists():
        words = [sys.executable, "-m", "stillrun_cli", "run", "gibi.py"]
        env = {**os.environ, "STILLRUN_STORE": str(work / "store")}
        with tempfile.TemporaryDirectory() as folder:  # not in this work tree, all of which would be its code
            Path(folder, "gibi.py").write_text(_FLOW.replace("SIZE", str(_SIZE)))
            subprocess.run(words, cwd=folder, env=env, check=True, capture_output=True)
    file = work / "file"
    if not file.exists():
        file.write_bytes(os.urandom(_SIZE))
    return file


def _ours(address: str, work: Path) -> tuple[Callable[[int], None], Callable[[int], None]]:
    def opened(store: Store, number: int):  # type: ignore[no-untyped-def]
        name = f"n{number}"
        add_remote(store, RemoteSettings(name, f"s3://runs/{os.getpid()}-{number}", address))
        return opened_remote(store, name, CREDENTIALS, create=True)

    def push(number: int) -> None:
        (work / "store" / "remotes.json").unlink(missing_ok=True)
        with Store.open(work / "store") as store:
            remote = opened(store, number)
            push_runs(store, remote, [open_run(store, Pathspec("Gibi", "latest"))])

    def pull(number: int) -> None:
        shutil.rmtree(work / "pulled", ignore_errors=True)
        with Store.open(work / "pulled") as store:
            remote = opened(store, number)
            known = remote.known()
            for run in known.runs:
                pull_run(store, remote, known, run)

    return push, pull


def _obstore(address: str, file: Path, work: Path) -> tuple[Callable[[int], None], Callable[[int], None]]:
    import obstore
    from obstore.store import from_url

    store = from_url(
        "s3://runs/raw", config={"aws_endpoint": address}, client_options={"allow_http": True, "timeout": "600s"}
    )

    def up(_: int) -> None:
        obstore.put(store, "file", file)

    def down(_: int) -> None:
        state = hashlib.sha256()  # what is fetched is to be known for what it is
        with open(work / "down", "wb") as out:
            for block in obstore.get(store, "file").stream():
                out.write(block)
                state.update(block)
            os.fsync(out.fileno())

    return up, down


def _aws(aws: str, address: str, file: Path, work: Path) -> tuple[Callable[[int], None], Callable[[int], None]]:
    def copy(source: str | Path, target: str | Path) -> None:
        words = [aws, "--endpoint-url", address, "s3", "cp", "--quiet", str(source), str(target)]
        subprocess.run(words, check=True)

    return lambda _: copy(file, "s3://runs/aws/file"), lambda _: copy("s3://runs/aws/file", work / "down")
