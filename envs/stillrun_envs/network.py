"""The way to indexes and channels: proxies, certificates, credentials and patience, as the user's environment sets them."""

from __future__ import annotations

import netrc
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from urllib.parse import unquote, urlsplit

import urllib3

__all__ = ["Network", "index_environment"]

_CONNECTIONS = 16  # to one host
_CERTIFICATES = ("SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
# pip's variables and the ones of uv that mean the same; one of uv's, where set, wins
_PIP_TO_UV = (
    ("PIP_INDEX_URL", "UV_DEFAULT_INDEX", ("UV_DEFAULT_INDEX", "UV_INDEX_URL")),
    ("PIP_EXTRA_INDEX_URL", "UV_EXTRA_INDEX_URL", ("UV_INDEX", "UV_EXTRA_INDEX_URL")),
    ("PIP_CERT", "SSL_CERT_FILE", ("SSL_CERT_FILE",)),
)
_INDEX_VARIABLES = ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX", "UV_EXTRA_INDEX_URL")


def index_environment(
    environ: Mapping[str, str], index_url: str | None = None, extra_indices: Iterable[str] = ()
) -> dict[str, str]:
    """``environ`` for uv: with pip's settings where uv has none, and the request's indexes before all others.

    Addresses travel in variables, not in arguments: arguments can be read by every user of the machine.
    """
    found = dict(environ)
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
    return found


@dataclass(frozen=True)
class Network:
    """How files are fetched."""

    environ: Mapping[str, str]
    addresses: tuple[str, ...] = ()  # of indexes and channels; what they hold of credentials counts for their host
    _pools: dict[str, urllib3.PoolManager] = field(default_factory=dict, repr=False, compare=False)

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
            if parts.username and (parts.scheme, parts.hostname, parts.port) == (
                wanted.scheme,
                wanted.hostname,
                wanted.port,
            ):
                return unquote(parts.username), unquote(parts.password or "")
        found = self._netrc.authenticators(wanted.hostname) if self._netrc and wanted.hostname else None
        return (found[0], found[2]) if found and found[2] is not None else None

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
