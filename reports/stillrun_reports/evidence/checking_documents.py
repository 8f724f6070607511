"""Bills, statements, envelopes and the other documents beside a crate: held to what the records say, and to each other."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from stillrun_reports.evidence.bom import environment_bom, run_bom
from stillrun_reports.evidence.dossier import Dossier
from stillrun_reports.evidence.findings import Checked, differences
from stillrun_reports.evidence.junit import junit_text
from stillrun_reports.evidence.prov import prov_document
from stillrun_reports.evidence.statements import PAYLOAD, provenance, replays_of_it, verdict_statement
from stillrun_reports.evidence.summary import summary_text
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.dsse import EnvelopeUnsound, Verifier, open_envelope

__all__ = ["check_document", "check_envelope", "read_json", "stated_digests"]

_HEX = re.compile(r"[0-9a-f]{64}")
_ALGORITHMS = {"sha256": 64, "sha512": 128, "gitCommit": 40}
_MOST = 20
_TOO_LARGE = 1 << 30
_DEPTH = 100  # as of records: what is deeper is an attack on whoever walks it
_FROM_FILES = ("licenses", "description", "externalReferences", "purl")
"""Of a component: what is read from the package's own file or the store's hints, and not from the lock."""


def read_json(path: Path, name: str, checked: Checked) -> dict[str, Any] | None:
    """The JSON object in a file; None, with a finding, when there is none."""
    try:
        if path.stat().st_size > _TOO_LARGE:
            checked.find(name, "it is larger than 1 GiB and was not read")
            return None
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as err:
        checked.find(name, f"it is no JSON: {str(err)[:200]}")
        return None
    if not _is_shallow(value):
        checked.find(name, f"it is nested deeper than {_DEPTH} levels")
        return None
    if not isinstance(value, dict):
        checked.find(name, f"it holds a {type(value).__name__} where a JSON object belongs")
        return None
    return value


def _is_shallow(value: Any) -> bool:
    level = [value]
    for _ in range(_DEPTH):
        level = [
            inner
            for one in level
            if isinstance(one, dict | list)
            for inner in (one.values() if isinstance(one, dict) else one)
        ]
        if not level:
            return True
    return False


def stated_digests(value: Any) -> Iterator[Digest]:
    """Every SHA-256 that a document states, wherever it stands in it."""
    if isinstance(value, Mapping):
        hash_of_file = value.get("alg") == "SHA-256" and value.get("content")
        for name, one in value.items():
            if name == "sha256" and isinstance(one, str) and _HEX.fullmatch(one):
                yield Digest(f"sha256:{one}")
            else:
                yield from stated_digests(one)
        if isinstance(hash_of_file, str) and _HEX.fullmatch(hash_of_file):
            yield Digest(f"sha256:{hash_of_file}")
    elif isinstance(value, list):
        for one in value:
            yield from stated_digests(one)


def check_document(path: Path, name: str, dossier: Dossier | None, whole: bool, checked: Checked) -> bool:
    """Hold one document to the run; whether it is one that is known.

    dossier: None when nothing here tells of the run; then only its form is checked. whole: the store holds the packages' files.
    """
    for ending, check in _CHECKS.items():
        if path.name.endswith(ending):
            checked.count("documents")
            check(path, name, dossier, whole, checked)
            return True
    return False


def _check_statement(path: Path, name: str, dossier: Dossier | None, whole: bool, checked: Checked) -> None:  # noqa: ARG001 - one shape for all
    found = read_json(path, name, checked)
    if found is None:
        return
    for place, why in _malformed(found):
        checked.find(name, f"{place}: {why}")
    if dossier is None:
        return
    expected = {"provenance.intoto.json": provenance(dossier)}
    for one in replays_of_it(dossier):
        expected[f"verdict-{one.digest.hex[:12]}.intoto.json"] = verdict_statement(dossier, one)
    if path.name not in expected:
        checked.find(name, "the records give no statement of this name")
        return
    _tell(differences(expected[path.name], found), name, checked)


def _malformed(value: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """Digests of another form than their algorithm's: what readers of statements do not look at."""
    if isinstance(value, Mapping):
        for name, one in value.items():
            where = f"{place}.{name}" if place else str(name)
            if name == "digest":
                yield from _malformed_digests(one, where)
            else:
                yield from _malformed(one, where)
    elif isinstance(value, list):
        for number, one in enumerate(value):
            yield from _malformed(one, f"{place}[{number}]")


def _malformed_digests(value: Any, place: str) -> Iterator[tuple[str, str]]:
    if not isinstance(value, Mapping) or not value:
        yield place, "it names no digest"
        return
    for algorithm, digits in value.items():
        long = _ALGORITHMS.get(algorithm)
        if not isinstance(digits, str) or not re.fullmatch(r"[0-9a-f]+", digits) or (long and len(digits) != long):
            if algorithm == "gitCommit" and isinstance(digits, str) and _HEX.fullmatch(digits):
                continue
            yield f"{place}.{algorithm}", f"{str(digits)[:80]!r} is no digest of that kind"


def _check_bom(path: Path, name: str, dossier: Dossier | None, whole: bool, checked: Checked) -> None:
    found = read_json(path, name, checked)
    if found is None:
        return
    for why in _malformed_bom(found):
        checked.find(name, why)
    if dossier is None or not _is_bom(found):
        return
    root = found["metadata"]["component"].get("bom-ref")
    texts = [environment_bom(dossier, one) for one in dossier.environments if root == f"environment-{one.name.hex}"]
    if root == dossier.urn:
        texts = [run_bom(dossier)]
    if not texts:
        checked.find(name, f"it is of {str(root)[:90]!r}, which is neither the run nor one of its environments")
        return
    expected = json.loads(texts[0])
    if not whole:
        checked.not_checked.append(
            f"{name}: licences, addresses and needs of packages, which are read from their files"
        )
        expected, found = _of_lock(expected), _of_lock(found)
    _tell(differences(_by_reference(expected), _by_reference(found)), name, checked)


def _malformed_bom(bom: Mapping[str, Any]) -> Iterator[str]:
    if not _is_bom(bom):
        yield "it has no metadata.component, or its components, their hashes or dependencies are no lists of objects"
        return
    for component in bom["components"]:
        for one in component.get("hashes", ()):
            if one.get("alg") == "SHA-256" and not _HEX.fullmatch(str(one.get("content"))):
                yield f"{component.get('name')}: {str(one.get('content'))[:80]!r} is no SHA-256"


def _is_bom(bom: Mapping[str, Any]) -> bool:
    """Whether it is built as a bill is, so far as it is looked into here."""
    metadata, parts = bom.get("metadata"), bom.get("components")
    rooted = isinstance(metadata, dict) and isinstance(metadata.get("component"), dict)
    listed = _are_objects(parts) and _are_objects(bom.get("dependencies", []))
    return rooted and listed and all(_are_objects(one.get("hashes", [])) for one in parts or ())


def _are_objects(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, dict) for one in value)


def _of_lock(bom: Mapping[str, Any]) -> dict[str, Any]:
    """A bill without what is not in the lock."""
    parts = [{k: v for k, v in one.items() if k not in _FROM_FILES} for one in bom["components"]]
    direct = [one for one in bom.get("dependencies", []) if not str(one.get("ref")).startswith("sha256-")]
    return {**bom, "components": parts, "dependencies": direct}


def _by_reference(bom: Mapping[str, Any]) -> dict[str, Any]:
    """A bill whose components are found by their names, so that differences can be told."""
    parts = {str(one.get("bom-ref")): one for one in bom["components"]}
    return {**bom, "components": parts, "count": len(bom["components"])}


def _check_prov(path: Path, name: str, dossier: Dossier | None, whole: bool, checked: Checked) -> None:  # noqa: ARG001 - one shape for all
    found = read_json(path, name, checked)
    if found is not None and dossier is not None:
        _tell(differences(prov_document(dossier), found), name, checked)


def _check_text(write: Callable[[Dossier], str]) -> Callable[[Path, str, Dossier | None, bool, Checked], None]:
    def check(path: Path, name: str, dossier: Dossier | None, whole: bool, checked: Checked) -> None:  # noqa: ARG001 - one shape for all
        if dossier is None:
            return
        found = path.read_bytes().decode("utf-8", "replace").splitlines()
        expected = write(dossier).splitlines()
        for number, (one, other) in enumerate(zip(expected, found, strict=False), 1):
            if one != other:
                checked.find(name, f"line {number} is {other[:120]!r}; the records say {one[:120]!r}")
                return
        if len(expected) != len(found):
            checked.find(name, f"it has {len(found)} lines; the records give {len(expected)}")

    return check


_CHECKS: Mapping[str, Callable[[Path, str, Dossier | None, bool, Checked], None]] = {
    ".intoto.json": _check_statement,
    ".cdx.json": _check_bom,
    "prov.json": _check_prov,
    "junit.xml": _check_text(junit_text),
    "summary.md": _check_text(summary_text),
}


def check_envelope(path: Path, name: str, verifiers: Mapping[str, Verifier], checked: Checked) -> None:
    """Hold an envelope to the statement beside it, and its signatures to the keys that are trusted."""
    found = read_json(path, name, checked)
    if found is None:
        return
    try:
        payload = base64.b64decode(found["payload"], validate=True)
        keys = [str(one["keyid"]) for one in found["signatures"]]
    except (KeyError, TypeError, ValueError, binascii.Error) as err:
        checked.find(name, f"it is no signed envelope (DSSE): {err!r}")
        return
    beside = path.with_name(path.name.replace(".dsse.json", ".intoto.json"))
    if beside.is_file() and not beside.is_symlink() and beside.read_bytes() != payload:
        checked.find(name, f"another statement was signed than {beside.name} holds")
    if not verifiers:
        told = ", ".join(key[:16] for key in keys) or "nobody"
        checked.not_checked.append(f"{name}: its signature, by {told}; give the public key to check it")
        return
    try:
        open_envelope(found, PAYLOAD, verifiers, name)
        checked.count("signatures")
    except EnvelopeUnsound as err:
        checked.find(name, str(err))


def _tell(told: Iterator[str], name: str, checked: Checked) -> None:
    every = list(told)
    for one in every[:_MOST]:
        checked.find(name, one)
    if len(every) > _MOST:
        checked.find(name, f"{len(every) - _MOST} more differences")
