"""Bills of materials: every package of a lock by its digest, in CycloneDX 1.6 as its own schema wants it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from tests.reports.evidence.shapes import Kept

from stillrun_envs.contents import package_facts
from stillrun_envs.hints import Hints, PackageOrigin
from stillrun_envs.lock import PinnedPackage
from stillrun_reports.evidence.bom import environment_bom, run_bom
from stillrun_reports.evidence.packages import package_url
from stillrun_snapshot.digest import Digest, digest_of
from stillrun_snapshot.store import Store


def test_every_package_of_a_lock_is_in_the_bill_by_its_digest(kept: Kept) -> None:
    dossier = kept.dossier("linear")
    text = run_bom(dossier)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    bill = json.loads(text)
    hashes = {one["content"] for part in bill["components"] for one in part.get("hashes", ())}
    for environment in dossier.environments:
        assert environment.lock is not None
        assert {digest.hex for digest in environment.lock.digests()} <= hashes
        own = environment_bom(dossier, environment)
        assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(own) is None
    assert run_bom(kept.dossier("linear")) == text, "the same run gives the same bill"


def test_a_url_of_a_conda_package_tells_build_channel_and_kind() -> None:
    digest = digest_of(b"x")
    one = PinnedPackage("conda", "zlib", "1.3.1", "zlib-1.3.1-hb9d3cd8_2.conda", digest, 1, "hb9d3cd8_2", "linux-64")
    url = "https://conda.example.org/conda-forge/linux-64/zlib-1.3.1-hb9d3cd8_2.conda"
    told = package_url(one, Hints(origins=(PackageOrigin(digest, url),)))
    assert told == "pkg:conda/zlib@1.3.1?build=hb9d3cd8_2&channel=conda-forge&subdir=linux-64&type=conda"
    assert package_url(one) == "pkg:conda/zlib@1.3.1?build=hb9d3cd8_2&subdir=linux-64&type=conda"


@pytest.mark.parametrize(
    ("metadata", "licence"),
    [
        ("License-Expression: MIT OR Apache-2.0\nLicense: old", "MIT OR Apache-2.0"),
        ("License: BSD", "BSD"),
        (
            "License: Copyright\n        of many words\nClassifier: License :: OSI Approved :: BSD License",
            "BSD License",
        ),
        ("Classifier: License :: OSI Approved :: MIT License", "MIT License"),
        ("License: Copyright\n        of many words", "Copyright\n        of many words"),
        ("Summary: none", ""),
    ],
)
def test_the_licence_is_what_names_it_best(tmp_path: Path, metadata: str, licence: str) -> None:
    import io
    import zipfile

    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as wheel:
        wheel.writestr("a-1.dist-info/METADATA", f"Metadata-Version: 2.1\nName: a\nVersion: 1\n{metadata}\n\n")
    with Store.open(tmp_path / "store") as store:
        digest: Digest = store.put(data.getvalue())
        package = PinnedPackage("pypi", "a", "1", "a-1-py3-none-any.whl", digest, len(data.getvalue()))
        assert package_facts(store, package).licence == licence
