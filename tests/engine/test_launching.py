"""A host that is started before the store is opened is taken only when it is what would be started now."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from stillrun_engine.caller import Caller
from stillrun_engine.face import keep_face
from stillrun_engine.launching import EarlyHost, early_host, launch_ambient
from stillrun_engine.warm import warm_host
from stillrun_snapshot.checkout import checkout
from stillrun_snapshot.store import Store


@pytest.fixture
def caller(tmp_path: Path) -> Caller:
    return Caller(Path(sys.executable), tmp_path, dict(os.environ))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    with Store.open(tmp_path / "store") as opened:
        checkout(opened, keep_face(opened))
    return Store.open(tmp_path / "store")


def begun(store: Store, caller: Caller) -> EarlyHost:
    early = early_host(store.root, caller)
    assert early is not None
    return early


def test_it_is_taken_when_nothing_has_changed(store: Store, caller: Caller) -> None:
    early = begun(store, caller)
    with store:
        warm = warm_host(store, caller, early)
        assert warm.process is early.process
        warm.process.close()


def test_another_caller_gets_another_host(store: Store, caller: Caller) -> None:
    early = begun(store, Caller(caller.python, caller.cwd, {**caller.variables, "OTHER": "1"}))
    with store:
        warm = warm_host(store, caller, early)
        assert warm.process is not early.process
        warm.process.close()
    with pytest.raises(OSError, match="descriptor"):
        os.fstat(early.process.fileno())  # it was closed


def test_a_face_that_was_made_anew_gets_another_host(store: Store, caller: Caller) -> None:
    early = begun(store, caller)
    module = early.launch.face / "stillrun" / "flow.py"
    module.chmod(0o644)
    module.write_text("raise SystemExit('damaged')")
    with store:
        warm = warm_host(store, caller, early)
        assert warm.process is not early.process
        assert warm.launch == launch_ambient(caller, early.launch.face)
        assert "class FlowSpec" in module.read_text()
        warm.process.close()


def test_nothing_is_started_on_a_guess(store: Store, caller: Caller, tmp_path: Path) -> None:
    assert early_host(tmp_path / "nowhere", caller) is None
    memo = store.root / "cache/face.json"
    known = json.loads(memo.read_text())
    for changed in (
        {**known, "tree": "0" * 64},
        {**known, "package": [[path, [*stamp[:-1], 0]] for path, stamp in known["package"]]},
        {**known, "package": [["/nowhere", [0]]]},
        {"tree": known["tree"]},
        [],
    ):
        memo.write_text(json.dumps(changed))
        assert early_host(store.root, caller) is None
    memo.write_text("{torn")
    assert early_host(store.root, caller) is None
