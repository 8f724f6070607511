from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stillrun_snapshot.checkpoint import (
    CheckpointUnsound,
    agreement,
    checkpoint_of,
    inclusion_text,
    is_shown,
    note_text,
    parse_note,
)
from stillrun_snapshot.ed25519 import PrivateKey
from stillrun_snapshot.errors import StoreError
from stillrun_snapshot.logtree import LogTree
from stillrun_snapshot.merkle import is_consistent, is_included, leaf_hash, root_of, tree_over
from stillrun_snapshot.refs import RefChange
from stillrun_snapshot.store import Store

GOLDEN = Path(__file__).parents[2] / "fixtures/formats"


def change(store: Store, count: int, name: str = "runs/F/{}") -> None:
    """Make ``count`` lines of the log."""
    begin = store.refs.check()
    digest = store.put(b"x")
    store.refs.set([RefChange(name.format(begin + number), digest) for number in range(count)])


def plain_root(store: Store) -> bytes:
    lines = (store.root / "log").read_bytes().splitlines()
    return root_of(len(lines), tree_over([leaf_hash(line) for line in lines]))


def test_the_tree_is_over_the_lines_of_the_log_as_it_grows(store: Store) -> None:
    for grown in (1, 2, 5, 1, 9):
        change(store, grown)
        tree = LogTree(store.root)
        assert tree.root() == plain_root(store) == LogTree(store.root, anew=True).root()
        lines = (store.root / "log").read_bytes().splitlines()
        assert [tree.line(index) for index in range(tree.size)] == lines
        for index in range(tree.size):
            assert is_included(leaf_hash(lines[index]), index, tree.size, tree.inclusion(index), tree.root())
            assert is_consistent(index + 1, tree.root(index + 1), tree.size, tree.root(), tree.consistency(index + 1))


def test_hashes_are_kept_and_a_proof_reads_no_other_lines(store: Store) -> None:
    change(store, 300)
    LogTree(store.root)
    log = store.root / "log"
    lines = log.read_bytes().splitlines(keepends=True)
    first, rest = b"".join(lines[:-1]), lines[-1]
    log.write_bytes(b"?" * len(first) + rest)  # nobody reads them: they are covered
    assert LogTree(store.root).root() == root_of(300, tree_over([leaf_hash(line[:-1]) for line in lines]))
    assert LogTree(store.root, anew=True).root() != LogTree(store.root).root()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(1, 12), st.sampled_from(["", "head", "hashes-0", "hashes-1", "offsets"])), max_size=6
    )
)
def test_what_is_kept_may_vanish_or_be_cut_at_any_time(tmp_path_factory: pytest.TempPathFactory, steps: list) -> None:  # type: ignore[type-arg]
    with Store.open(tmp_path_factory.mktemp("s") / "store") as store:
        for grown, lost in steps:
            change(store, grown)
            assert LogTree(store.root).root() == plain_root(store)
            path = store.root / "cache/merkle" / (lost or "none")
            if path.exists():
                path.write_bytes(path.read_bytes()[:-3]) if grown % 2 else path.unlink()


def test_a_log_that_was_written_anew_is_not_believed_to_be_the_old_one(store: Store) -> None:
    change(store, 20)
    before = checkpoint_of(LogTree(store.root))
    kept = store.root / "cache/merkle"
    log = store.root / "log"
    with Store.open(store.root.parent / "other") as other:
        change(other, 20, "runs/G/{}")
        shutil.copy(other.root / "log", log)
        assert kept.exists()
        assert LogTree(store.root).root() == plain_root(other)
    assert agreement(before, LogTree(store.root)).word == "another"


def test_a_torn_line_is_no_leaf_and_an_empty_log_has_no_name(store: Store) -> None:
    assert LogTree(store.root).size == 0
    with pytest.raises(StoreError, match="no lines yet"):
        checkpoint_of(LogTree(store.root))
    change(store, 3)
    with open(store.root / "log", "ab") as log:
        log.write(b'{"from":')
    assert LogTree(store.root).size == 3


def test_a_store_that_cannot_be_written_has_a_tree_too(store: Store) -> None:
    change(store, 3)
    (store.root / "cache").mkdir(exist_ok=True)
    (store.root / "cache/merkle").write_bytes(b"in the way")
    assert LogTree(store.root).root() == plain_root(store)


def test_the_last_line_of_a_ref_is_found(store: Store) -> None:
    change(store, 40)
    store.refs.set([RefChange('odd/"name" ü', store.put(b"1")), RefChange("runs/F/7", store.put(b"2"))])
    tree = LogTree(store.root)
    assert tree.find("runs/F/7") == 41
    assert tree.find("runs/F/39") == 39
    assert tree.find('odd/"name" ü') == 40
    assert tree.find("runs/F") is tree.find("nothing") is None


# -- checkpoints ---------------------------------------------------------------------------------------------------


def test_a_checkpoint_agrees_with_the_log_that_grew_from_it(store: Store) -> None:
    change(store, 10)
    early = checkpoint_of(LogTree(store.root))
    change(store, 10)
    found = agreement(early, LogTree(store.root))
    assert found.sound and "10 were added" in found.told


def test_a_checkpoint_shows_that_lines_were_cut_off(store: Store) -> None:
    change(store, 10)
    early = checkpoint_of(LogTree(store.root))
    log = store.root / "log"
    log.write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[:7]))
    assert store.refs.check() == 7  # the chain alone cannot show it
    found = agreement(early, LogTree(store.root))
    assert (found.word, found.sound) == ("truncated", False) and "3 lines" in found.told
    log.write_bytes(b"")
    assert agreement(early, LogTree(store.root)).word == "truncated"


def test_a_checkpoint_shows_that_the_end_was_written_anew(store: Store) -> None:
    change(store, 10)
    early = checkpoint_of(LogTree(store.root))
    log = store.root / "log"
    log.write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[:7]))
    change(store, 9, "runs/Other/{}")
    assert store.refs.check() == 16  # a chain that is sound in itself
    assert agreement(early, LogTree(store.root)).word == "rewritten"


def test_a_note_is_read_back_however_it_was_mailed(store: Store) -> None:
    change(store, 5)
    key, other = PrivateKey.new(), PrivateKey.new()
    checkpoint = checkpoint_of(LogTree(store.root))
    for text in (note_text(checkpoint), note_text(checkpoint).rstrip(), note_text(checkpoint, key, other)):
        assert len(text.splitlines()) <= 12
        for sent in (text, text.replace("\n", "\r\n")):
            assert parse_note(sent).checkpoint == checkpoint
    note = parse_note(note_text(checkpoint, key))
    assert note.signers([key.public]) == [key.public]
    assert note.signers([other.public]) == []


def test_a_changed_note_is_refused(store: Store) -> None:
    change(store, 5)
    key = PrivateKey.new()
    text = note_text(checkpoint_of(LogTree(store.root)), key)
    with pytest.raises(CheckpointUnsound, match="is wrong"):
        parse_note(text.replace("\n5\n", "\n4\n")).signers([key.public])
    for broken in (
        "",
        "a\n5\n\n",
        text.replace("\n5\n", "\n05\n"),
        text.replace("\n5\n", "\n-5\n"),
        text.replace("=", "!"),
    ):
        with pytest.raises(CheckpointUnsound, match="none"):
            parse_note(broken)


def test_a_proof_shows_one_line_and_no_other(store: Store) -> None:
    change(store, 33)
    tree = LogTree(store.root)
    note = note_text(checkpoint_of(tree), PrivateKey.new())
    change(store, 8)
    tree = LogTree(store.root)
    proof = inclusion_text(tree, 20, note)
    assert is_shown(proof, tree.line(20))
    assert not is_shown(proof, tree.line(21))
    assert not is_shown(proof.replace("index 20", "index 21"), tree.line(20))
    with pytest.raises(CheckpointUnsound):
        is_shown(proof.replace("tlog-proof", "other"), tree.line(20))


def test_a_checkpoint_of_version_1_is_read(tmp_path: Path) -> None:
    Store.open(tmp_path / "s").close()
    shutil.copy(GOLDEN / "log/v1/log", tmp_path / "s/log")
    note = parse_note((GOLDEN / "checkpoint/v1/checkpoint").read_text())
    assert agreement(note.checkpoint, LogTree(tmp_path / "s")).told.endswith("0 were added since")
    from stillrun_snapshot.ed25519 import PublicKey

    key = PublicKey.of_pem((GOLDEN / "checkpoint/v1/key.pem").read_text())
    assert note.signers([key]) == [key]
