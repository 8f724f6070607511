"""Seeded secrets come into no byte of the store, and what came in before can be found and taken out.

They are put together here, so that they do not stand in this file.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from tests.conftest import Commands

TOKEN = "ghp_" + "Zk3Jw9Qx7Lr2Vb5Nt8Ym1Pc4Hd6Gf0SaUeBi"
PASSWORD = "Tr0ub" + "4dor-Kx9"
SEEDS = (TOKEN, PASSWORD)

FLOW = """
from stillrun import FlowSpec, Parameter, step

class Leaky(FlowSpec):
    mode = Parameter("mode", default="plain")
    word = Parameter("word", default="plain")

    @step
    def start(self):
        token = open("token.txt").read()
        if self.mode == "print":
            print("connecting with", token)
        if self.mode == "raise":
            raise ValueError(f"no access for {token}")
        if self.mode == "keep":
            self.token = token
        if self.mode == "deep":
            self.settings = [*range(400), token]
        self.size = len(token)
        self.next(self.end)

    @step
    def end(self):
        pass

if __name__ == "__main__":
    Leaky()
"""


def bytes_of(root: Path) -> bytes:
    """Everything below a folder, with packed objects unpacked."""
    from stillrun_snapshot.store import Store

    found = []
    for folder, _, files in os.walk(root):
        for name in files:
            found.append((Path(folder) / name).read_bytes())
    with Store.open(root) as store:
        found += [store.get(digest) for digest in store.digests()]
    return b"\n".join(found)


def holds(root: Path) -> list[str]:
    """The seeds that stand somewhere in the store."""
    every = bytes_of(root)
    return [seed for seed in SEEDS if seed.encode() in every]


@pytest.fixture(scope="module")
def clean_store(tmp_path_factory: pytest.TempPathFactory, interpreter_store: Path) -> Path:
    """A store that no test brings a secret into."""
    return shutil.copytree(interpreter_store, tmp_path_factory.mktemp("clean") / "store")


@pytest.fixture
def leaky(lonely: Commands, tmp_path: Path, clean_store: Path) -> Commands:
    """A flow that reads a token from a file outside of its code, on the clean store."""
    lonely.store = clean_store
    return prepared(lonely, tmp_path)


@pytest.fixture
def careless(lonely: Commands, tmp_path: Path) -> Commands:
    """The same, on a store of its own."""
    return prepared(lonely, tmp_path)


def prepared(lonely: Commands, tmp_path: Path) -> Commands:
    """The flow and the file."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/token.txt").write_text(TOKEN)
    lonely.write("flow.py", FLOW.replace("token.txt", str(tmp_path / "elsewhere/token.txt")))
    lonely.variables["STILLRUN_KEYS"] = str(tmp_path / "keys")
    return lonely


def test_what_a_task_prints_or_raises_is_masked_and_its_input_is_not_kept(leaky: Commands) -> None:
    run = leaky.run("flow.py", "--mode", "print")
    assert holds(leaky.store) == []
    logs = leaky("logs", f"{run}/start").out
    assert "connecting with " + "*" * len(TOKEN) in logs
    inputs = leaky("inputs", run, "--json").out
    assert "looks like a secret (github-token, line 1)" in inputs
    done = leaky("run", "flow.py", "--mode", "raise")
    assert done.code == 1 and "what looks like a secret (github-token) was masked" in done.err + done.out
    assert holds(leaky.store) == []
    assert leaky("verify", "--all", "--full").code == 0


@pytest.mark.parametrize(("mode", "told"), [("keep", "the artifact token"), ("deep", "an artifact")])
def test_a_task_that_would_keep_a_secret_fails_and_nothing_is_kept(leaky: Commands, mode: str, told: str) -> None:
    done = leaky("run", "flow.py", "--mode", mode, "--json")
    assert done.code == 1
    assert f"{told} looks like a secret (github-token)" in done.json["failure"]["error"]["message"]
    assert holds(leaky.store) == []


def test_a_parameter_that_looks_like_a_secret_is_refused_before_it_is_kept(leaky: Commands) -> None:
    for value in (TOKEN, f"postgresql://ada:{PASSWORD}@db/x"):
        done = leaky("run", "flow.py", "--word", value)
        assert done.code == 2
        assert "the parameter word looks like a secret" in done.err and "--allow-secret" in done.err
        assert not any(seed in done.err + done.out for seed in SEEDS)
    assert holds(leaky.store) == []


def test_code_with_a_secret_is_refused_with_rule_file_and_line(leaky: Commands) -> None:
    leaky.write("settings.py", f"\nDB_PASSWORD = '{PASSWORD}'\n")
    leaky.write("notebook.ipynb", '{"cells": [{"outputs": [{"text": ["\\n' + TOKEN + '\\n"]}]}]}')
    leaky.write("pip.conf", f"[global]\nindex-url = https://ada:{PASSWORD}@index.example.org/simple\n")
    for _ in range(2):  # what was refused is not remembered as clean
        done = leaky("run", "flow.py")
        assert done.code == 2
        for line in ("settings.py:2: assigned-secret", "notebook.ipynb:1: github-token", "pip.conf:2: password-in-url"):
            assert line in done.err
        assert "--allow-secret assigned-secret" in done.err and TOKEN not in done.err and PASSWORD not in done.err
        assert holds(leaky.store) == []
    scanned = leaky("scan", "flow.py", "--json")
    assert scanned.code == 1
    assert sorted(each["rule"] for each in scanned.json["findings"]) == [
        "assigned-secret",
        "github-token",
        "password-in-url",
    ]
    leaky.write(".stillrunignore", "settings.py\nnotebook.ipynb\npip.conf\n")
    leaky.run("flow.py")
    assert leaky("scan", "flow.py").code == 0
    assert holds(leaky.store) == []


@pytest.mark.slow
def test_what_is_let_pass_needs_a_reason_and_is_recorded(careless: Commands) -> None:
    careless.write("settings.py", f"DB_PASSWORD = '{PASSWORD}'\n")
    assert "needs --reason" in careless("run", "flow.py", "--allow-secret", "assigned-secret").err
    unknown = careless("run", "flow.py", "--allow-secret", "password", "--reason", "x")
    assert unknown.code == 2 and "assigned-secret" in unknown.err
    allowed = ("--allow-secret", "assigned-secret", "--reason", "a test account")
    run = careless.run("flow.py", *allowed)
    from stillrun_engine.archive import open_run
    from stillrun_engine.pathspec import parse_pathspec
    from stillrun_snapshot.store import Store

    with Store.open(careless.store) as store:
        record = open_run(store, parse_pathspec(run)).record
    assert record["allowed_secrets"] == [{"rule": "assigned-secret", "reason": "a test account"}]
    assert careless("run", "flow.py").code == 2  # it was allowed for that run
    assert careless("replay", run).code == 0


def test_lines_that_were_removed_from_the_code_are_not_in_the_diff(leaky: Commands, tmp_path: Path) -> None:
    import subprocess

    def git(*words: str) -> None:
        subprocess.run(
            ["git", "-c", "user.name=A", "-c", "user.email=a@example.org", *words],
            cwd=leaky.cwd,
            check=True,
            capture_output=True,
        )

    leaky.write("settings.py", f"DB_PASSWORD = '{PASSWORD}'\n")
    leaky.write("other.py", "x = 1\n")
    git("init")
    git("add", ".")
    git("commit", "-m", "one")
    leaky.write("settings.py", "import os\nDB_PASSWORD = os.environ['DB_PASSWORD']\n")
    leaky.write("other.py", "x = 2\n")
    leaky.run("flow.py")
    assert holds(leaky.store) == []
    assert b"+x = 2" in bytes_of(leaky.store)


def test_variables_and_addresses_leave_no_secret(leaky: Commands) -> None:
    leaky.variables.update(
        DB_PASSWORD=PASSWORD, GITHUB_TOKEN=TOKEN, UV_INDEX_URL=f"https://a:{PASSWORD}@localhost/simple"
    )
    leaky.run("flow.py")
    assert holds(leaky.store) == []


@pytest.mark.slow
def test_a_secret_that_was_kept_is_found_and_taken_out(careless: Commands) -> None:
    careless.write("settings.py", f"DB_PASSWORD = '{PASSWORD}'\n")
    run = careless.run(
        "flow.py", "--mode", "keep", "--word", TOKEN,
        *(word for rule in ("github-token", "assigned-secret") for word in ("--allow-secret", rule)), "--reason", "on purpose",
    )  # fmt: skip
    assert careless("key", "new", "--holder", "Ada").code == 0
    assert careless("sign", run, "--as", "reviewed").code == 0
    assert careless("checkpoint", "export", "-o", "kept.txt").code == 0
    assert sorted(holds(careless.store)) == sorted(SEEDS)
    found = careless("scan", run, "--json")
    assert found.code == 1
    objects = {each["object"]: each["place"] for each in found.json["findings"]}
    assert "settings.py" in objects.values()
    refused = careless("redact", next(iter(objects)))
    assert refused.code == 2 and "--reason" in refused.err
    for name in ("token", "word"):
        assert careless("redact", f"{run}/start/0/{name}", "--reason", "a token", "--yes").code == 0
    for digest in objects:
        done = careless("redact", digest, "--reason", "a secret", "--yes")
        assert done.code == 0, done.err
    assert holds(careless.store) == []
    assert careless("scan", run).code == 0
    verified = careless("verify", run, "--checkpoint", "kept.txt")
    assert verified.code == 0, verified.out
    assert "redacted: " in verified.out and "by Ada" in verified.out and "signature sound" in verified.out
    everything = careless("verify", "--all", "--full", "--json")
    assert everything.code == 0 and len(everything.json["redacted"]) >= 4
    assert careless("show", run).code == careless("show", f"{run}/start/0").code == 0
    replayed = careless("replay", run)
    assert replayed.code == 2 and "was redacted by Ada" in replayed.err and "Traceback" not in replayed.err
    gone = careless("artifact", f"{run}/start/0/token", "--out", "x")
    assert gone.code == 2 and "was redacted by Ada" in gone.err


@pytest.mark.slow
def test_a_file_of_secrets_is_named_and_a_replay_takes_it_from_where_it_was(leaky: Commands) -> None:
    leaky.write(".env", f"DB_PASSWORD={PASSWORD}\n")
    leaky.write("reads.py", FLOW.replace("token.txt", ".env").replace("Leaky", "Reads"))
    run = leaky.run("reads.py")
    assert holds(leaky.store) == []
    replayed = leaky("replay", run, "--json")
    assert replayed.code == 0, replayed.err
    assert holds(leaky.store) == []
    leaky.write(".env", "DB_PASSWORD=another\n")
    refused = leaky("replay", run)
    assert refused.code == 2 and ".env" in refused.err and "it has changed since" in refused.err
    (leaky.cwd / ".env").unlink()
    assert "was not kept: secret" in leaky("replay", run).err
