"""The licence that a run's owner states: an identifier or an address, which stands in the report and in the crate."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.reports.evidence.shapes import Kept

from stillrun_engine.errors import EngineError
from stillrun_reports.evidence.checking import check_evidence
from stillrun_reports.evidence.licence import checked_licence
from stillrun_reports.formats import write_formats
from stillrun_reports.report import report_of


def test_an_identifier_is_spelled_as_spdx_does_and_an_address_is_left_as_it_is() -> None:
    assert checked_licence("cc-by-4.0") == "CC-BY-4.0"
    assert checked_licence("https://example.org/terms#1") == "https://example.org/terms#1"


@pytest.mark.parametrize("said", ["CC-BY-4", "", "ours alone", "javascript:alert(1)", 'https://a.b/"><script>'])
def test_anything_else_is_refused_and_says_what_would_do(said: str) -> None:
    with pytest.raises(EngineError, match=r"no licence that SPDX lists; give an identifier such as CC-BY-4\.0"):
        checked_licence(said)


def test_it_stands_in_the_crate_and_nothing_is_found_against_it(kept: Kept, tmp_path: Path) -> None:
    run = kept.run("linear")
    report = report_of(kept.store, run, check=False, licence="CC-BY-4.0")
    write_formats(["ro-crate"], report, kept.store, run, tmp_path)
    graph = json.loads((tmp_path / "ro-crate" / "ro-crate-metadata.json").read_text())["@graph"]
    root = next(one for one in graph if one["@id"] == "./")
    assert root["license"] == {"@id": "https://spdx.org/licenses/CC-BY-4.0"}
    assert check_evidence(tmp_path, store=kept.store).findings == []
