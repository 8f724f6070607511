"""Runs shared through Azure Blob Storage: Microsoft's own emulator, a real process on loopback."""

from __future__ import annotations

import base64
import hashlib
import hmac
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from email.utils import formatdate
from pathlib import Path

import pytest
from tests.conftest import Commands

pytestmark = pytest.mark.slow

# the emulator's account, the same on every machine
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
EMULATOR = Path(sys.prefix) / "validators/azure/node_modules/.bin/azurite-blob"
FLOW = """
import random
from stillrun import FlowSpec, step

class Shared(FlowSpec):
    @step
    def start(self):
        self.large = random.Random(1).randbytes(9_000_000)
        self.next(self.end)
    @step
    def end(self):
        pass
"""


@pytest.fixture
def azure(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Variables that lead to an emulator with the container 'runs'."""
    if not EMULATOR.exists():
        pytest.skip("the emulator is not here: 'make .venv/.validators' installs it where there is npm")
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    words = [EMULATOR, "--blobPort", str(port), "--location", tmp_path / "azure", "--silent", "--skipApiVersionCheck"]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        make_container(f"http://127.0.0.1:{port}", process)
        yield {
            "AZURE_STORAGE_USE_EMULATOR": "true",
            "AZURITE_BLOB_STORAGE_URL": f"http://127.0.0.1:{port}",
            "NO_PROXY": "127.0.0.1",
        }
    finally:
        process.terminate()
        process.wait()


def make_container(address: str, process: subprocess.Popen[bytes]) -> None:
    """By a request that is signed with the account's key."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for _ in range(600):
        date, version = formatdate(usegmt=True), "2021-08-06"
        place = f"/{ACCOUNT}/{ACCOUNT}/runs\nrestype:container"
        signed = "PUT" + "\n" * 12 + f"x-ms-date:{date}\nx-ms-version:{version}\n{place}"
        signature = base64.b64encode(hmac.new(base64.b64decode(KEY), signed.encode(), hashlib.sha256).digest()).decode()
        headers = {"x-ms-date": date, "x-ms-version": version, "Authorization": f"SharedKey {ACCOUNT}:{signature}"}
        request = urllib.request.Request(f"{address}/{ACCOUNT}/runs?restype=container", None, headers, method="PUT")
        try:
            with opener.open(request, timeout=20):
                return
        except OSError:
            assert process.poll() is None, "the emulator has ended"
            time.sleep(0.05)
    raise AssertionError("the emulator does not answer")


def test_runs_go_through_azure_and_are_cleaned_up_there(stillrun: Commands, azure: dict[str, str]) -> None:
    ours = replace(stillrun, variables={**stillrun.variables, **azure})
    theirs = replace(ours, store=ours.store.with_name("theirs"))
    ours.write("shared.py", FLOW)
    first, second = ours.run("shared.py"), ours.run("shared.py")
    for user in (ours, theirs):
        assert user("remote", "add", "team", "az://runs/team").code == 0
    done = ours("push", "--all")
    assert done.code == 0, done.err
    assert theirs("pull", first).code == 0
    assert theirs("verify", first).code == 0
    assert theirs("remote", "check", "team", "--all", "--json").json["problems"] == []
    assert ours("forget", first, "--remote", "team").code == 0
    done = theirs("remote", "gc", "team", "--delete", "--grace", "0s", "--json")
    assert (done.code, done.json["files"] > 0) == (0, True), done.err
    assert theirs("remote", "check", "team", "--all", "--json").json["problems"] == []
    assert theirs("pull", second).code == 0
    assert KEY not in done.out + done.err
