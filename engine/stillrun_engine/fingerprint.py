"""What of the captured code each step stands on, without running any of it.

A step's own code is the text of its method as Python parses it: comments, blank lines and its place in the file do not
count. All other code (helpers, other modules, the class around the steps) counts for every step, since a step may call
it: a change there is a change of every step. That is more than needs be at times, and never too little.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from stillrun_snapshot.digest import Digest, digest_of
from stillrun_snapshot.record import canonical_bytes
from stillrun_snapshot.store import Store
from stillrun_snapshot.tree import Entry, FileEntry, tree_files

__all__ = ["CodeOf", "StepCode", "code_of"]

# they say how a step is kept or judged, not what it does; its environment is compared apart
_NOT_CODE = frozenset({"step", "pypi", "conda", "pypi_base", "conda_base", "tolerance", "volatile"})


@dataclass(frozen=True)
class StepCode:
    """The code of one step, and where it stands in the flow file."""

    digest: Digest
    first: int
    last: int


@dataclass(frozen=True)
class CodeOf:
    """The code of a captured flow, taken apart. rest: a digest for each other piece of code, by its path."""

    steps: Mapping[str, StepCode]
    rest: Mapping[str, Digest]

    def differs(self, other: CodeOf, step: str) -> str | None:
        """What of ``step``'s code is another in ``other``, in words; None when nothing is."""
        if step not in self.steps or step not in other.steps:
            return f"{step} was not there" if step not in self.steps else f"{step} is not there any more"
        if self.steps[step].digest != other.steps[step].digest:
            return f"code of {step} changed: lines {other.steps[step].first}-{other.steps[step].last}"
        changed = [path for path in sorted({*self.rest, *other.rest}) if self.rest.get(path) != other.rest.get(path)]
        if changed:
            more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
            return f"code outside of the steps changed: {changed[0]}{more}"
        return None


def code_of(store: Store, tree: Digest, flow_file: str, flow: str, steps: list[str], *, strict: bool) -> CodeOf:
    """The code of the flow ``flow`` in ``flow_file`` of a captured tree.

    strict: every file of the tree is code; otherwise Python's alone, and other files count where a step read them.
    """
    found: dict[str, StepCode] = {}
    rest: dict[str, Digest] = {}
    for path, entry in tree_files(store, tree):
        if path == flow_file and isinstance(entry, FileEntry):
            found, rest[path] = _taken_apart(store.get(entry.digest), flow, frozenset(steps))
        elif strict or path.endswith(".py"):
            rest[path] = _whole(entry)
    return CodeOf(found, rest)


def _taken_apart(source: bytes, flow: str, steps: frozenset[str]) -> tuple[dict[str, StepCode], Digest]:
    """The steps that the flow's class defines, and a digest of what is left of the file without them."""
    try:
        module = ast.parse(source)
    except (SyntaxError, ValueError):  # of a newer Python than ours: the file counts as it is
        return {name: StepCode(digest_of(source), 1, source.count(b"\n")) for name in steps}, digest_of(source)
    found = {}
    for owner in _classes(module):
        if owner.name != flow:
            continue
        for node in list(owner.body):
            if isinstance(node, ast.FunctionDef) and node.name in steps:
                owner.body.remove(node)
                node.decorator_list = [each for each in node.decorator_list if _name(each) not in _NOT_CODE]
                first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
                found[node.name] = StepCode(_dumped(node), first, node.end_lineno or node.lineno)
        owner.decorator_list = [each for each in owner.decorator_list if _name(each) not in _NOT_CODE]
    inherited = {
        name: StepCode(digest_of(b"inherited"), 1, 1) for name in steps - found.keys()
    }  # its file is in the rest
    return {**inherited, **found}, _dumped(module)


def _classes(module: ast.Module) -> Iterator[ast.ClassDef]:
    return (node for node in ast.walk(module) if isinstance(node, ast.ClassDef))


def _name(decorator: ast.expr) -> str:
    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    return called.attr if isinstance(called, ast.Attribute) else called.id if isinstance(called, ast.Name) else ""


def _dumped(node: ast.AST) -> Digest:
    return digest_of(ast.dump(node, include_attributes=False).encode("utf-8", "surrogatepass"))


def _whole(entry: Entry) -> Digest:
    if isinstance(entry, FileEntry):
        return entry.digest
    return digest_of(canonical_bytes({"link": entry.target}))
