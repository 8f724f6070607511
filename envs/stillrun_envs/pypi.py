"""The index side of a lock: uv resolves the requirements, and one wheel of each package is chosen for one Python."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import quote

from packaging import tags
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from stillrun_envs import piptools
from stillrun_envs.errors import ResolveError
from stillrun_envs.formats.artifacts import best_wheel, sdist_suffix
from stillrun_envs.formats.listing import Listed
from stillrun_envs.location import file_name
from stillrun_envs.lock import PinnedPackage
from stillrun_envs.network import Network, index_environment
from stillrun_envs.platforms import Target
from stillrun_envs.request import EnvRequest
from stillrun_envs.simple_index import Indexes, IndexFile, files_of, newest_sdist
from stillrun_envs.sources import SourceRef, source_of
from stillrun_envs.toml import parse_toml
from stillrun_envs.uv import Asking, Question, compiled, failure
from stillrun_snapshot.deferred import dataclass
from stillrun_snapshot.digest import Digest

__all__ = ["Chosen", "locate", "resolve"]

_BUILT_MAX = 30  # sources built for one resolution
_WHEELLESS = re.compile(r"(?:Wheels are required for `([\w.-]+)`|([\w.-]+)==\S+ has no (?:usable )?wheels)")


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
    request: EnvRequest,
    target: Target,
    environ: Mapping[str, str],
    *,
    python: Path,
    supplied: Mapping[str, str] = MappingProxyType({}),
    preferred: Mapping[str, str] = MappingProxyType({}),
    upgrade: Sequence[str] = (),
    refresh: bool = False,
    network: Network,
    wheel_of: Callable[[SourceRef], PinnedPackage],
    place: Callable[[PinnedPackage, Path], None],
) -> list[Chosen | PinnedPackage]:
    """The wheels that satisfy a request on ``target``, sorted by name.

    python: one on this machine, which uv may run with. supplied: packages that come from elsewhere, by version; the
    others are chosen to fit them. preferred: versions to stay at, but for those of ``upgrade``. refresh: ask the index
    even for what uv has asked before. wheel_of: builds a source that has no wheel; place: writes a kept wheel to a path.
    """
    wanted = [text for text in request.pypi or () if not _brought(Requirement(text), supplied)]
    if not wanted:
        return []
    surroundings = index_environment(environ, request.index_url, request.extra_indices, request.find_links)
    asking = Asking(request, target, surroundings, python)
    with tempfile.TemporaryDirectory(prefix="stillrun-") as folder:
        built = _Built(Path(folder) / "built", wheel_of, place)
        texts = [built.instead_of(text) for text in wanted]
        question = Question(texts, supplied, preferred, upgrade, refresh)
        if request.resolver == "pip-tools":
            # all that is needed is among its pins: only the files are left to be found
            pins = _pinned(asking, question, built, network, environ)
            question = replace(
                question, requirements=[text for text in pins if not _brought(Requirement(text), supplied)]
            )
        answer = _answered(asking, question, built, network, Path(folder))
    ranks = {tag: rank for rank, tag in enumerate(target.tags())}
    found: list[Chosen | PinnedPackage] = []
    for package in answer:
        name = canonicalize_name(package["name"])
        if name not in supplied:
            found.append(built.among(package) or _chosen(package, ranks, target))
    return found


def locate(
    listed: Sequence[Listed], target: Target, request: EnvRequest, environ: Mapping[str, str], network: Network
) -> list[Chosen | SourceRef]:
    """The files of another tool's lock: where it says, or where an index has a file of that hash.

    Raises ResolveError when no index has one, or none that runs on ``target``.
    """
    listing = request.listing
    assert listing is not None, "its files are asked for"
    indexes = Indexes.of(
        index_environment(
            environ, listing.index_url or request.index_url, (*listing.extra_indices, *request.extra_indices)
        )
    )
    indexes = replace(indexes, links=(*listing.find_links, *indexes.links))
    found: list[Chosen | SourceRef] = []
    for one in listed:
        if one.url:
            found.append(Chosen(one.name, one.version, one.file or file_name(one.url), one.url, one.digest, one.size))
            continue
        allowed = set(one.hashes) | ({one.digest} if one.digest else set())
        files = [each for each in files_of(one.name, indexes, network) if each.digest in allowed]
        wheel = best_wheel([(each.file, each) for each in files], target)
        sdist = next((each for each in files if sdist_suffix(each.file)), None)
        if wheel is not None:
            found.append(Chosen(one.name, one.version, wheel.file, wheel.url, wheel.digest, wheel.size))
        elif sdist is not None:
            found.append(SourceRef("sdist", one.name, sdist.url, digest=sdist.digest))
        else:
            raise ResolveError(
                f"no index has a file of {one.name} {one.version} with one of the {len(allowed)} hashes of the lock that runs "
                f"on {target.platform} with Python {target.version}; it was withdrawn, or the lock is for other machines."
            )
    return found


class _Built:
    """Wheels that were built of sources in the course of one resolution."""

    def __init__(
        self,
        folder: Path,
        wheel_of: Callable[[SourceRef], PinnedPackage],
        place: Callable[[PinnedPackage, Path], None],
    ) -> None:
        self.folder = folder
        self.packages: dict[tuple[str, str], PinnedPackage] = {}
        self._wheel_of, self._place = wheel_of, place
        folder.mkdir()

    def instead_of(self, text: str) -> str:
        """The requirement, with the wheel built of its source instead of the source."""
        requirement = Requirement(text)
        url = requirement.url
        if url is None or url.split("#")[0].endswith(".whl"):
            return text
        path = self.add(source_of(text))
        extras = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
        marker = f" ; {requirement.marker}" if requirement.marker else ""
        return f"{requirement.name}{extras} @ {path.as_uri()}{marker}"

    def among(self, package: Mapping[str, Any]) -> PinnedPackage | None:
        """The built wheel that uv's answer speaks of, if it does."""
        offers = [*package.get("wheels", ()), *([package["archive"]] if "archive" in package else [])]
        files = {_offer(one).file for one in offers}
        return next((one for one in self.packages.values() if one.file in files), None)

    def add(self, ref: SourceRef) -> Path:
        """Build a source; the wheel's path."""
        package = self._wheel_of(ref)
        path = self.folder / package.file
        self._place(package, path)
        self.packages[package.name, package.version] = package
        return path


def _answered(
    asking: Asking, question: Question, built: _Built, network: Network, folder: Path
) -> list[Mapping[str, Any]]:
    """uv's choice; a package that has no wheel is built of its source, and uv is asked again."""
    for _ in range(_BUILT_MAX):
        ended = compiled(asking, question, built.folder, folder)
        if ended.code == 0:
            packages: list[Mapping[str, Any]] = parse_toml(ended.output).get("packages", [])
            return packages
        source = _missing_source(asking, question, ended.errors, built, network)
        if source is None:
            raise failure(ended.errors, asking.target)
        built.add(source)
    raise _too_many_builds()


def _too_many_builds() -> ResolveError:
    return ResolveError(
        f"more than {_BUILT_MAX} versions would have to be built from source to find ones that fit; "
        "pin the packages without wheels, or loosen what is asked of them."
    )


def _pinned(
    asking: Asking, question: Question, built: _Built, network: Network, environ: Mapping[str, str]
) -> tuple[str, ...]:
    """pip-tools' choice; a package that has no wheel is built of its source, and pip-tools is asked again."""
    asked, target = asking.request, asking.target
    request = replace(asked, pypi=tuple(question.requirements), find_links=(str(built.folder), *asked.find_links))
    for _ in range(_BUILT_MAX):
        try:
            return piptools.pinned(
                request,
                target,
                environ,
                python=asking.python,
                supplied=question.supplied,
                preferred=question.preferred,
                upgrade=question.upgrade,
            )
        except piptools.NoWheel as err:
            indexes, source = Indexes.of(asking.environ), None
            for name in err.names:
                files = files_of(name, indexes, network)
                if best_wheel([(each.file, each) for each in files], target) is None:
                    source = source or _newest_source(asking, question, name, files, (SpecifierSet(),), built)
            if source is None:
                raise
            built.add(source)
    raise _too_many_builds()


def _missing_source(asking: Asking, question: Question, said: str, built: _Built, network: Network) -> SourceRef | None:
    """The source that uv needs to go on; None when it fails for another reason."""
    flat = " ".join(said.split())
    indexes = Indexes.of(asking.environ)
    for name in dict.fromkeys(canonicalize_name(one) for one in (a or b for a, b in _WHEELLESS.findall(flat))):
        versions = re.findall(rf"(?<![\w.-]){re.escape(name)}==(\S+?)(?=[\s,;]|$) has no", flat)
        wanted = (*(SpecifierSet(f"=={version}") for version in sorted(versions, reverse=True)), SpecifierSet())
        found = _newest_source(asking, question, name, files_of(name, indexes, network), wanted, built)
        if found is not None:
            return found
    return None


def _newest_source(
    asking: Asking,
    question: Question,
    name: str,
    files: Sequence[IndexFile],
    wanted: Sequence[SpecifierSet],
    built: _Built,
) -> SourceRef | None:
    """The newest source archive of ``name`` that was not built yet and fits; wanted: versions, the best first."""
    request = asking.request
    asked = [Requirement(text) for text in (*question.requirements, *request.constraints)]
    limits = SpecifierSet(",".join(str(one.specifier) for one in asked if canonicalize_name(one.name) == name))
    new = [one for one in files if (name, one.version) not in built.packages]
    for versions in wanted:
        found = newest_sdist(
            new,
            versions & limits,
            asking.target.version,
            before=request.exclude_newer,
            prereleases=request.prereleases == "allow",
        )
        if found is not None:
            return SourceRef("sdist", name, found.url, digest=found.digest)
    return None


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


def _chosen(package: Mapping[str, Any], supported: Mapping[tags.Tag, int], target: Target) -> Chosen:
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
            f"{name} {version} has no wheel for Python {target.version} on {target.platform}, "
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
