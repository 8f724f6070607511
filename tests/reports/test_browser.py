"""The page in a real browser: it asks for nothing, checkers of accessibility and markup are content, keyboard and print work."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.reports.conftest import Reports

from stillrun_reports.page.writing import render_page

pytestmark = pytest.mark.slow
SHAPES = ("linear", "branch", "foreach", "failed", "interrupted", "resumed", "different", "unicode")
HERE = Path(__file__).parent / "browser"
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the checkers, as npm installs them."""
    if BROWSER is None or shutil.which("npm") is None:
        pytest.skip("needs Chromium and npm on the path")
    folder = tmp_path_factory.mktemp("browser")
    for path in HERE.iterdir():
        shutil.copy(path, folder)
    words = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts"]  # which would fetch a browser and a Java
    subprocess.run(words, cwd=folder, check=True, capture_output=True)
    return folder


def look(tools: Path, pages: dict[str, str]) -> dict[str, Any]:
    """What the browser tells of pages that are given by name."""
    files = []
    for name, html in pages.items():
        files.append(tools / f"{name}.html")
        files[-1].write_text(html, encoding="utf-8")
    done = subprocess.run(
        ["node", "look.mjs", str(BROWSER), *map(str, files)], cwd=tools, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def test_pages_of_every_shape_are_found_clean(tools: Path, reported: Reports) -> None:
    pages = {shape: render_page(reported(shape)) for shape in SHAPES}
    pages["compared"] = render_page(reported("different", compare="foreach"))
    told = look(tools, pages)
    assert len(told["pages"]) == 4 * len(pages)
    for page in told["pages"]:
        assert (page["violations"], page["heard"], page["wide"]) == ([], [], False), page
    assert [page for page in told["markup"] if page["problems"]] == []
    for page in told["keyboard"]:
        assert (page["skip"], page["reached"], page["was"], page["opened"]) == ("skip", "#run", False, True), page
        assert page["theme"] == "dark" and page["unreachable"] == [], page
    for page in told["script"]:
        assert page["sections"] == 12 and page["sources"] and not page["tool"], page
    assert all(page["inside"] and not page["rail"] for page in told["print"]), told["print"]


def test_two_more_checkers_are_content_with_pages_of_every_shape(tools: Path, reported: Reports) -> None:
    pages = {shape: tools / f"checked-{shape}.html" for shape in SHAPES}
    for shape, path in pages.items():
        path.write_text(render_page(reported(shape)), encoding="utf-8")
    settings = {"chromeLaunchConfig": {"executablePath": BROWSER, "args": ["--no-sandbox"]}, "timeout": 300_000}
    (tools / "pa11y.json").write_text(json.dumps(settings))
    for path in pages.values():
        done = subprocess.run(
            ["npx", "pa11y", "-c", "pa11y.json", path.as_uri()], cwd=tools, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout
    if shutil.which("java") is None:
        pytest.skip("the Nu checker needs Java on the path")
    jar = "node_modules/vnu-jar/build/dist/vnu.jar"
    words = ["java", "-jar", jar, "--errors-only", *map(str, pages.values())]
    done = subprocess.run(words, cwd=tools, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_page_of_ten_thousand_tasks_opens_and_stays_below_ten_megabytes(tools: Path, reported: Reports) -> None:
    report = reported("foreach")
    task = next(one for one in report["tasks"] if one["step"] == "square")
    made = next(one for one in report["artifacts"] if one["step"] == "square")
    report["tasks"] += [{**task, "task": str(number)} for number in range(8, 10_000)]
    report["artifacts"] += [{**made, "task": str(number)} for number in range(8, 10_000)]
    html = render_page(report)
    assert len(html.encode()) < 10_000_000 and "<bdi>square/9999</bdi>" in html
    file = tools / "many.html"
    file.write_text(html, encoding="utf-8")
    words = [str(BROWSER), "--headless", "--no-sandbox", "--dump-dom", file.as_uri()]
    shown = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    assert "square/9999" in shown
