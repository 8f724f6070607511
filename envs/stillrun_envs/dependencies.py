"""Why a package is in a lock, and how two locks differ: read from what the kept packages say that they need."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import Literal

from packaging.markers import default_environment
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from stillrun_envs.contents import package_facts, supplied_distributions
from stillrun_envs.errors import LockError
from stillrun_envs.hints import read_hints
from stillrun_envs.lock import Lock, PinnedPackage, read_lock
from stillrun_envs.platforms import PLATFORMS, Target, platform_of
from stillrun_snapshot.deferred import dataclass
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.errors import StoreError
from stillrun_snapshot.store import Store

__all__ = ["Chain", "Change", "chains_to", "changes_between", "needs_within"]

Kind = Literal["added", "removed", "changed"]
Chain = tuple[str, ...]  # "pandas >=2", "numpy >=1.26": from what was asked for to the package
_Node = tuple[str, str]  # manager, name


@dataclass(frozen=True)
class Change:
    """One package, or Python, that two locks do not have in common."""

    kind: Kind
    manager: str  # "conda", "pypi", or "python" for the interpreter
    name: str
    before: str  # version and build; empty when it was not there
    after: str
    why: Chain  # in the lock that has it, the newer one first; empty when nothing is known to ask for it


def changes_between(store: Store, before: Digest, after: Digest) -> list[Change]:
    """How ``after`` differs from ``before``: packages by name, with the shortest reason why each is there."""
    old, new = _Needs(store, before), _Needs(store, after)
    found = []
    if _python(old.lock) != _python(new.lock):
        found.append(Change("changed", "python", "python", _python(old.lock), _python(new.lock), ()))
    for node in sorted(old.packages.keys() | new.packages.keys()):
        one, other = old.packages.get(node), new.packages.get(node)
        if one is not None and other is not None and one.digest == other.digest:
            continue
        kind: Kind = "added" if one is None else "removed" if other is None else "changed"
        told = (_version(one, other), _version(other, one))
        why = next(iter((old if other is None else new).chains(node)), ())
        found.append(Change(kind, *node, *told, why))
    return found


def chains_to(store: Store, lock: Digest, name: str) -> list[Chain]:
    """Every shortest way from something that was asked for to the package ``name``, one for each thing asked for.

    Raises LockError when the lock has no such package.
    """
    needs = _Needs(store, lock)
    nodes = [node for node in needs.packages if canonicalize_name(node[1]) == canonicalize_name(name)]
    if not nodes:
        raise LockError(f"lock {lock.hex[:12]} has no package {name}; 'stillrun env show' lists what it has.")
    return [chain for node in nodes for chain in needs.chains(node)]


def needs_within(store: Store, lock: Digest) -> dict[Digest, tuple[Digest, ...]]:
    """For each package whose file is here and can be read: the packages of the same lock that it asks for, by digest."""
    needs, found = _Needs(store, lock), dict[Digest, tuple[Digest, ...]]()
    for one in needs.packages.values():
        try:
            nodes = {node for node, _ in needs.of(one)}
        except (LockError, StoreError):
            continue
        found[one.digest] = tuple(sorted(needs.packages[node].digest for node in nodes))
    return found


class _Needs:
    """What asks for what in one lock."""

    def __init__(self, store: Store, digest: Digest) -> None:
        self.store = store
        self.lock = read_lock(store, digest)
        self.packages: Mapping[_Node, PinnedPackage] = {(one.manager, one.name): one for one in self.lock.packages}
        self.requested = read_hints(store, digest).requested()

    def chains(self, wanted: _Node) -> list[Chain]:
        """The shortest way from each root to ``wanted``, shortest first."""
        found = []
        for node, text in self._roots:
            chain = self._shortest(node, text, wanted)
            if chain is not None:
                found.append(chain)
        return sorted(found, key=lambda chain: (len(chain), chain))

    def _shortest(self, root: _Node, text: str, wanted: _Node) -> Chain | None:
        waiting: deque[tuple[_Node, Chain]] = deque([(root, (text,))])
        seen = {root}
        while waiting:
            node, chain = waiting.popleft()
            if node == wanted:
                return chain
            for needed, said in self._edges.get(node, ()):
                if needed not in seen:
                    seen.add(needed)
                    waiting.append((needed, (*chain, said)))
        return None

    @cached_property
    def _roots(self) -> list[tuple[_Node, str]]:
        asked = [(node, text) for text in self.requested if (node := self._node(text)) is not None]
        if asked:
            return asked
        needed = {node for edges in self._edges.values() for node, _ in edges}
        return [(node, node[1]) for node in self.packages if node not in needed]

    def _node(self, text: str) -> _Node | None:
        name = re.split(r"[\s<>=!~\[;@]", text.rpartition("::")[2], maxsplit=1)[0]
        for node in (("conda", name.lower()), ("pypi", canonicalize_name(name))):
            if node in self.packages:
                return node
        return self._supplied.get(canonicalize_name(name))

    @cached_property
    def _supplied(self) -> dict[str, _Node]:
        """Python distributions that conda packages bring under another name."""
        archives = self.lock.of("conda")
        return {name: ("conda", one.name) for one in archives for name in supplied_distributions(self.store, [one])}

    @cached_property
    def _edges(self) -> dict[_Node, list[tuple[_Node, str]]]:
        return {node: list(self.of(one)) for node, one in self.packages.items()}

    def of(self, one: PinnedPackage) -> Iterator[tuple[_Node, str]]:
        """What a package asks for of the lock, and how it says so."""
        for text in package_facts(self.store, one).depends:
            if one.manager == "conda":
                node = ("conda", text.split(" ")[0].rpartition("::")[2].lower())
                if node in self.packages:
                    yield node, text
            else:
                yield from self._wheel_needs(text)

    def _wheel_needs(self, text: str) -> Iterable[tuple[_Node, str]]:
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            return  # a malformed line of an old package asks for nothing
        # an extra's needs count when they are in the lock: who asked for the extra is not told here
        extras = [""] if requirement.marker is None else ["", *re.findall(r"extra == ['\"]([^'\"]+)", text)]
        if requirement.marker is not None and not any(
            requirement.marker.evaluate({**self._markers, "extra": extra}) for extra in extras
        ):
            return
        node = self._node(requirement.name)
        if node is not None:
            yield node, f"{requirement.name} {requirement.specifier}".strip()

    @cached_property
    def _markers(self) -> dict[str, str]:
        python = self.lock.python
        try:
            platform = platform_of(python.platform)
        except LockError:
            platform = ""
        if platform in PLATFORMS:
            return Target(platform, python.version, python.implementation).markers()
        here = {name: str(value) for name, value in default_environment().items()}
        return {**here, "python_full_version": python.version, "python_version": python.family}


def _python(lock: Lock) -> str:
    python = lock.python
    kept = "" if python.digest is None else f", object {python.digest.hex[:12]}"
    return f"{python.version} ({python.platform}{kept})"


def _version(one: PinnedPackage | None, other: PinnedPackage | None) -> str:
    """The version, and more where that alone does not tell one from the other."""
    if one is None:
        return ""
    if other is None or one.version != other.version:
        return one.version
    told = one.build if one.build != other.build else one.file if one.file != other.file else one.digest.hex[:12]
    return f"{one.version} ({told})"
