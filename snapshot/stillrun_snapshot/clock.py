"""The clock as a value that is passed in, and its form in records: RFC 3339, UTC, milliseconds."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone

__all__ = ["Clock", "timestamp", "utc_now"]

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """Return the present time, in UTC."""
    return datetime.now(timezone.utc)


def timestamp(moment: datetime) -> str:
    """Return ``moment`` as records hold it: ``2026-11-23T04:00:00.123Z``."""
    return moment.astimezone(timezone.utc).isoformat(timespec="milliseconds")[:23] + "Z"
