"""Reports of runs whose objects are gone: what can be told is told, and what is gone is named."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.conftest import Commands
from tests.reports.samples import LINEAR

from stillrun_engine.archive import open_run
from stillrun_engine.pathspec import parse_pathspec
from stillrun_reports.report import report_of
from stillrun_snapshot.refs import RefChange
from stillrun_snapshot.store import Store


def _padded(lonely: Commands) -> str:
    """A run whose flow file is an object of its own, for which it must be large."""
    lonely.write("linear.py", LINEAR.lstrip() + "\n".join("# " + "x" * 78 for _ in range(1000)) + "\n")
    lonely.write("offset.txt", "5\n")
    return lonely.run("linear.py")


def test_a_source_file_that_is_gone_is_damage_and_no_error(lonely: Commands) -> None:
    run = _padded(lonely)
    with Store.open(Path(lonely.store)) as store:
        whole = report_of(store, open_run(store, parse_pathspec(run)))
        (file,) = [one for one in whole["code"]["files"] if one["path"] == "linear.py"]
        assert all(step["source"] for step in whole["steps"])
    (Path(lonely.store) / "objects" / file["digest"][7:9] / file["digest"][9:]).unlink()
    done = lonely("audit", run, "-o", "out", "--json")
    assert done.code == 1 and done.json["verdict"] == "damaged" and done.json["damaged"] == 1
    assert "linear.py" in done.json["findings"][0]["text"]
    assert "Damaged or missing objects" in (lonely.cwd / "out" / "report.html").read_text()


def _redacted(lonely: Commands, *names: str) -> str:
    run = _padded(lonely)
    assert lonely("key", "new").code == 0
    for name in names:
        assert lonely("redact", f"{run}/{name}", "--reason", "asked for", "--yes").code == 0
    return run


def test_what_was_taken_out_on_purpose_is_no_damage(lonely: Commands) -> None:
    run = _redacted(lonely, "start/0/data")
    fsck = lonely("store", "fsck", "--json")
    assert (fsck.code, fsck.json["redacted"], fsck.json["problems"]) == (0, 2, []), fsck.out
    done = lonely("audit", run, "-o", "out", "--json")
    assert (done.code, done.json["verdict"], done.json["damaged"]) == (0, "not_replayed", 0), done.out
    assert [one["weight"] for one in done.json["findings"] if one["code"] == "redacted"] == ["note"]
    assert list(done.json["not_written"]) == ["ro-crate"]
    page = (lonely.cwd / "out" / "report.html").read_text()
    assert "Taken out on purpose" in page and "asked for" in page


@pytest.mark.slow
def test_a_redacted_run_is_cleaned_up_packed_and_verified_and_not_exported(lonely: Commands) -> None:
    run = _redacted(lonely, "start/0/data", "fit/0/model")
    for words in (("store", "gc", "--delete"), ("store", "pack"), ("store", "fsck", "--full")):
        done = lonely(*words)
        assert done.code == 0, done.out
    verify = lonely("verify", "--all", "--full", "--json")
    assert (verify.code, len(verify.json["redacted"]), verify.json["damaged"]) == (0, 4, [])
    refused = lonely("export", run, "-o", "whole.bundle")
    assert refused.code == 2 and "was redacted by" in refused.err and not (lonely.cwd / "whole.bundle").exists()


@pytest.mark.slow
def test_a_tombstone_that_nobody_signed_is_damage(lonely: Commands) -> None:
    run = _redacted(lonely, "start/0/data")
    with Store.open(Path(lonely.store)) as store:
        names = dict(store.refs.names())
        keys = [RefChange(name, None) for name in names if name.startswith("keys/")]
        store.refs.set(keys)
        report = report_of(store, open_run(store, parse_pathspec(run)))
    assert report["integrity"]["redacted"] == [] and report["verdict"]["level"] == "damaged"
    assert lonely("store", "fsck").code == 2


def test_a_run_that_was_carried_here_says_so_and_tells_of_the_log_there(lonely: Commands) -> None:
    lonely.write("linear.py", LINEAR.lstrip())
    lonely.write("offset.txt", "5\n")
    run = lonely.run("linear.py")
    assert lonely("export", run, "-o", "linear.bundle").code == 0
    lonely.store = lonely.cwd / "elsewhere"
    assert lonely("import", "linear.bundle").code == 0
    with Store.open(Path(lonely.store)) as store:
        report = report_of(store, open_run(store, parse_pathspec(run)))
    assert report["custody"]["carried"]["lines"] == 5
    assert [one["code"] for one in report["findings"] if one["where"] == "custody"] == ["carried"]
