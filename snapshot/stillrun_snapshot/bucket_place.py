"""Where a bucket is: an address of S3, Google Cloud Storage, Azure or a folder. Never a credential; docs/spec/remote.md §7."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from stillrun_snapshot.bucket import Bucket, BucketError
from stillrun_snapshot.deferred import dataclass
from stillrun_snapshot.folder_bucket import FolderBucket

__all__ = ["BucketPlace", "opened_bucket", "parsed_url"]

_CLOUDS = {"s3": "s3", "gs": "gs", "gcs": "gs", "az": "az", "azure": "az"}
_SPOKEN = "s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, az://CONTAINER/PREFIX, or the path of a folder"
_LONGEST = 1024  # characters, as of a key
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,221}")
_PREFIX = re.compile(r"[A-Za-z0-9_.=+@-]+(?:/[A-Za-z0-9_.=+@-]+)*")


@dataclass(frozen=True)
class BucketPlace:
    """An address, and what is not secret about how to reach it.

    endpoint: of a service that speaks S3 and is not Amazon's. anonymous: requests are not signed, for what anybody may read.
    """

    url: str
    endpoint: str | None = None
    region: str | None = None
    anonymous: bool = False

    def __post_init__(self) -> None:
        if self.url != parsed_url(self.url, Path("/")):
            raise BucketError(f"{self.url!r} is no address of a remote: {_SPOKEN}.")
        if self.endpoint is not None:
            _check_endpoint(self.endpoint)
            if not self.url.startswith("s3://"):
                raise BucketError("an endpoint is for addresses that begin with s3://; leave it out.")

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder here."""
        return self.url.startswith("/")


def parsed_url(text: str, cwd: Path) -> str:
    """The one form of an address; BucketError when it is none, or holds what is secret. cwd: where a path begins."""
    if not text.strip() or not text.isprintable() or len(text) > _LONGEST:
        raise BucketError(f"{_hidden(text)[:80]!r} is no address of a remote: {_SPOKEN}.")
    if "://" not in text:
        if re.match(r"[\w.-]+@?[\w.-]*:(?!\\)", text):  # host:path, as scp has it
            raise BucketError(
                f"{_hidden(text)!r} is not an address that can be reached: mount the folder (sshfs) and give its "
                f"path. Addresses are {_SPOKEN}."
            )
        return os.path.normpath(cwd / Path(text).expanduser())
    parts = _split(text)
    if parts.scheme == "file":
        if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
            raise BucketError(f"{text!r} names a folder of another machine; mount it and give its path.")
        return parts.path
    scheme = _CLOUDS.get(parts.scheme)
    if scheme is None:
        hint = " For a service of your own give s3://BUCKET/PREFIX and --endpoint." if "http" in parts.scheme else ""
        raise BucketError(f"'{parts.scheme}://' is no kind of remote that Stillrun knows: {_SPOKEN}.{hint}")
    prefix = parts.path.strip("/")
    bad = prefix and (not _PREFIX.fullmatch(prefix) or {".", ".."} & set(prefix.split("/")))
    if not _NAME.fullmatch(parts.netloc) or bad:
        raise BucketError(f"{text!r} is no address of a remote: {_SPOKEN}.")
    return f"{scheme}://{parts.netloc}" + (f"/{prefix}" if prefix else "")


def opened_bucket(place: BucketPlace, settings: Mapping[str, str], *, patience: float = 60.0) -> Bucket:
    """The bucket at ``place``. settings: what its service was told on this machine, credentials included (never kept).

    patience: seconds that a request may be tried again for.
    """
    if place.is_folder:
        if not Path(place.url).is_dir():
            raise BucketError(f"there is no folder {place.url}; make it, or mount it, first.")
        return FolderBucket(Path(place.url))
    from stillrun_snapshot.cloud_bucket import CloudBucket

    return CloudBucket(place, settings, patience=patience)


def _split(text: str) -> SplitResult:
    try:
        parts = urlsplit(text)
        secret = "@" in parts.netloc or parts.query or parts.fragment
    except ValueError:
        raise BucketError(f"{_hidden(text)!r} is no address of a remote: {_SPOKEN}.") from None
    if secret:
        raise BucketError(
            f"{_hidden(text)!r} holds more than an address. Credentials are never kept: leave out user, password and "
            f"everything from '?' on, "
            "and give them where the tools of the service look for them (environment variables, profiles)."
        )
    return parts


def _check_endpoint(text: str) -> None:
    parts = _split(text)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise BucketError(f"{text!r} is no endpoint: it begins with https:// (or http://) and a host.")


def _hidden(text: str) -> str:
    """``text`` without what may be a secret in it."""
    return re.sub(r"//[^/@]*@", "//…@", re.sub(r"[?#].*", "?…", text))
