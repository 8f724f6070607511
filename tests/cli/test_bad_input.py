"""What people type wrong, or a machine types for them, at the commands of the store: one sentence, its code, nothing changed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from stillrun_cli.group import run_group
from stillrun_snapshot.store import STORE_MARK, Store

GOLDEN = Path(__file__).parents[2] / "fixtures" / "formats" / "store" / "v2"
RUN = "Tiny/20261126-074635-019j8"
LONG, HUGE = "x" * 5000, "9" * 400
TABLE: tuple[tuple[tuple[str, ...], str], ...] = (
    (("forget", "Tiny", "--older-than", HUGE + "d"), "is not a time"),
    (("forget", "Tiny", "--older-than", "999999999999999d"), "longer than 1,000 years"),
    (("forget", "Tiny", "--older-than", "-5d"), "is not a time"),
    (("forget", "Tiny", "--keep-last", "-1"), "not in the range"),
    (("forget", RUN, "--keep-last", HUGE), "a rule is about"),
    (("forget", "..//.."), "is not a pathspec"),
    (("forget", ""), "is not a pathspec"),
    (("store", "gc", "--grace", HUGE + "d"), "is not a time"),
    (("store", "gc", "--grace", "999999999999999d"), "longer than 1,000 years"),
    (("store", "pack", "--age", HUGE + "d"), "is no age"),
    (("store", "pack", "--age", "²d"), "is no age"),
    (("log", "--since", "²"), "give 7d"),
    (("log", "--since", HUGE * 20), "give 7d"),
    (("log", "--since", "999999999999d"), "give 7d"),
    (("pin", "Tiny/none"), "no run"),
    (("pin", "é/ü"), "no flow"),
    (("pin", "a\nb/c"), "is not a pathspec"),
    (("pin", LONG + "/1"), "is not a pathspec"),
    (("pin", RUN, "--note", "a\nb"), "is no note"),
    (("unpin", "Tiny/none"), "no run"),
    (("list", "a\nb"), "is not a pathspec"),
    (("tag", "add", RUN, ""), "cannot be kept"),
    (("remote", "add", "x", ""), "no address"),
    (("remote", "add", "x", "gs://bucket/" + LONG), "no address"),
    (("remote", "add", "x", "s3://bucket/x", "--endpoint", "nonsense"), "no endpoint"),
    (("remote", "add", "ü", "/tmp"), "cannot be the name"),
    (("push", RUN), "no remote"),
    (("import", ""), "there is no bundle"),
    (("import", "/dev/zero"), "there is no bundle"),
    (("store", "fsck", "--repair", "/nowhere"), "neither a store nor a bundle"),
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield shutil.copytree(GOLDEN, tmp_path_factory.mktemp("bad") / "store")


def said(capsys: pytest.CaptureFixture[str], root: Path | str, *words: str) -> str:
    """What a command that is refused says, in one sentence or behind a line of usage."""
    capsys.readouterr()
    assert run_group([*words, "--store", str(root)]) == 2, words
    out, err = capsys.readouterr()
    assert out == "" and (err.count("\n") == 1 or err.startswith("Usage: ")), err
    assert len(err) < 700, err
    return err


def test_what_is_wrong_is_said_and_changes_nothing(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Store.open(root) as store:
        before = set(store.digests()), dict(store.refs.names())
    for words, says in TABLE:
        assert says in said(capsys, root, *words), words
    with Store.open(root) as store:
        assert (set(store.digests()), dict(store.refs.names())) == before


@pytest.mark.parametrize("version", ["3", "0", "-1", "true", '"2"', "1.5", "null", HUGE])
def test_a_store_of_no_known_format_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], version: str
) -> None:
    (tmp_path / STORE_MARK).write_text(f'{{"format":{version},"schema":"stillrun/store/3"}}')
    assert "this Stillrun reads formats up to 2" in said(capsys, tmp_path, "list")


def test_a_path_that_no_store_can_have_is_refused(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "File name too long" in said(capsys, f"/tmp/{LONG}", "store", "stats")
    assert "is a file" in said(capsys, root / "log", "store", "stats")


def test_a_store_is_no_remote(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Store.open(tmp_path / "other").close()
    before = sorted((tmp_path / "other").rglob("*"))
    assert run_group(["remote", "add", "x", str(tmp_path / "other"), "--store", str(root)]) == 0
    assert "is a store, and a remote is a folder of its own" in said(capsys, root, "push", RUN, "--remote", "x")
    assert sorted((tmp_path / "other").rglob("*")) == before
