from __future__ import annotations

import pytest

from stillrun_snapshot.selection import CaptureLimits, IgnoreRules, is_secret, is_source


@pytest.mark.parametrize(
    "path",
    [
        ".env",
        ".env.local",
        "deploy/.ENV",
        ".netrc",
        "a/.pypirc",
        "server.pem",
        "tls/site.KEY",
        "id_rsa",
        "keys/id_ed25519.pub",
        ".aws/credentials",
        "x/.ssh/config",
        ".git-credentials",
        ".streamlit/secrets.toml",
        "store.p12",
        ".env/x.key",
    ],
)
def test_secrets_are_known_by_their_names(path: str) -> None:
    assert is_secret(path)


@pytest.mark.parametrize(
    "path",
    [".env.example", "env.py", "environment.yml", "keys.py", "monkey", "pem.txt", "id.py", "secrets.toml", "aws/x"],
)
def test_ordinary_files_are_no_secrets(path: str) -> None:
    assert not is_secret(path)


def test_what_people_read_may_be_larger() -> None:
    limits = CaptureLimits()
    for path in ("a/flow.py", "query.SQL", "Makefile", "n.ipynb", "x.yml"):
        assert is_source(path) and limits.for_file(path) == limits.source_file
    for path in ("data.csv", "model.bin", "a.py/data.parquet", "noend"):
        assert not is_source(path) and limits.for_file(path) == limits.data_file


@pytest.mark.parametrize(
    ("pattern", "dropped", "kept"),
    [
        ("*.csv", ["a.csv", "x/y/a.csv"], ["a.csv.py"]),
        ("data/", ["data/a", "x/data/a/b"], ["data", "mydata/a"]),
        ("/data", ["data", "data/x"], ["x/data"]),
        ("x/*.txt", ["x/a.txt"], ["y/x/a.txt", "a.txt"]),
        ("build", ["build", "a/build/b"], ["builder"]),
        ("# note", [], ["# note"]),
        ("[ab].py", ["a.py", "q/b.py"], ["c.py"]),
    ],
)
def test_ignore_patterns(pattern: str, dropped: list[str], kept: list[str]) -> None:
    rules = IgnoreRules([pattern, "", "   "])
    assert [path for path in dropped if not rules.drop_file(path)] == []
    assert [path for path in kept if rules.drop_file(path)] == []


def test_the_last_pattern_that_matches_decides() -> None:
    rules = IgnoreRules(["*.csv", "!small.csv"])
    assert rules.drop_file("big.csv") and not rules.drop_file("a/small.csv")
