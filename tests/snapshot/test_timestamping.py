"""Time stamps of a real authority: `openssl ts` behind a real HTTP server."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from stillrun_snapshot.timestamping import StampRefused, StampUnsound, authorities_of, check_stamp, request_stamp

CONFIG = """
[req]
distinguished_name = dn
prompt = no
[dn]
CN = Test Authority
[tsa]
default_tsa = one
[one]
serial = {folder}/serial
signer_cert = {folder}/tsa.pem
signer_key = {folder}/tsa.key
certs = {folder}/ca.pem
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256, sha512
accuracy = secs:1
ordering = yes
ess_cert_id_chain = no
[stamping]
extendedKeyUsage = critical, timeStamping
keyUsage = critical, digitalSignature
[plain]
keyUsage = critical, digitalSignature
"""


def openssl(folder: Path, words: str) -> bytes:
    done = subprocess.run(["openssl", *words.split()], cwd=folder, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def make_authority(
    folder: Path, *, kind: str = "rsa:2048", usage: str = "stamping", name: str = "Test Authority"
) -> Path:
    """A certificate authority and a certificate for time stamps that it issued."""
    folder.mkdir()
    (folder / "conf").write_text(CONFIG.format(folder=folder).replace("Test Authority", name))
    (folder / "serial").write_text("01")
    new = f"-newkey {kind}" if kind != "ec" else "-newkey ec -pkeyopt ec_paramgen_curve:P-256"
    openssl(folder, f"req -x509 -nodes {new} -keyout ca.key -out ca.pem -days 30 -config conf")
    openssl(folder, f"req -nodes {new} -keyout tsa.key -out tsa.csr -config conf")
    sign = "x509 -req -in tsa.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out tsa.pem -days 20"
    openssl(folder, f"{sign} -extfile conf -extensions {usage}")
    return folder


def answer(folder: Path, query: bytes) -> bytes:
    (folder / "query").write_bytes(query)
    openssl(folder, "ts -reply -config conf -section one -queryfile query -out reply")
    return (folder / "reply").read_bytes()


@pytest.fixture(scope="module", params=["rsa:2048", "ec"])
def authority(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    return make_authority(tmp_path_factory.mktemp("tsa") / "a", kind=request.param)


class Server:
    """The authority on a loopback port."""

    def __init__(self, folder: Path) -> None:
        self.replies: list[bytes] = []  # what is answered instead, when there is something
        self.kinds: list[str | None] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                query = self.rfile.read(int(self.headers["Content-Length"]))
                server.kinds.append(self.headers["Content-Type"])
                reply = server.replies.pop() if server.replies else answer(folder, query)
                self.send_response(200)
                self.send_header("Content-Length", str(len(reply)))
                self.end_headers()
                self.wfile.write(reply)

            def log_message(self, *words: object) -> None:
                pass

        self._http = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}/tsr"
        self._thread = threading.Thread(target=self._http.serve_forever)
        self._thread.start()

    def close(self) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()


@pytest.fixture
def server(authority: Path) -> Iterator[Server]:
    running = Server(authority)
    yield running
    running.close()


def test_a_stamp_is_got_checked_and_checked_by_openssl_too(server: Server, authority: Path, tmp_path: Path) -> None:
    data = b"stillrun/log/1\n5\nroot\n\n"
    reply = request_stamp(server.url, data)
    assert server.kinds == ["application/timestamp-query"]
    known = authorities_of((authority / "ca.pem").read_bytes(), "ca.pem")
    stamp = check_stamp(reply, data, known)
    assert stamp.known and stamp.signer == "CN=Test Authority" and stamp.time.endswith("Z")
    assert not check_stamp(reply, data).known
    (tmp_path / "data").write_bytes(data)
    (tmp_path / "data.tsr").write_bytes(reply)
    told = openssl(tmp_path, f"ts -verify -data data -in data.tsr -CAfile {authority}/ca.pem")
    assert b"Verification: OK" in told


def test_other_bytes_and_changed_stamps_are_refused(server: Server) -> None:
    reply = request_stamp(server.url, b"data")
    with pytest.raises(StampUnsound, match="over other bytes"):
        check_stamp(reply, b"other")
    sound = 0
    for place in range(0, len(reply), 7):
        changed = bytearray(reply)
        changed[place] ^= 0x20
        try:
            found = check_stamp(bytes(changed), b"data")
        except (StampUnsound, StampRefused):
            continue
        sound += 1  # in what nobody signs: the certificates' own bytes, unsigned attributes
        assert found.time == check_stamp(reply, b"data").time
    assert sound < len(reply) // 7
    for cut in (0, 1, 10, len(reply) // 2, len(reply) - 1):
        with pytest.raises((StampUnsound, StampRefused)):
            check_stamp(reply[:cut], b"data")


def test_an_answer_to_another_question_is_refused(server: Server) -> None:
    server.replies = [request_stamp(server.url, b"data")]
    with pytest.raises(StampUnsound, match="another question"):
        request_stamp(server.url, b"data")


def test_another_authority_is_not_known(server: Server, tmp_path: Path) -> None:
    other = make_authority(tmp_path / "other", name="Test Authority")
    known = authorities_of((other / "ca.pem").read_bytes(), "ca.pem")
    assert not check_stamp(request_stamp(server.url, b"data"), b"data", known).known
    with pytest.raises(StampUnsound, match="no certificate"):
        authorities_of(b"nonsense", "ca.pem")


def test_an_authority_that_is_not_there_or_refuses_is_told(server: Server) -> None:
    for url in ("file:///etc/passwd", "ftp://x"):
        with pytest.raises(StampRefused, match="no address"):
            request_stamp(url, b"data")
    with pytest.raises(StampRefused, match="does not answer"):
        request_stamp("http://127.0.0.1:9/none", b"data")
    server.replies = [bytes.fromhex("3005300302010 2".replace(" ", ""))]
    with pytest.raises(StampRefused, match="status 2"):
        request_stamp(server.url, b"data")
    server.replies = [b"<html>"]
    with pytest.raises(StampUnsound, match="is none"):
        request_stamp(server.url, b"data")
