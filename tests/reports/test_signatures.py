"""Signatures in a report: each is checked, says how it stands, and is checked again by openssl with what the page says."""

from __future__ import annotations

import html
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.reports.conftest import Reports
from tests.reports.samples import Samples

from stillrun_engine.archive import open_run
from stillrun_engine.pathspec import parse_pathspec
from stillrun_engine.signing import sign_run
from stillrun_reports.page.writing import render_page
from stillrun_reports.report import report_of, write_report
from stillrun_snapshot.dsse import envelope
from stillrun_snapshot.ed25519 import PrivateKey
from stillrun_snapshot.keys import revoke_key
from stillrun_snapshot.refs import RefChange
from stillrun_snapshot.store import Store

FORGED = "application/vnd.stillrun.statement+json"


def custody(report: dict[str, Any]) -> dict[str, str]:
    return {one["signer"] or "nobody": one["standing"] for one in report["custody"]["signatures"]}


def codes(report: dict[str, Any]) -> set[str]:
    return {one["code"] for one in report["findings"]}


def answer(report: dict[str, Any]) -> str:
    return next(one["state"] for one in report["questions"] if one["question"].startswith("Who approved"))


def test_each_signature_is_checked_and_says_how_it_stands(samples: Samples, reported: Reports) -> None:
    name = samples.make("branch")
    ada, eve = PrivateKey.new(), PrivateKey.new()
    with Store.open(samples.store) as store:
        run = open_run(store, parse_pathspec(name))
        assert answer(report_of(store, run, check=False)) == "unknown"
        sign_run(run, ada, "Ada", "approved for use")
        held = report_of(store, run, check=False)
        assert (custody(held), answer(held)) == ({"Ada": "sound"}, "partly")
        assert held["custody"]["signatures"][0]["of"] == held["run"]["record"]
        trusted = report_of(store, run, check=False, trusted=[ada.public])
        assert (answer(trusted), "not_signed" in codes(trusted)) == ("yes", False)
        stranger = report_of(store, run, check=False, trusted=[eve.public])
        assert (custody(stranger), answer(stranger)) == ({"Ada": "stranger"}, "no")
        assert "not_signed" in codes(stranger)
        digest = store.put_record({"schema": "stillrun/signature/1", **envelope(FORGED, b'{"signer":"Ada"}', eve)})
        store.refs.set([RefChange(f"signatures/{name}/{digest.hex[:16]}", digest, None)])
        revoke_key(store, ada.keyid, "lost", "Ada", compromised=True)
        gone = report_of(store, run, check=False)
    assert (custody(gone), answer(gone)) == ({"Ada": "revoked", "nobody": "unsound"}, "no")
    assert {"signature_revoked", "signature_unsound"} <= codes(gone)
    assert "0 of 2 hold" in render_page(gone)


@pytest.mark.slow
def test_the_pages_own_commands_work_in_a_shell(samples: Samples, tmp_path: Path) -> None:
    """With the page, its report and the bundle, as an auditor has them; the last box needs the store."""
    name = samples.make("linear")
    with Store.open(samples.store) as store:
        run = open_run(store, parse_pathspec(name))
        sign_run(run, PrivateKey.new(), "Ada", 'it\'s "fine" for $(id) & `all`')
        report = report_of(store, run)
        write_report(report, store, run, tmp_path)
    samples.command("export", name, "-o", str(tmp_path / "run.bundle"))
    section = render_page(report).split('<section id="check"')[1]
    boxes = [html.unescape(re.sub("<[^>]*>", "", box)) for box in re.findall("<pre[^>]*>(.*?)</pre>", section, re.S)]
    script = "set -e\n" + "\n".join([*boxes[:-1], f"cd '{samples.store}'", boxes[-1]])
    done = subprocess.run(["sh", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = done.stdout.splitlines()
    expected = re.findall("^# ([0-9a-f]{64})$", script, re.M)
    assert len(expected) == 3 and [line.split()[0] for line in told[:3]] == expected
    assert told[3:5] == ["Signature Verified Successfully", "1"]
    assert told[5].split()[0] in told[6]
