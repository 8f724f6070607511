"""TOML as text becomes values; the standard library's parser where there is one."""

from __future__ import annotations

import importlib
import sys
from typing import Any

__all__ = ["parse_toml"]

_parser = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")


def parse_toml(text: str) -> dict[str, Any]:
    """The document's values. Raises ValueError for text that is not TOML, RecursionError when it is nested too deeply."""
    found: dict[str, Any] = _parser.loads(text)
    return found
