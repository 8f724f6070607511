from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from stillrun_snapshot.errors import StoreError
from stillrun_snapshot.lease import Lease
from stillrun_snapshot.store import Store

RunPython = Callable[..., "subprocess.Popen[str]"]

HOLDER = """
import sys
from pathlib import Path
from stillrun_snapshot.lease import Lease
from stillrun_snapshot.store import Store
lease = Lease.take(Path(sys.argv[1]), "runs/Digits/7")
print("held", flush=True)
sys.stdin.readline()
lease.release()
"""


def test_a_lease_has_one_holder(tmp_path: Path) -> None:
    assert not Lease.is_held(tmp_path, "a/b")
    with Lease.take(tmp_path, "a/b") as lease:
        assert Lease.is_held(tmp_path, "a/b")
        assert not Lease.is_held(tmp_path, "a")
        with pytest.raises(StoreError, match=r"'a/b' is held by process [0-9]+"):
            Lease.take(tmp_path, "a/b")
    assert not Lease.is_held(tmp_path, "a/b")
    lease.release()
    assert list((tmp_path / "locks").iterdir()) == []
    Lease.take(tmp_path, "a/b").release()


@pytest.mark.parametrize("killed", [True, False])
def test_a_lease_ends_with_its_process(tmp_path: Path, python: RunPython, killed: bool) -> None:
    process = python(HOLDER, tmp_path)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    assert Lease.is_held(tmp_path, "runs/Digits/7")
    with pytest.raises(StoreError, match=f"held by process {process.pid}"):
        Lease.take(tmp_path, "runs/Digits/7")
    if killed:
        process.kill()
    process.communicate(None if killed else "\n")
    assert not Lease.is_held(tmp_path, "runs/Digits/7")
    Lease.take(tmp_path, "runs/Digits/7").release()


def test_asking_does_not_keep_anybody_from_taking(tmp_path: Path, python: RunPython) -> None:
    asker = python(
        "import sys; from pathlib import Path; from stillrun_snapshot.lease import Lease\n"
        "print('on', flush=True)\nwhile True: Lease.is_held(Path(sys.argv[1]), 'a')",
        tmp_path,
    )
    assert asker.stdout is not None
    asker.stdout.readline()
    for _ in range(300):
        Lease.take(tmp_path, "a").release()


NOTER = """
import os, sys
from pathlib import Path
from stillrun_snapshot.lease import Lease
from stillrun_snapshot.store import Store
from stillrun_snapshot.refs import RefChange
from stillrun_snapshot.store import Store
store = Store.open(Path(sys.argv[1]))
lease = Lease.take(store.root, "run")
done, noted = (RefChange(f"tasks/{name}", store.put(name.encode())) for name in ("done", "noted"))
lease.note([done])
store.refs.set([done])
lease.clear()
lease.note([noted])
lease.note([RefChange("tasks/lost", "sha256:" + "0" * 64)])
os.write(lease._descriptor, b'{"ref": "tasks/torn", "to": "sha')
print("noted", flush=True)
sys.stdin.readline()
"""


def test_what_a_dead_holder_noted_is_done_by_the_next_who_opens_the_store(tmp_path: Path, python: RunPython) -> None:
    process = python(NOTER, tmp_path / "store")
    assert process.stdout is not None
    assert process.stdout.readline() == "noted\n"
    with Store.open(tmp_path / "store") as store:
        assert [name for name, _ in store.refs.names()] == ["tasks/done"], "it is alive and may do it itself"
    process.kill()
    process.communicate()
    with Store.open(tmp_path / "store") as store:
        assert [name for name, _ in store.refs.names()] == ["tasks/done", "tasks/noted"]
        noted = store.refs.get("tasks/noted")
        assert noted is not None
        assert store.get(noted) == b"noted"
        assert list((store.root / "locks").iterdir()) == []
        assert store.refs.check() == 2


@pytest.mark.skipif(
    not Path("/proc/sys/kernel/random/boot_id").exists(), reason="the system does not tell when it was started"
)
def test_what_was_noted_before_the_power_went_is_not_done(tmp_path: Path, python: RunPython) -> None:
    """What it rests on was not synced, and may be gone."""
    process = python(NOTER, tmp_path / "store")
    assert process.stdout is not None
    assert process.stdout.readline() == "noted\n"
    process.kill()
    process.communicate()
    lease = tmp_path / "store" / "locks" / "run"
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert lease.read_text().count(boot) == 2
    lease.write_text(lease.read_text().replace(boot, "another"))
    with Store.open(tmp_path / "store") as store:
        assert [name for name, _ in store.refs.names()] == ["tasks/done"]
        assert list((store.root / "locks").iterdir()) == []
