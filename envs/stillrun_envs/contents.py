"""What kept packages say of themselves: what they need, under which licence, and which Python distributions they hold.

Read out of the archives in the store; nothing is unpacked to disk and nothing in them is run.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from email.message import Message
from email.parser import HeaderParser
from typing import Any, BinaryIO, Literal

import zstandard
from packaging.utils import canonicalize_name

from stillrun_envs.errors import LockError
from stillrun_envs.lock import PinnedPackage
from stillrun_snapshot.deferred import dataclass
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.store import Store

__all__ = ["PackageFacts", "md5_of", "package_facts", "supplied_distributions"]

_DIST_INFO = re.compile(
    r"(?:^|/)site-packages/([^/]+?)-([^/-]+)(?:\.dist-info/METADATA|(?:-py[\d.]+)?\.egg-info(?:/PKG-INFO)?)$"
)
_INFO_MAX = 64 << 20  # bytes of package metadata that are read
_WINDOW_MAX = 128 << 20
_NAME_MAX = 60  # characters of a licence that is named; what is longer is its text
_SPOILED = (
    OSError,
    ValueError,
    TypeError,
    KeyError,
    tarfile.TarError,
    zipfile.BadZipFile,
    zstandard.ZstdError,
    StopIteration,
)


@dataclass(frozen=True)
class PackageFacts:
    """What one package says of itself."""

    depends: tuple[str, ...]  # PEP 508 requirements of a wheel, match specs of a conda package
    licence: str
    summary: str


def package_facts(store: Store, package: PinnedPackage) -> PackageFacts:
    """What the kept archive of ``package`` says. Raises LockError when it cannot be read."""
    try:
        with _opened(store, package.digest) as stream:
            return _conda_facts(stream, package.file) if package.manager == "conda" else _wheel_facts(stream)
    except _SPOILED as err:
        raise _unreadable(package, err) from err


def supplied_distributions(store: Store, packages: Sequence[PinnedPackage]) -> dict[str, str]:
    """The Python distributions inside of kept conda packages: normalised name to version.

    conda's names are not the index's, so the archives themselves are asked.
    """
    found: dict[str, str] = {}
    for package in packages:
        try:
            with _opened(store, package.digest) as stream:
                names = list(_file_names(stream, package.file))
        except _SPOILED as err:
            raise _unreadable(package, err) from err
        for name in names:
            match = _DIST_INFO.search(name)
            if match:
                found[canonicalize_name(match[1])] = match[2]
    return found


def md5_of(store: Store, digest: Digest) -> str:
    """The MD5 of a kept object, which conda's older formats go by: 32 hexadecimal digits."""
    state = hashlib.md5(usedforsecurity=False)
    with store.open_object(digest) as stream:
        while block := stream.read(1 << 20):
            state.update(block)
    return state.hexdigest()


def _unreadable(package: PinnedPackage, err: Exception) -> LockError:
    return LockError(f"the {package.manager} package {package.file} cannot be read: {err}; fetch it again.")


def _wheel_facts(stream: BinaryIO) -> PackageFacts:
    with zipfile.ZipFile(stream) as archive:
        name = next(one for one in archive.namelist() if one.endswith(".dist-info/METADATA") and one.count("/") == 1)
        if archive.getinfo(name).file_size > _INFO_MAX:
            raise ValueError(f"its {name} is too large")
        said = HeaderParser().parsestr(archive.read(name).decode("utf-8", "replace"))
    return PackageFacts(tuple(said.get_all("Requires-Dist", [])), _licence(said), (said.get("Summary") or "").strip())


def _licence(said: Message) -> str:
    """The expression, else a short name, else what the classifiers say, else the text that stands for it."""
    expression, told = (str(said.get(name) or "").strip() for name in ("License-Expression", "License"))
    if expression or (told and "\n" not in told and len(told) <= _NAME_MAX):
        return expression or told
    classes = [
        str(one).rpartition(" :: ")[2] for one in said.get_all("Classifier", []) if str(one).startswith("License ::")
    ]
    return ", ".join(classes) or told


def _conda_facts(stream: BinaryIO, file: str) -> PackageFacts:
    members = dict(_info(stream, file, {"info/index.json", "info/about.json"}))
    index, about = (_object(members.get(f"info/{name}.json", b"{}")) for name in ("index", "about"))
    licence = str(about.get("license") or index.get("license") or "")
    return PackageFacts(tuple(map(str, index.get("depends", ()))), licence, str(about.get("summary") or ""))


def _object(data: bytes) -> Mapping[str, Any]:
    found = json.loads(data)
    if not isinstance(found, dict):
        raise TypeError("its metadata is not an object")
    return found


def _opened(store: Store, digest: Digest) -> BinaryIO:
    """A kept object as a file that can be read in any order."""
    location = store.checked(digest)
    whole = location.path is not None and location.path.stat().st_size == location.size
    return open(location.path, "rb") if location.path is not None and whole else io.BytesIO(store.get(digest))


def _file_names(stream: BinaryIO, file: str) -> Iterator[str]:
    """The paths that an archive installs, from its own list."""
    for name, data in _info(stream, file, {"info/files", "info/paths.json"}):
        if name == "info/files":
            yield from data.decode("utf-8", "replace").splitlines()
        else:
            yield from (entry["_path"] for entry in json.loads(data)["paths"])
        return


def _info(stream: BinaryIO, file: str, wanted: set[str]) -> Iterator[tuple[str, bytes]]:
    """The wanted members of a conda archive's metadata, as they come."""
    if file.endswith(".conda"):
        with zipfile.ZipFile(stream) as archive:
            inner = next(name for name in archive.namelist() if name.startswith("info-") and name.endswith(".tar.zst"))
            unpacker = zstandard.ZstdDecompressor(max_window_size=_WINDOW_MAX)
            with archive.open(inner) as packed, unpacker.stream_reader(packed) as plain:
                yield from _members(plain, "r|", wanted)
    else:
        yield from _members(stream, "r|bz2", wanted)


def _members(stream: Any, mode: Literal["r|", "r|bz2"], wanted: set[str]) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(fileobj=stream, mode=mode) as archive:
        for member in archive:
            if member.name in wanted and member.isfile() and member.size <= _INFO_MAX:
                file = archive.extractfile(member)
                assert file is not None, "it is a regular file"
                yield member.name, file.read()
