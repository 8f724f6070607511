"""The index side of a lock: uv resolves the requirements, and one wheel of each package is chosen for one Python."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import quote

from packaging import tags
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from stillrun_envs import command
from stillrun_envs.errors import EnvError, FetchError, Offline, ResolveError
from stillrun_envs.formats.artifacts import best_wheel, sdist_suffix
from stillrun_envs.formats.listing import Listed
from stillrun_envs.location import file_name, without_credentials_in
from stillrun_envs.lock import PinnedPackage
from stillrun_envs.network import Network, index_environment
from stillrun_envs.platforms import Target
from stillrun_envs.request import EnvRequest
from stillrun_envs.simple_index import Indexes, files_of, newest_sdist
from stillrun_envs.sources import SourceRef, source_of
from stillrun_envs.toml import parse_toml
from stillrun_snapshot.digest import Digest

__all__ = ["Chosen", "locate", "resolve"]

_REASON_LINES = 6
_LAST = "pylock.toml"  # uv wants this name of a lock that it goes on from
_BUILT_MAX = 30  # sources built for one resolution
_WHEELLESS = re.compile(r"(?:Wheels are required for `([\w.-]+)`|([\w.-]+)==\S+ has no (?:usable )?wheels)")
_OUT_OF_REACH = ("failed to fetch", "error sending request", "request failed", "http status", "dns error", "timed out")
_EMPTY_CONCLUSION = re.compile(r",? (?:and )?we can conclude that your requirements are unsatisfiable\.?")


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
    asking = _Asking(request, target, surroundings, python)
    with tempfile.TemporaryDirectory(prefix="stillrun-") as folder:
        built = _Built(Path(folder) / "built", wheel_of, place)
        texts = [built.instead_of(text) for text in wanted]
        question = _Question(texts, supplied, preferred, upgrade, refresh)
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


@dataclass(frozen=True)
class _Asking:
    """What stays the same in every question to uv."""

    request: EnvRequest
    target: Target
    environ: Mapping[str, str]
    python: Path


@dataclass(frozen=True)
class _Question:
    """The packages of one resolution."""

    requirements: Sequence[str]
    supplied: Mapping[str, str]
    preferred: Mapping[str, str]
    upgrade: Sequence[str]
    refresh: bool


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
    asking: _Asking, question: _Question, built: _Built, network: Network, folder: Path
) -> list[Mapping[str, Any]]:
    """uv's choice; a package that has no wheel is built of its source, and uv is asked again."""
    for _ in range(_BUILT_MAX):
        ended = _compiled(asking, question, built.folder, folder)
        if ended.code == 0:
            packages: list[Mapping[str, Any]] = parse_toml(ended.output).get("packages", [])
            return packages
        source = _missing_source(asking, question, ended.errors, built, network)
        if source is None:
            raise _failure(ended.errors, asking.target)
        built.add(source)
    raise ResolveError(
        f"more than {_BUILT_MAX} versions would have to be built from source to find ones that fit; "
        "pin the packages without wheels, or loosen what is asked of them."
    )


def _missing_source(
    asking: _Asking, question: _Question, said: str, built: _Built, network: Network
) -> SourceRef | None:
    """The source that uv needs to go on; None when it fails for another reason."""
    flat = " ".join(said.split())
    indexes = Indexes.of(asking.environ)
    request, target = asking.request, asking.target
    for name in dict.fromkeys(canonicalize_name(one) for one in (a or b for a, b in _WHEELLESS.findall(flat))):
        versions = re.findall(rf"(?<![\w.-]){re.escape(name)}==(\S+?)(?=[\s,;]|$) has no", flat)
        asked = [Requirement(text) for text in (*question.requirements, *request.constraints)]
        limits = SpecifierSet(",".join(str(one.specifier) for one in asked if canonicalize_name(one.name) == name))
        files = [one for one in files_of(name, indexes, network) if (name, one.version) not in built.packages]
        for wanted in (*(SpecifierSet(f"=={version}") for version in sorted(versions, reverse=True)), SpecifierSet()):
            found = newest_sdist(
                files,
                wanted & limits,
                target.version,
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


def _compiled(asking: _Asking, question: _Question, built: Path, folder: Path) -> command.Outcome:
    """What uv answers. Packages that conda brings and the index does not have are left out of the question."""
    arguments = _arguments(asking, question, folder)
    # in a variable, beside the user's own: an argument would take their place
    links = ",".join(filter(None, [str(built), asking.environ.get("UV_FIND_LINKS", "")]))
    limits, excludes = folder / "constraints.txt", folder / "excludes.txt"
    left_out: set[str] = set()
    while True:
        bound = {name: version for name, version in question.supplied.items() if name not in left_out}
        lines = [*asking.request.constraints, *(f"{name}=={version}" for name, version in bound.items())]
        limits.write_text("".join(f"{line}\n" for line in lines), "utf-8")
        excludes.write_text("".join(f"{name}\n" for name in sorted(left_out)), "utf-8")
        more = ["--constraints", str(limits)] if lines else []
        more += ["--excludes", str(excludes)] if left_out else []
        ended = command.run(
            [command.uv(), *arguments, *more],
            environ=command.quiet_environment({**asking.environ, "UV_FIND_LINKS": links}),
            given="\n".join(question.requirements) + "\n",
        )
        absent = {name for name in bound if ended.code != 0 and _is_absent(name, ended.errors)}
        if not absent:
            last = folder / _LAST
            return replace(ended, output=last.read_text("utf-8")) if ended.code == 0 and last.exists() else ended
        left_out |= absent


def _arguments(asking: _Asking, question: _Question, folder: Path) -> list[str]:
    request, target = asking.request, asking.target
    arguments = ["pip", "compile", "-", "--format", "pylock.toml", "--only-binary", ":all:", "--no-header", "--quiet"]
    arguments += ["--python", str(asking.python), "--no-python-downloads", "--python-version", target.version]
    arguments += ["--prerelease", request.prereleases]
    if target.uv_platform is not None:
        arguments += ["--python-platform", target.uv_platform]
    if request.exclude_newer is not None:
        arguments += ["--exclude-newer", request.exclude_newer]
    if request.overrides:
        overrides = folder / "overrides.txt"
        overrides.write_text("".join(f"{line}\n" for line in request.overrides), "utf-8")
        arguments += ["--overrides", str(overrides)]
    if question.upgrade and question.preferred:
        last = folder / _LAST
        last.write_text(_last_choice(question.preferred), "utf-8")
        arguments += ["--output-file", str(last)]
        for name in question.upgrade:
            arguments += ["--upgrade-package", name]
    arguments += ["--refresh"] if question.refresh else []
    for name in question.supplied:
        arguments += ["--no-emit-package", name]
    return arguments


def _last_choice(preferred: Mapping[str, str]) -> str:
    """The last choice as uv reads it: names and versions count, the file that stands for each is never fetched."""
    lines = ['lock-version = "1.0"', 'created-by = "stillrun"']
    for name, version in sorted(preferred.items()):
        file = f"{name.replace('-', '_')}-{version}-py3-none-any.whl"
        wheel = f'name = "{file}", url = "http://127.0.0.1:9/{file}", hashes = {{ sha256 = "{"0" * 64}" }}'
        lines += ["", "[[packages]]", f'name = "{name}"', f'version = "{version}"', f"wheels = [{{ {wheel} }}]"]
    return "\n".join(lines) + "\n"


def _is_absent(name: str, said: str) -> bool:
    """Whether uv says that the index lacks a package, or the version of it that was asked for."""
    flat = " ".join(said.split())
    missing = rf"(?<![\w.-]){re.escape(name)} was not found in|no version of {re.escape(name)}=="
    return re.search(missing, flat) is not None


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


def _failure(said: str, target: Target) -> EnvError:
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
    return ResolveError(f"{_plain(lines)} {_cure(text, target)}")


def _plain(lines: Sequence[str]) -> str:
    """The resolver's reasons without what frames them."""
    kept = [
        re.sub(r"^(error: |cause: )+", "", line)
        for line in lines
        if "No solution found" not in line and not line.startswith("hint:")
    ]
    text = " ".join(_EMPTY_CONCLUSION.sub("", line).rstrip(".,") + "." for line in kept[:_REASON_LINES] if line)
    return f"the packages cannot be resolved: {text.removeprefix('Because ') or 'uv gave no reason.'}"


def _cure(text: str, target: Target) -> str:
    if "was not found in the package registry" in text:
        return "Check the spelling of the name and which index it is on."
    if "there is no version of" in text or "there are no versions of" in text:
        return "Ask for a version that the index has."
    if "no wheels" in text or "no usable wheels" in text or "Only binary" in text:
        return f"Choose a version with a wheel for Python {target.version}, or build one once ('pip wheel')."
    return "Loosen one of the versions named."
