"""What is done when a service has too much to do: all requests of a bucket wait together, as long as it asks for."""

from __future__ import annotations

import random
import threading
import time
import urllib.error
import urllib.request
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from http.client import HTTPException

__all__ = ["LONGEST", "Gate", "asked_pause", "is_throttled"]

LONGEST = 300.0
"""Seconds that a service may ask for; one that asks for more is not waited for."""
_STATUSES = ("429 ", "503 ", "Too Many Requests", "Service Unavailable")
_CODES = ("SlowDown", "TooManyRequests", "ServerBusy", "Throttling", "RequestLimitExceeded", "rateLimitExceeded")
_FIRST, _MOST = 0.5, 30.0


class Gate:
    """Where requests of all threads wait while a service asks for rest."""

    def __init__(self) -> None:
        self._asking = threading.Lock()
        self._until, self._pause = 0.0, _FIRST

    def wait(self) -> float:
        """Return when requests may go on; how long that took."""
        begun = time.monotonic()
        while (rest := self._until - time.monotonic()) > 0:
            time.sleep(rest * (1 + random.random() / 8))  # noqa: S311 - so that not all come back at once
        return time.monotonic() - begun

    def close(self, url: str | None) -> None:
        """Have everybody wait: as long as the service says to who asks for ``url``, otherwise longer each time.

        Raises HTTPException when it asks for more than LONGEST seconds.
        """
        with self._asking:  # one asks, and the others that met the same hear of it
            if self._until > time.monotonic():
                return
            asked = asked_pause(url) if url is not None else None
            if asked is not None and asked > LONGEST:
                raise HTTPException(f"it asks to come back in {asked:,.0f} seconds")
            self._until = time.monotonic() + (asked or self._pause)
            self._pause = min(self._pause * 2, _MOST)

    def opened(self) -> None:
        """A request went through."""
        self._pause = _FIRST


def is_throttled(text: str, code: str | None) -> bool:
    """Whether an error says that the service has too much to do, by its text and its own code."""
    return code in _CODES or (code is None and any(f"status code: {status}" in text for status in _STATUSES))


def asked_pause(url: str) -> float | None:
    """Seconds for which a service asks who reads a signed ``url`` to wait; 0 when it answers, None when it does not tell."""
    request = urllib.request.Request(url, headers={"Range": "bytes=0-0"})  # noqa: S310 - the bucket's own address
    try:
        with urllib.request.urlopen(request, timeout=20):  # noqa: S310
            return 0.0
    except urllib.error.HTTPError as err:
        with err:
            return _seconds(err.headers.get("Retry-After")) if err.code in (429, 503) else 0.0
    except (OSError, HTTPException, ValueError):
        return None


def _seconds(told: str | None) -> float | None:
    """What `Retry-After` says, in seconds or as a date (RFC 9110 section 10.2.3)."""
    if told is None:
        return None
    if told.strip().isdigit():
        return float(told)
    try:
        when = parsedate_to_datetime(told)
    except ValueError:
        return None
    return max(0.0, (when - datetime.now(timezone.utc)).total_seconds()) if when.tzinfo else None
