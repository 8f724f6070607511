"""The pages of docs/ do what they say: their files are written and their commands run, in order."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.conftest import Commands
from tests.system.test_environments import fixture, served

ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(r"^```(\w+)(?: file=(\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An index with small packages that are called as those in the examples."""
    maker, wheels, root = fixture("wheels/make_wheel.py"), tmp_path_factory.mktemp("w"), tmp_path_factory.mktemp("i")
    maker.make_wheel(wheels, "numpy", "2.1.0")
    maker.make_wheel(wheels, "pandas", "2.2.3", requires=["numpy>=1.26"])
    maker.make_wheel(wheels, "pandas", "3.0.0", requires=["numpy>=2"])
    maker.make_wheel(wheels, "tqdm", "4.67.0")
    maker.make_index(wheels, root)
    with served(root) as address:
        yield address


@pytest.mark.parametrize(
    ("page", "least"),
    [
        pytest.param("environments.md", 9, marks=pytest.mark.slow),
        ("replay.md", 9),
        pytest.param("custody.md", 9, marks=pytest.mark.slow),
        ("flows.md", 9),
        ("from-metaflow.md", 4),
        pytest.param("store.md", 9, marks=pytest.mark.slow),
        pytest.param("remotes.md", 12, marks=pytest.mark.slow),
        ("audit.md", 7),
    ],
)
def test_every_example_of_a_page_works(lonely: Commands, index: str, page: str, least: int) -> None:
    lonely.anew = True  # as a reader does
    lonely.variables.update(UV_DEFAULT_INDEX=index, UV_HTTP_RETRIES="0", UV_NO_CONFIG="1")
    ran = 0
    for kind, file, text in _BLOCK.findall((ROOT / "docs" / page).read_text("utf-8")):
        if file:
            lonely.write(file, text)
        elif kind == "console":
            for line in text.splitlines():
                expected = re.search(r"  # exit code (\d+)$", line)
                words = shlex.split(line.removeprefix("$ "), comments=True)
                assert words[0] in ("stillrun", "python"), line
                done = lonely(*words[1:]) if words[0] == "stillrun" else lonely(*words[2:], command=(words[1],))
                assert done.code == (int(expected[1]) if expected else 0), f"{line}\n{done.out}{done.err}"
                ran += 1
    assert ran >= least
