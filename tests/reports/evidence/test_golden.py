"""Evidence that was written long ago is still what its records say: the mapping of version 1 does not change."""

from __future__ import annotations

import shutil
from pathlib import Path

from stillrun_reports.evidence.checking import check_evidence
from stillrun_snapshot.ed25519 import PublicKey

GOLDEN = Path(__file__).parents[3] / "fixtures/formats/evidence/v1"


def test_evidence_of_version_1_is_sound_for_ever() -> None:
    key = PublicKey.of_pem(next(GOLDEN.glob("key-*.pem")).read_text())
    checked = check_evidence(GOLDEN, verifiers={key.keyid: key})
    assert checked.findings == []
    assert checked.counts["signatures"] == 2
    assert checked.counts["documents"] == 9


def test_evidence_of_a_version_to_come_is_refused_by_name(tmp_path: Path) -> None:
    crate = tmp_path / "crate"
    shutil.copytree(GOLDEN / "ro-crate", crate)
    path = crate / "ro-crate-metadata.json"
    path.write_text(path.read_text().replace("stillrun/evidence/1", "stillrun/evidence/2"))
    assert any("'stillrun/evidence/2'" in one.what for one in check_evidence(crate).findings)
