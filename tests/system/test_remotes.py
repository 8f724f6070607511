"""Runs shared through a real S3 server and through folders, over networks and services that do what they should not."""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import zstandard
from tests.conftest import Commands, Done
from tests.s3 import CREDENTIALS, Asked, Fault, FaultProxy, proxied, s3_server

from stillrun_cli.group import run_group
from stillrun_snapshot.digest import Digest, digest_of
from stillrun_snapshot.record import canonical_bytes
from stillrun_snapshot.store import Store

FLOW = """
import random
from stillrun import FlowSpec, Parameter, step

class Shared(FlowSpec):
    seed = Parameter("seed", default=1)
    @step
    def start(self):
        with open("data.txt") as file:
            self.text = file.read()
        self.large = random.Random(self.seed).randbytes(9_000_000)
        self.next(self.end)
    @step
    def end(self):
        self.length = len(self.large)
"""
PIECE = 8 << 20
_BAD_NAMES = ["a/../b", "/etc/passwd", "Shared/..", "Shared/a\nb", "a", "a/b/c"]
_QUICK = [("objects/", "flipped"), ("segments/", "short"), ("manifests/", "gone")]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, interpreter_store: Path) -> Path:
    """A folder and a store with two runs, one with a tag."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "work").mkdir()
    user = Commands(folder / "work", shutil.copytree(interpreter_store, folder / "store"))
    user.write("data.txt", "hello " * 60_000)
    user.write("shared.py", FLOW)
    user.run("shared.py", "--tag", "good")
    user.run("shared.py", "--seed", "2")
    return folder


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with s3_server() as address:
        yield address


@pytest.fixture
def proxy(server: str) -> Iterator[FaultProxy]:
    with proxied(server) as found:
        yield found


class Here(Commands):
    """The command in this process, where its start is not what is looked at."""

    def __call__(self, *arguments: str | Path, command: tuple[str, ...] = ("-m", "stillrun_cli")) -> Done:
        """Run a command to its end."""
        words = [str(word) for word in arguments]
        if command != ("-m", "stillrun_cli") or words[0] in ("run", "replay"):
            return super().__call__(*arguments, command=command)
        out, err = io.StringIO(), io.StringIO()
        before, place = dict(os.environ), Path.cwd()
        os.environ.clear()
        os.environ.update(self.environment())
        os.chdir(self.cwd)
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                code = run_group(words)
        finally:
            os.chdir(place)
            os.environ.clear()
            os.environ.update(before)
        return Done(code, out.getvalue(), err.getvalue())


@dataclass
class Team:
    """Somebody with runs, somebody without, and a prefix of a bucket that both know as 'team'."""

    proxy: FaultProxy
    ours: Commands
    theirs: Commands
    runs: list[str]
    prefix: str

    def moved(self, user: Commands, *words: str) -> Done:
        """A command that must succeed; ``proxy.asked`` then has its requests only."""
        self.proxy.asked.clear()
        done = user(*words)
        assert done.code == 0, done.err
        return done

    def key(self, name: str) -> str:
        """Where a file of the remote is on the server."""
        return f"{self.proxy.upstream}/runs/{self.prefix}/{name}"


def linked(source: str, target: str) -> None:
    """A copy of a file; the same file where it never changes."""
    if "/objects/" in source:
        os.link(source, target)
    else:
        shutil.copy2(source, target)


@pytest.fixture
def team(made: Path, proxy: FaultProxy, tmp_path: Path) -> Team:
    shutil.copytree(made / "work", tmp_path / "work")
    shutil.copytree(made / "store", tmp_path / "store", symlinks=True, copy_function=linked)
    home = tmp_path / "home"
    (home / "there").mkdir(parents=True)
    variables = {**CREDENTIALS, "HOME": str(home)}
    ours = Here(tmp_path / "work", tmp_path / "store", variables)
    theirs = Here(home / "there", tmp_path / "store2", variables)
    prefix = os.urandom(8).hex()
    for user in (ours, theirs):
        done = user("remote", "add", "team", f"s3://runs/{prefix}", "--endpoint", proxy.address)
        assert done.code == 0, done.err
    with Store.open(ours.store) as store:
        runs = [name.removeprefix("runs/") for name, _ in store.refs.names("runs/")]
    return Team(proxy, ours, theirs, runs, prefix)


def http(method: str, address: str, data: bytes | None = None) -> bytes:
    """A request past the proxy, as somebody else who may write there."""
    import urllib.request

    headers = {
        "Content-Type": "application/octet-stream",
        "Authorization": "AWS4-HMAC-SHA256 Credential=A/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0",
    }
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(urllib.request.Request(address, data, headers, method=method)) as answer:
        found: bytes = answer.read()
    return found


def refs_of(store: Path) -> dict[str, Digest]:
    with Store.open(store) as opened:
        return {n: d for n, d in opened.refs.names() if n.startswith(("runs/", "tasks/", "tags/"))}


def same_runs(team: Team) -> bool:
    return refs_of(team.ours.store) == refs_of(team.theirs.store)


def keys_of(team: Team) -> list[str]:
    """What there is of the remote on the server."""
    import re

    listed = http("GET", f"{team.proxy.upstream}/runs?list-type=2&prefix={team.prefix}/&max-keys=1000").decode()
    return [key.removeprefix(f"{team.prefix}/") for key in re.findall(r"<Key>([^<]+)</Key>", listed)]


def keys_sent(team: Team) -> set[str]:
    """What was sent to the remote since its proxy last forgot what it was asked."""
    puts = [one for one in team.proxy.asked if one.method == "PUT"]
    return {one.path.split("?")[0].removeprefix(f"/runs/{team.prefix}/") for one in puts}


# -- what is promised when all goes well ----------------------------------------------------------------------------


def test_what_is_pushed_is_pulled_verified_and_replayed_elsewhere(team: Team) -> None:
    team.moved(team.ours, "push", "--all")
    team.moved(team.theirs, "pull", "--all")
    assert same_runs(team)
    for run in team.runs:
        assert team.theirs("verify", run).code == 0
    done = team.theirs("replay", team.runs[0], "--offline", "--json")
    assert (done.code, done.json["verdict"]) == (0, "identical")
    assert team.theirs("remote", "check", "team", "--all", "--json").json["verdict"] == "sound"
    assert not any("list-type" in one.path for one in team.proxy.asked)


def test_only_what_is_missing_moves(team: Team) -> None:
    first = team.moved(team.ours, "push", team.runs[0], "--json").json
    assert first["bytes"] > 9_000_000
    again = team.moved(team.ours, "push", team.runs[0], "--json").json
    assert (again["runs"], again["bytes"], team.proxy.count("PUT")) == ([], 0, 0)
    second = team.moved(team.ours, "push", team.runs[1], "--json").json  # the interpreter and the code are there
    assert 9_000_000 < second["bytes"] < 9_100_000
    team.moved(team.theirs, "pull", team.runs[0])
    pulled = team.moved(team.theirs, "pull", team.runs[1], "--json").json
    assert 9_000_000 < pulled["bytes"] < 9_100_000
    assert team.moved(team.theirs, "pull", "--all", "--json").json["objects"] == 0


def test_small_objects_do_not_cost_a_request_each(team: Team) -> None:
    pushed = team.moved(team.ours, "push", team.runs[0], "--json").json
    large = team.proxy.count("PUT", "/objects/")
    assert pushed["objects"] > 60
    assert team.proxy.count("PUT") - large < 12
    team.moved(team.theirs, "pull", team.runs[0])
    assert team.proxy.count("GET") - team.proxy.count("GET", "/objects/") < 12


@pytest.mark.slow
def test_a_fetch_brings_records_and_the_rest_when_it_is_asked_for(team: Team) -> None:
    team.moved(team.ours, "push", team.runs[0])
    fetched = team.moved(team.theirs, "fetch", team.runs[0], "--json").json
    assert fetched["bytes"] < 1_000_000
    assert fetched["runs"][0]["left_size"] > 9_000_000
    assert team.theirs("show", team.runs[0]).code == 0
    assert team.theirs("verify", team.runs[0]).code == 2
    done = team.moved(
        team.theirs, "artifact", f"{team.runs[0]}/end/large", "--out", str(team.theirs.cwd / "large.pickle")
    )
    assert "from team" in done.err
    assert (
        team.theirs("artifact", f"{team.runs[0]}/end/large", "--json").json["digest"]
        == team.ours("artifact", f"{team.runs[0]}/end/large", "--json").json["digest"]
    )
    assert team.theirs("replay", team.runs[0], "--offline").code == 2
    assert team.theirs("replay", team.runs[0]).code == 0
    assert team.theirs("verify", team.runs[0]).code == 0


@pytest.mark.slow
def test_a_run_that_is_only_in_a_remote_is_replayed_from_there(team: Team) -> None:
    team.moved(team.ours, "push", team.runs[0])
    done = team.moved(team.theirs, "replay", "Shared/latest", "--from", "team", "--json")
    assert done.json["verdict"] == "identical"
    assert same_runs(team) or len(team.runs) > 1
    assert team.theirs("verify", team.runs[0]).code == 0
    refused(team.theirs("replay", "Shared/latest", "--from", "taem"), "no bundle at taem")


@pytest.mark.slow
def test_the_client_reads_what_was_left_in_a_remote(team: Team) -> None:
    team.moved(team.ours, "push", team.runs[0])
    team.moved(team.theirs, "fetch", team.runs[0])
    code = f"from stillrun import Run, namespace\nnamespace(None)\nprint(len(Run({team.runs[0]!r})['end'].task['large'].data))"
    done = team.theirs("-c", code, command=())
    assert (done.code, done.out.strip()) == (0, "9000000"), done.err


@pytest.mark.slow
def test_tags_of_both_sides_come_together(team: Team) -> None:
    run = team.runs[0]
    team.moved(team.ours, "push", run)
    team.moved(team.theirs, "pull", run)
    assert team.ours("tag", "add", run, "ours").code == 0
    assert team.theirs("tag", "add", run, "theirs").code == 0
    for user in (team.ours, team.theirs):
        team.moved(user, "push", run)
    for user in (team.ours, team.theirs):
        team.moved(user, "pull", run)
        assert set(user("tag", "list", run, "--json").json["tags"]) >= {"good", "ours", "theirs"}


@pytest.mark.slow
def test_runs_are_chosen_by_tag_and_by_flow(team: Team) -> None:
    pushed = team.moved(team.ours, "push", "--tag", "good", "--json").json
    assert pushed["runs"] == [team.runs[0]]
    assert team.moved(team.theirs, "fetch", "Shared", "--json").json["runs"][0]["run"] == team.runs[0]
    assert team.moved(team.theirs, "fetch", "Shared/latest", "--json").json["runs"][0]["run"] == team.runs[0]
    assert team.moved(team.theirs, "remote", "runs", "team", "--json").json["runs"] == [team.runs[0]]


def test_a_folder_is_a_remote_too(team: Team, tmp_path: Path) -> None:
    (tmp_path / "mounted").mkdir()
    for user in (team.ours, team.theirs):
        assert user("remote", "add", "disk", str(tmp_path / "mounted")).code == 0
    assert team.ours("push", "--all", "--remote", "disk").code == 0
    assert team.theirs("pull", "--all", "--remote", "disk").code == 0
    assert same_runs(team)


@pytest.mark.slow
def test_credentials_are_nowhere(team: Team) -> None:
    outputs = [team.ours("push", "--all"), team.theirs("fetch", "Shared"), team.theirs("remote", "list", "--json")]
    team.proxy.fault = lambda asked: Fault(status=403, code="SignatureDoesNotMatch")
    outputs.append(team.theirs("pull", "Shared"))
    assert outputs[-1].code == 2
    for secret in (CREDENTIALS["AWS_SECRET_ACCESS_KEY"], CREDENTIALS["AWS_ACCESS_KEY_ID"]):
        assert not any(secret in one.out + one.err for one in outputs)
        for store in (team.ours.store, team.theirs.store):
            files = [path for path in store.rglob("*") if path.is_file() and "objects" not in path.parts]
            assert files
            assert not any(secret.encode() in path.read_bytes() for path in files)


# -- what networks and services do wrong ----------------------------------------------------------------------------


def test_faults_all_along_change_nothing_but_time(team: Team) -> None:
    dice, lock = random.Random(7), threading.Lock()
    faults = [
        Fault(status=500),
        Fault(status=503, code="SlowDown", headers=("Retry-After: 1",)),
        Fault(cut_request=1000),
        Fault(cut_answer=500),
        Fault(lose_answer=True),
        Fault(wait=0.3),
        Fault(date="Thu, 01 Jan 1970 00:00:00 GMT"),
    ]

    def choose(asked: Asked) -> Fault | None:
        with lock:
            return dice.choice(faults) if dice.random() < 0.2 else Fault(wait=0.005)

    team.proxy.fault = choose
    team.moved(team.ours, "push", "--all")
    team.moved(team.theirs, "pull", "--all")
    team.proxy.fault = lambda asked: None
    assert same_runs(team)
    assert team.theirs("verify", team.runs[1]).code == 0
    assert team.theirs("remote", "check", "team", "--all").code == 0


@pytest.mark.slow
def test_an_upload_that_a_proxy_always_cuts_is_given_up_in_one_sentence(team: Team) -> None:
    """Bodies of more than a piece never get through; a piece does."""
    team.proxy.fault = lambda asked: Fault(cut_request=PIECE) if asked.size > PIECE else None
    team.moved(team.ours, "push", "--all")
    assert max(one.size for one in team.proxy.asked) <= PIECE


@pytest.mark.slow
def test_bytes_that_came_wrong_once_are_fetched_again(team: Team) -> None:
    team.moved(team.ours, "push", team.runs[0])
    met: set[str] = set()

    def choose(asked: Asked) -> Fault | None:
        if asked.method != "GET" or asked.path in met or not ("/objects/" in asked.path or "/segments/" in asked.path):
            return None
        met.add(asked.path)
        return Fault(change=lambda body: body[:100] + bytes([body[100] ^ 1]) + body[101:])

    team.proxy.fault = choose
    team.moved(team.theirs, "pull", team.runs[0])
    assert team.theirs("verify", team.runs[0]).code == 0


@pytest.mark.parametrize(
    ("part", "damage"),
    [
        pytest.param(part, damage, marks=() if (part, damage) in _QUICK else pytest.mark.slow)
        for part in ("objects/", "segments/", "manifests/")
        for damage in ("flipped", "short", "long", "gone")
    ],
)
def test_what_is_something_else_is_refused_and_nothing_of_the_run_is_set(team: Team, part: str, damage: str) -> None:
    team.moved(team.ours, "push", team.runs[0])
    change: dict[str, Callable[[bytes], bytes]] = {
        "flipped": lambda data: data[:-1] + bytes([data[-1] ^ 1]),
        "short": lambda data: data[:-1],
        "long": lambda data: data + b"x",
    }
    for key in [key for key in keys_of(team) if key.startswith(part)]:
        if damage == "gone":
            http("DELETE", team.key(key))
        else:
            http("PUT", team.key(key), change[damage](http("GET", team.key(key))))
    done = team.theirs("pull", team.runs[0])
    if damage == "long":  # no more than announced is read, and that is what it should be
        assert done.code in (0, 2)
        assert done.code == 0 or refs_of(team.theirs.store) == {}
        return
    assert done.code == 2
    assert done.err.count("\n") == 1, done.err
    assert refs_of(team.theirs.store) == {}
    with Store.open(team.theirs.store) as store:
        for digest in store.digests():
            store.verify(digest)
    team.moved(team.ours, "push", team.runs[0], "--again")
    team.moved(team.theirs, "pull", team.runs[0])
    assert same_runs(team) or len(team.runs) > 1
    assert team.theirs("verify", team.runs[0]).code == 0


@pytest.mark.slow
def test_a_damaged_object_of_ours_is_not_pushed(team: Team) -> None:
    with Store.open(team.ours.store) as store:
        large = max(store.digests(), key=store.size)
        path = store.locate(large).path
    assert path is not None
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data[:8_500_000] + b"damaged" + data[8_500_007:])
    done = team.ours("push", team.runs[0])
    assert done.code == 2
    assert large in done.err
    assert not any(key.startswith((f"objects/{large.hex[:2]}/{large.hex[2:]}", "log/")) for key in keys_of(team))


# -- what a hostile remote tries ------------------------------------------------------------------------------------


def event(number: int, previous: str, run: str, manifest: str | None, before: str | None = None) -> bytes:
    changes = [{"run": run, "from": before, "to": manifest}]
    record = {"schema": "stillrun/remote-event/1", "seq": number, "prev": previous, "time": "2026-01-01T00:00:00.000Z"}
    return canonical_bytes({**record, "writer": "00" * 8, "changes": changes})


@pytest.mark.parametrize("run", ["../../x/y", *(pytest.param(name, marks=pytest.mark.slow) for name in _BAD_NAMES)])
def test_a_run_with_a_name_that_leads_elsewhere_is_refused(team: Team, run: str) -> None:
    team.moved(team.ours, "push", team.runs[0])
    last = http("GET", team.key("log/0000000001"))
    http("PUT", team.key("log/0000000002"), event(2, digest_of(last), run, digest_of(b"")))
    before = sorted(path for path in team.theirs.cwd.parents[1].rglob("*") if "store2" not in path.parts)
    done = team.theirs("pull", "--all")
    assert (done.code, done.err.count("\n")) == (2, 1), done.err
    assert refs_of(team.theirs.store) == {}
    assert before == sorted(path for path in team.theirs.cwd.parents[1].rglob("*") if "store2" not in path.parts)


def test_an_older_state_that_was_put_back_is_noticed(team: Team) -> None:
    team.moved(team.ours, "push", team.runs[0])
    team.moved(team.ours, "push", team.runs[1])
    team.moved(team.theirs, "fetch", "--all", "Shared")
    http("DELETE", team.key("log/0000000002"))
    for words in (("pull", "Shared"), ("push", "--all"), ("remote", "runs", "team")):
        done = team.theirs(*words)
        assert done.code == 2
        assert "is not the one that this store knows" in done.err


@pytest.mark.slow
def test_an_event_that_was_replaced_is_noticed(team: Team) -> None:
    team.moved(team.ours, "push", team.runs[0])
    team.moved(team.theirs, "fetch", "Shared")
    first = json.loads(http("GET", team.key("log/0000000001")))
    forged = event(1, first["prev"], "Shared/forged", first["changes"][0]["to"])
    http("PUT", team.key("log/0000000001"), forged)
    assert "is not the one that this store knows" in team.theirs("fetch", "Shared").err
    team.theirs("remote", "remove", "team")
    team.theirs("remote", "add", "team", f"s3://runs/{team.prefix}", "--endpoint", team.proxy.address)
    done = team.theirs("fetch", "Shared")  # who never saw it finds that the manifest is of another run
    assert (done.code, "as Shared/forged" in done.err) == (2, True), done.err


@pytest.mark.slow
@pytest.mark.parametrize("name", ["runs/Other/1", "locks/" + "0" * 64, "evil/../x", "tasks/{run}/end/9"])
def test_a_manifest_with_refs_that_are_not_its_runs_is_refused(team: Team, name: str) -> None:
    run = team.runs[0]
    team.moved(team.ours, "push", run)
    first = http("GET", team.key("log/0000000001"))
    before = json.loads(first)["changes"][0]["to"]
    packed = http("GET", team.key(f"manifests/{before.removeprefix('sha256:')}"))
    record = json.loads(zstandard.ZstdDecompressor().decompress(packed))
    record["refs"][name.format(run=run)] = record["refs"][f"runs/{run}"]
    data = canonical_bytes(record)
    http("PUT", team.key(f"manifests/{digest_of(data).hex}"), zstandard.ZstdCompressor().compress(data))
    http("PUT", team.key("log/0000000002"), event(2, digest_of(first), run, digest_of(data), before))
    refused(team.theirs("pull", run), "is not sound")
    assert refs_of(team.theirs.store) == {}


def test_a_bomb_is_refused_before_it_is_unpacked(team: Team) -> None:
    team.moved(team.ours, "push", team.runs[0])
    last = http("GET", team.key("log/0000000001"))
    bomb = zstandard.ZstdCompressor(level=1).compress(bytes(300_000_000))
    named = digest_of(bytes(300_000_000))
    http("PUT", team.key(f"manifests/{named.hex}"), bomb)
    http("PUT", team.key("log/0000000002"), event(2, digest_of(last), "Shared/bomb", named))
    done = team.theirs("pull", "Shared/bomb")
    assert done.code == 2
    assert "300,000,000 bytes, which none may" in done.err


@pytest.mark.slow
def test_a_hint_and_a_state_that_lie_do_no_harm(team: Team) -> None:
    team.moved(team.ours, "push", "--all")
    for head in (
        b'{"schema":"stillrun/remote-head/1","seq":777}',
        b'{"schema":"stillrun/remote-head/1","seq":0}',
        b"\xff",
        b"x" * 9000,
    ):
        http("PUT", team.key("head"), head)
        assert team.moved(team.theirs, "remote", "runs", "team", "--json").json["runs"] == team.runs


# -- several writers ------------------------------------------------------------------------------------------------


def test_two_that_push_at_the_same_time_lose_nothing(team: Team, made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "work", tmp_path / "work3")
    other = Commands(tmp_path / "work3", tmp_path / "store3", team.ours.variables)
    other.run("shared.py", "--seed", "3")
    other("remote", "add", "team", f"s3://runs/{team.prefix}", "--endpoint", team.proxy.address)
    held = threading.Barrier(2)

    def together(asked: Asked) -> None:
        if asked.method == "PUT" and asked.path.endswith("/log/0000000001"):
            with contextlib.suppress(threading.BrokenBarrierError):
                held.wait(20)

    team.proxy.meeting = together
    both = [team.ours.start("push", "--all", "--json"), other.start("push", "--all", "--json")]
    results = [process.communicate(timeout=100) for process in both]
    assert [process.returncode for process in both] == [0, 0], results
    there = team.theirs("remote", "runs", "team", "--json").json["runs"]
    assert len(there) == 3
    assert set(team.runs) < set(there)
    assert team.theirs("remote", "check", "team").code == 0
    assert team.theirs("pull", "--all").code == 0


def test_the_same_name_with_other_content_is_refused_by_name(team: Team) -> None:
    run = team.runs[0]
    team.moved(team.ours, "push", run)
    with Store.open(team.ours.store) as store:
        other = store.refs.get(f"runs/{team.runs[1]}")
        assert other is not None
        record = {**store.get_record(other, "run"), "run": run.split("/")[1]}
    shutil.copytree(team.ours.store, team.ours.store.with_name("store4"))
    impostor = replace(team.ours, store=team.ours.store.with_name("store4"))
    with Store.open(impostor.store) as store:
        from stillrun_snapshot.refs import RefChange

        store.refs.set([RefChange(f"runs/{run}", store.put_record(record))])
    done = impostor("push", run)
    assert done.code == 2
    assert f"'team' has another {run}" in done.err
    assert impostor("pull", run).code == 2
    team.moved(team.theirs, "pull", run)
    assert refs_of(team.theirs.store)[f"runs/{run}"] == refs_of(team.ours.store)[f"runs/{run}"]


def test_a_service_that_does_not_keep_the_promise_is_not_pushed_to(team: Team) -> None:
    team.proxy.fault = lambda asked: Fault(drop_headers=("if-none-match:",))
    done = team.ours("push", "--all")
    assert done.code == 2
    assert "conditional writes" in done.err
    assert keys_of(team) == []


# -- kills, full disks ----------------------------------------------------------------------------------------------


def killed_at(team: Team, user: Commands, number: int, method: str, words: tuple[str, ...]) -> bool:
    """Kill a command when the server has been asked so often; whether it was really running then."""
    team.proxy.asked.clear()
    reached = threading.Event()

    def hold(asked: Asked) -> Fault | None:
        if team.proxy.count(method) >= number:
            reached.set()
            return Fault(wait=1.0, cut_request=0)
        return None

    team.proxy.fault = hold
    process = user.start(*words)
    while not reached.wait(0.02) and process.poll() is None:
        pass
    alive = process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.communicate()
    team.proxy.fault = lambda asked: None
    return alive and reached.is_set()


KILLS = [1, 3, 6, 9, 12]


@pytest.mark.parametrize("number", [pytest.param(n, marks=() if n == 6 else pytest.mark.slow) for n in KILLS])
def test_a_push_that_was_killed_is_gone_on_with(team: Team, number: int) -> None:
    assert killed_at(team, team.ours, number, "PUT", ("push", team.runs[0]))
    before = {key for key in keys_of(team) if key.startswith(("objects/", "segments/"))}
    assert team.theirs("fetch", "Shared").code == 2  # nothing is promised before all is there
    team.moved(team.ours, "push", team.runs[0])
    assert not before & keys_sent(team)
    team.moved(team.theirs, "pull", team.runs[0])
    assert team.theirs("verify", team.runs[0]).code == 0


@pytest.mark.parametrize(
    "number", [pytest.param(n, marks=() if n == 6 else pytest.mark.slow) for n in [2, 4, *KILLS[2:]]]
)
def test_a_pull_that_was_killed_is_gone_on_with(team: Team, number: int) -> None:
    team.moved(team.ours, "push", team.runs[0])
    total = team.moved(
        replace(team.theirs, store=team.theirs.store.with_name("other")),
        "remote",
        "add",
        "team",
        f"s3://runs/{team.prefix}",
        "--endpoint",
        team.proxy.address,
    )
    assert total.code == 0
    assert killed_at(team, team.theirs, number, "GET", ("pull", team.runs[0]))
    assert refs_of(team.theirs.store) == {}
    with Store.open(team.theirs.store) as store:
        held = sum(store.size(digest) for digest in store.digests())
    pieces = sum(len(path.read_bytes().split()) for path in team.theirs.store.glob("tmp/fetch/*.pieces"))
    pulled = team.moved(team.theirs, "pull", team.runs[0], "--json").json
    whole = sum(one["bytes"] for one in [team.theirs("verify", team.runs[0], "--json").json])
    assert pulled["bytes"] <= whole + 100_000 - held - pieces * 500_000
    assert not list(team.theirs.store.glob("tmp/fetch/*"))


@pytest.mark.slow
def test_a_pull_that_is_killed_again_and_again_comes_to_an_end(team: Team) -> None:
    team.moved(team.ours, "push", team.runs[0])
    for number in (5, 6, 7):
        killed_at(team, team.theirs, number, "GET", ("pull", team.runs[0]))
    team.moved(team.theirs, "pull", team.runs[0])
    assert team.theirs("verify", team.runs[0]).code == 0


LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
import signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
sys.argv = ["stillrun", *sys.argv[2:]]
from stillrun_cli.main import main
main()
"""


@pytest.mark.slow
def test_a_disk_that_is_full_while_pulling_is_said_and_loses_nothing(team: Team) -> None:
    team.moved(team.ours, "push", team.runs[0])
    done = team.theirs("-c", LIMITED, "8000000", "pull", team.runs[0], command=())
    assert done.code == 2
    assert "no room left" in done.err
    assert done.err.count("\n") == 1
    assert refs_of(team.theirs.store) == {}
    team.moved(team.theirs, "pull", team.runs[0])
    assert team.theirs("verify", team.runs[0]).code == 0


# -- bad input ------------------------------------------------------------------------------------------------------


def refused(done: Done, *said: str) -> None:
    assert done.code == 2, done.out
    assert "Traceback" not in done.err
    assert done.err.count("\n") == 1, done.err
    for text in said:
        assert text in done.err, done.err


def test_what_people_get_wrong_is_one_sentence(team: Team) -> None:
    user, run = team.ours, team.runs[0]
    refused(user("remote", "add", "x", "ftp://host/x"), "'ftp://' is no kind of remote")
    refused(user("remote", "add", "x", "s3://a:b@runs/x"), "Credentials are never kept")
    refused(user("remote", "add", "team", "s3://runs/x"), "already")
    refused(user("remote", "add", "a/b", "s3://runs/x"), "cannot be the name")
    refused(user("remote", "remove", "tema"), "no remote 'tema'", "Did you mean team")
    refused(user("push", run, "--remote", "tema"), "Did you mean team")
    refused(user("pull", "Shared/latest"), "holds no runs yet")
    refused(user("push", "Shared/nothing"), "no run")
    assert user("push").code == 2
    assert user("pull").code == 2
    user("remote", "add", "nowhere", "s3://no-such-bucket/x", "--endpoint", team.proxy.address)
    refused(user("push", run, "--remote", "nowhere"), "there is no bucket 'no-such-bucket'")
    refused(user("push", run), "the remotes nowhere, team", "--remote NAME")
    lone = replace(user, store=user.store.with_name("lone"))
    refused(lone("pull", run), "no remote")
    done = team.theirs("pull", "--json", "Shared/latest")
    assert done.json["verdict"] == "error"


def test_a_remote_of_a_newer_format_is_refused_with_both_versions(team: Team) -> None:
    mark = canonical_bytes({"schema": "stillrun/remote/2", "format": 2, "id": "0" * 32})
    http("PUT", team.key("stillrun-remote.json"), mark)
    refused(team.ours("push", "--all"), "has format 2", "reads format 1")
    refused(team.ours("pull", "Shared"), "has format 2", "reads format 1")


@pytest.mark.slow
def test_a_remote_that_became_another_is_refused(team: Team) -> None:
    team.moved(team.ours, "push", team.runs[0])
    mark = canonical_bytes({"schema": "stillrun/remote/1", "format": 1, "id": "0" * 32})
    http("PUT", team.key("stillrun-remote.json"), mark)
    refused(team.ours("push", "--all"), "another remote")


@pytest.mark.slow
def test_a_run_that_two_remotes_have_otherwise_is_asked_about(team: Team, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    for user in (team.ours, team.theirs):
        user("remote", "add", "disk", str(tmp_path / "disk"))
    team.ours("push", team.runs[0], "--remote", "team")
    team.ours("push", team.runs[1], "--remote", "disk")
    refused(team.theirs("pull", "Shared/latest"), "in the remotes disk and team", "--remote NAME")
    assert team.theirs("pull", team.runs[0]).code == 0  # one has it
    assert team.theirs("pull", "Shared/latest", "--remote", "disk").code == 0


@pytest.mark.slow
def test_a_run_that_is_going_on_is_not_pushed(team: Team) -> None:
    team.ours.write(
        "slow.py",
        FLOW.replace("class Shared", "class Slow").replace("self.length", "import time; time.sleep(30); self.length"),
    )
    process = team.ours.start("run", "slow.py")
    try:
        while not [n for n in refs_of(team.ours.store) if n.startswith("runs/Slow/")]:
            time.sleep(0.1)
            assert process.poll() is None
        refused(team.ours("push", "Slow/latest"), "still going on")
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate()
