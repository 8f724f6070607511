"""What a result depends on is found by changing one thing at a time."""

from __future__ import annotations

from pathlib import Path

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
        self.summed = 0.0
        for name in {str(n) for n in range(99)}:
            self.summed += 0.1 * int(name) ** 0.5
        self.zone = time.strftime("%H", time.localtime(0))
        self.threads = os.environ.get("OMP_NUM_THREADS", "all")
        self.place = os.getcwd()
        self.listed = os.listdir("data")
        self.sorted = sorted(os.listdir("data"))
        self.random = random.random()
        self.chance = random.random()
        self.began = time.time()
        self.today = datetime.datetime.now(datetime.timezone.utc).date()
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
        "summed": ["hashseed"],
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
    assert sentences["hashed"] == "start/0/hashed depends on the hash seed: it is in the order of a set"
    assert sentences["began"] == "start/0/began depends on the time: it looks like a moment in time, in seconds"
    assert sentences["random"].startswith("start/0/random differs by itself from one replay to the next")
    assert sentences["summed"] == "start/0/summed depends on the hash seed: numbers are added up in the order of a set"
    assert sentences["today"] == "start/0/today depends on the time: it holds a date, a time of day or a duration"
    assert [one["changed"] for one in done.json["replays"]][:3] == [None, None, "hashseed"]
    listed, everything = stillrun("list", "--json"), stillrun("list", "--all", "--json")
    ours = [run, *(one["run"] for one in done.json["replays"])]
    assert [one["run"] for one in listed.json["runs"] if one["run"] in ours] == ours[:2]
    assert [one["run"] for one in everything.json["runs"] if one["run"] in ours] == ours


FAILS = """
import locale, os
from stillrun import FlowSpec, step

class Fails(FlowSpec):
    @step
    def start(self):
        self.x = 1
        if os.environ.get("PYTHONHASHSEED") != "0":
            raise RuntimeError("no such seed")
        self.next(self.end)

    @step
    def end(self):
        pass
"""


def test_a_task_that_ends_otherwise_stands_for_its_artifacts(stillrun: Commands) -> None:
    stillrun.write("fails.py", FAILS)
    done = stillrun("replay", stillrun.run("fails.py"), "--vary", "hashseed", "--json")
    assert [cause["sentence"] for cause in done.json["causes"]] == [
        "start/0 depends on the hash seed: it was 'ok' and the replay is 'failed': no such seed"
    ]


def test_a_step_is_asked_alone_and_told_in_words(stillrun: Commands, run: str) -> None:
    done = stillrun("replay", f"{run}/start", "--vary", "hashseed,timezone", "--repeat", "3")
    assert done.code == 1
    assert "start/0/zone depends on the time zone: it holds a local time" in done.out
    assert "listed depends" not in done.out


def test_what_is_the_same_in_all_replays_but_not_as_it_was_is_said(stillrun: Commands, tmp_path: Path) -> None:
    stillrun.write("elsewhere.py", ELSEWHERE)
    stillrun.variables["ELSEWHERE"] = str(tmp_path / "made by the run")
    done = stillrun("replay", stillrun.run("elsewhere.py"), "--vary", "hashseed", "--json")
    assert done.code == 1
    (cause,) = done.json["causes"]
    assert (cause["name"], cause["axes"]) == ("seen", ["unrecorded"])
    assert cause["sentence"].startswith("start/0/seen is the same in all replays but not as in the original run")


ELSEWHERE = """
import os
from stillrun import FlowSpec, step

class Elsewhere(FlowSpec):
    @step
    def start(self):
        folder = os.environ["ELSEWHERE"]
        self.seen = os.path.isdir(folder)
        os.makedirs(folder, exist_ok=True)
        self.next(self.end)

    @step
    def end(self):
        pass
"""


def test_what_depends_on_nothing_is_said(stillrun: Commands) -> None:
    steady = "from stillrun import FlowSpec, step\n\nclass Steady(FlowSpec):\n    @step\n    def start(self):\n"
    steady += (
        "        self.x = {'a', 'b'}\n        self.next(self.end)\n\n    @step\n    def end(self):\n        pass\n"
    )
    stillrun.write("steady.py", steady)
    done = stillrun("replay", stillrun.run("steady.py"), "--vary", "hashseed,time,order")
    assert done.code == 0, done.out
    assert "Nothing differs between 7 replays, nor with another hashseed, time, order." in done.out


def test_an_unknown_thing_is_refused(stillrun: Commands, run: str) -> None:
    done = stillrun("replay", run, "--vary", "moon")
    assert done.code == 2
    assert "there are all, hashseed" in done.err
