"""Attacks on a store, each found and named by whoever has a checkpoint and a public key of before.

All attacks that are known of, and the test of each, stand in docs/custody.md.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Commands

from stillrun_engine.archive import KeptRun, open_run
from stillrun_engine.pathspec import parse_pathspec
from stillrun_engine.signing import keys_of, sign_run, signatures_of
from stillrun_engine.verification import Asked, Verification, verify_run, verify_store
from stillrun_snapshot.checkpoint import Note, checkpoint_of, note_text, parse_note
from stillrun_snapshot.digest import Digest, digest_of
from stillrun_snapshot.dsse import envelope
from stillrun_snapshot.ed25519 import PrivateKey
from stillrun_snapshot.errors import RecordError, StoreError
from stillrun_snapshot.keys import known_keys, publish_key, revoke_key
from stillrun_snapshot.logtree import LogTree
from stillrun_snapshot.record import canonical_bytes
from stillrun_snapshot.refs import RefChange
from stillrun_snapshot.store import Store

FLOW = """
from stillrun import FlowSpec, Parameter, step

class Small(FlowSpec):
    seed = Parameter("seed", default=7)

    @step
    def start(self):
        self.table = bytes(range(256)) * 400
        self.total = self.seed + 1
        print("hello")
        self.next(self.end)

    @step
    def end(self):
        pass

if __name__ == "__main__":
    Small()
"""


@dataclass
class Evidence:
    """A store with two runs, and what its auditor keeps elsewhere: a public key and a checkpoint."""

    root: Path
    run: str
    other: str
    key: PrivateKey
    note: Note


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory, interpreter_store: Path) -> Evidence:
    folder = tmp_path_factory.mktemp("custody")
    commands = Commands(folder, shutil.copytree(interpreter_store, folder / "store"))
    commands.write("flow.py", FLOW)
    run, other = commands.run("flow.py"), commands.run("flow.py", "--seed", "8")
    key = PrivateKey.new()
    with Store.open(folder / "store") as store:
        for name in (run, other):
            sign_run(open_run(store, parse_pathspec(name)), key, "Ada", "approved for use")
        note = parse_note(note_text(checkpoint_of(LogTree(store.root)), key))
    return Evidence(folder / "store", run, other, key, note)


@pytest.fixture
def kept(origin: Evidence, tmp_path: Path) -> Evidence:
    """A copy that may be attacked."""
    shutil.copytree(origin.root, tmp_path / "kept-store", symlinks=True)
    return Evidence(tmp_path / "kept-store", origin.run, origin.other, origin.key, origin.note)


def checked(kept: Evidence, **asked: Any) -> Verification:
    """Everything verified as the auditor does it."""
    with Store.open(kept.root) as store:
        return verify_store(store, Asked(**{"trusted": [kept.key.public], "note": kept.note, "full": True, **asked}))


def told(found: Verification) -> str:
    """All that was found to be wrong, in words."""
    words = [*found.problems, *(each.problem for each in found.damaged)]
    for run in found.runs:
        words += [*run.problems, *(f"{each.needed.purpose}: {each.problem}" for each in run.damaged)]
        words += [f"{each.standing}: {each.told}" for each in run.signatures if not each.counts]
    return "\n".join(words)


def opened(store: Store, name: str) -> KeptRun:
    return open_run(store, parse_pathspec(name, least=2, most=4))


def write_log(root: Path, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> None:
    """Write the log anew as a chain that is sound in itself."""
    events = change([json.loads(line) for line in (root / "log").read_text().splitlines()])
    lines, previous = [], "sha256:" + "0" * 64
    for number, event in enumerate(events, 1):
        line = canonical_bytes({**event, "seq": number, "prev": previous})
        previous = digest_of(line)
        lines.append(line + b"\n")
    (root / "log").write_bytes(b"".join(lines))


def test_the_page_names_a_test_for_each_attack() -> None:
    tests = Path(__file__).parents[1]
    page = (tests.parent / "docs" / "custody.md").read_text("utf-8")
    rows = re.findall(r"^\| (\d+) \|.*\| `(\S+)::(\w+)` \|$", page, re.M)
    assert [int(number) for number, _, _ in rows] == list(range(1, 22))
    assert [name for _, path, name in rows if f"def {name}(" not in (tests / path).read_text("utf-8")] == []


def test_an_honest_store_is_sound(kept: Evidence) -> None:
    found = checked(kept)
    assert found.sound, told(found)
    assert found.checkpoint is not None and found.checkpoint.word == "agrees"
    assert found.not_checked == ["that clocks were right: every time is what a machine said"]
    assert [each.standing for run in found.runs for each in run.signatures] == ["sound", "sound"]
    left_open = " ".join(checked(kept, trusted=(), note=None, full=False).not_checked)
    for words in ("--checkpoint", "--trust", "--full", "clocks"):
        assert words in left_open


def test_bytes_under_the_same_name(kept: Evidence) -> None:
    with Store.open(kept.root) as store:
        task = opened(store, kept.run).task("start", "0")
        record = store.get_record(Digest(task["artifacts"]["table"]), "artifact")
        path = store.locate(Digest(record["parts"][-1]["digest"])).path
    assert path is not None
    path.chmod(0o644)
    path.write_bytes(path.read_bytes().replace(b"\1\2", b"\2\1"))
    found = checked(kept)
    assert not found.sound and "artifact start/0/table" in told(found)
    with Store.open(kept.root) as store:
        assert not verify_run(opened(store, kept.run), Asked()).sound


def forge(store: Store, name: str) -> tuple[Digest, Digest]:
    """Another result of a run, with all records above it written anew; the record of before and the new one."""
    run = opened(store, name)
    task = dict(run.task("start", "0"))
    artifact = dict(store.get_record(Digest(task["artifacts"]["total"]), "artifact"))
    artifact["parts"] = [{"digest": store.put(b"\x80\x05K\x63."), "size": 5}]
    task["artifacts"] = {**task["artifacts"], "total": store.put_record(artifact)}
    forged = store.put_record(task)
    tasks = [{**each, "record": forged} if each["step"] == "start" else each for each in run.record["tasks"]]
    record = store.put_record({**run.record, "tasks": tasks})
    store.refs.set([RefChange(f"tasks/{run.pathspec}/start/0", forged), RefChange(f"runs/{run.pathspec}", record)])
    return run.digest, record


def test_a_result_and_every_record_above_it(kept: Evidence) -> None:
    with Store.open(kept.root) as store:
        forge(store, kept.run)
    found = checked(kept)
    assert "stale: it covers the record" in told(found) and "no key that you trust has signed it" in told(found)


def test_a_history_that_was_written_anew(kept: Evidence) -> None:
    with Store.open(kept.root) as store:
        before, after = forge(store, kept.run)

    def change(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
        kept_events = events[:-2]
        for event in kept_events:
            event["to"] = str(after) if event["to"] == before else event["to"]
        others = [event for event in kept_events if not event["ref"].startswith(f"signatures/{kept.run}")]
        filling = [{**others[0], "ref": f"tags/Small/{number}", "from": None} for number in range(5)]
        return others + filling

    write_log(kept.root, change)
    with Store.open(kept.root) as store:
        assert store.refs.check() > 0  # the chain is sound in itself
    found = checked(kept)
    assert found.checkpoint is not None and found.checkpoint.word == "rewritten"
    assert "no key that you trust has signed it" in told(found)


def test_a_log_without_its_first_line(kept: Evidence) -> None:
    write_log(kept.root, lambda events: events[1:])
    found = checked(kept)
    assert found.checkpoint is not None and found.checkpoint.word == "another"


def test_a_log_whose_end_was_cut_off(kept: Evidence) -> None:
    log = kept.root / "log"
    log.write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[:-3]))
    found = checked(kept)
    assert found.checkpoint is not None and found.checkpoint.word == "truncated" and "3 lines" in told(found)
    assert checked(kept, trusted=(), note=None, full=False).checkpoint is None  # and without it nobody can know


def test_a_signature_of_another_run(kept: Evidence) -> None:
    with Store.open(kept.root) as store:
        (signature,) = dict(store.refs.names(f"signatures/{kept.other}/")).values()
        (ref,) = dict(store.refs.names(f"signatures/{kept.run}/"))
        store.refs.set([RefChange(ref, None), RefChange(f"signatures/{kept.run}/{signature.hex[:16]}", signature)])
    found = checked(kept)
    assert f"unsound: it was made for {kept.other}" in told(found)
    assert "deleted signatures/" in told(found)


def test_a_statement_of_another_kind(kept: Evidence) -> None:
    with Store.open(kept.root) as store:
        (name, digest), *_ = store.refs.names(f"signatures/{kept.run}/")
        record = {**store.get_record(digest, "signature"), "payloadType": "application/vnd.stillrun.key+json"}
        store.refs.set([RefChange(name + "x", store.put_record(record))])
        publish = {"schema": "stillrun/key/1", **{k: v for k, v in record.items() if k != "schema"}}
        store.refs.set([RefChange("keys/" + "0" * 64, store.put_record(publish))])
        with pytest.raises(StoreError):
            known_keys(store)
    assert "unsound" in told(checked(kept)) and "a key of the store" in told(checked(kept))


def test_a_key_that_was_stolen(kept: Evidence) -> None:
    with Store.open(kept.root) as store:
        revoke_key(store, kept.key.keyid, "laptop was lost", "Ada")
        assert checked(kept).sound  # what it signed before counts on
        run = opened(store, kept.run)
        statement = {
            "schema": "stillrun/statement/1",
            "run": run.pathspec,
            "record": run.digest,
            "meaning": "approved for use",
            "signer": "Ada",
            "time": "2020-01-01T00:00:00.000Z",  # dated back
            "log": None,
        }
        kind = "application/vnd.stillrun.statement+json"
        record = {"schema": "stillrun/signature/1", **envelope(kind, canonical_bytes(statement), kept.key)}
        store.refs.set([RefChange(f"signatures/{kept.run}/dated-back", store.put_record(record))])
    assert "revoked: its key was revoked" in told(checked(kept)) and "made after that" in told(checked(kept))


def test_a_key_that_was_compromised_counts_for_nothing(kept: Evidence) -> None:
    with Store.open(kept.root) as store:
        revoke_key(store, kept.key.keyid, "published by mistake", "Ada", compromised=True)
        standings = [
            each.standing for each in signatures_of(opened(store, kept.run), keys_of(store), LogTree(store.root))
        ]
    assert standings == ["revoked"] and "whenever it was made" in told(checked(kept))


def test_a_key_put_in_the_place_of_the_trusted_one(kept: Evidence) -> None:
    thief = PrivateKey.new()
    with Store.open(kept.root) as store:
        forge(store, kept.run)
        publish_key(store, thief, "Ada")
        sign_run(opened(store, kept.run), thief, "Ada", "approved for use")
        assert [e.standing for e in signatures_of(opened(store, kept.run), keys_of(store), LogTree(store.root))][
            -1
        ] == "sound"
    assert "no key that you trust has signed it" in told(checked(kept))


def test_a_revocation_that_was_taken_back(kept: Evidence) -> None:
    with Store.open(kept.root) as store:
        revoke_key(store, kept.key.keyid, "stolen", "Ada", compromised=True)
        store.refs.set([RefChange(f"revocations/{kept.key.keyid}", None)])
    assert "which must stay as it was made" in told(checked(kept))


def test_names_of_other_hashes_and_records_of_other_kinds(kept: Evidence) -> None:
    with pytest.raises(StoreError, match="not a digest"):
        Digest("sha1:" + "0" * 40)
    with Store.open(kept.root) as store:
        run = opened(store, kept.run)
        task = next(digest for step, _, digest in run.entries() if step == "start")
        with pytest.raises(RecordError, match="was expected"):
            store.get_record(task, "artifact")
        store.refs.set([RefChange(f"runs/Small/{kept.other.split('/')[1]}", run.digest)])
    assert f"its record is that of {kept.run}" in told(checked(kept))


def test_a_task_in_the_place_of_another(kept: Evidence) -> None:
    with Store.open(kept.root) as store:
        run = opened(store, kept.run)
        end = next(digest for step, _, digest in run.entries() if step == "end")
        store.refs.set([RefChange(f"tasks/{kept.run}/start/0", end)])
    assert "the ref of task start/0 leads to another record" in told(checked(kept))


def test_times_that_cannot_be(kept: Evidence) -> None:
    with Store.open(kept.root) as store:
        run = opened(store, kept.run)
        record = store.put_record({**run.record, "finished": "2020-01-01T00:00:00.000Z"})
        store.refs.set([RefChange(f"runs/{kept.run}", record)])
    assert "it ended before it began" in told(checked(kept))


def test_names_that_would_drive_a_terminal(kept: Evidence, lonely: Commands) -> None:
    key = PrivateKey.new()
    with Store.open(kept.root) as store:
        run = opened(store, kept.run)
        statement = {
            "schema": "stillrun/statement/1",
            "run": run.pathspec,
            "record": run.digest,
            "meaning": "\x1b[2J\u202eapproved",
            "signer": "\x1b]0;owned\x07",
            "time": "now",
            "log": None,
        }
        kind = "application/vnd.stillrun.statement+json"
        record = {"schema": "stillrun/signature/1", **envelope(kind, canonical_bytes(statement), key)}
        publish_key(store, key, "Eve")
        store.refs.set([RefChange(f"signatures/{kept.run}/x", store.put_record(record))])
    lonely.store = kept.root
    done = lonely("verify", kept.run)
    assert done.code == 0 and "approved" in done.out
    assert not any(letter in done.out + done.err for letter in "\x1b\x07\u202e")


@pytest.mark.slow
def test_a_policy_that_was_loosened_after_the_fact(kept: Evidence, lonely: Commands) -> None:
    lonely.store = kept.root
    replayed = lonely("replay", kept.run, "--json")
    assert replayed.code == 0, replayed.err
    with Store.open(kept.root) as store:
        replay = next(run for run in runs_of(store) if run.record["kind"] == "replay")
        sign_run(replay, kept.key, "Ada", "the replay is identical")
        verdict = dict(store.get_record(Digest(replay.record["verdict"]), "verdict"))
        policy = {**verdict["policy"], "tolerance": {"*": {"*": {"rtol": "1", "atol": "0"}}}}
        record = {**replay.record, "verdict": store.put_record({**verdict, "policy": policy})}
        store.refs.set([RefChange(f"runs/{replay.pathspec}", store.put_record(record))])
    assert "stale: it covers the record" in told(checked(kept))


def runs_of(store: Store) -> Iterator[KeptRun]:
    from stillrun_engine.archive import runs

    return runs(store)


def test_a_redaction_that_nobody_signed_hides_nothing(kept: Evidence) -> None:
    with Store.open(kept.root) as store:
        task = opened(store, kept.run).task("start", "0")
        record = store.get_record(Digest(task["artifacts"]["table"]), "artifact")
        digest = Digest(record["parts"][0]["digest"])
        statement = {
            "schema": "stillrun/redaction/1",
            "object": digest,
            "size": 1,
            "purposes": [],
            "reason": "privacy",
            "by": "Ada",
            "time": "2026-01-01T00:00:00.000Z",
            "stand_in": None,
        }
        kind = "application/vnd.stillrun.redaction+json"
        stranger = PrivateKey.new()
        tombstone = {"schema": "stillrun/tombstone/1", **envelope(kind, canonical_bytes(statement), stranger)}
        store.refs.set([RefChange(f"redactions/{digest.hex}", store.put_record(tombstone))])
        store.expunge([digest])
    assert "that is no key that is known here" in told(checked(kept))


def test_the_command_tells_all_of_it_with_its_exit_code(kept: Evidence, lonely: Commands, tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_text(kept.key.public.pem)
    (tmp_path / "kept").write_text(note_text(kept.note.checkpoint, kept.key))
    lonely.store = kept.root
    given = ("--trust", tmp_path / "key.pem", "--checkpoint", tmp_path / "kept")
    done = lonely("verify", "--all", "--full", *given, "--json")
    assert done.code == 0 and done.json["sound"] and done.json["checkpoint"]["verdict"] == "agrees"
    log = kept.root / "log"
    log.write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[:-1]))
    done = lonely("verify", "--all", *given)
    assert done.code == 2 and "checkpoint truncated" in done.out and "no key that you trust has signed it" in done.out
    done = lonely("checkpoint", "check", tmp_path / "kept")
    assert done.code == 2 and done.out.startswith("truncated:")
    assert lonely("verify", "--full").code == lonely("verify", kept.run, "--all").code == 2
