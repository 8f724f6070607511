"""What environments are made of, as a software bill of materials: CycloneDX 1.6 (docs/spec/evidence.md §4)."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any

from stillrun_envs.dependencies import needs_within
from stillrun_envs.hints import Hints, read_hints
from stillrun_envs.lock import PinnedPackage
from stillrun_reports.evidence.dossier import Dossier, Environment
from stillrun_reports.evidence.packages import facts_of, package_url
from stillrun_reports.evidence.spelling import document, identifier, plain
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.store import Store

if TYPE_CHECKING:
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import Component
    from cyclonedx.model.license import License

__all__ = ["environment_bom", "run_bom"]

_LONG = 120  # characters of a licence's name; what is longer is a licence's text


def environment_bom(dossier: Dossier, environment: Environment) -> str:
    """The bill of one environment."""
    root = _component("platform", f"environment-{environment.name.hex[:12]}", environment.name.hex[:12])
    root.bom_ref.value = f"environment-{environment.name.hex}"
    bom = _bom(dossier, root, environment.name.hex)
    bom.register_dependency(root, _add(bom, dossier.store, environment))
    return _written(bom)


def run_bom(dossier: Dossier) -> str:
    """The bill of a run: its flow, the environments of its steps, and all that is in them, each package once."""
    record = dossier.record
    root = _component("application", plain(record["flow"]), plain(record["run"]))
    root.bom_ref.value = dossier.urn
    _say(root, code=dossier.code["tree"], run=dossier.run.digest)
    bom = _bom(dossier, root, dossier.run.digest.hex)
    places = []
    for environment in dossier.environments:
        place = _component("platform", f"environment-{environment.name.hex[:12]}", environment.name.hex[:12])
        place.bom_ref.value = f"environment-{environment.name.hex}"
        _say(place, steps=", ".join(map(plain, environment.steps)), environment=environment.digest)
        places.append(place)
        bom.components.add(place)
        bom.register_dependency(place, _add(bom, dossier.store, environment))
    bom.register_dependency(root, places)
    return _written(bom)


def _bom(dossier: Dossier, root: Component, serial: str) -> Bom:
    """An empty bill that is the same whenever it is written: its number and time are the run's."""
    from cyclonedx.model.bom import Bom, BomMetaData
    from cyclonedx.model.tool import ToolRepository

    number = uuid.uuid5(uuid.NAMESPACE_URL, f"{dossier.urn}#{serial}")
    when = datetime.fromisoformat(dossier.finished.replace("Z", "+00:00"))
    maker = _component("application", "stillrun", dossier.record["stillrun"])
    return Bom(
        serial_number=number,
        metadata=BomMetaData(component=root, timestamp=when, tools=ToolRepository(components=[maker])),
    )


def _written(bom: Bom) -> str:
    from cyclonedx.output import make_outputter
    from cyclonedx.schema import OutputFormat, SchemaVersion

    text = make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6).output_as_string()
    return document(json.loads(text))


def _add(bom: Bom, store: Store, environment: Environment) -> list[Component]:
    """Put the parts of an environment into the bill; what it directly consists of."""
    if environment.lock is None or environment.lock_digest is None:
        found = [_seen(one) for one in (environment.seen or {}).get("distributions", ())]
        return _put(bom, found)
    lock, hints = environment.lock, read_hints(store, environment.lock_digest)
    refs = {one.digest: _package(store, one, hints) for one in lock.packages}
    gone = [
        _component("library", one.name, one.version, ref=f"not-kept-{identifier(one.name, one.version)}")
        for one in lock.not_kept
    ]
    for one, told in zip(lock.not_kept, gone, strict=True):
        _say(told, not_kept=plain(one.reason))
    parts = _put(bom, [*refs.values(), *gone, *_python(environment)])
    for digest, needed in needs_within(store, environment.lock_digest).items():
        bom.register_dependency(refs[digest], [refs[one] for one in needed])
    return parts


def _put(bom: Bom, components: list[Component]) -> list[Component]:
    here = {one.bom_ref.value for one in bom.components}
    for one in components:
        if one.bom_ref.value not in here:
            bom.components.add(one)
            here.add(one.bom_ref.value)
    return components


def _python(environment: Environment) -> Iterator[Component]:
    """The kept interpreter; in an environment of conda it is one of the packages."""
    lock = environment.lock
    if lock is not None and lock.python.digest is not None:
        python = lock.python
        made = _component("platform", python.implementation, python.version, python.digest)
        _say(made, platform=python.platform, soabi=python.soabi, glibc=python.glibc, size=str(python.size))
        yield made


def _package(store: Store, one: PinnedPackage, hints: Hints) -> Component:
    from cyclonedx.model import ExternalReference, ExternalReferenceType, XsUri
    from packageurl import PackageURL

    made = _component("library", one.name, one.version, one.digest)
    made.purl = PackageURL.from_string(package_url(one, hints))
    facts = facts_of(store, one)
    if facts is not None:
        made.description = plain(facts.summary, 300) or None
        made.licenses.update(_licences(facts.licence))
    origin = hints.origin(one.digest)
    if origin is not None and origin.url:
        made.external_references.add(
            ExternalReference(type=ExternalReferenceType.DISTRIBUTION, url=XsUri(plain(origin.url)))
        )
    _say(made, file=one.file, size=str(one.size), origin=one.origin, edited=", ".join(map(plain, one.edited)))
    if one.source is not None:
        _say(made, source=one.source.digest, source_kind=one.source.kind, commit=one.source.commit)
    return made


def _seen(distribution: Any) -> Component:
    """What was installed in the caller's environment and of which no file was kept: without the digest of any."""
    from packageurl import PackageURL

    name, version = distribution["name"], distribution["version"]
    made = _component("library", name, version, ref=f"seen-{identifier(name, version)}")
    made.purl = PackageURL("pypi", None, name, version)
    _say(made, not_kept="the environment was recorded and not kept", list_of_files=distribution["record"])
    return made


def _component(kind: str, name: str, version: str, digest: Digest | None = None, ref: str | None = None) -> Component:
    from cyclonedx.model import HashAlgorithm, HashType
    from cyclonedx.model.component import Component, ComponentType

    hashes = [] if digest is None else [HashType(alg=HashAlgorithm.SHA_256, content=digest.hex)]
    ref = ref or (None if digest is None else f"sha256-{digest.hex}")
    return Component(
        type=ComponentType(kind), name=plain(name, 300), version=plain(version, 300), hashes=hashes, bom_ref=ref
    )


def _licences(said: str) -> Iterable[License]:
    """A licence as its SPDX identifier or expression, else by the name that the package gives it, or as a text."""
    from cyclonedx.contrib.license.factories import LicenseFactory
    from cyclonedx.model import AttachedText
    from cyclonedx.model.license import DisjunctiveLicense

    if not said:
        return []
    if len(said) <= _LONG and "\n" not in said:
        return [LicenseFactory().make_from_string(plain(said))]
    first = next(line.strip() for line in said.splitlines() if line.strip())
    text = "\n".join(plain(line, 1000) for line in said.splitlines())
    return [DisjunctiveLicense(name=plain(first, _LONG), text=AttachedText(content=text))]


def _say(component: Component, **facts: Any) -> None:
    """Facts that CycloneDX has no place for, under `stillrun:`."""
    from cyclonedx.model import Property

    for name, value in facts.items():
        if value:
            component.properties.add(Property(name=f"stillrun:{name.replace('_', '-')}", value=str(value)))
