"""Which files belong to whom: to the flow's tree, to this package, to Python, or to the world outside."""

from __future__ import annotations

import os
import site
import sys
import sysconfig

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dataclasses import dataclass
else:
    from stillrun.light import dataclass

__all__ = ["FACE", "Places", "is_standard_library", "places_of", "python_prefixes"]

FACE = os.path.dirname(os.path.abspath(__file__))
_PACKAGES = (os.sep + "site-packages" + os.sep, os.sep + "dist-packages" + os.sep)


@dataclass(frozen=True)
class Places:
    """Where the captured flow is, and where the user has it."""

    file: str  # the flow file in the captured tree
    source: str  # the same file where the user has it
    tree: str  # root of the captured tree
    source_root: str  # what the root was captured from

    def shown(self, path: str) -> str:
        """A path as the user knows it: one in the tree as the file that it was captured from."""
        if path.startswith(self.tree + os.sep):
            return self.source_root + path[len(self.tree) :]
        return path

    def shown_in(self, text: str) -> str:
        """A traceback with paths as the user knows them."""
        return text.replace(f'File "{self.tree}{os.sep}', f'File "{self.source_root}{os.sep}')


def places_of(file: str, source: str, tree: str | None = None) -> Places:
    """The places of a flow. tree: root of the captured tree; found from what the two paths end with if not given."""
    if tree is None:
        if file == source:
            folder = os.path.dirname(file)
            return Places(file, source, folder, folder)
        here, there = file, source
        while os.path.basename(here) == os.path.basename(there) and os.path.basename(here):
            here, there = os.path.dirname(here), os.path.dirname(there)
        return Places(file, source, here, there)
    inner = os.path.relpath(file, tree)
    there = source[: -len(inner)].rstrip(os.sep) if source.endswith(os.sep + inner) else os.path.dirname(source)
    return Places(file, source, tree.rstrip(os.sep), there)


def _standard_library() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    found = {paths["stdlib"], paths["platstdlib"], os.path.dirname(os.__file__)}
    found |= {os.path.realpath(each) for each in found}
    return tuple(each + os.sep for each in found)


_STANDARD = _standard_library()


def is_standard_library(path: str) -> bool:
    """True for a file of Python's own library."""
    return path.startswith(_STANDARD) and not any(part in path for part in _PACKAGES)


def python_prefixes() -> tuple[str, ...]:
    """Folders of the interpreter and of installed packages, each with a separator at its end."""
    found = {sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix, FACE}
    found |= {each.rstrip(os.sep) for each in _STANDARD}
    try:
        found |= {*site.getsitepackages(), site.getusersitepackages()}
    except (AttributeError, KeyError, OSError):  # a Python started without site, or a user without a home
        found.discard("")
    if sys.pycache_prefix:
        found.add(sys.pycache_prefix)
    found |= {os.path.realpath(each) for each in found}
    # a prefix of "/usr" is right, one of "/" would hide everything
    return tuple(sorted(each.rstrip(os.sep) + os.sep for each in found if each.strip(os.sep)))
