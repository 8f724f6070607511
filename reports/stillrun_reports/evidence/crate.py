"""A run as a Provenance Run Crate: RO-Crate 1.1 with the Workflow Run Crate profiles 0.5 (docs/spec/evidence.md §3)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from stillrun_reports.evidence.crate_actions import action_entities
from stillrun_reports.evidence.crate_files import RECORDS, SUMS, Contents, contents_of, verdict_bytes, write_contents
from stillrun_reports.evidence.crate_parts import Entity, flow_entities, package_entities, refer
from stillrun_reports.evidence.dossier import Dossier
from stillrun_reports.evidence.spelling import document, plain
from stillrun_snapshot.digest import digest_of

__all__ = ["METADATA", "NO_LICENCE", "VERSION", "crate_metadata", "crate_texts", "write_crate"]

METADATA = "ro-crate-metadata.json"
VERSION = "stillrun/evidence/1"
"""Of the mapping from records to documents: whoever checks one writes it anew from the records and compares."""
_TERMS = "https://w3id.org/ro/terms/workflow-run#"
_OWN_TERMS = (
    "sha256",
    "environment",
    "resourceUsage",
    "ParameterConnection",
    "connection",
    "sourceParameter",
    "targetParameter",
)
_PROFILES = {
    "https://w3id.org/ro/wfrun/process/0.5": ("Process Run Crate", "0.5"),
    "https://w3id.org/ro/wfrun/workflow/0.5": ("Workflow Run Crate", "0.5"),
    "https://w3id.org/ro/wfrun/provenance/0.5": ("Provenance Run Crate", "0.5"),
    "https://w3id.org/workflowhub/workflow-ro-crate/1.0": ("Workflow RO-Crate", "1.0"),
}
NO_LICENCE = "#licence-not-stated"
_SPDX = "https://spdx.org/licenses/"


def write_crate(dossier: Dossier, folder: Path, *, licence: str | None = None) -> list[str]:
    """Write the crate into ``folder``, which must be empty or not there; the paths in it.

    licence: an address or SPDX identifier of the licence that the run's owner gives its data; None says that none is stated.
    """
    contents = contents_of(dossier)
    texts = crate_texts(dossier)
    written = write_contents(dossier, contents, texts, folder)
    metadata = document(crate_metadata(dossier, contents, licence=licence))
    (folder / METADATA).write_text(metadata, encoding="utf-8")
    return [METADATA, *written]


def crate_metadata(dossier: Dossier, contents: Contents, *, licence: str | None = None) -> dict[str, Any]:
    """The JSON-LD document of a crate."""
    from rocrate.model.contextentity import ContextEntity  # late: it takes a third of a second, for requests
    from rocrate.model.file import File
    from rocrate.rocrate import ROCrate

    entities = _entities(dossier, contents, licence)
    crate = ROCrate(version="1.1")
    crate.metadata.extra_terms.update({term: _TERMS + term for term in _OWN_TERMS})
    root = _root(dossier, entities, licence)
    for name, value in root.items():
        crate.root_dataset[name] = value
    for entity in entities:
        rest = {name: value for name, value in entity.items() if name != "@id" and value not in (None, [], "")}
        if "File" in _types(entity):  # it makes an identifier of a path by itself
            crate.add(File(crate, dest_path=unquote(entity["@id"]), properties=rest))
        else:
            crate.add(ContextEntity(crate, entity["@id"], rest))
    found: dict[str, Any] = crate.metadata.generate()
    return found


def _types(entity: Entity) -> list[str]:
    kind = entity["@type"]
    return kind if isinstance(kind, list) else [kind]


def _entities(dossier: Dossier, contents: Contents, licence: str | None) -> list[Entity]:
    found = [*flow_entities(dossier, contents), *package_entities(dossier), *action_entities(dossier, contents)]
    found += [_file(path, data, *told) for path, (data, *told) in _described(dossier).items()]
    found.append(
        {
            "@id": RECORDS,
            "@type": "File",
            "name": "Records",
            "encodingFormat": "application/jsonl",
            "description": "Every record that the run's record leads to, one a line; "
            "the SHA-256 of a line without its newline is the name that others know it by.",
        }
    )
    found.append(
        {
            "@id": SUMS,
            "@type": "File",
            "name": "Sums",
            "encodingFormat": "text/plain",
            "description": "SHA-256 of every other file but the metadata, for `sha256sum --check`.",
        }
    )
    found += [_profile(address, *told) for address, told in _profiles(dossier).items()]
    if dossier.record["user"]:
        found.append({"@id": "#user", "@type": "Person", "name": plain(dossier.record["user"])})
    if licence is None:
        found.append(
            {
                "@id": NO_LICENCE,
                "@type": "CreativeWork",
                "name": "No licence stated",
                "description": "Whoever wrote this crate stated no licence for the run's code and data.",
            }
        )
    else:
        address = _address_of(licence)
        name = address.removeprefix(_SPDX)
        found.append({"@id": address, "@type": "CreativeWork", "name": name})
    return found


def _address_of(licence: str) -> str:
    """Where a licence is to be read: an address as it is, of an SPDX identifier the page of SPDX."""
    return licence if "://" in licence else _SPDX + licence


def _root(dossier: Dossier, entities: list[Entity], licence: str | None) -> Entity:
    actions = ("CreateAction", "OrganizeAction", "AssessAction")
    address = NO_LICENCE if licence is None else _address_of(licence)
    said = dossier.description.get("doc")
    return {
        "name": plain(f"Run {dossier.run.pathspec}"),
        "description": plain(f"{dossier.run.pathspec}, {dossier.status}. {said or ''}".strip()),
        "identifier": dossier.urn,
        "datePublished": dossier.finished,
        "schemaVersion": VERSION,
        "license": {"@id": address},
        "conformsTo": [refer(one) for one in _profiles(dossier)],
        "mainEntity": next(refer(one["@id"]) for one in entities if "ComputationalWorkflow" in _types(one)),
        "mentions": [refer(one["@id"]) for one in entities if one["@type"] in actions],
        **({"author": refer("#user")} if dossier.record["user"] else {}),
    }


def _profiles(dossier: Dossier) -> dict[str, tuple[str, str]]:
    """A run of which no task ended has no steps to tell the provenance of: it is a Workflow Run Crate."""
    return {a: told for a, told in _PROFILES.items() if dossier.tasks or "provenance" not in a}


def _profile(address: str, name: str, version: str) -> Entity:
    return {"@id": address, "@type": "CreativeWork", "name": name, "version": version}


def _described(dossier: Dossier) -> Mapping[str, tuple[bytes, str, str, str]]:
    """Files made for the crate: bytes, name, format, description."""
    found = {"README.md": (_readme(dossier).encode(), "Read me", "text/markdown", "What this crate is.")}
    for one in dossier.judgements:
        told = f"What the replay {one.verdict['replay']} found: {one.verdict['verdict']}."
        path = f"verdict-{one.digest.hex[:12]}.json"
        found[path] = (verdict_bytes(one.verdict), "Verdict of a replay", "application/json", plain(told))
    return found


def crate_texts(dossier: Dossier) -> dict[str, bytes]:
    """The files that are made for the crate, by path."""
    return {path: told[0] for path, told in _described(dossier).items()}


def _file(path: str, data: bytes, name: str, form: str, description: str) -> Entity:
    return {
        "@id": path,
        "@type": "File",
        "name": name,
        "encodingFormat": form,
        "description": description,
        "sha256": digest_of(data).hex,
        "contentSize": str(len(data)),
    }


def _readme(dossier: Dossier) -> str:
    from stillrun_reports.evidence.spelling import markdown

    return f"""# Run {markdown(dossier.run.pathspec)}

A Provenance Run Crate: what one run of a flow was made of and what came of it. `{METADATA}` describes it.

- `code/`: the code that ran. `data/`: values, inputs and what tasks wrote, each named by its SHA-256.
- `{RECORDS}`: the records of the run, one a line. The run's record is the first; its SHA-256 is `{dossier.run.digest.hex}`.
- `{SUMS}`: `sha256sum --check {SUMS}` checks every file. `head -n 1 {RECORDS} | tr -d '\\n' | sha256sum` checks the record.

Values are Python pickles: loading one runs what is in it. Look at the previews in the metadata instead, unless you trust where
this came from.
"""
