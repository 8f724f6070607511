"""Package indexes as installers see them: the files of one package, their hashes and what is said of each.

Sources: PEP 503 (pages), 592 (yanked), 691 (JSON), 700 (upload times); folders and pages of files as pip's find-links.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urljoin, urlsplit

import urllib3
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import Version

from stillrun_envs.errors import FetchError
from stillrun_envs.formats.artifacts import name_of_file, sdist_suffix, version_of_file
from stillrun_envs.location import file_name, local_path, without_credentials
from stillrun_envs.network import Network
from stillrun_snapshot.deferred import dataclass
from stillrun_snapshot.digest import Digest

__all__ = ["IndexFile", "Indexes", "files_of", "newest_sdist"]

_ACCEPT = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1"
_PAGE_MAX = 256 << 20  # bytes of one page


@dataclass(frozen=True)
class IndexFile:
    """One file that an index offers."""

    file: str
    url: str
    digest: Digest | None
    size: int | None = None
    requires_python: str = ""
    yanked: bool = False
    uploaded: datetime | None = None

    @property
    def version(self) -> str | None:
        """The version that its name tells; None when it is neither wheel nor sdist."""
        return version_of_file(self.file)


@dataclass(frozen=True)
class Indexes:
    """Where packages are looked for, in order."""

    simple: tuple[str, ...]  # addresses below which each package has a page
    links: tuple[str, ...] = ()  # folders and pages of files

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Indexes:
        """The indexes that uv's variables name, as ``network.index_environment`` sets them."""
        links = (
            tuple(re.split(r"[\s,]+", environ.get("UV_FIND_LINKS", "").strip())) if environ.get("UV_FIND_LINKS") else ()
        )
        if environ.get("UV_NO_INDEX") in ("1", "true"):
            return cls((), links)
        extra = [word for name in ("UV_INDEX", "UV_EXTRA_INDEX_URL") for word in environ.get(name, "").split()]
        named = [re.sub(r"^[\w.-]+=(?=\w+:)", "", word) for word in extra]
        default = environ.get("UV_DEFAULT_INDEX") or environ.get("UV_INDEX_URL") or _default_index()
        return cls((*named, re.sub(r"^[\w.-]+=(?=\w+:)", "", default)), links)


def files_of(name: str, indexes: Indexes, network: Network) -> list[IndexFile]:
    """Every file of the package ``name`` (normalised), each once; of two called the same, the one found first.

    Raises FetchError when an index is out of reach; an index that does not know the package is passed over.
    """
    found: dict[str, IndexFile] = {}
    for link in indexes.links:
        for one in _linked(link, network):
            if name_of_file(one.file) == name:
                found.setdefault(one.file, one)
    for index in indexes.simple:
        for one in _listed(f"{index.rstrip('/')}/{quote(name)}/", network):
            if name_of_file(one.file) == name:
                found.setdefault(one.file, one)
    return list(found.values())


def newest_sdist(
    files: Sequence[IndexFile], wanted: SpecifierSet, python: str, *, before: str | None, prereleases: bool
) -> IndexFile | None:
    """The source archive of the newest version that fits; a yanked one only when it is asked for exactly."""
    fitting: list[tuple[Version, IndexFile]] = []
    exact = any(one.operator in ("==", "===") for one in wanted)
    limit = None if before is None else datetime.fromisoformat(before.replace("Z", "+00:00"))
    for one in files:
        version = one.version if sdist_suffix(one.file) else None
        if version is None or (one.yanked and not exact) or not _runs_on(one, python):
            continue
        if limit is not None and (one.uploaded is None or one.uploaded >= limit):
            continue
        if wanted.contains(version, prereleases=True):
            fitting.append((Version(version), one))
    stable = [pair for pair in fitting if not pair[0].is_prerelease]
    chosen = fitting if prereleases or not stable else stable
    return max(chosen, key=lambda pair: (pair[0], pair[1].file))[1] if chosen else None


def _runs_on(one: IndexFile, python: str) -> bool:
    try:
        return SpecifierSet(one.requires_python).contains(python, prereleases=True)
    except InvalidSpecifier:
        return True  # old pages hold odd words


def _default_index() -> str:
    """pip's own default."""
    from pip._internal.models.index import PyPI

    return str(PyPI.simple_url)


def _linked(link: str, network: Network) -> Iterator[IndexFile]:
    folder = Path(unquote(urlsplit(link).path)) if link.startswith("file:") else Path(link)
    if "://" not in link or (link.startswith("file:") and folder.is_dir()):
        for path in sorted(folder.glob("*")) if folder.is_dir() else ():
            yield IndexFile(path.name, path.absolute().as_uri(), None, path.stat().st_size)
        return
    yield from _listed(link, network)


def _listed(url: str, network: Network) -> Iterator[IndexFile]:
    """The files on one page; none when there is no such page."""
    local = local_path(url)
    if local is not None:
        page = local / "index.html" if local.is_dir() else local
        if page.is_file():
            yield from _of_html(page.read_text("utf-8", "replace"), page.as_uri())
        return
    try:
        response = network.open(url, accept=_ACCEPT)
        try:
            if response.status in (404, 410):
                return
            if response.status >= 400:
                place = without_credentials(url)
                raise FetchError(
                    f"the package index answers HTTP {response.status} at {place}; {_cure(response.status)}"
                )
            data = response.read(_PAGE_MAX, decode_content=True)
            kind = response.headers.get("Content-Type", "")
            base = urljoin(url, response.geturl() or url)
            response.release_conn()
        finally:
            response.close()
    except urllib3.exceptions.HTTPError as err:
        raise FetchError(
            f"the package index cannot be reached at {without_credentials(url)}: {type(err).__name__}. "
            "Check the network, the proxy settings and the index address, then run again."
        ) from err
    yield from _of_json(data, base) if "json" in kind else _of_html(data.decode("utf-8", "replace"), base)


def _cure(status: int) -> str:
    return "put credentials in ~/.netrc or in the address." if status in (401, 403) else "try again later."


def _of_json(data: bytes, base: str) -> Iterator[IndexFile]:
    try:
        listed: list[dict[str, Any]] = json.loads(data)["files"]
        for one in listed:
            promised = one.get("hashes", {}).get("sha256")
            yield IndexFile(
                file=one["filename"],
                url=urljoin(base, one["url"]),
                digest=Digest.parse(f"sha256:{promised}") if promised else None,
                size=one.get("size"),
                requires_python=one.get("requires-python") or "",
                yanked=bool(one.get("yanked")),
                uploaded=_time(one.get("upload-time")),
            )
    except (ValueError, KeyError, TypeError) as err:
        raise FetchError(f"the page {without_credentials(base)} is not a package index's: {err}.") from err


def _time(text: str | None) -> datetime | None:
    if not text:
        return None
    # fractions of any length, which older Pythons do not read
    return datetime.fromisoformat(re.sub(r"\.\d+", "", text).replace("Z", "+00:00"))


def _of_html(text: str, base: str) -> Iterator[IndexFile]:
    page = _Page()
    page.feed(text)
    for attributes in page.anchors:
        address = urljoin(urljoin(base, page.base or ""), attributes.get("href") or "")
        bare, _, fragment = address.partition("#")
        promised = re.fullmatch(r"sha256=([0-9a-f]{64})", fragment)
        yield IndexFile(
            file=file_name(bare),
            url=bare,
            digest=Digest.parse(f"sha256:{promised[1]}") if promised else None,
            requires_python=attributes.get("data-requires-python") or "",
            yanked="data-yanked" in attributes,
        )


class _Page(HTMLParser):
    """The links of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.anchors: list[dict[str, str | None]] = []
        self.base: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.anchors.append(dict(attrs))
        elif tag == "base":
            self.base = dict(attrs).get("href")
