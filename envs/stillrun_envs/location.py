"""Addresses of packages and indexes, and what may be written down of them."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

__all__ = ["file_name", "local_path", "without_credentials", "without_credentials_in"]

_TOKEN = re.compile(r"/t/[^/]+(?=/|$)")  # conda channels carry a token in the path: /t/<token>/channel
_USER = re.compile(r"://[^/?#]*@")
_ACCOUNTS = ("ssh", "git+ssh")
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*://[^\s'\"<>]+")


def without_credentials(url: str) -> str:
    """The address without user, password, conda token, query and fragment; other text unchanged.

    The user of an ssh address stays: it is the account of the service, 'git', and no secret.
    """
    if "://" not in url:
        return url
    try:
        parts = urlsplit(url)
    except ValueError:  # such as https://[host, which is no address but may hold a password
        return re.split(r"[?#]", _USER.sub("://", url), maxsplit=1)[0]
    user, at, host = parts.netloc.rpartition("@")
    if parts.scheme in _ACCOUNTS:
        host = f"{user.partition(':')[0]}{at}{host}"
    return urlunsplit((parts.scheme, host, _TOKEN.sub("", parts.path), "", ""))


def without_credentials_in(text: str) -> str:
    """The text with the credentials of every address in it taken out."""

    def cleaned(match: re.Match[str]) -> str:
        found = match.group()
        address = found.rstrip(").,;:]}`")
        return without_credentials(address) + found[len(address) :]

    return _ADDRESS.sub(cleaned, text)


def local_path(url: str) -> Path | None:
    """The file that a ``file:`` address names; None for any other address."""
    parts = urlsplit(url)
    return Path(unquote(parts.path)) if parts.scheme == "file" else None


def file_name(url: str) -> str:
    """The last part of the address, decoded."""
    return unquote(urlsplit(url).path.rpartition("/")[2])
