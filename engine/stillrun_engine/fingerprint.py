"""What of the captured code each step stands on, without running any of it.

A step stands on its own method and on every piece of the tree that it can reach by name: functions, classes, constants,
other methods of the flow, and theirs; and on what runs when the modules that the flow imports are imported. Where a name
is made up at run time (eval, importlib, unpickling a file, ...), on all of the tree. Comments, blank lines and places in a
file do not count. It is more than needs be at times, and never too little.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from dataclasses import field
from functools import cached_property

from stillrun_engine.mentions import LISTING
from stillrun_engine.modules import LOOSE, Importer, Module, Uses, dumped, imports_of, is_dynamic, uses_of
from stillrun_engine.variables import READING
from stillrun_snapshot.deferred import dataclass
from stillrun_snapshot.digest import Digest, digest_of
from stillrun_snapshot.record import canonical_bytes
from stillrun_snapshot.store import Store
from stillrun_snapshot.tree import Entry, FileEntry, tree_files

__all__ = ["NOT_CODE", "CodeOf", "Reached"]

# they say how a step is kept or judged, not what it does; its environment is compared apart
NOT_CODE = frozenset(
    {
        "step",
        "pypi",
        "conda",
        "pypi_base",
        "conda_base",
        "tolerance",
        "volatile",
        "retry",
        "timeout",
        "resources",
        "card",
    }
    | {"batch", "kubernetes", "schedule", "trigger", "trigger_on_finish", "exit_hook"}
)

_VALUES = frozenset({"Config", "IncludeFile", "Parameter"})
"""What stands for a value that is recorded with the run."""

Piece = tuple[str, str]
"""A module's path and a name in it; LOOSE for what runs when it is imported."""


@dataclass(frozen=True)
class Reached:
    """What a step stands on. pieces: a digest for each, by its name to people; attributes: what it may ask the flow for.

    attributes is None when that may be anything. words: the texts in it; beside: whether it lists the folder of a module.
    reads_variables: whether it may look at environment variables.
    """

    own: Digest
    lines: tuple[int, int]
    pieces: Mapping[str, Digest]
    attributes: frozenset[str] | None
    words: frozenset[str] = frozenset()
    beside: bool = False
    reads_variables: bool = False

    def differs(self, other: Reached, step: str) -> str | None:
        """What of it is another in ``other``, in words; None when nothing is."""
        if self.own != other.own:
            return f"code of {step} changed: lines {other.lines[0]}-{other.lines[1]}"
        names = sorted({*self.pieces, *other.pieces})
        changed = [name for name in names if self.pieces.get(name) != other.pieces.get(name)]
        if changed:
            more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
            return f"code that {step} may use changed: {changed[0]}{more}"
        return None


class CodeOf:
    """The code of the flow ``flow`` in ``flow_file`` of a captured tree.

    strict: every file of the tree counts for every step; otherwise Python's alone, and other files where a step read them.
    """

    def __init__(self, store: Store, tree: Digest, flow_file: str, flow: str, *, strict: bool) -> None:
        self._files = dict(tree_files(store, tree))
        self._store, self._strict = store, strict
        self._importer = Importer(self._files, flow_file, self._source)
        self._flow = _Flow(self._importer.module(flow_file), flow_file, flow)
        self._known: dict[tuple[str, frozenset[tuple[str, str]]], Reached | None] = {}

    def step(self, name: str, classes: frozenset[tuple[str, str]] = frozenset()) -> Reached | None:
        """What a step stands on; None when there is none of that name.

        classes: modules and names that the values it is given refer to.
        """
        key = (name, classes)
        if key not in self._known:
            self._known[key] = self._reached(name, classes)
        return self._known[key]

    @property
    def files(self) -> Mapping[str, Entry]:
        """Every file of the tree, by its path."""
        return self._files

    @cached_property
    def modules(self) -> Mapping[str, str]:
        """The modules of the tree: path by dotted name."""
        return self._importer.names()

    def _reached(self, name: str, classes: frozenset[tuple[str, str]]) -> Reached | None:
        method = self._flow.steps.get(name)
        if method is None and not self._flow.may_inherit:
            return None
        if method is None or self._strict:
            own, lines = (dumped([method]), _lines(method)) if method else (digest_of(b"inherited"), (1, 1))
            return self._of_everything(own, lines)
        walk = _Walk(self._importer, self._flow)
        walk.through(method, classes)
        if walk.dynamic:
            return self._of_everything(dumped([method]), _lines(method))
        pieces = {_told(piece): dumped(self._statements(piece)) for piece in walk.seen}
        pieces.update({path: self._whole(path) for path in walk.whole})
        attributes = None if walk.whole_self else frozenset(walk.attributes)
        beside = "__file__" in walk.roots and not LISTING.isdisjoint(walk.attributes | walk.roots)
        variables = not READING.isdisjoint(walk.attributes | walk.roots)
        return Reached(dumped([method]), _lines(method), pieces, attributes, frozenset(walk.words), beside, variables)

    def _statements(self, piece: Piece) -> list[ast.stmt]:
        path, name = piece
        member = self._flow.member(path, name)
        if member is not None:
            return [member]
        module = self._importer.module(path)
        if module is None:
            return []
        return [each for each in module.statements(name) if each is not self._flow.node] + (
            self._flow.header if path == self._flow.path and name == LOOSE else []
        )

    def _of_everything(self, own: Digest, lines: tuple[int, int]) -> Reached:
        return Reached(own, lines, self._everything(), None, self._all_words, beside=True, reads_variables=True)

    @cached_property
    def _all_words(self) -> frozenset[str]:
        """The texts in all Python of the tree that can be parsed."""
        found: set[str] = set()
        for path in self._files:
            module = self._importer.module(path) if path.endswith(".py") else None
            if module is not None:
                uses = uses_of([*module.loose, *(each for name in module.names for each in module.names[name])])
                found |= uses.words
        return frozenset(found)

    def _everything(self) -> dict[str, Digest]:
        """A digest for each file of code; of the flow file without its steps."""
        found = {path: self._whole(path) for path in self._files if self._strict or path.endswith(".py")}
        if self._flow.rest is not None:
            found[self._flow.path] = self._flow.rest
        return found

    def _whole(self, path: str) -> Digest:
        return _digest_of_entry(self._files[path])

    def _source(self, path: str) -> bytes:
        entry = self._files[path]
        return self._store.get(entry.digest) if isinstance(entry, FileEntry) else b"\0"  # a link is not parsed


class _Flow:
    """The flow's class, taken apart: its steps, its other members by ``Class.name``, and what else stands in it."""

    def __init__(self, module: Module | None, path: str, name: str) -> None:
        self.path, self.name = path, name
        self.node: ast.ClassDef | None = None
        self.steps: dict[str, ast.FunctionDef] = {}
        self.members: dict[str, ast.stmt] = {}
        self.header: list[ast.stmt] = []
        self.rest: Digest | None = None
        if module is not None:
            found = [each for each in module.statements(name) if isinstance(each, ast.ClassDef)]
            if len(found) == 1:
                self._take_apart(module, found[0])

    @property
    def may_inherit(self) -> bool:
        """Whether steps may stand elsewhere than in the class: in a base, or in a file that cannot be parsed."""
        return self.node is None or any(_last(base) != "FlowSpec" for base in self.node.bases)

    def member(self, path: str, name: str) -> ast.stmt | None:
        """What stands for ``Class.name`` in the flow's file, a step included."""
        if path != self.path or not name.startswith(self.name + "."):
            return None
        return self.members.get(name) or self.steps.get(name[len(self.name) + 1 :])

    def _take_apart(self, module: Module, node: ast.ClassDef) -> None:
        self.node = node
        loose: list[ast.stmt] = []
        for each in node.body:
            if isinstance(each, ast.FunctionDef) and any(_last(one) == "step" for one in each.decorator_list):
                each.decorator_list = [one for one in each.decorator_list if _last(one) not in NOT_CODE]
                self.steps[each.name] = each
            elif isinstance(each, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                self.members[f"{node.name}.{each.name}"] = each
            elif isinstance(each, ast.Assign) and len(each.targets) == 1 and isinstance(each.targets[0], ast.Name):
                if isinstance(each.value, ast.Call) and _last(each.value) in _VALUES:
                    continue  # its value counts, where a step uses it
                self.members[f"{node.name}.{each.targets[0].id}"] = each
            else:
                loose.append(each)
        node.decorator_list = [one for one in node.decorator_list if _last(one) not in NOT_CODE]
        bases: list[ast.expr] = [*node.bases, *(one.value for one in node.keywords), *node.decorator_list]
        self.header = [*(ast.Expr(each) for each in bases), *loose]
        others = [each for name in module.names for each in module.names[name] if each is not node]
        self.rest = dumped([*others, *module.loose, *self.header, *self.members.values()])


@dataclass
class _Walk:
    """Everything that a step reaches, from name to name."""

    importer: Importer
    flow: _Flow
    seen: set[Piece] = field(default_factory=set)
    whole: set[str] = field(default_factory=set)  # modules that cannot be parsed
    attributes: set[str] = field(default_factory=set)
    words: set[str] = field(default_factory=set)
    roots: set[str] = field(default_factory=set)  # what dotted names begin with
    whole_self: bool = False
    dynamic: bool = False
    _waiting: list[Piece] = field(default_factory=list)

    def through(self, method: ast.FunctionDef, classes: Iterable[tuple[str, str]]) -> None:
        """Walk from a step's method, and from what its inputs refer to."""
        self._module(self.flow.path)
        self._uses(uses_of([method], _self_of(method)), self.flow.path)
        for module, name in classes:
            self._attribute(module, (name,))
        while self._waiting and not self.dynamic:
            self._piece(*self._waiting.pop())

    def _add(self, path: str, name: str) -> None:
        if (path, name) not in self.seen:
            self.seen.add((path, name))
            self._waiting.append((path, name))

    def _piece(self, path: str, name: str) -> None:
        module = self.importer.module(path)
        member = self.flow.member(path, name)
        if member is not None:
            self._uses(uses_of([member], _self_of(member)), path)
            return
        if module is None:
            return
        statements = [each for each in module.statements(name) if each is not self.flow.node]
        self._uses(
            uses_of([*statements, *(self.flow.header if path == self.flow.path and name == LOOSE else [])]), path
        )

    def _uses(self, uses: Uses, path: str) -> None:
        self.dynamic |= uses.dynamic
        self.attributes |= uses.attributes | uses.texts
        self.words |= uses.words
        self.roots |= {chain[0] for chain in uses.chains}
        self.whole_self |= uses.whole_self
        module = self.importer.module(path)
        if module is None:
            return
        within, stars = imports_of(uses.imports, module.package)
        for dotted in (*(each for each, _ in within.values()), *stars):
            self._import(dotted)
        for chain in uses.chains:
            self._chain(chain, module, within)
        for dotted in (*module.stars, *stars):
            found = self._import(dotted)
            if found is not None:
                self._all_of(found)
        for member in self.flow.members:
            last = member.rsplit(".", 1)[1]
            if uses.whole_self or last in uses.attributes or last in uses.texts or _is_special(last):
                self._add(self.flow.path, member)
        for name in uses.attributes & self.flow.steps.keys():  # where self.next() goes is not among them
            self._add(self.flow.path, f"{self.flow.name}.{name}")

    def _chain(self, chain: tuple[str, ...], module: Module, within: Mapping[str, tuple[str, str | None]]) -> None:
        root, rest = chain[0], chain[1:]
        if root in within or root in module.imported:
            dotted, name = within.get(root) or module.imported[root]
            rest = rest if name is None else (name, *rest)
            self.dynamic |= is_dynamic((*dotted.split("."), *rest))  # under whatever name it was imported
            self._attribute(dotted, rest)
        if root in module.names:
            self._add(module.path, root)

    def _attribute(self, dotted: str, names: tuple[str, ...]) -> None:
        """What ``dotted.name.name`` reaches: submodules first, then a name in the last of them."""
        path = self._import(dotted)
        while names and (inner := self.importer.path_of(f"{dotted}.{names[0]}")) is not None:
            dotted, names, path = f"{dotted}.{names[0]}", names[1:], inner
            self._import(dotted)
        if path is None:
            return
        module = self.importer.module(path)
        if module is None or not names:
            self._all_of(path)
        elif names[0] in module.names:
            self._add(path, names[0])
        elif names[0] in module.imported:
            further, name = module.imported[names[0]]
            if (further, name) != (dotted, names[0]):
                self._attribute(further, names[1:] if name is None else (name, *names[1:]))
        else:
            self._all_of(path)

    def _import(self, dotted: str) -> str | None:
        """A module and the packages that it is in are imported: what runs then counts. Its path; None of a foreign one."""
        if self.importer.is_elsewhere(dotted):
            self.dynamic = True
        parts = dotted.split(".")
        path = None
        for length in range(1, len(parts) + 1):
            path = self.importer.path_of(".".join(parts[:length]))
            if path is not None:
                self._module(path)
        return path

    def _module(self, path: str) -> None:
        module = self.importer.module(path)
        if module is None:
            self.whole.add(path)
            self.dynamic = True
        elif (path, LOOSE) not in self.seen:
            self._add(path, LOOSE)
            for dotted in module.imports():
                if self.importer.path_of(dotted) is not None or self.importer.is_elsewhere(dotted):
                    self._import(dotted)

    def _all_of(self, path: str) -> None:
        module = self.importer.module(path)
        for name in module.names if module is not None else ():
            self._add(path, name)


def _told(piece: Piece) -> str:
    path, name = piece
    return f"{path}: {name}" if name != LOOSE else path


def _lines(method: ast.FunctionDef) -> tuple[int, int]:
    return min([method.lineno, *(each.lineno for each in method.decorator_list)]), method.end_lineno or method.lineno


def _self_of(node: ast.stmt) -> str | None:
    """What a method calls its flow."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        arguments = [*node.args.posonlyargs, *node.args.args]
        return arguments[0].arg if arguments else None
    return None


def _is_special(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")


def _last(decorator: ast.expr) -> str:
    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    return called.attr if isinstance(called, ast.Attribute) else called.id if isinstance(called, ast.Name) else ""


def _digest_of_entry(entry: Entry) -> Digest:
    if isinstance(entry, FileEntry):
        return entry.digest
    return digest_of(canonical_bytes({"link": entry.target}))
