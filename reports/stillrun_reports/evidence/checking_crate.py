"""A crate against its own bytes: every file is hashed, and the metadata is written anew from the records and compared."""

from __future__ import annotations

import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from stillrun_reports.evidence.crate import METADATA, NO_LICENCE, VERSION, crate_metadata, crate_texts
from stillrun_reports.evidence.crate_files import ELSEWHERE, RECORDS, SUMS, TOO_LARGE, Contents, sums_text
from stillrun_reports.evidence.dossier import Dossier
from stillrun_reports.evidence.findings import Checked, differences
from stillrun_snapshot.digest import Digest, digest_of, digest_of_file
from stillrun_snapshot.tree import FileEntry

__all__ = ["check_crate", "files_of", "hashed"]

_WHY = {f"Not in this crate: {why}." for why in (ELSEWHERE, TOO_LARGE)}
_MOST = 20  # findings told of one document; the first ones say enough


def files_of(folder: Path, checked: Checked) -> list[str]:
    """The regular files below ``folder``, sorted; anything else there but folders is a finding."""
    found = []
    for path in sorted(folder.rglob("*")):
        mode, name = path.lstat().st_mode, path.relative_to(folder).as_posix()
        if stat.S_ISREG(mode):
            found.append(name)
        elif not stat.S_ISDIR(mode):
            checked.find(name, "it is neither a file nor a folder; evidence holds no links and no devices")
    return found


def hashed(folder: Path, names: list[str], checked: Checked) -> dict[str, tuple[Digest, int]]:
    """Digest and size of every file."""
    found = {}
    for name in names:
        found[name] = digest_of_file(folder / name)
        checked.count("files")
        checked.count("bytes", found[name][1])
    return found


def check_crate(
    dossier: Dossier, metadata: Mapping[str, Any], found: Mapping[str, tuple[Digest, int]], checked: Checked
) -> None:
    """Hold a crate's files and metadata to what the records in it say. found: its files, hashed, by path."""
    entities = _entities(metadata)
    if entities is None:
        checked.find(METADATA, "it has no @graph of entities with an @id each")
        return
    contents = _contents(dossier, entities, found)
    _check_files(dossier, contents, found, checked)
    root = entities.get("./", {})
    if root.get("schemaVersion") != VERSION:
        told = root.get("schemaVersion")
        checked.find(
            METADATA, f"it is written as {told!r}; this Stillrun checks {VERSION!r}. Check it with another one."
        )
        return
    licence = root.get("license", {}).get("@id") if isinstance(root.get("license"), dict) else None
    said = None if licence == NO_LICENCE or not isinstance(licence, str) else licence
    expected = crate_metadata(dossier, contents, licence=said)
    told = list(differences(expected["@context"], metadata.get("@context"), "@context"))
    told += _between(_entities(expected) or {}, entities)
    for one in told[:_MOST]:
        checked.find(METADATA, one)
    if len(told) > _MOST:
        checked.find(METADATA, f"{len(told) - _MOST} more differences")
    checked.count("entities", len(entities))


def _between(expected: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    told = [f"{name} ({_kind(expected[name])}) is missing" for name in expected if name not in found]
    told += [
        f"{name} ({_kind(found[name])}) is there, and nothing in the records" for name in found if name not in expected
    ]
    for name in expected:
        if name in found:
            told += [f"{name}: {one}" for one in differences(expected[name], found[name])]
    return told


def _kind(entity: Mapping[str, Any]) -> str:
    kind = entity.get("@type")
    return ", ".join(map(str, kind)) if isinstance(kind, list) else str(kind)


def _entities(metadata: Mapping[str, Any]) -> dict[str, dict[str, Any]] | None:
    graph = metadata.get("@graph")
    if not isinstance(graph, list) or not all(
        isinstance(one, dict) and isinstance(one.get("@id"), str) for one in graph
    ):
        return None
    found = {one["@id"]: one for one in graph}
    return found if len(found) == len(graph) else None


def _contents(dossier: Dossier, entities: Mapping[str, Any], found: Mapping[str, tuple[Digest, int]]) -> Contents:
    """What the crate must hold: all code, and each datum that is here or that it says to have left out."""
    code = {f"code/{p}": e for p, e in dossier.code_files.items() if isinstance(e, FileEntry)}
    files = {path: entry.digest for path, entry in code.items()}
    sizes = {entry.digest: entry.size for entry in code.values()}
    absent = {}
    for digest, size in _data(dossier):
        path = f"data/{digest.hex}"
        if size is not None:
            sizes[digest] = size
        elif path in found:
            sizes[digest] = found[path][1]
        said = entities.get(f"#data/{digest.hex}", {}).get("description")
        if path not in found and isinstance(said, str) and said in _WHY:
            absent[digest] = said.removeprefix("Not in this crate: ").removesuffix(".")
        else:
            files[path] = digest
    return Contents(files, sizes, absent)


def _data(dossier: Dossier) -> Iterator[tuple[Digest, int | None]]:
    for artifact in dossier.artifacts.values():
        yield from ((Digest(part["digest"]), part["size"]) for part in artifact["parts"])
    for task in dossier.tasks:
        yield from ((Digest(one), None) for one in task.record["logs"].values())
        yield from ((Digest(one["digest"]), one["size"]) for one in task.record["files"] if one["kept"])


def _check_files(
    dossier: Dossier, contents: Contents, found: Mapping[str, tuple[Digest, int]], checked: Checked
) -> None:
    texts = {path: digest_of(data) for path, data in crate_texts(dossier).items()}
    wanted: dict[str, Digest] = {**contents.files, **texts}
    for path, digest in wanted.items():
        if path not in found:
            checked.find(path, "it is missing")
        elif found[path][0] != digest:
            checked.find(path, f"its SHA-256 is {found[path][0].hex}; the records say {digest.hex}")
    for path in found.keys() - wanted.keys() - {METADATA, RECORDS, SUMS}:
        checked.find(path, "nothing in the records tells of this file")
    sums = {path: digest.hex for path, digest in wanted.items()}
    if RECORDS in found:
        sums[RECORDS] = found[RECORDS][0].hex
    if SUMS not in found or found[SUMS][0] != digest_of(sums_text(sums).encode()):
        checked.find(SUMS, "it does not list the files that belong here with the digests that they must have")
    if contents.absent:
        sentence = f"{len(contents.absent)} objects that are named in the crate and not in it"
        checked.not_checked.append(sentence)
