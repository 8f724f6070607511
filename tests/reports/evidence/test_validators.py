"""Tools that other people wrote read and verify our evidence of runs of every shape, without a network."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.conftest import Commands
from tests.envs.conftest import made_channel
from tests.reports.evidence.shapes import SHAPES, Kept, Shape, greeted

from stillrun_reports.evidence.checking import check_evidence
from stillrun_reports.evidence.crate import crate_metadata
from stillrun_reports.evidence.crate_files import contents_of
from stillrun_reports.evidence.statements import PAYLOAD, sign_statements
from stillrun_snapshot.dsse import pre_authentication
from stillrun_snapshot.ed25519 import PrivateKey
from stillrun_snapshot.store import Store

pytestmark = pytest.mark.slow

VALIDATORS = Path(sys.prefix) / "validators"
FOREIGN = Path(__file__).with_name("foreign.py")
CONTEXT = "https://w3id.org/ro/crate/1.1/context"


def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
    if not VALIDATORS.is_dir():
        pytest.fail("the validators are not installed: make .venv/.validators")
    return subprocess.run(list(map(str, words)), capture_output=True, text=True, check=False)


def ask(*words: str | Path) -> None:
    done = run(VALIDATORS / "bin/python", FOREIGN, *words)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The validator's cache, with the one page that it needs."""
    path = tmp_path_factory.mktemp("cache") / "http_cache"
    ask("seed", path, CONTEXT, VALIDATORS / "context/rocrate/data/ro-crate.jsonld")
    return path


@pytest.fixture(scope="session")
def channel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A conda channel."""
    return made_channel(tmp_path_factory)


def validated(crate: Path, cache: Path, told: Path, profile: str = "provenance") -> tuple[int, dict]:
    """The validator's exit code and what it wrote of a crate."""
    command = [VALIDATORS / "bin/rocrate-validator", "-y", "validate", "--offline", "--cache-path", cache]
    wanted = ["-p", f"{profile}-run-crate-0.5", "-l", "required", "-f", "json", "-o", told, crate]
    done = run(*command, *wanted)
    return done.returncode, json.loads(told.read_text())


@pytest.mark.parametrize("name", SHAPES)
def test_a_crate_is_valid_and_read_by_others(kept: Kept, cache: Path, tmp_path: Path, name: str) -> None:
    crate = kept.audited(name, tmp_path / "audit") / "ro-crate"
    code, told = validated(crate, cache, tmp_path / "told.json")
    assert (code, told["passed"], told["skipped_checks"], told["issues"]) == (0, True, 0, [])
    report = run(VALIDATORS / "bin/runcrate", "report", crate)
    assert report.returncode == 0, report.stderr
    assert report.stdout.count("action: ") == 1 + sum(
        1 + len(task.record.get("attempts", ())) for task in kept.dossier(name).tasks
    )


def test_a_run_of_which_nothing_ended_is_a_workflow_run_crate(kept: Kept, cache: Path, tmp_path: Path) -> None:
    audit = kept.audited("nothing", tmp_path / "audit")
    assert kept.dossier("nothing").tasks == ()
    code, told = validated(audit / "ro-crate", cache, tmp_path / "told.json", "workflow")
    assert (code, told["skipped_checks"], told["issues"]) == (0, 0, [])
    ask("documents", audit)
    assert check_evidence(audit, store=kept.store).findings == []


def test_values_that_did_not_come_along_are_told_as_that(kept: Kept, cache: Path, tmp_path: Path) -> None:
    run, bundle = kept.shape("foreach").run, tmp_path / "run.bundle"
    assert kept.commands("export", run, "--without", "artifacts", "-o", bundle).code == 0
    other = Commands(tmp_path, tmp_path / "store")
    assert other("import", bundle).code == 0
    with Store.open(tmp_path / "store") as store:
        elsewhere = Kept(other, store, {"foreach": kept.shape("foreach")})
        audit = elsewhere.audited("foreach", tmp_path / "audit")
        code, told = validated(audit / "ro-crate", cache, tmp_path / "told.json")
        assert (code, told["skipped_checks"], told["issues"]) == (0, 0, [])
        checked = check_evidence(audit, store=store)
        assert checked.findings == []
        assert any("named in the crate and not in it" in one for one in checked.not_checked)


def test_packages_of_conda_have_their_urls_and_digests(kept: Kept, tmp_path: Path, channel: Path) -> None:
    run = greeted(kept.commands, channel)
    kept.shapes["greets"] = Shape("greets", run)
    audit = kept.audited("greets", tmp_path / "audit")
    ask("documents", audit)
    bill = json.loads((audit / "bom.cdx.json").read_text())
    greet = next(one for one in bill["components"] if one["name"] == "greet")
    assert greet["purl"].startswith("pkg:conda/greet@1")
    assert "build=" in greet["purl"]
    assert "subdir=noarch" in greet["purl"]
    lock = next(one.lock for one in kept.dossier("greets").environments if "start" in one.steps)
    assert greet["hashes"] == [
        {"alg": "SHA-256", "content": next(one.digest.hex for one in lock.packages if one.name == "greet")}
    ]
    needs = {one["ref"]: one.get("dependsOn", []) for one in bill["dependencies"]}
    python = next(one["bom-ref"] for one in bill["components"] if one["name"] == "python")
    assert python in needs[greet["bom-ref"]]
    assert check_evidence(audit, store=kept.store).findings == []


@pytest.mark.parametrize("name", SHAPES)
def test_bills_statements_and_prov_are_taken(kept: Kept, tmp_path: Path, name: str) -> None:
    audit = kept.audited(name, tmp_path / "audit")
    assert len(list(audit.glob("*.cdx.json"))) >= 2
    assert (audit / "provenance.intoto.json").is_file()
    ask("documents", audit)


def test_envelopes_are_verified_by_openssl_alone_and_by_securesystemslib(kept: Kept, tmp_path: Path) -> None:
    key = PrivateKey.new()
    audit = kept.audited("different", tmp_path / "audit")
    (tmp_path / "key.pem").write_text(key.public.pem)
    envelopes = sign_statements(audit, key)
    assert len(envelopes) == 2
    for path in envelopes:
        ask("envelope", path, tmp_path / "key.pem")
        held = json.loads(path.read_text())
        (tmp_path / "pae.bin").write_bytes(pre_authentication(PAYLOAD, base64.b64decode(held["payload"])))
        (tmp_path / "sig.bin").write_bytes(base64.b64decode(held["signatures"][0]["sig"]))
        command = "openssl pkeyutl -verify -pubin -inkey key.pem -rawin -in pae.bin -sigfile sig.bin"
        done = subprocess.run(command.split(), cwd=tmp_path, capture_output=True, text=True, check=False)
        assert "Signature Verified Successfully" in done.stdout


UNSEEN = {
    "swapped content": lambda graph, crate: next((crate / "data").iterdir()).write_bytes(b"another value"),
    "no action of the engine": lambda graph, crate: graph.remove(by_id(graph, "#organized")),
    "an end yesterday": lambda graph, crate: by_id(graph, "#task/start/0").update(endTime="yesterday"),
    "a failure without an error": lambda graph, crate: by_id(graph, "#task/middle/0").pop("error"),
}
"""What the validator lets pass."""


def by_id(graph: list[dict], name: str) -> dict:
    return next(one for one in graph if one["@id"] == name)


@pytest.mark.parametrize("change", UNSEEN)
def test_what_the_validator_lets_pass_is_found_here(kept: Kept, cache: Path, tmp_path: Path, change: str) -> None:
    crate = kept.audited("failed", tmp_path / "audit") / "ro-crate"
    path = crate / "ro-crate-metadata.json"
    metadata = json.loads(path.read_text())
    if change == "no action of the engine":
        root = by_id(metadata["@graph"], "./")
        root["mentions"] = [one for one in root["mentions"] if one["@id"] != "#organized"]
    UNSEEN[change](metadata["@graph"], crate)
    path.write_text(json.dumps(metadata))
    code, _ = validated(crate, cache, tmp_path / "told.json")
    assert code == 0, "it has learnt to see this: move it to the other tests"
    assert check_evidence(crate).findings


def test_the_parts_that_make_a_crate_valid_are_needed(kept: Kept, cache: Path, tmp_path: Path) -> None:
    """The validator is awake: without a step's example it refuses what it takes otherwise."""
    crate = kept.audited("linear", tmp_path / "audit") / "ro-crate"
    dossier = kept.dossier("linear")
    metadata = crate_metadata(dossier, contents_of(dossier))
    by_id(metadata["@graph"], "#step/start").pop("workExample")
    (crate / "ro-crate-metadata.json").write_text(json.dumps(metadata))
    code, told = validated(crate, cache, tmp_path / "told.json")
    assert code == 1
    assert told["issues"]
