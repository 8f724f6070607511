"""Environment requests: what is asked of an environment, before anything is resolved."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import date, datetime, timedelta, timezone
from typing import Any, Literal

from packaging.requirements import InvalidRequirement, Requirement

from stillrun_envs.errors import RequestError
from stillrun_envs.formats.listing import Listing
from stillrun_envs.location import without_credentials, without_credentials_in
from stillrun_envs.platforms import PLATFORMS
from stillrun_snapshot.digest import Digest, digest_of
from stillrun_snapshot.record import canonical_bytes

__all__ = ["DEFAULT_CHANNELS", "EnvRequest", "Prereleases", "Resolver"]

DEFAULT_CHANNELS = ("conda-forge",)
Prereleases = Literal["disallow", "allow", "if-necessary-or-explicit"]
Resolver = Literal["uv", "pip-tools"]
_PYTHON = re.compile(r"^\d+\.\d+(\.\d+)?$")
_VIRTUAL = re.compile(r"^__[a-z0-9_]+=[^=\s]*(=[^=\s]*)?$")


@dataclass(frozen=True)
class EnvRequest:
    """What a step asks of its environment; two steps that ask the same share one lock."""

    python: str | None = None  # "3.11" or "3.11.7"; None: as the base Python
    pypi: tuple[str, ...] | None = None  # PEP 508 requirements, sorted; None: PyPI was not asked for
    conda: tuple[str, ...] | None = None  # match specs, sorted; None: conda was not asked for
    channels: tuple[str, ...] = DEFAULT_CHANNELS  # in order of priority
    index_url: str | None = None
    extra_indices: tuple[str, ...] = ()
    find_links: tuple[str, ...] = ()  # folders and pages of files
    constraints: tuple[str, ...] = ()  # PEP 508: limits on whatever is chosen, asked for or not
    overrides: tuple[str, ...] = ()  # PEP 508: replace what packages say they need
    prereleases: Prereleases = "if-necessary-or-explicit"
    exclude_newer: str | None = None  # day or RFC 3339 time, kept as time in UTC: what came later does not count
    resolver: Resolver = "uv"
    link_scripts: tuple[str, ...] = ()  # conda packages whose link scripts may run
    virtual_packages: tuple[str, ...] = ()  # NAME=VERSION or NAME=VERSION=BUILD; replace what is detected
    platform: str | None = None  # conda's name of another machine to lock for; None: this one
    listing: Listing | None = None  # exactly these packages, from a lock of another tool: nothing is resolved

    def __post_init__(self) -> None:
        if self.python is not None and not _PYTHON.match(self.python):
            raise RequestError(
                f"python={self.python!r} is not a Python version; write the family, such as '3.11', "
                "or one release, such as '3.11.7'."
            )
        if self.platform is not None and self.platform not in PLATFORMS:
            raise RequestError(f"{self.platform!r} is no platform to lock for; write one of {', '.join(PLATFORMS)}.")
        for text in (*self.constraints, *self.overrides):
            _require_requirement(text)
        for text in self.virtual_packages:
            if not _VIRTUAL.match(text):
                raise RequestError(f"{text!r} is no virtual package; write a name and version, such as '__cuda=12.4'.")
        if self.exclude_newer is not None:
            object.__setattr__(self, "exclude_newer", _moment(self.exclude_newer))
        for name in ("constraints", "overrides", "link_scripts", "virtual_packages"):
            object.__setattr__(self, name, tuple(sorted(set(getattr(self, name)))))

    @property
    def request_id(self) -> Digest:
        """The digest of what is asked; credentials in index addresses do not count."""
        return digest_of(canonical_bytes(self.to_record()))

    def on(self, platform: str) -> EnvRequest:
        """The same request for another machine."""
        return replace(self, platform=platform)

    def to_record(self) -> dict[str, object]:
        """The request as a record, free of credentials."""
        return {
            "schema": "stillrun/request/2",
            "python": self.python,
            "pypi": None if self.pypi is None else [without_credentials_in(one) for one in self.pypi],
            "conda": None if self.conda is None else list(self.conda),
            "channels": [without_credentials(channel) for channel in self.channels],
            "index_url": None if self.index_url is None else without_credentials(self.index_url),
            "extra_indices": [without_credentials(url) for url in self.extra_indices],
            "find_links": [without_credentials(url) for url in self.find_links],
            "constraints": list(self.constraints),
            "overrides": list(self.overrides),
            "prereleases": self.prereleases,
            "exclude_newer": self.exclude_newer,
            "resolver": self.resolver,
            "link_scripts": list(self.link_scripts),
            "virtual_packages": list(self.virtual_packages),
            "platform": self.platform,
            "listing": None if self.listing is None else str(digest_of(repr(self.listing).encode())),
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> EnvRequest:
        """The request that ``to_record`` wrote. Raises RequestError for that of a lock of another tool, which says more."""
        if record.get("listing"):
            raise RequestError("this lock was imported: what asked for its packages is not known; lock its file again.")
        named: dict[str, Any] = {
            one.name: record[one.name] for one in fields(cls) if one.name != "listing" and one.name in record
        }
        named.update({name: tuple(value) for name, value in named.items() if isinstance(value, list)})
        return cls(**named)


def _require_requirement(text: str) -> None:
    try:
        Requirement(text)
    except InvalidRequirement as err:
        reason = str(err).splitlines()[0]
        raise RequestError(f"{text!r} is not a requirement ({reason}); write 'name<2' or 'name==1.2.3'.") from err


def _moment(text: str) -> str:
    """A day or time as a time in UTC; a day counts whole."""
    try:
        if re.fullmatch(r"\d{4}-\d\d-\d\d", text):
            after = date.fromisoformat(text) + timedelta(days=1)
            return f"{after.isoformat()}T00:00:00Z"
        moment = datetime.fromisoformat(re.sub(r"[zZ]$", "+00:00", text))
    except (ValueError, OverflowError) as err:
        raise RequestError(
            f"exclude_newer={text!r} is neither a day nor a time; write '2026-06-01' or '2026-06-01T12:00:00Z'."
        ) from err
    if moment.tzinfo is None:
        raise RequestError(f"exclude_newer={text!r} names no time zone; write '{text}Z' for UTC.")
    return moment.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
