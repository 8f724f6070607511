"""The commit that made a result another one is found by replaying halves; the work tree is not touched."""

from __future__ import annotations

import subprocess

import pytest
from tests.conftest import Commands

FLOW = """
from stillrun import FlowSpec, step
from lib import value

class Study(FlowSpec):
    @step
    def start(self):
        self.result = value()
        self.next(self.end)

    @step
    def end(self):
        pass
"""
LIB = ["return 1", "return 1  # a note", "return (", "return 1 * 1", "return 2", "return 3 - 1", "return 2  # done"]


def git(commands: Commands, *words: str) -> str:
    identity = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org")
    done = subprocess.run(["git", *identity, *words], cwd=commands.cwd, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def history(stillrun: Commands) -> tuple[Commands, str, str]:
    """Two runs, six commits apart; the second of them cannot be run, the fourth changes the result."""
    git(stillrun, "init", "-q")
    stillrun.write("flows/study.py", FLOW)
    runs = []
    for number, body in enumerate(LIB):
        stillrun.write("flows/lib.py", f"def value():\n    {body}\n")
        git(stillrun, "add", "-A")
        git(stillrun, "commit", "-q", "-m", f"change {number}: ü")
        if number in (0, len(LIB) - 1):
            runs.append(stillrun.run("flows/study.py"))
    return stillrun, runs[0], runs[1]


def test_the_commit_that_is_to_blame_is_found(history: tuple[Commands, str, str]) -> None:
    commands, good, bad = history
    stands = git(commands, "rev-parse", "HEAD"), git(commands, "status", "--porcelain")
    done = commands("bisect", good, bad, "--code", "--json")
    assert done.code == 0, done.err
    (culprit,) = done.json["culprits"]
    assert (culprit["subject"], culprit["author"]) == ("change 4: ü", "Ada")
    assert culprit["sha"] == git(commands, "rev-parse", "HEAD~2")
    assert len(done.json["trials"]) <= 6
    assert (git(commands, "rev-parse", "HEAD"), git(commands, "status", "--porcelain")) == stands
    page = commands("bisect", f"{good}/start", bad, "--code")
    assert f"change 4: ü (Ada, {culprit['when'][:10]}) makes the difference in {good}/start" in page.out


def test_what_was_not_committed_is_found_too(history: tuple[Commands, str, str]) -> None:
    commands, _, later = history
    commands.write("flows/lib.py", "def value():\n    return 5\n")
    bad = commands.run("flows/study.py")
    done = commands("bisect", later, bad, "--code")
    assert done.code == 0, done.err
    assert "changes that were not committed makes the difference" in done.out


def test_commits_that_cannot_be_told_apart_are_all_named(history: tuple[Commands, str, str]) -> None:
    commands, good, _ = history
    git(commands, "checkout", "-q", "HEAD~3")
    for text in ("return (", "return 9"):
        commands.write("flows/lib.py", f"def value():\n    {text}\n")
        git(commands, "commit", "-q", "-am", f"now {text}")
    bad = commands.run("flows/study.py")
    done = commands("bisect", good, bad, "--code", "--json")
    assert [one["subject"] for one in done.json["culprits"]] == ["now return (", "now return 9"]


def test_what_cannot_be_looked_into_is_told(history: tuple[Commands, str, str]) -> None:
    commands, good, bad = history
    assert "does not come after" in commands("bisect", bad, good, "--code").err
    assert "the same commit" in commands("bisect", good, good, "--code").err
    elsewhere = commands("bisect", good, bad, "--code", "--repo", commands.store)
    assert (elsewhere.code, "no git repository that knows" in elsewhere.err) == (2, True)
    commands.write("again/study.py", FLOW)
    assert "name a step" in commands("bisect", good, bad).err
