"""`stillrun store pack`: runs are read, replayed and gone on from as before."""

from __future__ import annotations

import pytest
from tests.conftest import Commands

from stillrun_snapshot.store import Store

LARGE = """
import struct
from stillrun import FlowSpec, Parameter, step

class Large(FlowSpec):
    more = Parameter("more", default=0)

    @step
    def start(self):
        self.array = [float(i * i) for i in range(200_000)]
        self.words = [f"word {i}" for i in range(20_000)]
        self.next(self.total)

    @step
    def total(self):
        self.sum = sum(self.array) + self.more
        self.next(self.end)

    @step
    def end(self):
        self.length = len(self.words)

if __name__ == "__main__":
    Large()
"""


@pytest.fixture
def packed(lonely: Commands) -> tuple[Commands, str]:
    """A store with a run, packed; and the run."""
    lonely.write("large.py", LARGE)
    run = lonely.run("large.py")
    done = lonely("store", "pack", "--all")
    assert done.code == 0, done.err
    assert "objects packed" in done.out and "in chunks" in done.out
    return lonely, run


def test_a_packed_run_is_verified_replayed_and_resumed(packed: tuple[Commands, str]) -> None:
    stillrun, run = packed
    files = [path for path in (stillrun.store / "objects").glob("*/*") if path.is_file()]
    stats = stillrun("store", "stats", "--json").json
    assert stats["loose"] == len(files) and stats["chunked"] >= 1 and stats["stored"] < stats["size"] - 1_000_000
    assert "sound" in stillrun("verify", run).out
    assert stillrun("artifact", f"{run}/end/length").out.split()[-1] == "20000"
    replay = stillrun("replay", run, "--json")
    assert replay.code == 0, replay.err
    assert replay.json["verdict"] == "identical"
    stillrun.write("large.py", LARGE.replace("len(self.words)", "len(self.words) + 1"))
    resumed = stillrun("resume", run)
    assert resumed.code == 0, resumed.err
    assert stillrun("artifact", "Large/latest/end/length").out.split()[-1] == "20001"
    assert stillrun("store", "pack", "--all", "--json").json["damaged"] == []
    assert "sound" in stillrun("verify", "Large/latest").out


def test_large_files_that_were_written_lately_stay_and_damage_is_named(lonely: Commands) -> None:
    with Store.open(lonely.store) as store:
        digest = store.put(b"".join(b"row %d\n" % number for number in range(200_000)))
        store.put(b"small")
    before = sorted((lonely.store / "objects").glob("*/*"))
    done = lonely("store", "pack", "--json")
    assert done.code == 0 and done.json["removed"] >= 1 and done.json["large"] == 0
    assert sorted((lonely.store / "objects").glob("*/*")) == before
    assert "nothing to pack" in lonely("store", "pack").out
    path = lonely.store / "objects" / digest.hex[:2] / digest.hex[2:]
    assert path in before
    path.chmod(0o644)
    with open(path, "r+b") as stream:
        stream.write(b"damage")
    done = lonely("store", "pack", "--all")
    assert done.code == 2
    assert f"damaged: {digest} in objects/" in done.out and "Traceback" not in done.err
    assert path.exists()
    done = lonely("store", "pack", "--age", "soon")
    assert done.code == 2 and "'soon' is no age" in done.err
