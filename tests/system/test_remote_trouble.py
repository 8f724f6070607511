"""Many who push at once, and transfers that are cut and killed: nothing is lost, and what had arrived does not move again."""

from __future__ import annotations

import random
import shutil
import signal
import threading
import time
from pathlib import Path

import pytest
from tests.conftest import Commands
from tests.s3 import Asked, Fault
from tests.system.test_remotes import PIECE, Team, keys_of, keys_sent, made, proxy, same_runs, server, team

from stillrun_snapshot.store import Store

__all__ = ["made", "proxy", "server", "team"]
pytestmark = pytest.mark.slow

BIG = """
import random
from stillrun import FlowSpec, step

class Big(FlowSpec):
    @step
    def start(self):
        self.large = random.Random(5).randbytes(40_000_000)
        self.next(self.end)
    @step
    def end(self):
        pass
"""
TINY = """
from stillrun import FlowSpec, Parameter, step

class Tiny(FlowSpec):
    number = Parameter("number", default=0)
    @step
    def start(self):
        self.next(self.end)
    @step
    def end(self):
        pass
"""


@pytest.fixture
def big(team: Team) -> Team:
    team.ours.write("big.py", BIG)
    team.runs = [team.ours.run("big.py")]
    return team


def test_a_push_that_is_killed_at_any_piece_sends_none_that_had_arrived(big: Team) -> None:
    """The first piece never gets through until the others have; then the process is killed."""
    with Store.open(big.ours.store) as store:
        large = next(d for d in store.digests() if store.size(d) > 40_000_000)
    key = f"objects/{large.hex[:2]}/{large.hex[2:]}/"
    big.proxy.fault = lambda asked: (
        Fault(cut_request=1000) if asked.method == "PUT" and f"{key}000000" in asked.path else None
    )
    process = big.ours.start("push", big.runs[0])
    while sum(key in name for name in keys_of(big)) < 3:
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    big.proxy.fault = lambda asked: None
    there = {name for name in keys_of(big) if name.startswith(("objects/", "segments/"))}
    assert f"{key}000000" not in there
    big.moved(big.ours, "push", big.runs[0])
    assert not there & keys_sent(big)
    big.moved(big.theirs, "pull", big.runs[0])
    assert big.theirs("verify", big.runs[0]).code == 0


@pytest.mark.parametrize("seed", range(4))
def test_a_pull_that_is_killed_at_any_time_fetches_nothing_twice(big: Team, seed: int) -> None:
    """Counted at the server: all bytes of both tries are no more than the run and what was on its way."""
    run, dice = big.runs[0], random.Random(seed)
    size = big.moved(big.ours, "push", run, "--json").json["bytes"]
    limit, reached = dice.randrange(4, 11), threading.Event()
    answered: list[int] = []

    def hold(asked: Asked) -> Fault | None:
        if asked.method == "GET" and "/objects/" in asked.path:
            if len(answered) >= limit:
                reached.set()
                return Fault(wait=1.0, cut_request=0)
            answered.append(asked.number)
        return None

    big.proxy.asked.clear()
    big.proxy.fault = hold
    process = big.theirs.start("pull", run)
    while not reached.wait(0.02) and process.poll() is None:
        pass
    process.send_signal(signal.SIGKILL)
    process.communicate()
    big.proxy.fault = lambda asked: None
    pieces = sum(path.read_bytes().count(b"\n") for path in big.theirs.store.glob("tmp/fetch/*.pieces"))
    pulled = big.moved(big.theirs, "pull", run, "--json").json
    assert pulled["bytes"] <= size - pieces * 1_000_000
    assert big.theirs("verify", run).code == 0
    fetched_again = sum(1 for one in big.proxy.asked if one.method == "GET" and "/objects/" in one.path)
    assert fetched_again <= 9 - pieces + 1


def test_eight_that_push_at_once_lose_nothing(team: Team, tmp_path: Path) -> None:
    """Different runs, the same run, and tags of both sides, all in one race for the next event."""
    users, runs = [], []
    (tmp_path / "tiny").mkdir()
    first = Commands(tmp_path / "tiny", tmp_path / "first", team.ours.variables)
    first.write("tiny.py", TINY)
    shared = first.run("tiny.py")
    for number in range(8):
        shutil.copytree(first.store, tmp_path / f"machine{number}", symlinks=True)
        user = Commands(first.cwd, tmp_path / f"machine{number}", team.ours.variables)
        runs.append(user.run("tiny.py", "--number", str(number)))
        assert user("tag", "add", shared, f"tag{number}").code == 0
        assert user("remote", "add", "team", f"s3://runs/{team.prefix}", "--endpoint", team.proxy.address).code == 0
        users.append(user)
    processes = [user.start("push", "--all", "--json") for user in users]
    results = [process.communicate(timeout=300) for process in processes]
    assert [process.returncode for process in processes] == [0] * 8, results
    there = team.theirs("remote", "runs", "team", "Tiny", "--json").json["runs"]
    assert there == sorted([*runs, shared])
    assert team.theirs("remote", "check", "team", "--all", "--json").json["problems"] == []
    team.moved(team.theirs, "pull", "Tiny")
    tags = set(team.theirs("tag", "list", shared, "--json").json["tags"])
    assert tags >= {f"tag{number}" for number in range(8)}


def test_the_same_name_from_eight_machines_is_one_run_and_the_others_are_refused(team: Team, tmp_path: Path) -> None:
    """Each has another run under that name; whichever comes first stays, whole."""
    from stillrun_snapshot.refs import RefChange

    users = []
    for number in range(8):
        shutil.copytree(team.ours.store, tmp_path / f"machine{number}", symlinks=True)
        user = Commands(team.ours.cwd, tmp_path / f"machine{number}", team.ours.variables)
        with Store.open(user.store) as store:
            digest = store.refs.get(f"runs/{team.runs[1]}")
            assert digest is not None
            record = {**store.get_record(digest, "run"), "user": f"user{number}"}
            store.refs.set([RefChange(f"runs/{team.runs[1]}", store.put_record(record))])
        users.append(user)
    processes = [user.start("push", team.runs[1]) for user in users]
    results = [process.communicate(timeout=300) for process in processes]
    codes = sorted(process.returncode for process in processes)
    assert codes == [0] + [2] * 7, results
    assert sum("has another" in err for _, err in results) == 7
    assert team.theirs("remote", "check", "team", "--all", "--json").json["problems"] == []


def test_a_network_that_cuts_all_that_is_long_lets_everything_through_at_last(team: Team) -> None:
    """A proxy on the way cuts uploads and answers in the middle, each file's first two times, and asks for rest."""
    lock, met = threading.Lock(), dict[tuple[str, str], int]()
    dice = random.Random(3)

    def choose(asked: Asked) -> Fault | None:
        with lock:
            count = met[asked.method, asked.path] = met.get((asked.method, asked.path), 0) + 1
            rest = dice.random() < 0.05
        if rest:
            return Fault(status=dice.choice((429, 503)), code="SlowDown", headers=("Retry-After: 1",))
        if count <= 2 and asked.size > 100_000:
            return Fault(cut_request=asked.size // 2)
        if count <= 2 and asked.method == "GET" and "/objects/" in asked.path:
            return Fault(cut_answer=100_000)
        return Fault(date="Thu, 01 Jan 1970 00:00:00 GMT")

    team.proxy.fault = choose
    team.moved(team.ours, "push", "--all")
    team.moved(team.theirs, "pull", "--all")
    team.proxy.fault = lambda asked: None
    assert same_runs(team)
    assert max(one.size for one in team.proxy.asked) <= PIECE
    assert team.theirs("remote", "check", "team", "--all").code == 0


def test_a_listing_that_lies_takes_nothing_that_is_needed(team: Team) -> None:
    """It names what is not there, leaves out what is, and says that all is old: gc deletes only what no run needs."""
    team.moved(team.ours, "push", "--all")
    before = keys_of(team)

    def lie(body: bytes) -> bytes:
        parts = body.split(b"<Contents>")
        extra = parts[1].replace(b"objects/", b"objects/00/").replace(b"segments/", b"segments/../")
        kept = [part for number, part in enumerate(parts[1:]) if number % 3]
        tail = parts[-1].split(b"</Contents>", 1)[1]
        inside = [part.split(b"</Contents>", 1)[0] for part in [extra, *kept]]
        listed = b"".join(b"<Contents>" + one + b"</Contents>" for one in inside)
        return parts[0] + listed.replace(b"2026-", b"1999-") + tail

    team.proxy.fault = lambda asked: Fault(change=lie) if "list-type" in asked.path else None
    done = team.moved(team.ours, "remote", "gc", "team", "--delete", "--grace", "0s", "--json").json
    team.proxy.fault = lambda asked: None
    assert done["files"] <= 1  # a mark of the probe
    assert set(before) - set(keys_of(team)) <= {name for name in before if name.startswith("probes/")}
    assert team.theirs("remote", "check", "team", "--all").code == 0


def test_the_file_of_an_event_that_two_create_is_the_first_one(team: Team) -> None:
    """A service that says 'conflict' instead of 'there is one' loses no event either."""
    conflicts = [0]

    def choose(asked: Asked) -> Fault | None:
        if asked.method == "PUT" and "/log/" in asked.path and conflicts[0] < 2:
            conflicts[0] += 1
            return Fault(status=409, code="ConditionalRequestConflict")
        return None

    team.proxy.fault = choose
    team.moved(team.ours, "push", "--all")
    assert conflicts == [2]
    assert len(team.theirs("remote", "runs", "team", "--json").json["runs"]) == 2
