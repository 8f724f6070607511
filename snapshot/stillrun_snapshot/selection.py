"""Which files belong to a flow's code: what is never taken, what is skipped, and how large it may be.

The rules in words: docs/spec/code.md, section 3.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable
from pathlib import Path

from stillrun_snapshot.deferred import dataclass

__all__ = ["IGNORE_FILE", "CaptureLimits", "IgnoreRules", "LeftOut", "is_secret", "is_source"]

IGNORE_FILE = ".stillrunignore"
MIB = 1024 * 1024
_SECRET_FOLDERS = frozenset({".aws", ".azure", ".docker", ".gcloud", ".gnupg", ".kube", ".ssh"})
_SECRET_NAMES = re.compile(
    r"\.env.*|\.netrc|_netrc|\.pypirc|\.pgpass|\.git-credentials|\.htpasswd|\.boto|\.s3cfg|\.dockercfg|kaggle\.json"
    r"|.*\.(pem|key|p12|pfx|ppk|jks|keystore|kdbx)|id_(rsa|dsa|ecdsa|ed25519).*"
)
_HARMLESS_NAMES = re.compile(r"\.env\.(example|sample|template|dist)")
_SOURCE_SUFFIX = re.compile(
    r".*\.(bash|c|cc|cfg|cpp|css|cuh?|f90|go|graphql|h|hpp|html|ini|ipynb|j2|java|jinja|jl|js|json|lua|md|pl|proto|ps1"
    r"|py|pyi|pyx|pxd|r|rmd|rs|rst|sas|scala|sh|sql|stan|tex|toml|ts|txt|xml|ya?ml|zsh)"
)
_SOURCE_NAMES = frozenset({"dockerfile", "license", "makefile", "notice", "pipfile", "readme", "snakefile"})


@dataclass(frozen=True, kw_only=True)
class CaptureLimits:
    """How much code may be, in bytes and files; beyond ``total`` and ``files`` a capture is refused."""

    source_file: int = 64 * MIB
    data_file: int = 8 * MIB
    total: int = 256 * MIB  # outside git
    git_total: int = 1024 * MIB
    files: int = 20_000  # outside git

    def for_file(self, path: str) -> int:
        """Return the most bytes that the file may have."""
        return self.source_file if is_source(path) else self.data_file


@dataclass(frozen=True)
class LeftOut:
    """A file that is not part of the captured code, and why."""

    path: str
    size: int
    reason: str


def is_secret(path: str) -> bool:
    """Return whether a path relative to the root names what must never be kept, such as keys and passwords."""
    *folders, name = path.lower().split("/")
    if not _SECRET_FOLDERS.isdisjoint(folders):
        return True
    if name == "secrets.toml" and ".streamlit" in folders:
        return True
    return bool(_SECRET_NAMES.fullmatch(name)) and not _HARMLESS_NAMES.fullmatch(name)


def is_source(path: str) -> bool:
    """Return whether a file is read by people, going by its name; such files may be larger."""
    name = path.rsplit("/", 1)[-1].lower()
    return bool(_SOURCE_SUFFIX.fullmatch(name)) or name in _SOURCE_NAMES


class IgnoreRules:
    """The patterns of a ``.stillrunignore`` file; the last one that matches a path decides."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._rules = [rule for line in lines if (rule := _rule(line)) is not None]

    @classmethod
    def of(cls, root: Path) -> IgnoreRules:
        """Return the rules that stand in ``root``, none when there is no file of them."""
        try:
            text = (root / IGNORE_FILE).read_text(encoding="utf-8", errors="replace")
        except (FileNotFoundError, IsADirectoryError):
            text = ""
        return cls(text.splitlines())

    def __bool__(self) -> bool:
        return bool(self._rules)

    def drop_folder(self, path: str) -> bool:
        """Return whether the folder at ``path`` is ignored by a pattern of its own."""
        return self._drops(path, folder=True)

    def drop_file(self, path: str) -> bool:
        """Return whether the file or one of the folders above it is ignored."""
        parts = path.split("/")
        above = ("/".join(parts[:count]) for count in range(1, len(parts)))
        return any(self._drops(folder, folder=True) for folder in above) or self._drops(path, folder=False)

    def _drops(self, path: str, *, folder: bool) -> bool:
        dropped = False
        name = path.rsplit("/", 1)[-1]
        for negated, anchored, folders_only, pattern in self._rules:
            if folders_only and not folder:
                continue
            if pattern.fullmatch(path if anchored else name):
                dropped = not negated
        return dropped


def _rule(line: str) -> tuple[bool, bool, bool, re.Pattern[str]] | None:
    text = line.strip()
    if not text or text.startswith("#"):
        return None
    negated, text = text.startswith("!"), text.removeprefix("!")
    folders_only, text = text.endswith("/"), text.rstrip("/")
    anchored, text = "/" in text, text.removeprefix("/")
    return negated, anchored, folders_only, re.compile(fnmatch.translate(text))
