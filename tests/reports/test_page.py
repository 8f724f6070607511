"""report.html: inert whatever stands in a run, asks for nothing, and says all that the report says."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from tests.reports.conftest import Reports

from stillrun_reports.graph import levels_of
from stillrun_reports.page.graph_drawing import draw_graph
from stillrun_reports.page.listing import diff_lines, python_lines
from stillrun_reports.page.text import duration, plain, size
from stillrun_reports.page.views import powers
from stillrun_reports.page.writing import render_page
from stillrun_snapshot.digest import digest_of
from stillrun_snapshot.record import canonical_bytes

SHAPES = ("linear", "branch", "failed", "interrupted", "resumed", "different", "unicode")
VOID = {"meta", "input", "wbr", "br", "link", "img"}


class Page(HTMLParser):
    """What a browser is told: elements in order, their attributes, and what is in style and script."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.raw: dict[str, list[str]] = {"style": [], "script": []}
        self.text: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag in self.raw:
            self.raw[tag].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, (tag, self.getpos())

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in self.raw:
            self.raw[self.open[-1]][-1] += data
        else:
            self.text.append(data)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_page_is_well_formed_and_asks_for_nothing(reported: Reports, shape: str) -> None:
    page = Page(render_page(reported(shape)))
    assert page.open == []
    assert [len(page.raw[kind]) for kind in ("style", "script")] == [1, 1]
    for tag, attributes in page.elements:
        assert tag not in ("link", "img", "iframe", "object", "embed", "base", "form", "use", "image")
        assert not any(name.startswith("on") or name in ("style", "src", "srcset", "action") for name in attributes)
        assert (attributes.get("href") or "#").startswith("#")
    assert "url(" not in page.raw["style"][0].replace("url(#", "") and "@import" not in page.raw["style"][0]


def test_the_policy_allows_exactly_the_style_and_the_script_of_the_page(reported: Reports) -> None:
    page = Page(render_page(reported("linear")))
    policy = next(each["content"] for _, each in page.elements if each.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None and policy.startswith("default-src 'none';") and "unsafe" not in policy
    for kind in ("style", "script"):
        digest = base64.b64encode(hashlib.sha256(page.raw[kind][0].encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy


@pytest.mark.parametrize("shape", SHAPES)
def test_ids_stand_once_and_every_link_leads_to_one(reported: Reports, shape: str) -> None:
    page = Page(render_page(reported(shape)))
    ids = [each["id"] for _, each in page.elements if each.get("id")]
    assert len(ids) == len(set(ids))
    links = {each["href"] for tag, each in page.elements if tag == "a"}
    assert {link.removeprefix("#") for link in links if link} <= set(ids)


def test_names_previews_logs_and_code_are_inert(reported: Reports) -> None:
    report = reported("unicode")
    html = render_page(report)
    page = Page(html)
    text = "".join(page.text)
    assert "<script>alert(document.title)</script>" in text, "the artifact's name is there, as text"
    assert "<img src=x onerror=alert(1)>" in text
    assert "[31mred" in text and "\x1b" not in html and "\x07" not in html, "escape sequences are shown, not sent"
    assert "‮" not in html, "nothing turns the direction of what follows"
    assert "日本語" in text and "числа" in text


def test_a_title_or_a_doc_that_closes_an_element_stays_text(reported: Reports) -> None:
    report = reported("unicode")
    report["run"]["doc"] = "</p></section></main><script>alert(1)</script>"
    report["run"]["name"] = '"><script>alert(2)</script>'
    report["run"]["tags"] = ["'><svg onload=alert(3)>"]
    page = Page(render_page(report))
    assert len(page.raw["script"]) == 1
    assert not any("onload" in attributes for _, attributes in page.elements)


def test_the_page_names_the_digest_of_its_report(reported: Reports) -> None:
    report = reported("linear")
    assert digest_of(canonical_bytes(report)).removeprefix("sha256:") in render_page(report)


def test_the_graph_shows_every_step_and_the_table_beside_it_as_well(reported: Reports) -> None:
    report = reported("branch")
    html = render_page(report)
    graph = html[html.index('<svg class="graph"') : html.index("</svg>", html.index('<svg class="graph"'))]
    assert graph.count('class="node') == 6 and graph.count('class="edge"') == 7
    table = html[html.index("</figure>") : html.index('id="timeline"')]
    assert all(f">{step['step']}</bdi>" in table for step in report["steps"])


def test_what_differs_is_shown_before_and_after(reported: Reports) -> None:
    report = reported("different", compare="foreach")
    html = render_page(report)
    found = next(one for one in report["replay"]["artifacts"] if one["verdict"] == "different")
    text = "".join(Page(html).text)
    assert found["difference"]["found"][0]["before"] in text and found["difference"]["found"][0]["after"] in text
    assert 'id="differing"' in html, "the comparison can show what differs alone"


def test_no_page_claims_that_rules_are_met(reported: Reports) -> None:
    assert "complian" not in render_page(reported("linear")).lower()


def test_a_report_of_many_tasks_counts_what_it_leaves_out(reported: Reports, monkeypatch: pytest.MonkeyPatch) -> None:
    from stillrun_reports.page import views

    report = reported("foreach")
    task = next(one for one in report["tasks"] if one["step"] == "square")
    report["tasks"] += [{**task, "task": str(number)} for number in range(100, 300)]
    report["tasks"][-1]["status"] = "failed"
    monkeypatch.setattr(views, "ROWS_MAX", 100)
    html = render_page(report)
    assert "The 100 worst of 208 are shown" in html
    assert "<bdi>square/299</bdi>" in html, "the failed one is among them"


def test_foreign_text_is_shown_with_its_control_characters_by_name() -> None:
    assert plain("a\x1b[31m\x00") == "a␛[31m␀"
    assert plain("‮evil\x9b") == "⟨U+202E⟩evil⟨U+009B⟩"
    assert plain("two\n\tlines é 日") == "two\n\tlines é 日"


def test_code_is_highlighted_line_by_line_and_escaped() -> None:
    html = str(python_lines('def f():\n    return "<b>" & 1', 7))
    assert html.count('class="ln"') == 2 and 'data-n="8"' in html
    assert "<b>" not in html and "&lt;b&gt;" in html and '<span class="k">' in html


def test_lines_of_a_difference_are_told_apart_and_escaped() -> None:
    html = str(diff_lines(["@@ -1 +1 @@", "-<old>", "+new"]))
    assert re.findall(r'class="(\w+)"', html) == ["hunk", "del", "add"] and "<old>" not in html


def test_levels_are_the_longest_way_and_loops_do_not_count() -> None:
    assert levels_of({"a": ["b", "c"], "b": ["c"], "c": ["a", "d"], "d": []}) == {"a": 0, "b": 1, "c": 2, "d": 3}
    assert levels_of({"a": ["a", "b"], "b": ["gone"]}) == {"a": 0, "b": 1}


@pytest.mark.parametrize(
    ("amount", "told"),
    [(12_000, "12 ms"), (3_400_000, "3.4 s"), (125_000_000, "2 min 5 s"), (12_000_000_000, "3 h 20 min")],
)
def test_times_are_told_as_people_do(amount: int, told: str) -> None:
    assert duration(amount) == told


def test_sizes_are_told_in_decimal_units() -> None:
    assert [size(one) for one in (0, 999, 1_200_000)] == ["0 B", "999 B", "1.2 MB"]


def test_every_template_is_part_of_the_package() -> None:
    import stillrun_reports.page as package

    names = {path.name for path in (Path(package.__file__).parent / "templates").iterdir()}
    assert {"page.html.j2", "page.css", "page.js", "banner.j2"} <= names


def test_a_histogram_goes_from_the_smallest_power_of_ten_to_the_largest() -> None:
    assert powers({"1e-1": 1, "1e-10": 255, "nan": 2, "0": 3, "1e-9": 617})[:3] == [
        ("0", 3),
        ("1e-10", 255),
        ("1e-9", 617),
    ]


def test_a_graph_with_many_branches_stands_above_its_table(reported: Reports) -> None:
    assert 'class="card graphbox over"' in render_page(reported("branch"))
    assert 'class="card graphbox"' in render_page(reported("linear"))


def test_lines_pass_levels_beside_boxes_and_ways_back_are_dashed() -> None:
    following = {"a": ["b", "c"], "b": ["d"], "c": ["e"], "d": ["d", "e"], "e": []}
    level = levels_of(following)
    told = {"kind": "linear", "tasks": 1, "state": "ok"}
    steps = [{"step": name, "next": after, "level": level[name], **told} for name, after in following.items()]
    drawing = str(draw_graph(steps, {name: f"step-{name}" for name in following}))
    assert drawing.count('class="edge"') == 5 and drawing.count('class="edge back"') == 1
    assert drawing.count("C") > 6, "the line from c to e bends once more, on the level that it passes"
