"""Reports of runs whose objects are gone: what can be told is told, and what is gone is named."""

from __future__ import annotations

from pathlib import Path

from tests.conftest import Commands
from tests.reports.samples import LINEAR

from stillrun_engine.archive import open_run
from stillrun_engine.pathspec import parse_pathspec
from stillrun_reports.report import report_of
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
