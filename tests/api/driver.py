"""The other end of a step host's socket: a real host process, a folder of parts, and a run of a whole flow without an engine."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import textwrap
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

FACE = Path(__file__).resolve().parents[2] / "api"
START = "import sys; sys.path[0] = sys.argv[1]; from stillrun.host import main; main()"
LENGTHS = struct.Struct(">II")
PATIENCE = 60  # seconds until a silent host fails a test; no test asserts it
WANTED = ("3.8", "3.9", "3.10", "3.11", "3.12", "3.13", "3.14")


@functools.cache
def pythons() -> dict[str, str]:
    """The interpreters of this machine by minor version; the one that runs the tests stands for its own."""
    found = {f"{sys.version_info[0]}.{sys.version_info[1]}": sys.executable}
    candidates = [shutil.which(f"python{version}") for version in WANTED]
    candidates += [str(each) for each in sorted(Path.home().glob(".pyenv/versions/3.*/bin/python3"))]
    for each in filter(None, candidates):
        shown = subprocess.run([each, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"], capture_output=True)
        version = shown.stdout.decode().strip()
        if shown.returncode == 0 and version in WANTED:
            found.setdefault(version, each)
    return found


def python(version: str) -> str:
    """The interpreter of a minor version; skips the test when this machine has none."""
    if version not in pythons():
        pytest.skip(f"no Python {version} on this machine")
    return pythons()[version]


ABSENT: dict[str, Any] = {
    "reads": [],
    "writes": [],
    "modules": [],
    "borrowed": {"metadata": [], "children": False},
    "reached": {"addresses": [], "programs": []},
    "caught": None,
    "cards": [],
    "error": None,
}
"""What a RESULT says by saying nothing."""


@dataclass
class Finished:
    """All that came of one task."""

    header: dict[str, Any]
    body: bytes
    stdout: bytes
    stderr: bytes
    spill: Path
    pid: int = 0

    @property
    def result(self) -> dict[str, Any]:
        assert self.header["result"] is not None, self.stderr.decode(errors="replace")
        return {**ABSENT, **self.header["result"]}

    def items(self) -> list[bytes]:
        """The pickles of what its foreach is over."""
        sizes, data = (self._bytes(self.result["next"]["each"][name]) for name in ("sizes", "data"))
        ends = list(itertools.accumulate(struct.unpack(f"<{len(sizes) // 8}Q", sizes), initial=0))
        assert ends[-1] == len(data)
        return [data[start:end] for start, end in itertools.pairwise(ends)]

    def _bytes(self, part: Mapping[str, Any]) -> bytes:
        if "spill" in part:
            return (self.spill / part["spill"]).read_bytes()
        offset, size = part["body"]
        return self.body[offset : offset + size]

    @property
    def ok(self) -> bool:
        return bool(self.result["ok"])

    @property
    def error(self) -> dict[str, Any]:
        assert self.result["error"] is not None
        return self.result["error"]

    @property
    def exit(self) -> dict[str, Any]:
        return self.header["exit"]

    @property
    def artifacts(self) -> dict[str, Any]:
        if not self.ok:
            raise AssertionError(json.dumps(self.error, indent=1) + self.stderr.decode(errors="replace"))
        return self.result["artifacts"]


@dataclass
class Parts:
    """A folder of parts by digest, and the references to artifacts that are made of them."""

    root: Path
    refs: dict[str, Any] = field(default_factory=dict)

    def keep(self, outs: Mapping[str, Any], body: bytes, spill: Path | None) -> dict[str, Any]:
        """References for a task's artifacts."""
        return {name: self._keep(out, body, spill) for name, out in outs.items()}

    def _keep(self, out: Mapping[str, Any], body: bytes, spill: Path | None) -> dict[str, Any]:
        if "same" in out:
            return self.refs[out["same"]]
        parts = []
        for part in out["parts"]:
            path = self.root / part["digest"].split(":")[1]
            if "body" in part:
                offset, size = part["body"]
                path.write_bytes(body[offset : offset + size])
            elif "spill" in part:
                assert spill is not None
                (spill / part["spill"]).rename(path)
            assert path.stat().st_size == part["size"]
            parts.append(
                {"digest": part["digest"], "size": part["size"], "path": str(path), "offset": 0, "checked": False}
            )
        text = json.dumps([part["digest"] for part in parts]).encode()
        ref = {"artifact": "sha256:" + hashlib.sha256(text).hexdigest(), "parts": parts}
        self.refs[ref["artifact"]] = ref
        return ref


class HostProcess:
    """A step host and our end of its socket."""

    def __init__(
        self, folder: Path, executable: str = sys.executable, flags: tuple[str, ...] = (), **variables: str
    ) -> None:
        self.folder = folder
        self.spill = folder / "spill"
        self.parts = Parts(folder / "parts")
        for each in (self.spill, self.parts.root):
            each.mkdir(parents=True, exist_ok=True)
        self.socket, theirs = socket.socketpair()
        self.socket.settimeout(PATIENCE)
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "COV_"))}
        command = [executable, "-s", *flags, "-c", START, str(FACE), str(theirs.fileno())]
        self.process = subprocess.Popen(
            command,
            pass_fds=[theirs.fileno()],
            env={**environment, "PYTHONDONTWRITEBYTECODE": "1", **variables},
            start_new_session=True,
            stdout=subprocess.DEVNULL if "quiet" in variables else None,
        )
        theirs.close()
        self._pending: deque[tuple[dict[str, Any], bytes]] = deque()
        self.description: dict[str, Any] = {}

    def send(self, header: Mapping[str, Any], body: bytes = b"") -> None:
        text = json.dumps(header).encode()
        self.socket.sendall(LENGTHS.pack(len(text), len(body)) + text + body)

    def receive(self) -> tuple[dict[str, Any], bytes]:
        header_size, body_size = LENGTHS.unpack(self._exactly(LENGTHS.size))
        return json.loads(self._exactly(header_size)), self._exactly(body_size)

    def _exactly(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            more = self.socket.recv(min(size - len(data), 1 << 20))
            if not more:
                raise EOFError(f"the host ended (exit {self.process.poll()})")
            data += more
        return bytes(data)

    def load(self, file: Path, **more: Any) -> dict[str, Any]:
        """The host's answer to a load message."""
        asked = {
            "op": "load",
            "protocol": 1,
            "file": str(file),
            "source": str(file),
            "class": None,
            "cwd": str(self.folder),
        }
        self.send({**asked, **more})
        answer, _ = self.receive()
        self.description = answer.get("description", {})
        return answer

    def parameters(self, **values: str) -> dict[str, Any]:
        """References to the parameters' values; the refusal if there is one."""
        self.send({"op": "parameters", "values": values})
        answer, body = self.receive()
        return answer if answer["op"] == "refused" else self.parts.keep(answer["artifacts"], body, None)

    def spec(self, step: str, **more: Any) -> dict[str, Any]:
        """A SPEC for a step that inherits nothing."""
        return {
            "flow": self.description.get("name", "?"),
            "run": "1",
            "step": step,
            "task": "1",
            "attempt": 0,
            "foreach": [],
            "join": False,
            "inputs": [],
            "parameters": {},
            "cwd": str(self.folder),
            "spill": str(self.spill),
            "inline_max": 65536,
            "ignore": [],
            "variables": {},
            **more,
        }

    def start(self, key: str, step: str, *, fresh: bool = False, body: bytes = b"", **more: Any) -> None:
        self.send({"op": "task", "key": key, "spec": self.spec(step, **more), "fresh": fresh}, body)

    def finish(self, count: int = 1, on_frame: Any = None) -> dict[str, Finished]:
        """Read on until that many tasks have finished."""
        done: dict[str, Finished] = {}
        output: dict[tuple[str, str], bytearray] = {}
        pids: dict[str, int] = {}
        while len(done) < count:
            header, body = self.receive()
            assert header["op"] != "refused", header
            if on_frame is not None:
                on_frame(header, body)
            if header["op"] == "started":
                pids[header["key"]] = header["pid"]
            elif header["op"] == "output":
                output.setdefault((header["key"], header["stream"]), bytearray()).extend(body)
            else:
                assert header["op"] == "finished", header
                key = header["key"]
                streams = [bytes(output.get((key, stream), b"")) for stream in ("stdout", "stderr")]
                done[key] = Finished(header, body, *streams, self.spill, pids.get(key, 0))
        return done

    def task(self, step: str, **more: Any) -> Finished:
        """Run one task to its end."""
        self.start(step, step, **more)
        return self.finish()[step]

    def kept(self, finished: Finished) -> dict[str, Any]:
        """References to what a task left."""
        return self.parts.keep(finished.artifacts, finished.body, finished.spill)

    def close(self) -> int:
        """End the host; its exit code."""
        with contextlib.suppress(OSError):
            self.socket.close()
        return self.process.wait(PATIENCE)


@dataclass
class Ran:
    """A whole flow that was run: the tasks of each step in order, and the host that ran it."""

    host: HostProcess
    tasks: dict[str, list[Finished]]
    refs: dict[str, list[dict[str, Any]]]

    def value(self, step: str, name: str, position: int = 0) -> Any:
        """A value that a step left; plain data only: this process is not the one that wrote it."""
        import pickle

        parts = [Path(part["path"]).read_bytes() for part in self.refs[step][position][name]["parts"]]
        return pickle.loads(parts[0], buffers=parts[1:])


class _Group:
    def __init__(self, size: int, foreach: bool) -> None:
        self.size, self.foreach, self.arrived = size, foreach, {}


def run_flow(host: HostProcess, file: Path, *, fresh: bool = False, **values: str) -> Ran:
    """Run every task of a flow, one after the other."""
    answer = host.load(file)
    assert answer["op"] == "loaded", answer
    assert answer["description"]["problems"] == [], answer["description"]["problems"]
    steps = {each["name"]: each for each in answer["description"]["steps"]}
    given = host.parameters(**values)
    ran, numbers = Ran(host, {}, {}), itertools.count(1)
    waiting: deque[tuple[str, list[Any], list[Any], list[Any]]] = deque([("start", [], [], [])])
    while waiting:
        step, inputs, frames, stack = waiting.popleft()
        number = str(next(numbers))
        is_join = steps[step]["kind"] == "join"
        done = host.task(step, task=number, foreach=frames, join=is_join, inputs=inputs, parameters=given, fresh=fresh)
        refs = host.kept(done)
        ran.tasks.setdefault(step, []).append(done)
        ran.refs.setdefault(step, []).append(refs)
        index = frames[-1]["index"] if frames else None
        record = {"step": step, "task": number, "index": index, "artifacts": refs}
        if frames:
            record["items"] = frames[-1]["items"]
        following = done.result["next"]
        if following is None:
            continue
        targets = following["steps"]
        if following["foreach"] is not None:
            group, items = _Group(following["count"], True), done.items()
            for at in range(group.size):
                place = host.folder / f"item-{number}-{at}"
                place.write_bytes(b"before" + items[at])
                frame = {
                    "step": step,
                    "variable": following["foreach"],
                    "index": at,
                    "count": group.size,
                    "items": refs[following["foreach"]],
                    "item": {"path": str(place), "offset": 6, "size": len(items[at])},
                }
                waiting.append((targets[0], [record], [*frames, frame], [*stack, (group, at)]))
        elif len(targets) > 1:
            group = _Group(len(targets), False)
            waiting.extend((each, [{**record}], frames, [*stack, (group, at)]) for at, each in enumerate(targets))
        elif steps[targets[0]]["kind"] == "join":
            group, at = stack[-1]
            group.arrived[at] = record if group.foreach else {**record, "index": None}
            if len(group.arrived) == group.size:
                outer = frames[:-1] if group.foreach else frames
                waiting.append((targets[0], [group.arrived[at] for at in range(group.size)], outer, stack[:-1]))
        else:
            waiting.append((targets[0], [record], frames, stack))
    return ran


def write_flow(folder: Path, text: str, name: str = "flow.py") -> Path:
    """A flow file of that text; ``steps`` may leave the imports out."""
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    text = textwrap.dedent(text)
    if "import" not in text.split("class ")[0]:
        text = "from stillrun import *\n" + text
    file.write_text(text, encoding="utf-8")
    return file


def children_of(pid: int) -> Iterator[int]:
    """The processes that have that parent now."""
    for each in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if int((each / "stat").read_text().rpartition(")")[2].split()[1]) == pid:
                yield int(each.name)
