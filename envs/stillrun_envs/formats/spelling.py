"""How values are spelt in the files that are written: TOML strings and tables, YAML scalars."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

__all__ = ["toml_list", "toml_table", "toml_text", "yaml_text"]

_PLAIN = re.compile(r"^[A-Za-z_/][A-Za-z0-9_./+=@-]*$|^[A-Za-z][A-Za-z0-9+.-]*://[A-Za-z0-9_./+=@:%~-]*[A-Za-z0-9_/]$")
_WORDS = {"y", "n", "yes", "no", "on", "off", "true", "false", "null", "none"}  # that YAML 1.1 does not read as text


def yaml_text(value: str) -> str:
    """The text as a YAML scalar: as it is when nothing can be misread, else quoted."""
    if _PLAIN.match(value) and value.lower() not in _WORDS:
        return value
    return _quoted(value)


def toml_text(value: str) -> str:
    """The text as a basic TOML string."""
    return _quoted(value)


def toml_list(values: Sequence[str]) -> str:
    """The texts as an array on one line."""
    return f"[{', '.join(map(toml_text, values))}]"


def toml_table(values: Sequence[tuple[str, str]]) -> str:
    """Keys and values that are TOML already as an inline table."""
    return "{ " + ", ".join(f"{key} = {value}" for key, value in values) + " }"


def _quoted(value: str) -> str:
    # JSON's escapes are a part of both formats'; ASCII alone, so that no control or separator character is left bare
    text = json.dumps(value, ensure_ascii=True)
    text = re.sub(r"\\u(d[89ab]..)\\u(d[c-f]..)", _joined, text)
    return text.replace("\x7f", "\\u007f")


def _joined(match: re.Match[str]) -> str:
    code = 0x10000 + ((int(match[1], 16) - 0xD800) << 10) + int(match[2], 16) - 0xDC00
    return f"\\U{code:08X}"
