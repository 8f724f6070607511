"""The environments of a run: each package with its digest and licence, and whether what was installed is what is locked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stillrun_envs.contents import package_facts
from stillrun_envs.hints import Hints, read_hints
from stillrun_envs.lock import Lock, PinnedPackage, read_lock
from stillrun_reports.reading import Reading, Record
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.errors import StillrunError

__all__ = ["environments_of"]

_LICENCE_MAX = 80


def environments_of(reading: Reading) -> list[dict[str, Any]]:
    """Each environment once, in the order of the steps, with the steps that ran in it."""
    places: dict[str, list[str]] = {}
    steps = reading.run.record["steps"]
    for step in reading.run.step_names:
        if step in steps:
            places.setdefault(steps[step]["environment"], []).append(step)
    found = [_environment(reading, digest, of) for digest, of in places.items()]
    for one in found[1:]:
        one["differs"] = _differences(found[0], one)
    return found


def _environment(reading: Reading, digest: str, steps: list[str]) -> dict[str, Any]:
    kind, lock = reading.run.record["steps"][steps[0]]["kind"], reading.run.lock_of(steps[0])
    installed = reading.store.get_record(Digest(digest), "environment") if kind == "ambient" else None
    told: dict[str, Any] = {
        "environment": digest,
        "kind": kind,
        "lock": lock,
        "steps": steps,
        "python": _python(None, installed),
        "packages": [],
        "not_kept": [],
        "needs": [],
        "installed_count": len(installed["distributions"]) if installed else None,
        "differs": [],
    }
    if lock is None:
        told["packages"] = [_recorded(one) for one in installed["distributions"]] if installed else []
        return told
    read = read_lock(reading.store, lock)
    told["python"] = _python(read, installed)
    told["packages"] = [_package(reading, one, read_hints(reading.store, lock), installed) for one in read.packages]
    told["not_kept"] = [one.to_record() for one in read.not_kept]
    told["needs"] = list(read.needs)
    return told


def _python(lock: Lock | None, installed: Record | None) -> dict[str, Any] | None:
    """The interpreter: as it is kept and, of the caller's environment, where it lay."""
    found = dict(installed["python"]) if installed else {}
    if lock is None and not found:
        return None
    kept = lock.python if lock else None
    return {
        "version": kept.version if kept else found["version"],
        "implementation": kept.implementation if kept else found["implementation"],
        "platform": kept.platform if kept else found["platform"],
        "digest": kept.digest if kept else None,
        "size": kept.size if kept else 0,
        "glibc": kept.glibc if kept else "",
        "executable": found["executable"] if found else kept.executable if kept else "",
    }


def _package(reading: Reading, package: PinnedPackage, hints: Hints, installed: Record | None) -> dict[str, Any]:
    origin = hints.origin(package.digest)
    return {
        "manager": package.manager,
        "name": package.name,
        "version": package.version,
        "build": package.build,
        "file": package.file,
        "digest": package.digest,
        "size": package.size,
        "origin": package.origin,
        "edited": list(package.edited),
        "source": package.source.to_record() if package.source else None,
        "url": origin.url if origin else None,
        "licence": _licence(reading, package),
        "kept": reading.store.has(package.digest),
        "as_locked": _as_locked(package, installed),
    }


def _as_locked(package: PinnedPackage, installed: Record | None) -> str:
    """'built' from the lock itself; of what was installed before: 'same', 'edited', or 'other' version."""
    if installed is None:
        return "built"
    if package.edited:
        return "edited"
    versions = {one["version"] for one in installed["distributions"] if one["name"] == package.name}
    return "same" if package.version in versions else "other"


def _licence(reading: Reading, package: PinnedPackage) -> str | None:
    """The first line of what the kept package says; None where it is not kept, empty where it says nothing."""
    if not reading.store.has(package.digest):
        return None
    try:
        said = package_facts(reading.store, package).licence
    except StillrunError:
        return None
    return said.split("\n", 1)[0][:_LICENCE_MAX]


def _recorded(distribution: Record) -> dict[str, Any]:
    """A package that is known by what was installed alone."""
    return {
        "manager": "pypi",
        "name": distribution["name"],
        "version": distribution["version"],
        "build": "",
        "file": distribution["metadata"],
        "digest": None,
        "size": None,
        "origin": "installed",
        "edited": [],
        "source": None,
        "url": None,
        "licence": None,
        "kept": False,
        "as_locked": "not_kept",
    }


def _differences(first: Mapping[str, Any], other: Mapping[str, Any]) -> list[dict[str, Any]]:
    """How one environment differs from the first: Python and packages by name; None where it has no such."""
    before, after = _versions(first), _versions(other)
    return [
        {"name": name, "first": before.get(name), "here": after.get(name)}
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    ]


def _versions(one: Mapping[str, Any]) -> dict[str, str]:
    python = {"python": one["python"]["version"]} if one["python"] else {}
    return python | {package["name"]: f"{package['version']} {package['build']}".strip() for package in one["packages"]}
