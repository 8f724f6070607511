"""A real S3 server process on loopback, and a proxy before it that does what networks and services do wrong."""

from __future__ import annotations

import os
import socket
import socketserver
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import BinaryIO

__all__ = ["CREDENTIALS", "Asked", "Fault", "FaultProxy", "proxied", "s3_server"]

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
    "AWS_SECRET_ACCESS_KEY": "a-secret-that-must-stay-one",
    "AWS_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "NO_PROXY": "127.0.0.1",
}


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextmanager
def s3_server() -> Iterator[str]:
    """The address of a server that has the bucket 'runs'."""
    port = _free_port()
    variables = {**os.environ, **CREDENTIALS}
    command = [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        _make_bucket(address, process)
        yield address
    finally:
        process.terminate()
        process.wait()


def _make_bucket(address: str, process: subprocess.Popen[bytes]) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for _ in range(600):
        try:
            with opener.open(urllib.request.Request(f"{address}/runs", method="PUT"), timeout=20):
                return
        except (urllib.error.URLError, ConnectionError):
            assert process.poll() is None, "the server has ended"
            time.sleep(0.05)
    raise AssertionError("the server does not answer")


@dataclass(frozen=True)
class Asked:
    """A request as it came: its number, counted from 1."""

    number: int
    method: str
    path: str
    size: int


@dataclass(frozen=True)
class Fault:
    """What is done with a request instead of passing it on and back as it is."""

    wait: float = 0.0  # before anything
    status: int = 0  # answered at once, without the service
    code: str = "InternalError"
    headers: tuple[str, ...] = ()
    cut_request: int = -1  # the connection ends after so many bytes of its body
    cut_answer: int = -1  # the connection ends after so many bytes of the answer's body
    lose_answer: bool = False  # the service has done it, and nobody is told
    change: Callable[[bytes], bytes] | None = None  # of the answer's body, with a length that fits
    date: str | None = None  # of the answer
    drop_headers: tuple[str, ...] = ()  # of the request


@dataclass
class FaultProxy:
    """An HTTP proxy to one service. fault: asked for each request; None lets it be."""

    upstream: str
    fault: Callable[[Asked], Fault | None] = lambda asked: None
    asked: list[Asked] = field(default_factory=list)
    address: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)
    creating: threading.Lock = field(default_factory=threading.Lock)
    meeting: Callable[[Asked], None] = lambda asked: None  # where requests may wait for each other

    def count(self, method: str, part: str = "") -> int:
        """How many such requests came."""
        return sum(1 for one in self.asked if one.method == method and part in one.path)

    def moved(self, method: str, part: str = "") -> int:
        """The bytes of the bodies of such requests."""
        return sum(one.size for one in self.asked if one.method == method and part in one.path)

    def answer(self, reader: BinaryIO, writer: BinaryIO) -> bool:
        """Read one request and answer it; whether the connection goes on."""
        lines = _head(reader)
        if not lines:
            return False
        method, path, _ = lines[0].split(" ")
        size = _length(lines)
        with self.lock:
            one = Asked(len(self.asked) + 1, method, path, size)
            self.asked.append(one)
            fault = self.fault(one) or Fault()
        self.meeting(one)
        time.sleep(fault.wait)
        if fault.cut_request >= 0:
            reader.read(min(size, fault.cut_request))
            return False
        body = reader.read(size)
        if fault.status:
            writer.write(_refusal(fault))
            return True
        head, answer = self._pass_on(lines, body, method, fault)
        return not fault.lose_answer and _give_back(writer, head, answer, fault)

    def _pass_on(self, lines: list[str], body: bytes, method: str, fault: Fault) -> tuple[list[str], bytes]:
        dropped = ("connection:", "expect:", *fault.drop_headers)
        kept = [line for line in lines if not line.lower().startswith(dropped)]
        host, port = self.upstream.removeprefix("http://").split(":")
        # the server looks and writes in two steps: what S3 does at once is done here one after another
        at_once = any(line.lower().startswith("if-none-match:") for line in kept)
        turn = self.creating if at_once else nullcontext()
        with turn, socket.create_connection((host, int(port))) as up, up.makefile("rb") as answer:
            up.sendall("\r\n".join([*kept, "Connection: close", "", ""]).encode("latin-1") + body)
            head = [line for line in _head(answer) if not line.lower().startswith("connection:")]
            return head, b"" if method == "HEAD" else answer.read()


def _head(stream: BinaryIO) -> list[str]:
    lines = []
    while line := stream.readline().decode("latin-1").rstrip("\r\n"):
        lines.append(line)
    return lines


def _give_back(writer: BinaryIO, head: list[str], body: bytes, fault: Fault) -> bool:
    if fault.change is not None:
        body = fault.change(body)
        head = [line for line in head if not line.lower().startswith("content-length:")]
        head.append(f"Content-Length: {len(body)}")
    if fault.date is not None:
        head = [line for line in head if not line.lower().startswith("date:")] + [f"Date: {fault.date}"]
    cut = 0 <= fault.cut_answer < len(body)
    writer.write("\r\n".join([*head, "", ""]).encode("latin-1") + (body[: fault.cut_answer] if cut else body))
    writer.flush()
    return not cut


def _length(lines: list[str]) -> int:
    return next((int(line.split(":")[1]) for line in lines if line.lower().startswith("content-length:")), 0)


def _refusal(fault: Fault) -> bytes:
    body = f"<?xml version='1.0'?><Error><Code>{fault.code}</Code><Message>as asked for</Message></Error>".encode()
    lines = [f"HTTP/1.1 {fault.status} Fault", f"Content-Length: {len(body)}", "Content-Type: application/xml"]
    return "\r\n".join([*lines, *fault.headers, "", ""]).encode() + body


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False  # clients keep their connections open


@contextmanager
def proxied(upstream: str) -> Iterator[FaultProxy]:
    """A proxy before ``upstream`` while the block runs."""
    proxy = FaultProxy(upstream)

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            try:
                while proxy.answer(self.rfile, self.wfile):  # type: ignore[arg-type]  # typeshed has a narrower class
                    pass
            except OSError:
                return

    with _Server(("127.0.0.1", 0), Handler) as server:
        proxy.address = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield proxy
        server.shutdown()
        thread.join()
