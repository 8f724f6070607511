"""Which files a text in the code may be about."""

from __future__ import annotations

import pytest

from stillrun_engine.mentions import changes, mentioned


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("data/a.csv", "data/a.csv"),
        ("data/a.csv", "a.csv"),
        ("data/a.csv", "./data"),
        ("data/deep/a.csv", "data/"),
        ("data/a.csv", "/home/ada/lab/data/a.csv"),
        ("data/a.csv", "lab/data"),
        ("data/a.csv", "data/*.csv"),
        ("data/a.csv", "*.csv"),
        ("data/deep/a.csv", "data/**/*.csv"),
        ("data/deep/a.csv", "**"),
        ("model_3.json", ".json"),
        ("tool.sh", "sh -c './tool.sh --fast'"),
        ("Makefile", "Makefile"),
        ("a[1].txt", "a[1].txt"),
    ],
)
def test_a_file_that_a_text_may_be_about_is_seen(path: str, text: str) -> None:
    assert mentioned(path, [text])


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("README.md", "data/a.csv"),
        ("near/b.txt", "data/*.txt"),
        ("data/a.csv", "other/a.csv"),
        ("data/a.csv", "."),
        ("data/a.csv", "../.."),
        ("data/a.csv", ""),
        ("data/a.csv", "a"),
    ],
)
def test_any_other_is_not(path: str, text: str) -> None:
    assert not mentioned(path, [text])


def test_what_became_of_files() -> None:
    before, now = {"a": 1, "b": 1, "c": 1, "m.py": 1}, {"a": 1, "b": 2, "d": 1, "m.py": 2}
    assert changes(before, now) == {"b": "changed", "c": "not there any more", "d": "new"}
