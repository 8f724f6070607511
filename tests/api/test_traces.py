"""The files of a step: what it read and wrote outside the flow, and nothing of Python's own."""

from __future__ import annotations

import os
from pathlib import Path

from .driver import HostProcess, write_flow


def test_reads_and_writes_are_recorded(host: HostProcess, tmp_path: Path) -> None:
    data, flow = tmp_path / "data", tmp_path / "flow"
    data.mkdir()
    for name in ("a.csv", "b.csv", "c.csv", "d.csv", "ü.csv", "kept", "both"):
        (data / name).write_text(name)
    ignored = tmp_path / "ignored"
    ignored.mkdir()
    (ignored / "x").write_text("x")
    text = f"""
    import os, pathlib, json, socket
    from stillrun import *
    class F(FlowSpec):
        @step
        def start(self):
            import decimal, http.client
            open("data/a.csv").close()
            with open(b"data/b.csv", "rb") as f: f.read()
            pathlib.Path("data/c.csv").read_text()
            os.close(os.open("data/ü.csv", os.O_RDONLY))
            os.chdir("data")
            open("d.csv").close()
            open("../data/a.csv").close()
            os.fdopen(os.open("kept", os.O_RDONLY)).close()
            open("new.txt", "w").close()
            open("new.txt").close()
            open("both", "r+").close()
            open("a.csv", "a").close()
            open({str(ignored / "x")!r}).close()
            open("/proc/self/stat").close()
            open("/dev/null").close()
            open(os.devnull, "w").close()
            open(os.path.join(os.path.dirname(__file__), "flow.py")).close()
            for wrong in ("nothing.csv", ".", "bad\\0name", 99):
                try: open(wrong)
                except (OSError, ValueError): pass
            self.next(self.end)
        @step
        def end(self): raise KeyError(open("data/a.csv").read())
    """
    host.load(write_flow(flow, text))
    result = host.task("start", ignore=[str(ignored)]).result
    assert result["ok"], result["error"]
    names = ("a.csv", "b.csv", "c.csv", "ü.csv", "d.csv", "kept", "both")
    assert [each["path"] for each in result["reads"]] == [str(data / name) for name in names]
    assert result["writes"] == [str(data / name) for name in ("new.txt", "both", "a.csv")]
    stat = os.stat(data / "a.csv")
    copies = [each.pop("copy", None) for each in result["reads"]]
    assert [name for name, copy in zip(names, copies, strict=True) if copy] == ["a.csv", "both"], (
        "those that it changed"
    )
    assert result["reads"][0] == {
        "path": str(data / "a.csv"),
        "size": stat.st_size,
        "mtime_ns": stat.st_mtime_ns,
        "inode": stat.st_ino,
        "device": stat.st_dev,
    }
    failed = host.task("end").result
    assert [each["path"] for each in failed["reads"]] == [str(data / "a.csv")]


def test_loading_artifacts_is_no_read_of_the_step(host: HostProcess, tmp_path: Path) -> None:
    text = """
    class F(FlowSpec):
        @step
        def start(self):
            self.x = bytes(100_000)
            self.next(self.end)
        @step
        def end(self):
            self.y = len(self.x)
    """
    host.load(write_flow(tmp_path / "flow", text))
    refs = host.kept(host.task("start"))
    done = host.task("end", inputs=[{"step": "start", "task": "1", "index": None, "artifacts": refs}])
    assert (done.artifacts["y"]["preview"], done.result["reads"]) == ("100000", [])
