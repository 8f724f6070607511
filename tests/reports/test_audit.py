"""`stillrun audit`: what it writes, prints and returns."""

from __future__ import annotations

import json

import pytest
from tests.conftest import Done
from tests.reports.samples import Samples

from stillrun_snapshot.digest import digest_of


def audit(samples: Samples, *arguments: str) -> Done:
    return samples.commands("audit", *arguments)


def test_a_sound_run_gives_a_page_and_its_report_and_exit_code_0(samples: Samples) -> None:
    told = samples.command("audit", samples.make("linear"), "-o", "out", code=0)
    report = (samples.cwd / "out" / "report.json").read_bytes()
    assert told["sound"] is True and told["verdict"] == "not_replayed"
    assert told["report"] == digest_of(report)
    assert json.loads(report)["run"]["name"] == samples.runs["linear"]
    assert (samples.cwd / "out" / "report.html").read_text().startswith("<!DOCTYPE html>")


def test_findings_are_exit_code_1_and_are_printed(samples: Samples) -> None:
    done = audit(samples, samples.make("different"), "--format", "json", "-o", "out")
    assert done.code == 1
    assert "different (10 identical, 3 different)" in done.out and "first at square/1/drawn" in done.out
    assert len(done.out.splitlines()) <= 15


def test_one_format_is_written_alone(samples: Samples) -> None:
    samples.command("audit", samples.make("linear"), "--format", "html", "-o", "alone", code=0)
    assert [path.name for path in (samples.cwd / "alone").iterdir()] == ["report.html"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("Linear/nothing",), "no run"),
        (("Linear",), "is not a pathspec"),
        (("RUN", "-o", "linear.py"), "cannot write"),
        (("RUN", "--compare", "RUN"), "cannot be compared with itself"),
        (("RUN", "--replay", "sha256:12"), "digest"),
        (("RUN", "--format", "pdf"), "Invalid value"),
    ],
)
def test_what_cannot_be_done_is_one_sentence_and_exit_code_2(
    samples: Samples, arguments: tuple[str, ...], told: str
) -> None:
    run = samples.make("linear")
    done = audit(samples, *(run if one == "RUN" else one for one in arguments))
    assert done.code == 2 and told in done.err and "Traceback" not in done.err


def test_nothing_foreign_drives_the_terminal(samples: Samples) -> None:
    done = audit(samples, samples.make("unicode"), "-o", "out")
    assert done.code == 0
    assert all(character.isprintable() or character == "\n" for character in done.out)
