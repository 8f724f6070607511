"""The name of a project in a folder, read from what it says of itself; nothing of it is run."""

from __future__ import annotations

import configparser
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from packaging.utils import canonicalize_name

from stillrun_envs.formats.document import Document
from stillrun_envs.toml import parse_toml

__all__ = ["name_of_project"]


def name_of_project(document: Document, address: str) -> str:
    """The normalised name of the project in the folder at a ``file:`` address that ``document`` names.

    Raises the document's error when there is no such folder, or it does not tell its name without being run.
    """
    folder = Path(unquote(urlsplit(address).path))
    if not folder.is_dir():
        raise document.refused(f"asks for {folder}, which is no folder", "Correct the path.")
    name = _of_pyproject(folder / "pyproject.toml") or _of_setup(folder / "setup.cfg") or _of_info(folder / "PKG-INFO")
    if name is None:
        raise document.refused(
            f"asks for {folder} without a name, and its files do not tell it", f"Write 'name @ {folder.as_uri()}'."
        )
    return canonicalize_name(name)


def _of_pyproject(path: Path) -> str | None:
    try:
        said = parse_toml(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    for table in (said.get("project"), said.get("tool", {}).get("poetry")):
        if isinstance(table, dict) and isinstance(table.get("name"), str):
            return str(table["name"])
    return None


def _of_setup(path: Path) -> str | None:
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(path.read_text("utf-8"))
    except (OSError, ValueError, configparser.Error):
        return None
    return parser.get("metadata", "name", fallback=None)


def _of_info(path: Path) -> str | None:
    try:
        found = re.search(r"(?m)^Name:\s*(\S+)", path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return found[1] if found else None
