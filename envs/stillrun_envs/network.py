"""The way to indexes and channels: proxies, certificates, credentials and patience, as the user's environment sets them."""

from __future__ import annotations

import configparser
import netrc
import os
import shutil
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import field
from functools import cached_property
from pathlib import Path
from urllib.parse import unquote, urlsplit

import urllib3

from stillrun_envs import command
from stillrun_snapshot.deferred import dataclass

__all__ = ["Network", "index_environment"]

_CONNECTIONS = 16  # to one host
_CERTIFICATES = ("SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
# pip's variables and the ones of uv that mean the same; one of uv's, where set, wins
_PIP_TO_UV = (
    ("PIP_INDEX_URL", "UV_DEFAULT_INDEX", ("UV_DEFAULT_INDEX", "UV_INDEX_URL")),
    ("PIP_EXTRA_INDEX_URL", "UV_EXTRA_INDEX_URL", ("UV_INDEX", "UV_EXTRA_INDEX_URL")),
    ("PIP_CERT", "SSL_CERT_FILE", ("SSL_CERT_FILE",)),
)
_PIP_VARIABLES = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_NO_INDEX")
_PIP_SETTINGS = {
    "index-url": "PIP_INDEX_URL",
    "extra-index-url": "PIP_EXTRA_INDEX_URL",
    "find-links": "PIP_FIND_LINKS",
    "cert": "PIP_CERT",
}
_INDEX_VARIABLES = ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX", "UV_EXTRA_INDEX_URL")


def index_environment(
    environ: Mapping[str, str],
    index_url: str | None = None,
    extra_indices: Iterable[str] = (),
    find_links: Iterable[str] = (),
) -> dict[str, str]:
    """``environ`` for uv: with pip's settings where uv has none, and the request's indexes before all others.

    Addresses travel in variables, not in arguments: arguments can be read by every user of the machine.
    """
    found = {**_of_pip_files(environ), **environ}
    for name, becomes, unless in _PIP_TO_UV:
        if found.get(name) and not any(found.get(other) for other in unless):
            found[becomes] = found[name]
    links = [place for place in found.get("PIP_FIND_LINKS", "").split() if "://" in place or Path(place).is_dir()]
    if links and not found.get("UV_FIND_LINKS"):
        found["UV_FIND_LINKS"] = ",".join(links)
    if index_url is not None:
        found.pop("UV_INDEX_URL", None)
        found["UV_DEFAULT_INDEX"] = index_url
    extra = list(extra_indices)
    if extra:
        found["UV_INDEX"] = " ".join([*extra, *found.get("UV_INDEX", "").split()])
    asked = list(find_links)
    if asked:
        found["UV_FIND_LINKS"] = ",".join([*asked, *filter(None, [found.get("UV_FIND_LINKS", "")])])
    return found


def _of_pip_files(environ: Mapping[str, str]) -> dict[str, str]:
    """What pip's configuration files say of indexes, as pip's variables; nothing where any variable or uv's file does."""
    home = Path(environ.get("HOME") or "/nonexistent")
    settings = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
    told = any(environ.get(name) for name in (*_INDEX_VARIABLES, "UV_NO_INDEX", "UV_FIND_LINKS", *_PIP_VARIABLES))
    if told or any(path.is_file() for path in (settings / "uv/uv.toml", Path("/etc/uv/uv.toml"))):
        return {}
    named = environ.get("PIP_CONFIG_FILE")
    files = [Path("/etc/pip.conf"), home / ".pip/pip.conf", settings / "pip/pip.conf"]
    files += [Path(environ["VIRTUAL_ENV"]) / "pip.conf"] if environ.get("VIRTUAL_ENV") else []
    parser = configparser.RawConfigParser()
    for path in [*files, *([Path(named)] if named else [])] if named != os.devnull else []:
        try:
            parser.read_string(path.read_text("utf-8"))
        except (OSError, ValueError, configparser.Error):
            continue  # pip itself tells what is wrong with it
    found = {}
    for key, name in _PIP_SETTINGS.items():
        value = next((parser.get(part, key) for part in ("install", "global") if parser.has_option(part, key)), "")
        if value:
            found[name] = " ".join(value.split())
    return found


@dataclass(frozen=True)
class Network:
    """How files are fetched."""

    environ: Mapping[str, str]
    addresses: tuple[str, ...] = ()  # of indexes and channels; what they hold of credentials counts for their host
    _pools: dict[str, urllib3.PoolManager] = field(default_factory=dict, repr=False, compare=False)
    _asked: dict[tuple[str, str], str] = field(default_factory=dict, repr=False, compare=False)  # of the keyring

    @property
    def retries(self) -> int:
        """How often a failed request is sent again."""
        text = self.environ.get("UV_HTTP_RETRIES", "")
        return int(text) if text.isdigit() else 3

    @property
    def read_timeout_s(self) -> int:
        """How long a silent connection is waited for."""
        text = self.environ.get("UV_HTTP_TIMEOUT", "")
        return int(text) if text.isdigit() and int(text) else 60

    def open(self, url: str, *, accept: str = "*/*") -> urllib3.BaseHTTPResponse:
        """The response to a request for ``url``, its body not yet read; raises urllib3's HTTPError."""
        retry = urllib3.Retry(
            total=self.retries,
            redirect=10,
            backoff_factor=0.5,
            status_forcelist=(429, 500, 502, 503, 504),
            raise_on_status=False,
        )
        return self._pool(url).request(
            "GET",
            _without_user(url),
            headers={**self._headers(url), "Accept": accept},
            preload_content=False,
            retries=retry,
            timeout=urllib3.Timeout(connect=20, read=self.read_timeout_s),
        )

    def proxy(self, url: str) -> str:
        """The proxy for an address; empty for none."""
        scheme, host = urlsplit(url).scheme, urlsplit(url).hostname or ""
        named = {name.lower(): value for name, value in self.environ.items() if name.lower().endswith("_proxy")}
        if _bypassed(host, named.get("no_proxy", "")):
            return ""
        return named.get(f"{scheme}_proxy") or named.get("all_proxy") or ""

    def _headers(self, url: str) -> dict[str, str]:
        found = self.credentials(url)
        headers = {"Accept-Encoding": "identity", "User-Agent": "stillrun"}
        if found is not None:
            headers.update(urllib3.make_headers(basic_auth=":".join(found)))
        return headers

    def credentials(self, url: str) -> tuple[str, str] | None:
        """User and password for an address: from itself, from an index on the same host and port, or from .netrc."""
        wanted = urlsplit(url)
        for address in (url, *self.addresses, *_addresses(self.environ)):
            parts = urlsplit(address)
            if (
                parts.username
                and parts.password is not None
                and (parts.scheme, parts.hostname, parts.port)
                == (
                    wanted.scheme,
                    wanted.hostname,
                    wanted.port,
                )
            ):
                return unquote(parts.username), unquote(parts.password or "")
        found = self._netrc.authenticators(wanted.hostname) if self._netrc and wanted.hostname else None
        if found and found[2] is not None:
            return found[0], found[2]
        return self._of_keyring(url)

    def _of_keyring(self, url: str) -> tuple[str, str] | None:
        """What the ``keyring`` program on the path knows, where uv or pip were told to ask it."""
        asked = {self.environ.get(name) for name in ("UV_KEYRING_PROVIDER", "PIP_KEYRING_PROVIDER")}
        program = shutil.which("keyring", path=self.environ.get("PATH")) if "subprocess" in asked else None
        if program is None:
            return None
        bare, parts = _without_user(url), urlsplit(url)
        user = parts.username or self._index_user(parts.hostname) or "__token__"
        for service in (bare, parts.hostname or ""):
            if (service, user) not in self._asked:
                ended = command.run([program, "get", service, user], environ=self.environ, limit_s=30)
                self._asked[service, user] = ended.output.strip() if ended.code == 0 else ""
            if self._asked[service, user]:
                return user, self._asked[service, user]
        return None

    def _index_user(self, host: str | None) -> str | None:
        """The user that an index address on the same host names without a password."""
        found = (urlsplit(address) for address in (*self.addresses, *_addresses(self.environ)))
        return next((unquote(one.username) for one in found if one.hostname == host and one.username), None)

    @cached_property
    def _netrc(self) -> netrc.netrc | None:
        place = self.environ.get("NETRC") or Path(self.environ.get("HOME", "/")) / ".netrc"
        try:
            return netrc.netrc(str(place))
        except (OSError, netrc.NetrcParseError):
            return None  # most people have none

    def _pool(self, url: str) -> urllib3.PoolManager:
        proxy = self.proxy(url)
        if proxy not in self._pools:
            self._pools[proxy] = (
                urllib3.ProxyManager(proxy, ssl_context=self._tls, maxsize=_CONNECTIONS)
                if proxy
                else urllib3.PoolManager(ssl_context=self._tls, maxsize=_CONNECTIONS)
            )
        return self._pools[proxy]

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        named = next((self.environ[name] for name in _CERTIFICATES if self.environ.get(name)), None)
        context = ssl.create_default_context()
        if named and Path(named).is_file():
            context.load_verify_locations(cafile=named)
        elif named and Path(named).is_dir():
            context.load_verify_locations(capath=named)
        return context


def _addresses(environ: Mapping[str, str]) -> list[str]:
    return [
        word for name in _INDEX_VARIABLES for word in environ.get(name, "").replace("=", " ").split() if "://" in word
    ]


def _bypassed(host: str, no_proxy: str) -> bool:
    """Whether ``no_proxy`` names the host, a domain above it, or everything."""
    names = [name.strip().lstrip(".").lower() for name in no_proxy.split(",") if name.strip()]
    return any(name == "*" or host == name or host.endswith("." + name) for name in names)


def _without_user(url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
