"""What a result depends on is found by changing one thing at a time."""

from __future__ import annotations

import pytest
from tests.conftest import Commands

FLOW = """
import os
from stillrun import FlowSpec, step, volatile

class Depends(FlowSpec):
    @volatile("chance")
    @step
    def start(self):
        import datetime, random, time
        asked = time.perf_counter()
        self.fixed = sum(range(9))
        self.hashed = list({"a", "b", "c", "d", "e"})
        self.zone = time.strftime("%H", time.localtime(0))
        self.threads = os.environ.get("OMP_NUM_THREADS", "all")
        self.place = os.getcwd()
        self.listed = os.listdir("data")
        self.sorted = sorted(os.listdir("data"))
        self.random = random.random()
        self.chance = random.random()
        self.began = time.time()
        self.today = datetime.date.today()
        self.stamp = datetime.datetime.now(datetime.timezone.utc)
        self.spent = time.perf_counter() - asked
        self.next(self.end)

    @step
    def end(self):
        pass
"""


@pytest.fixture
def run(stillrun: Commands) -> str:
    for name in ("one.txt", "two.txt", "three.txt"):
        stillrun.write(f"data/{name}", name)
    stillrun.write("depends.py", FLOW)
    return stillrun.run("depends.py")


def test_each_thing_is_found_where_it_is_used(stillrun: Commands, run: str) -> None:
    done = stillrun("replay", run, "--vary", "all", "--json")
    assert done.code == 1, done.err
    found = {cause["name"]: cause["axes"] for cause in done.json["causes"] if cause["step"] == "start"}
    assert found == {
        "hashed": ["hashseed"],
        "zone": ["timezone"],
        "threads": ["threads"],
        "place": ["path"],
        "listed": ["order"],
        "random": ["itself"],
        "began": ["time"],
        "today": ["time"],
        "spent": ["time"],
        "stamp": ["time"],
    }
    sentences = {cause["name"]: cause["sentence"] for cause in done.json["causes"]}
    assert sentences["hashed"] == (
        "start/0/hashed depends on the hash seed: something in it follows the order of a set, or hash()"
    )
    assert sentences["random"].startswith("start/0/random differs by itself from one replay to the next")
    assert sentences["today"] == "start/0/today depends on the time: it holds a date, a time of day or a duration"
    assert [one["changed"] for one in done.json["replays"]][:3] == [None, None, "hashseed"]


def test_a_step_is_asked_alone_and_told_in_words(stillrun: Commands, run: str) -> None:
    done = stillrun("replay", f"{run}/start", "--vary", "hashseed,timezone", "--repeat", "3")
    assert done.code == 1
    assert "start/0/zone depends on the time zone: it holds a local time" in done.out
    assert "listed depends" not in done.out


def test_what_depends_on_nothing_is_said(stillrun: Commands) -> None:
    steady = "from stillrun import FlowSpec, step\n\nclass Steady(FlowSpec):\n    @step\n    def start(self):\n"
    steady += (
        "        self.x = {'a', 'b'}\n        self.next(self.end)\n\n    @step\n    def end(self):\n        pass\n"
    )
    stillrun.write("steady.py", steady)
    done = stillrun("replay", stillrun.run("steady.py"), "--vary", "hashseed,order")
    assert done.code == 0, done.out
    assert "Nothing differs between 4 replays, nor with another hashseed, order." in done.out


def test_an_unknown_thing_is_refused(stillrun: Commands, run: str) -> None:
    done = stillrun("replay", run, "--vary", "moon")
    assert done.code == 2
    assert "there are all, hashseed" in done.err
