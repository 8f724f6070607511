"""`store gc`, `store fsck`, `pin` and `forget` on no store, a newer, a busy or a damaged one: a sentence and a code."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from tests.engine import store_work

from stillrun_cli.group import run_group
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.ed25519 import PrivateKey
from stillrun_snapshot.redaction import Redaction, redact
from stillrun_snapshot.refs import RefChange
from stillrun_snapshot.store import STORE_MARK, Store
from stillrun_snapshot.upkeep import upkeep

GOLDEN = Path(__file__).parents[2] / "fixtures" / "formats" / "store" / "v2"
PART = "76325239b7d91654a57010349886e0c24a90dbd94be4a5e69157dbb98e79c756"  # of an artifact in it
COMMANDS = (("store", "gc"), ("store", "fsck"), ("store", "reindex"), ("pin",), ("forget", "A/1"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    store_work.prepared(tmp_path / "s")
    return tmp_path / "s"


def said(capsys: pytest.CaptureFixture[str], root: Path, *words: str) -> tuple[int, str, str]:
    capsys.readouterr()
    code = run_group([*words, "--store", str(root)])
    return code, *capsys.readouterr()


@pytest.mark.parametrize("words", COMMANDS)
def test_what_is_no_store_or_a_newer_one_is_refused(
    tmp_path: Path, root: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "notes.txt").touch()
    (root / STORE_MARK).write_text('{"format":99,"schema":"stillrun/store/99"}')
    for place, says in (
        (tmp_path / "folder", "not a Stillrun store"),
        (tmp_path / "none", "no Stillrun store"),
        (root, "99"),
    ):
        code, out, err = said(capsys, place, *words)
        assert (code, out, err.count("\n")) == (2, "", 1) and says in err, err
    assert sorted(path.name for path in (tmp_path / "folder").iterdir()) == ["notes.txt"]


@pytest.mark.parametrize("words", [("store", "gc"), ("store", "gc", "--delete"), ("store", "fsck")])
def test_two_at_once_is_one_too_many(root: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]) -> None:
    with upkeep(root, "gc"):
        code, out, err = said(capsys, root, *words)
    assert (code, out) == (2, "") and "is at work" in err and err.count("\n") == 1


def test_gc_tells_first_and_frees_when_told_to(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = said(capsys, root, "store", "gc")
    assert code == 0 and "0 B would be freed" in out and "10 objects needed or young" in out
    code, out, _ = said(capsys, root, "store", "gc", "--grace", "0s", "--delete", "--json")
    done = json.loads(out)
    assert code == 0 and done["dry_run"] is False and done["kept"] == 5
    assert "is not a time" in said(capsys, root, "store", "gc", "--grace", "soon")[2]
    assert said(capsys, root, "store", "fsck", "--full")[0] == 0


def test_fsck_names_what_is_damaged_and_ends_with_2(
    root: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with Store.open(root) as store:
        record = store.refs.get("tests/needed")
        assert record is not None
        large = store.get_record(record, "test")["objects"][1]
    path = root / "objects" / large[7:9] / large[9:]
    path.chmod(0o644)
    path.write_bytes(b"m" + path.read_bytes()[1:])
    code, out, err = said(capsys, root, "store", "fsck", "--full")
    assert (code, err) == (2, "") and large in out and "1 problem" in out
    code, out, _ = said(capsys, root, "store", "fsck", "--full", "--json")
    assert code == 2 and [one["digest"] for one in json.loads(out)["problems"]] == [large]
    store_work.prepared(tmp_path / "other")
    code, out, _ = said(capsys, root, "store", "fsck", "--full", "--repair", str(tmp_path / "other"))
    assert code == 0 and "1 object mended" in out
    assert said(capsys, root, "store", "fsck", "--full")[0] == 0


def test_gc_leaves_a_store_alone_whose_refs_lead_nowhere(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Store.open(root) as store:
        store.refs.set([RefChange("tests/large", store.put(b"z" * 100_000))])
    for path in (root / "objects").glob("*/*"):
        if path.read_bytes()[:1] == b"z":
            path.unlink()
    code, out, err = said(capsys, root, "store", "gc", "--grace", "0s", "--delete")
    assert (code, out) == (2, "") and "tests/large" in err and "fsck" in err


def test_what_was_redacted_is_no_damage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = shutil.copytree(GOLDEN, tmp_path / "golden", ignore=shutil.ignore_patterns("*.open", "run-Killed-1"))
    with Store.open(root) as store:
        redact(
            store, [Redaction(Digest(f"sha256:{PART}"), ["artifact end/0/x"])], "a password", "Ada", PrivateKey.new()
        )
    code, out, _ = said(capsys, root, "store", "fsck", "--full")
    assert (code, "missing" in out) == (0, False), out
    code, out, err = said(capsys, root, "store", "gc", "--grace", "0s", "--delete")
    assert code == 0, err
    code, out, _ = said(capsys, root, "store", "fsck", "--full")
    assert code == 0, out
