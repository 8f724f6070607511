"""`stillrun audit`, `--sign` and `--check`, as people use them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from tests.conftest import Commands
from tests.reports.evidence.shapes import Kept

ROOT = Path(__file__).parents[3]
FORMATS = {"ro-crate", "cyclonedx", "slsa", "prov", "junit", "markdown"}


@pytest.fixture(scope="module")
def signed(kept: Kept, tmp_path_factory: pytest.TempPathFactory) -> tuple[Commands, Path]:
    """A signed audit of a run, and the commands of whoever has the key."""
    folder = tmp_path_factory.mktemp("signed")
    commands = Commands(folder, kept.commands.store, {"STILLRUN_KEYS": str(folder / "keys")})
    made = commands("key", "new", "--json")
    assert made.code == 0, made.err
    done = commands("audit", kept.shape("failed").run, "--sign", "-o", folder / "audit", "--json")
    assert done.code in (0, 1), done.err
    assert done.json["files"].keys() >= FORMATS | {"signed"}
    return commands, folder / "audit"


def test_an_audit_is_checked_with_and_without_its_store(
    signed: tuple[Commands, Path], kept: Kept, tmp_path: Path
) -> None:
    commands, audit = signed
    key = next(audit.glob("key-*.pem"))
    done = commands("audit", "--check", audit, "--trust", key, "--json")
    assert (done.code, done.json["sound"], done.json["findings"]) == (0, True, []), done.json
    assert done.json["run"] == kept.shape("failed").run
    assert done.json["checked"]["signatures"] == 1
    assert done.json["checked"]["objects"] > 5
    stranger = Commands(tmp_path, tmp_path / "no-store")
    alone = stranger("audit", "--check", audit)
    assert alone.code == 0, alone.out + alone.err
    assert "sound" in alone.out
    assert "give the public key" in alone.out
    assert "report.html, report.json: no evidence" in alone.out
    assert not (tmp_path / "no-store").exists(), "checking makes no store"


def test_findings_are_named_and_end_with_1(signed: tuple[Commands, Path], tmp_path: Path) -> None:
    import shutil

    commands, audit = signed
    copy = tmp_path / "copy"
    shutil.copytree(audit, copy)
    data = sorted((copy / "ro-crate/data").iterdir())[0]
    data.write_bytes(b"\x1b[2J")
    done = commands("audit", "--check", copy)
    assert done.code == 1
    assert f"ro-crate/data/{data.name}: its SHA-256 is" in done.out
    assert "\x1b" not in done.out


def test_an_audit_may_be_written_again(signed: tuple[Commands, Path], kept: Kept) -> None:
    commands, audit = signed
    before = (audit / "ro-crate/SHA256SUMS").read_bytes()
    done = commands("audit", kept.shape("failed").run, "-o", audit, "--format", "ro-crate", "--json")
    assert done.code in (0, 1), done.err
    assert (audit / "ro-crate/SHA256SUMS").read_bytes() == before
    assert not list(audit.glob(".ro-crate-*"))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("audit",), "name a run"),
        (("audit", "--check", "."), "holds no evidence"),
        (("audit", "--check", "nowhere"), "does not exist"),
    ],
)
def test_what_cannot_be_done_is_said(stillrun: Commands, words: tuple[str, ...], says: str) -> None:
    done = stillrun(*words)
    assert done.code == 2
    assert says in done.err + done.out
    assert "Traceback" not in done.err


def test_the_lines_of_the_page_for_users_verify_it_without_us(signed: tuple[Commands, Path], tmp_path: Path) -> None:
    """docs/evidence.md, its shell blocks but for the validator's, which the slow tests run."""
    import shutil

    _, audit = signed
    page = (ROOT / "docs/evidence.md").read_text()
    blocks = [block.split("```")[0] for block in page.split("```bash\n")[1:]]
    shutil.copytree(audit, tmp_path / "DIR")
    shutil.copy(next(audit.glob("key-*.pem")), tmp_path / "DIR/key.pem")
    sums = subprocess.run(["bash", "-euc", blocks[0]], cwd=tmp_path, capture_output=True, text=True, check=True)
    record = json.loads((audit / "provenance.intoto.json").read_text())["subject"][0]["digest"]["sha256"]
    assert f"{record}  -" in sums.stdout
    openssl = blocks[1]
    if shutil.which("jq") is None:  # what it does, by Python
        (tmp_path / "jq").write_text(
            "#!/usr/bin/env python3\nimport json, sys\nvalue = json.load(open(sys.argv[3]))\n"
            "print(value['payload'] if 'payload' in sys.argv[2] else value['signatures'][0]['sig'])\n"
        )
        (tmp_path / "jq").chmod(0o755)
        openssl = f'PATH="{tmp_path}:$PATH"\n{openssl}'
    done = subprocess.run(["bash", "-euc", openssl], cwd=tmp_path / "DIR", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Signature Verified Successfully" in done.stdout
