"""The commands of a flow file, as Metaflow's users type them: graph, code, cards, artifacts, tags."""

from __future__ import annotations

import json
import pickle
import tarfile
from pathlib import Path

import pytest
from tests.conftest import Commands, Done

FLOW = """
from stillrun import FlowSpec, card, current, step
from stillrun.cards import Artifact, Markdown, MetaflowCardComponent, ProgressBar, Table, get_cards


class Own(MetaflowCardComponent):
    def render(self):
        return "<script>alert(1)</script>"


class Shown(FlowSpec):
    @card
    @step
    def start(self):
        self.x = [1, 2]
        self._private = 3
        current.card.append(Markdown("# Heading"))
        current.card.append(Table([[1, Markdown("cell")], ["<b>", Artifact({"k": 1})]], headers=["A", "B"]))
        current.card.append(ProgressBar(max=10, label="done"), id="bar")
        current.card.append(Own())
        current.card.components["bar"].update(7)
        current.card.refresh({"now": 7})
        self.next(self.two)

    @card(id="a")
    @card(id="b", type="html")
    @step
    def two(self):
        current.card["a"].append(Markdown("only here"))
        self.html = "<p>own page</p>"
        self.first = current.pathspec.replace("two/0", "start/0")
        self.next(self.end)

    @step
    def end(self):
        (found,) = get_cards(self.first)
        self.seen = (found.type, found.id, "Heading" in found.get(), len(get_cards(self.first, type="blank")))


if __name__ == "__main__":
    Shown()
"""


@pytest.fixture
def shown(stillrun: Commands) -> Commands:
    stillrun.write("shown.py", FLOW)
    return stillrun


def called(commands: Commands, *words: str) -> Done:
    """`python shown.py WORDS`, which must work."""
    done = commands(*words, command=("shown.py",))
    assert done.code == 0, done.err
    return done


def test_cards_are_listed_and_their_pages_given(shown: Commands) -> None:
    called(shown, "--quiet", "run")
    listed = called(shown, "card", "list", "--json").json["cards"]
    assert [(each["task"].split("/")[1], each["type"], each["id"]) for each in listed] == [
        ("start", "default", None),
        ("two", "default", "a"),
        ("two", "html", "b"),
    ]
    page = called(shown, "card", "get", "start").out
    for part in ("<h1>Heading</h1>", "<td><p>cell</p></td>", "&lt;b&gt;", 'value="7" max="10"', "&lt;script&gt;"):
        assert part in page
    assert "<script" not in page
    called(shown, "card", "get", "latest/two/0", "page.html", "--id", "b")
    assert (shown.cwd / "page.html").read_text() == "<p>own page</p>"
    called(shown, "card", "list", "two", "--file", "cards.json")
    assert len(json.loads((shown.cwd / "cards.json").read_text())) == 2
    several = shown("card", "get", "two", command=("shown.py",))
    assert (several.code, "has 2 cards" in several.err) == (2, True), several.err
    assert shown("card", "get", "end", command=("shown.py",)).code == 2
    assert shown("replay", "Shown/latest").code in (0, 1)


def test_artifacts_are_dumped_with_private_ones_and_to_a_file(shown: Commands) -> None:
    called(shown, "run")
    found = called(shown, "dump", "latest/start", "--json").json["artifacts"]
    assert [each["name"] for each in found] == ["x"]
    private = called(shown, "dump", "latest/start", "--private", "--json").json["artifacts"]
    assert {each["name"] for each in private} == {"x", "_private"}
    called(shown, "dump", "latest/start", "--file", "values.pkl")
    (values,) = pickle.loads((shown.cwd / "values.pkl").read_bytes()).values()
    assert values == {"x": [1, 2]}


def test_the_graph_is_given_as_text(shown: Commands) -> None:
    assert '"start" -> "two";' in called(shown, "output-dot").out
    raw = called(shown, "output-raw").out
    assert "[two linear (" in raw
    assert called(shown, "output-raw", "--json").json["graph_structure"] == ["start", "two", "end"]
    assert "metaflow names 2." in called(shown, "version").out
    assert "output-dot" in called(shown, "help").out


def test_the_code_of_a_run_to_come_is_listed_and_saved(shown: Commands) -> None:
    shown.write("part.py", "x = 1\n")
    assert {"part.py", "shown.py"} <= set(called(shown, "package", "list").out.split())
    assert called(shown, "package", "info", "--json").json["files"] >= 2
    called(shown, "package", "save", "code.tar.gz")
    with tarfile.open(Path(shown.cwd, "code.tar.gz")) as saved:
        assert {"part.py", "shown.py"} <= {Path(each).name for each in saved.getnames()}


def test_a_tag_is_replaced(shown: Commands) -> None:
    called(shown, "run", "--tag", "old")
    assert called(shown, "tag", "replace", "old", "new", "--json").json["tags"] == ["new"]
    assert shown("tag", "replace", "new", command=("shown.py",)).code == 2


MISTAKES = {
    "an unknown argument": ("@retry(tmes=3)", "@retry does not take 'tmes'. Did you mean"),
    "an unknown argument of what is only kept": ("@card(tpye='default')", "@card does not take 'tpye'"),
    "a wrong value": ("@retry(times=100)", "a whole number from 0 to 4 is expected"),
    "a position": ("@retry(3)", "with named arguments only"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_sentence_whichever_way_the_file_is_run(stillrun: Commands, name: str) -> None:
    written, told = MISTAKES[name]
    text = f"from stillrun import FlowSpec, card, retry, step\n\n\nclass Wrong(FlowSpec):\n    {written}\n    @step\n"
    stillrun.write("wrong.py", text + "    def start(self):\n        pass\n\n\nWrong()\n")
    for done in (stillrun("run", command=("wrong.py",)), stillrun("run", "wrong.py")):
        assert done.code == 2, done.err
        assert told in done.err
        assert "wrong.py:5: " in done.err
        assert "Traceback" not in done.err


def test_a_tag_that_every_run_has_stays(shown: Commands) -> None:
    shown.variables["METAFLOW_USER"] = "ada"
    run = shown.run("shown.py", "--tag", "mine")
    refused = shown("tag", "remove", run, "user:ada")
    assert (refused.code, "cannot be taken off: every run has it" in refused.err) == (2, True), refused.err
    assert shown("tag", "list", run).out == "mine\n"


def test_a_user_s_module_beside_the_flow_is_not_ours(shown: Commands) -> None:
    for name in ("secrets", "random", "json", "click"):
        shown.write(f"{name}.py", "raise RuntimeError('this is the user's module')\n")
    assert shown("list").code == 0
    shown.write("flows/plain.py", FLOW)
    assert shown("flow", "--file", "flows/plain.py", "check").code == 0
