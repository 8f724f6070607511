"""Forked tasks and tasks in new interpreters come to the same results, whatever the flow imports."""

from __future__ import annotations

import importlib.util
import sys

import pytest
from tests.conftest import Commands

FLOW = """
from stillrun import FlowSpec, step
{imports}


class Flow(FlowSpec):
    @step
    def start(self):
        self.items = [1, 2, 3]
        self.next(self.work, foreach="items")

    @step
    def work(self):
        {work}
        self.next(self.join)

    @step
    def join(self, inputs):
        self.all = [each.x for each in inputs]
        self.next(self.end)

    @step
    def end(self):
        pass
"""

WORK = {
    "numpy": "r = numpy.random.default_rng(self.input); a = r.random((200, 200)); self.x = numpy.linalg.inv(a) @ a.T",
    "pandas": "f = pandas.DataFrame({'k': range(5000), 'v': 1.5}); self.x = f.groupby(f.k % (self.input + 6)).v.sum()",
    "sklearn.ensemble": "from sklearn.datasets import load_iris; m = sklearn.ensemble.RandomForestClassifier(20, n_jobs=2, "
    "random_state=self.input); self.x = m.fit(*load_iris(return_X_y=True))",
    "polars": "self.x = polars.DataFrame({'a': [1, 2, 2]}).group_by('a', maintain_order=True).len()",
    "torch": "torch.manual_seed(self.input); self.x = torch.nn.Linear(64, 64)(torch.ones(64, 64)) @ torch.ones(64, 64)",
}


@pytest.mark.parametrize(
    "library", [pytest.param(name, marks=() if name in ("numpy", "torch") else pytest.mark.slow) for name in WORK]
)
def test_forked_or_fresh_the_results_are_the_same(stillrun: Commands, library: str) -> None:
    if importlib.util.find_spec(library.split(".")[0]) is None:
        pytest.skip(f"{library} is not installed: it takes gigabytes")
    stillrun.write("flow.py", FLOW.replace("{imports}", f"import {library}").replace("{work}", WORK[library]))
    forked, fresh = stillrun.run("flow.py"), stillrun.run("flow.py", "--fresh-process")
    done = stillrun("diff", forked, fresh, "--json")
    assert (done.code, done.json["artifacts"]) == (0, []), done.out


@pytest.mark.skipif(sys.platform != "linux", reason="other systems tell nothing of native threads")
def test_what_cannot_be_forked_is_not_and_it_is_said_once(stillrun: Commands) -> None:
    work = "self.x = polars.DataFrame({'a': [1, 2, 2]}).group_by('a').len().height"
    text = FLOW.replace("{imports}", "import polars\npolars.DataFrame({'a': [1, 2]}).group_by('a').len()")
    stillrun.write("flow.py", text.replace("{work}", work))
    done = stillrun("run", "flow.py")
    assert done.code == 0, done.err
    said = [line for line in (done.out + done.err).splitlines() if "new interpreter" in line]
    assert len(said) == 1
    assert "a library that has started threads" in said[0]
