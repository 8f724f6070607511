"""Packages of lock files, checked: what the files of all tools say in their own words becomes ``Listed`` here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from stillrun_envs.formats.artifacts import conda_file, name_of_file, pypi_name, same_version, sdist_suffix
from stillrun_envs.formats.document import Document, Table
from stillrun_envs.formats.listing import Listed
from stillrun_envs.location import file_name, without_credentials
from stillrun_envs.platforms import Target
from stillrun_snapshot.digest import Digest

__all__ = [
    "absolute",
    "bare_reference",
    "conda_entry",
    "direct_entry",
    "distinct",
    "file_entry",
    "git_reference",
    "normal_name",
    "require_platform",
    "require_python",
]


def conda_entry(
    table: Table,
    url: str,
    *,
    digest: Digest | None,
    md5: str,
    size: int | None = None,
    depends: Sequence[str] = (),
    subdir: str = "",
) -> Listed:
    """A conda archive at ``url``, whose last part says name, version and build."""
    found = conda_file(url)
    if found is None:
        raise table.refused(
            f"names {without_credentials(url)[:120]!r}, which is no address of a .conda or .tar.bz2 archive",
            "Packages that conda builds from source are not read; publish them to a channel first.",
        )
    md5 = md5.lower()
    if md5 and (len(md5) != 32 or set(md5) - set("0123456789abcdef")):
        raise table.refused(f"has the MD5 {md5[:60]!r}, which has not 32 hexadecimal digits")
    return Listed(
        manager="conda",
        name=found.name,
        version=found.version,
        file=found.file,
        url=without_credentials(url),
        digest=digest,
        md5=md5,
        size=size,
        build=found.build,
        subdir=subdir or found.subdir,
        depends=tuple(depends),
    )


def file_entry(
    table: Table,
    name: str,
    version: str,
    url: str,
    *,
    file: str = "",
    digest: Digest | None = None,
    hashes: Sequence[Digest] = (),
    size: int | None = None,
    depends: Sequence[str] = (),
) -> Listed:
    """A wheel or source archive at ``url``. Raises the document's error when the file is of another package."""
    file = file or file_name(url)
    said = name_of_file(file)
    if said is None and (file.endswith(".whl") or not sdist_suffix(file)):
        raise table.refused(f"names {file[:120]!r} for {name}, which is no wheel and no source archive")
    if said is not None and said != name:
        raise table.refused(f"names {file[:120]!r}, a file of {said}, for {name}")
    bare = without_credentials(url)
    return Listed(
        manager="pypi",
        name=name,
        version=version,
        file=file,
        url=bare,
        digest=digest,
        hashes=tuple(hashes),
        size=size,
        depends=tuple(depends),
        source="" if file.endswith(".whl") else bare_reference(url),
    )


def direct_entry(
    table: Table,
    name: str,
    version: str,
    reference: str,
    *,
    digest: Digest | None = None,
    hashes: Sequence[Digest] = (),
    depends: Sequence[str] = (),
) -> Listed:
    """What a PEP 508 direct reference names: an archive, a commit or a folder."""
    scheme = urlsplit(reference).scheme
    if "+" in scheme:
        return Listed("pypi", name, version, "", "", depends=tuple(depends), source=bare_reference(reference))
    file = file_name(reference)
    if file.endswith(".whl") or sdist_suffix(file):
        if not file.endswith(".whl") and name_of_file(file) not in (None, name):
            # an archive of a commit is often called for its repository, and tells its name inside
            bare = bare_reference(reference)
            return Listed("pypi", name, version, file, without_credentials(reference), digest, source=bare)
        entry = file_entry(table, name, version, reference, digest=digest, hashes=hashes, depends=depends)
        return replace(entry, source=entry.source and bare_reference(reference))
    if scheme == "file":
        return Listed("pypi", name, version, "", "", depends=tuple(depends), source=without_credentials(reference))
    raise table.refused(
        f"asks for {name} at {without_credentials(reference)[:120]!r}, which is no wheel, archive, commit or folder",
        "Write an address that ends in .whl or .tar.gz, or one that begins with git+.",
    )


def git_reference(url: str, commit: str, subdirectory: str = "") -> str:
    """A git commit, branch or tag as PEP 508 names it; with none, the repository's own choice."""
    base = url if "+" in urlsplit(url).scheme else f"git+{url}"
    at = f"@{commit}" if commit else ""
    return f"{base}{at}" + (f"#subdirectory={quote(subdirectory)}" if subdirectory else "")


def bare_reference(reference: str) -> str:
    """The direct reference without credentials; the folder that it names inside of a source stays."""
    wanted = [part for part in urlsplit(reference).fragment.split("&") if part.startswith("subdirectory=")]
    bare = without_credentials(reference)
    return f"{bare}#{wanted[0]}" if wanted else bare


def absolute(document: Document, path: str) -> str:
    """A path beside the document as a ``file:`` address; addresses stay."""
    if urlsplit(path).scheme in ("http", "https", "file") or "://" in path:
        return path
    return (document.path.parent / Path(unquote(path))).resolve().as_uri()


def normal_name(table: Table, name: str) -> str:
    """The normalised name of a PyPI package."""
    found = pypi_name(name)
    if found is None:
        raise table.refused(f"names a package {name[:80]!r}, which is no package name")
    return found


def distinct(document: Document, packages: Iterable[Listed]) -> tuple[Listed, ...]:
    """The packages, each once. Raises the document's error when one stands there in two versions or builds."""
    found: dict[tuple[str, str], Listed] = {}
    for one in packages:
        other = found.setdefault((one.manager, one.name), one)
        if other == one:
            continue
        same = same_version(one.version, other.version) and (one.build, one.url) == (other.build, other.url)
        if not same or (one.digest, one.source, one.hashes) != (other.digest, other.source, other.hashes):
            raise document.refused(f"lists {one.name} twice for one environment ({_spoken(other)} and {_spoken(one)})")
    return tuple(found.values())


def require_platform(document: Document, platforms: Sequence[str], target: Target, cure: str) -> None:
    """Refuse a lock that is for other platforms. cure: what to do, after 'lock it with'."""
    if target.platform in platforms:
        return
    named = " and ".join([", ".join(platforms[:-1]), platforms[-1]] if len(platforms) > 1 else platforms)
    raise document.error(
        f"{document.name} is locked for {named or 'no platform'}, this is {target.platform}; lock it with {cure}."
    )


def require_python(document: Document, root: Table, target: Target) -> None:
    """Refuse a lock whose ``requires-python`` leaves out the Python that is asked for."""
    wanted = root.maybe("requires-python")
    try:
        # of another machine's Python the family alone may be known
        version = target.version if target.version.count(".") > 1 else f"{target.version}.99"
        fits = SpecifierSet(wanted).contains(version, prereleases=True)
    except InvalidSpecifier as err:
        raise root.wrong("requires-python", "a version specifier") from err
    if not fits:
        raise document.refused(
            f"is locked for Python {wanted}, and {target.version} is asked for",
            "Ask for another with python=…, or lock anew.",
        )


def _spoken(one: Listed) -> str:
    return " ".join(part for part in (one.version, one.build, one.file or one.source) if part)
