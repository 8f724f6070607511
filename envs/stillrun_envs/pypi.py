"""The index side of a lock: uv resolves the requirements, and one wheel of each package is chosen for one Python."""

from __future__ import annotations

import importlib
import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import quote

from packaging import tags
from packaging.requirements import Requirement
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from stillrun_envs import command
from stillrun_envs.discovery import PythonFacts, version_numbers
from stillrun_envs.errors import EnvError, FetchError, Offline, ResolveError
from stillrun_envs.location import file_name, without_credentials_in
from stillrun_envs.network import index_environment
from stillrun_snapshot.digest import Digest

__all__ = ["Chosen", "resolve", "supported_tags"]

_tomllib = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
_REASON_LINES = 6
_OUT_OF_REACH = ("failed to fetch", "error sending request", "request failed", "http status", "dns error", "timed out")
_EMPTY_CONCLUSION = re.compile(
    r",? (and|we can conclude that) (you require [^,]+, we can conclude that )?your requirements are unsatisfiable\.?"
)


@dataclass(frozen=True)
class Chosen:
    """One wheel that the index offers."""

    name: str
    version: str
    file: str
    url: str
    digest: Digest | None
    size: int | None


def resolve(
    requirements: Sequence[str],
    facts: PythonFacts,
    environ: Mapping[str, str],
    *,
    index_url: str | None = None,
    extra_indices: Sequence[str] = (),
    supplied: Mapping[str, str] = MappingProxyType({}),
    refresh: bool = False,
) -> list[Chosen]:
    """The wheels that satisfy ``requirements`` on the Python of ``facts``, sorted by name.

    facts: the Python they are for, which need not be on this machine. supplied: packages that come from elsewhere, by
    version; the others are chosen to fit them. refresh: ask the index even for what uv has asked before.
    """
    wanted = [text for text in requirements if not _brought(Requirement(text), supplied)]
    if not wanted:
        return []
    ended = _compiled(wanted, facts, index_environment(environ, index_url, extra_indices), supplied, refresh=refresh)
    if ended.code != 0:
        raise _failure(ended.errors, facts)
    supported = {tag: rank for rank, tag in enumerate(supported_tags(facts))}
    listed = _tomllib.loads(ended.output).get("packages", [])
    return [_chosen(package, supported, facts) for package in listed if package["name"] not in supplied]


def _brought(requirement: Requirement, supplied: Mapping[str, str]) -> bool:
    """Whether conda brings what is required; raises ResolveError when it brings another version."""
    version = supplied.get(canonicalize_name(requirement.name))
    if version is None:
        return False
    if requirement.url is not None or not requirement.specifier.contains(version, prereleases=True):
        raise ResolveError(
            f"@pypi asks for {requirement} and conda brings {requirement.name} {version}; a step has one of them. "
            "Ask for it in one place, or give both the same version."
        )
    return not requirement.extras  # what its extras need may have to come from the index


def _compiled(
    requirements: Sequence[str],
    facts: PythonFacts,
    environ: Mapping[str, str],
    supplied: Mapping[str, str],
    *,
    refresh: bool,
) -> command.Outcome:
    """What uv answers. Packages that conda brings and the index does not have are left out of the question."""
    arguments = ["pip", "compile", "-", "--format", "pylock.toml", "--only-binary", ":all:", "--no-header", "--quiet"]
    arguments += ["--python", str(facts.base_executable), "--no-python-downloads", "--python-version", facts.version]
    arguments += ["--refresh"] if refresh else []
    for name in supplied:
        arguments += ["--no-emit-package", name]
    left_out: set[str] = set()
    with tempfile.TemporaryDirectory(prefix="stillrun-") as folder:
        limits, excludes = Path(folder) / "constraints.txt", Path(folder) / "excludes.txt"
        while True:
            bound = {name: version for name, version in supplied.items() if name not in left_out}
            limits.write_text("".join(f"{name}=={version}\n" for name, version in bound.items()), "utf-8")
            excludes.write_text("".join(f"{name}\n" for name in sorted(left_out)), "utf-8")
            more = ["--constraints", str(limits)] if bound else []
            more += ["--excludes", str(excludes)] if left_out else []
            ended = command.run(
                [command.uv(), *arguments, *more],
                environ=command.quiet_environment(environ),
                given="\n".join(requirements) + "\n",
            )
            absent = {name for name in bound if ended.code != 0 and _is_absent(name, ended.errors)}
            if not absent:
                return ended
            left_out |= absent


def _is_absent(name: str, said: str) -> bool:
    """Whether uv says that the index lacks a package, or the version of it that was asked for."""
    flat = " ".join(said.split())
    missing = rf"(?<![\w.-]){re.escape(name)} was not found in|no version of {re.escape(name)}=="
    return re.search(missing, flat) is not None


def supported_tags(facts: PythonFacts) -> list[tags.Tag]:
    """The wheel tags that the Python of ``facts`` accepts, best first (PEP 425)."""
    version = version_numbers(facts.version)[:2]
    short = "".join(map(str, version))
    match = re.match(r"cpython-(\d+[a-z]*)", facts.soabi)
    platforms = list(tags.platform_tags())
    found: list[tags.Tag] = []
    if facts.implementation == "cpython":
        abi = f"cp{match[1]}" if match else f"cp{short}"
        found += tags.cpython_tags(version, abis=[abi], platforms=platforms)
        found += tags.compatible_tags(version, interpreter=f"cp{short}", platforms=platforms)
    else:
        found += tags.generic_tags(f"pp{short}", abis=[facts.soabi.replace("-", "_")], platforms=platforms)
        found += tags.compatible_tags(version, interpreter=f"pp{short}", platforms=platforms)
    return found


def _chosen(package: Mapping[str, Any], supported: Mapping[tags.Tag, int], facts: PythonFacts) -> Chosen:
    """The wheel of one package that its Python likes best."""
    name, version = canonicalize_name(package["name"]), package.get("version", "")
    offered = [_offer(wheel) for wheel in package.get("wheels", [])]
    if "archive" in package:
        offered.append(_offer(package["archive"]))
    best: tuple[int, _Offer] | None = None
    for offer in offered:
        rank = _rank(offer.file, supported)
        if rank is not None and (best is None or rank < best[0]):
            best = rank, offer
    if best is None:
        raise ResolveError(
            f"{name} {version} has no wheel for Python {facts.version} on {facts.platform}, "
            f"only {', '.join(offer.file for offer in offered[:3]) or 'source'}. "
            "Choose another version or another Python, or build a wheel once ('pip wheel') and ask for that file."
        )
    offer = best[1]
    return Chosen(name, version or str(parse_wheel_filename(offer.file)[1]), *offer)


class _Offer(NamedTuple):
    file: str
    url: str
    digest: Digest | None
    size: int | None


def _offer(entry: Mapping[str, Any]) -> _Offer:
    url = entry.get("url") or "file://" + quote(str(Path(entry["path"]).absolute()))
    promised = entry.get("hashes", {}).get("sha256")
    digest = Digest.parse(f"sha256:{promised}") if promised else None
    return _Offer(entry.get("name") or file_name(url), url, digest, entry.get("size"))


def _rank(file: str, supported: Mapping[tags.Tag, int]) -> int | None:
    try:
        found = parse_wheel_filename(file)[3]
    except InvalidWheelFilename:
        return None
    return min((supported[tag] for tag in found if tag in supported), default=None)


def _failure(said: str, facts: PythonFacts) -> EnvError:
    """What uv says went wrong, in the fewest lines that name both sides, free of credentials."""
    lines = [line.strip() for line in without_credentials_in(said).splitlines() if line.strip()]
    text = "\n".join(lines)
    if "network was disabled" in text:
        return Offline(f"{_plain(lines)} and the network is off; run once with it.")
    if "No solution found" not in text and any(sign in text.lower() for sign in _OUT_OF_REACH):
        place = next((word for word in text.split() if "://" in word), "the index").rstrip(")`.,;:")
        reason = lines[-1].partition("cause: ")[2] or lines[-1]
        return FetchError(
            f"the package index cannot be reached at {place}: {reason}. "
            "Check the network, the proxy settings and the index address, then run again."
        )
    return ResolveError(f"{_plain(lines)} {_cure(text, facts)}")


def _plain(lines: Sequence[str]) -> str:
    """The resolver's reasons without what frames them."""
    kept = [
        re.sub(r"^(error: |cause: )+", "", line)
        for line in lines
        if "No solution found" not in line and not line.startswith("hint:")
    ]
    text = " ".join(_EMPTY_CONCLUSION.sub("", line).rstrip(".,") + "." for line in kept[:_REASON_LINES] if line)
    return f"the packages cannot be resolved: {text.removeprefix('Because ') or 'uv gave no reason.'}"


def _cure(text: str, facts: PythonFacts) -> str:
    if "was not found in the package registry" in text:
        return "Check the spelling of the name and which index it is on."
    if "there is no version of" in text or "there are no versions of" in text:
        return "Ask for a version that the index has."
    if "no wheels" in text or "no usable wheels" in text or "Only binary" in text:
        return f"Choose a version with a wheel for Python {facts.version}, or build one once ('pip wheel')."
    return "Loosen one of the versions named."
