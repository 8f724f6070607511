"""An environment in which the flow cannot be imported fails its task, and so the run; nothing hangs and nothing is lost."""

from __future__ import annotations

from pathlib import Path

from tests.conftest import Commands
from tests.system.test_environments import fixture, served


def test_a_flow_that_an_environment_cannot_import_fails_the_run(lonely: Commands, tmp_path: Path) -> None:
    maker, wheels, root = fixture("wheels/make_wheel.py"), tmp_path / "w", tmp_path / "i"
    maker.make_wheel(wheels, "tint", "1.0")
    maker.make_index(wheels, root)
    lonely.write(
        "picky.py",
        """
import sys
from stillrun import FlowSpec, pypi, step

if "envs" in sys.prefix:
    import no_such_module

class Picky(FlowSpec):
    @step
    def start(self):
        self.items = list(range(20))
        self.next(self.work, foreach="items")

    @pypi(packages={"tint": ""})
    @step
    def work(self):
        self.next(self.join)

    @step
    def join(self, inputs):
        self.next(self.end)

    @step
    def end(self):
        pass
""",
    )
    with served(root) as address:
        lonely.variables.update(UV_DEFAULT_INDEX=address, UV_NO_CONFIG="1")
        done = lonely("run", "picky.py", "--json")
    assert done.code == 1, done.err
    assert done.json["status"] == "failed"
    assert "no_such_module" in done.json["failure"]["error"]["message"]
    shown = lonely("show", done.json["run"], "--json").json
    assert shown["status"] == "failed"
