"""requirements.txt: what pip is asked for, and with a hash on each line, exactly what it may install."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import field, replace
from pathlib import Path
from urllib.parse import urlsplit

from packaging.markers import Marker
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from stillrun_envs.errors import LockError
from stillrun_envs.formats.artifacts import name_of_file, sdist_suffix
from stillrun_envs.formats.document import Document, Table
from stillrun_envs.formats.entries import absolute, bare_reference, direct_entry
from stillrun_envs.formats.listing import Asked, Listed, Listing
from stillrun_envs.formats.naming import name_of_project
from stillrun_envs.formats.writing import require_wheels
from stillrun_envs.location import file_name, without_credentials
from stillrun_envs.platforms import Target
from stillrun_snapshot.deferred import dataclass
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.errors import StoreError

__all__ = ["Lines", "read_lines", "read_lock", "read_request", "write"]

_HASH = re.compile(r"--hash[= ]\s*(\S+)")
_DEPTH_MAX = 10  # files that name files
_PASSED_OVER = ("--only-binary", "--prefer-binary", "--require-hashes", "--trusted-host", "--use-feature")
_OF_ONE = ("hash", "config-settings", "config-setting", "global-option")  # options on the line of a requirement
_REFUSED = {
    "--no-index": "Set UV_NO_INDEX=1 where you run, and drop the line.",
    "--no-binary": "What has a wheel is never built here: name the archive, as in 'name @ https://…/name-1.0.tar.gz'.",
}
_VARIABLE = re.compile(r"\$\{([A-Z0-9_]+)\}")
_COMMIT = re.compile(r"^([0-9a-f]{40}|[0-9a-f]{64})$")
_HEAD = (
    "# The exact packages of an environment. Written by Stillrun; install with: pip install --require-hashes -r FILE\n"
)


@dataclass
class Lines:
    """What a requirements file says, with the files that it names."""

    requirements: list[tuple[str, tuple[Digest, ...]]] = field(default_factory=list)  # PEP 508, with hashes
    constraints: list[str] = field(default_factory=list)
    index_url: str | None = None
    extra_indices: list[str] = field(default_factory=list)
    find_links: list[str] = field(default_factory=list)
    prereleases: bool = False


def read_request(document: Document, _: Target, extras: Sequence[str] = (), groups: Sequence[str] = ()) -> Asked:
    """What the file asks for; markers stay, since the resolver knows them."""
    _refuse_selection(document, (*extras, *groups))
    lines = read_lines(document)
    return Asked(
        pypi=tuple(text for text, _ in lines.requirements),
        index_url=lines.index_url,
        extra_indices=tuple(lines.extra_indices),
        constraints=tuple(lines.constraints),
        find_links=tuple(lines.find_links),
        settings={"prereleases": "allow"} if lines.prereleases else {},
    )


def read_lock(document: Document, target: Target, extras: Sequence[str] = (), groups: Sequence[str] = ()) -> Listing:
    """The packages for ``target``: each pinned, and with the hashes that its file may have."""
    _refuse_selection(document, (*extras, *groups))
    lines = read_lines(document)
    packages: dict[str, Listed] = {}
    for text, hashes in lines.requirements:
        requirement = Requirement(text)
        if requirement.marker is not None and not _holds(requirement.marker, target):
            continue
        one = _pinned(document, requirement, hashes)
        other = packages.setdefault(one.name, one)
        if other != one:
            raise document.refused(f"pins {one.name} twice for {target.platform}, at {other.version} and {one.version}")
    return Listing(
        python="",
        platform=target.platform,
        packages=tuple(packages.values()),
        index_url=lines.index_url,
        extra_indices=tuple(lines.extra_indices),
        find_links=tuple(lines.find_links),
    )


def write(listing: Listing) -> str:
    """The listing as requirements with hashes. Raises LockError for conda packages, and for one without any hash."""
    require_wheels(listing, "requirements.txt")
    lines = [_HEAD]
    for one in listing.packages:
        hashes = sorted({*one.hashes, *([one.digest] if one.digest else [])})
        if one.source and not hashes:
            lines.append(f"{one.name} @ {bare_reference(one.source)}\n")  # pip knows no hash of a commit or a folder
            continue
        if not hashes:
            raise LockError(f"requirements.txt wants a hash of {one.name} {one.version}, and none is known.")
        pin = f"{one.name} @ {bare_reference(one.source)}" if one.source else f"{one.name}=={one.version}"
        lines.append(pin + "".join(f" \\\n    --hash={digest}" for digest in hashes) + "\n")
    return "".join(lines)


def read_lines(document: Document, text: str | None = None) -> Lines:
    """Every line of the file, and of the files that it names. text: lines instead of the file's own."""
    lines = Lines()
    _read_into(lines, document, document.text() if text is None else text, 0)
    return lines


def _read_into(lines: Lines, document: Document, text: str, depth: int) -> None:
    if depth > _DEPTH_MAX:
        raise document.refused("names files that name each other", "Leave one of the '-r' lines out.")
    for line in _logical(text):
        if line.startswith("-"):
            _option(lines, document, line, depth)
        else:
            lines.requirements.append(_requirement(document, line))


def _logical(text: str) -> Iterator[str]:
    """Lines with their continuations, without comments."""
    joined = re.sub(r"\\\n[ \t]*", " ", text)
    for line in joined.splitlines():
        bare = re.sub(r"(^|\s)#.*$", "", line).strip()
        if bare:
            # as pip does, since addresses take their credentials from there; one that is not set stays as it is
            yield _VARIABLE.sub(lambda match: os.environ.get(match[1]) or match[0], bare)


def _option(lines: Lines, document: Document, line: str, depth: int) -> None:
    name, value = _split_option(document, line)
    if name in ("-r", "--requirement", "-c", "--constraint"):
        path = document.path.parent / value
        other = Document(path, document.error, document.tool)
        inner = Lines() if name in ("-c", "--constraint") else lines
        _read_into(inner, other, other.text(), depth + 1)
        if inner is not lines:
            lines.constraints += [one for one, _ in inner.requirements] + inner.constraints
    elif name in ("-i", "--index-url", "--pypi-url"):
        lines.index_url = value
    elif name == "--extra-index-url":
        lines.extra_indices.append(value)
    elif name in ("-f", "--find-links"):
        lines.find_links.append(absolute(document, value))
    elif name in ("-e", "--editable"):
        lines.requirements.append(_requirement(document, value))
    elif name == "--pre":
        lines.prereleases = True
    elif name not in _PASSED_OVER:
        raise document.refused(f"has the option {name!r}, which is not known here", _REFUSED.get(name, "Leave it out."))


def _split_option(document: Document, line: str) -> tuple[str, str]:
    short = re.match(r"^(-[a-z])\s*(\S.*)$", line)
    name, value = (short[1], short[2]) if short else [*re.split(r"[= ]", line, maxsplit=1), ""][:2]
    try:
        words = shlex.split(value)
    except ValueError as err:
        raise document.refused(f"has the line {line[:80]!r}, which cannot be read ({err})") from err
    return name, words[0] if len(words) == 1 else value.strip()


def _requirement(document: Document, line: str) -> tuple[str, tuple[Digest, ...]]:
    try:
        hashes = tuple(Digest.parse(one) for one in _HASH.findall(line) if one.startswith("sha256:"))
    except StoreError as err:
        raise document.refused(f"has a hash in the line {line[:60]!r} that is none") from err
    bare, *options = (part.strip() for part in re.split(r"\s--(?=[a-z])|\s-(?=[A-Z] )", line))
    for option in options:
        name = re.split(r"[= ]", option, maxsplit=1)[0]
        if name not in (*_OF_ONE, "C"):
            raise document.refused(
                f"has the option --{name} in the line {bare[:60]!r}, which is not known here", "Leave it out."
            )
    local = re.match(r"^(\.{0,2}/|~/|file:)", bare) or (
        bare.endswith((".whl", ".tar.gz", ".zip")) and " @ " not in bare
    )
    if local or re.match(r"^[a-z+]+://", bare):
        bare = _with_name(document, bare)
    try:
        requirement = Requirement(bare)
    except InvalidRequirement as err:
        reason = str(err).splitlines()[0]
        shown = without_credentials(bare)[:80]
        raise document.refused(
            f"has the line {shown!r}, which is no requirement ({reason})", "Write 'name==1.2'."
        ) from err
    if requirement.url is not None:
        requirement.url = absolute(document, requirement.url)
    requirement.name = canonicalize_name(requirement.name)
    return str(requirement), hashes


def _with_name(document: Document, text: str) -> str:
    """A path or address alone, as a requirement with the name that it tells."""
    place, _, marker = text.partition(" ;")
    place, _, extras = place.partition("[") if not re.search(r"#.*\[", place) else (place, "", "")
    tail = f" ;{marker}" if marker else ""
    inside = f"[{extras}" if extras else ""
    egg = re.search(r"[#&]egg=([\w.-]+)", place)
    address = absolute(document, str(Path(place).expanduser()) if place.startswith("~") else place)
    if egg:
        return f"{egg[1]}{inside} @ {re.sub(r'[#&]egg=[^&]*', '', address)}{tail}"
    named = name_of_file(file_name(address)) if not address.startswith("git+") else None
    if named is None and urlsplit(address).scheme == "file" and not sdist_suffix(address):
        named = name_of_project(document, address)
    if named is None:
        shown = without_credentials(text)[:80]
        raise document.refused(
            f"asks for {shown!r} without a name", f"Write 'name @ {without_credentials(address)[:120]}'."
        )
    return f"{named}{inside} @ {address}{tail}"


def _pinned(document: Document, requirement: Requirement, hashes: tuple[Digest, ...]) -> Listed:
    pins = [one.version for one in requirement.specifier if one.operator in ("==", "===") and "*" not in one.version]
    table = Table(document, requirement.name, {})
    if requirement.url is not None:
        parts = urlsplit(requirement.url)
        if parts.scheme.startswith("git+") and not _COMMIT.match(parts.path.partition("@")[2]):
            raise document.refused(
                f"is a lock, and asks for {requirement.name} at a git reference that may move",
                "Name its commit with all 40 digits.",
            )
        entry = direct_entry(table, requirement.name, "", requirement.url, hashes=hashes)
        return entry if entry.digest or len(hashes) != 1 else _with_digest(entry, hashes[0])
    if len(pins) != 1 or not hashes:
        lacks = "no hash" if pins else "no exact version"
        raise document.refused(
            f"is a lock for some of its packages only: {requirement} has {lacks}",
            "Pin and hash every line ('uv pip compile --generate-hashes', 'pip-compile --generate-hashes').",
        )
    return Listed("pypi", requirement.name, pins[0], "", "", hashes=hashes)


def _with_digest(entry: Listed, digest: Digest) -> Listed:
    return replace(entry, digest=digest, hashes=())


def _holds(marker: Marker, target: Target) -> bool:
    return marker.evaluate(dict(target.markers()))


def _refuse_selection(document: Document, selected: Sequence[str]) -> None:
    if selected:
        raise document.refused(f"has no extras or groups, and {selected[0]!r} is asked for", "Leave that out.")
