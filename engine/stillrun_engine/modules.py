"""The modules of a captured tree, taken apart: which names each defines at its top, and what a piece of code uses.

Nothing is imported or run. A *piece* is what one name stands for at the top of a module, or what runs whenever the module
is imported (its loose statements, under the name "").
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from pathlib import PurePosixPath

from stillrun_snapshot.deferred import dataclass
from stillrun_snapshot.digest import Digest, digest_of

__all__ = ["Importer", "Module", "Uses", "dumped", "is_dynamic", "module_of", "uses_of"]

LOOSE = ""
_HARMLESS = frozenset(
    {
        "abstractmethod",
        "cache",
        "cached_property",
        "classmethod",
        "contextmanager",
        "dataclass",
        "lru_cache",
        "overload",
    }
    | {"property", "setter", "staticmethod", "total_ordering", "wraps"}
)
"""Decorators that do nothing but to what they stand before; any other may enter it somewhere."""
_DYNAMIC_NAMES = frozenset({"__import__", "compile", "eval", "exec", "globals", "locals", "vars"})
_DYNAMIC_ROOTS = frozenset(
    {"cloudpickle", "dill", "imp", "importlib", "inspect", "joblib", "marshal", "pickle", "pkgutil", "runpy", "shelve"}
)
_DYNAMIC_ATTRIBUTES = frozenset({"__subclasses__", "read_pickle"})


@dataclass
class Uses:
    """What a piece of code uses. chains: dotted names from their root on; attributes: every name after a dot.

    texts: its string constants that could be names; words: all of them but docstrings; imports: import statements within;
    dynamic: what it uses cannot be told;
    whole_self: the flow itself is handed on, or asked for names that are made up.
    """

    chains: set[tuple[str, ...]] = field(default_factory=set)
    attributes: set[str] = field(default_factory=set)
    texts: set[str] = field(default_factory=set)
    words: set[str] = field(default_factory=set)
    imports: list[ast.Import | ast.ImportFrom] = field(default_factory=list)
    dynamic: bool = False
    whole_self: bool = False


@dataclass
class Module:
    """One module. names: the statements that define each name; imported: what each imported name stands for.

    An imported name is a dotted module and the name in it, None for the module itself. stars: modules all of whose names
    are taken over.
    """

    path: str
    package: tuple[str, ...]
    names: dict[str, list[ast.stmt]] = field(default_factory=dict)
    imported: dict[str, tuple[str, str | None]] = field(default_factory=dict)
    stars: list[str] = field(default_factory=list)
    loose: list[ast.stmt] = field(default_factory=list)

    def statements(self, name: str) -> list[ast.stmt]:
        """The statements of a piece."""
        return self.loose if name == LOOSE else self.names.get(name, [])

    def imports(self) -> Iterator[str]:
        """Every module that is imported with this one, by its dotted name; those of functions are not."""
        for module, name in self.imported.values():
            yield module
            if name is not None:
                yield f"{module}.{name}"
        yield from self.stars


def module_of(source: bytes, path: str, package: tuple[str, ...]) -> Module | None:
    """Take a module apart; None when this Python cannot parse it. package: of its relative imports."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return None
    module = Module(path, package)
    for node in tree.body:
        _sort_in(module, node)
    return module


def _sort_in(module: Module, node: ast.stmt) -> None:
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        module.names.setdefault(node.name, []).append(node)
        if not all(_name(each) in _HARMLESS for each in node.decorator_list) or _registers(node):
            module.loose.append(node)
        return
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        imported, stars = imports_of([node], module.package)
        module.imported.update(imported)
        module.stars.extend(stars)
        return
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    plain = [target.id for target in targets if isinstance(target, ast.Name)]
    for name in plain:
        module.names.setdefault(name, []).append(node)
    if not plain or len(plain) != len(targets) or any(isinstance(each, ast.Call) for each in ast.walk(node)):
        module.loose.append(node)
        inner = [each for each in ast.walk(node) if isinstance(each, (ast.Import, ast.ImportFrom))]
        imported, stars = imports_of(inner, module.package)
        module.imported.update(imported)
        module.stars.extend(stars)
        for each in ast.walk(node):  # names that are set in branches
            if isinstance(each, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                module.names.setdefault(each.name, []).append(each)


def _registers(node: ast.stmt) -> bool:
    """Whether a class may be entered somewhere by being defined."""
    if not isinstance(node, ast.ClassDef):
        return False
    return bool(node.keywords) or any(
        isinstance(each, ast.FunctionDef) and each.name in ("__init_subclass__", "__set_name__") for each in node.body
    )


def imports_of(
    nodes: Iterable[ast.Import | ast.ImportFrom], package: tuple[str, ...]
) -> tuple[dict[str, tuple[str, str | None]], list[str]]:
    """What import statements bind, and the modules of which all names are taken."""
    bound: dict[str, tuple[str, str | None]] = {}
    stars = []
    for node in nodes:
        if isinstance(node, ast.Import):
            for each in node.names:
                root = each.name.split(".")[0]
                bound[each.asname or root] = (each.name if each.asname else root, None)
                if not each.asname and "." in each.name:
                    bound[f"{root} as {each.name}"] = (each.name, None)  # it is imported all the same
            continue
        base = package[: len(package) - (node.level - 1)] if node.level else ()
        where = ".".join((*base, *([node.module] if node.module else [])))
        for each in node.names:
            if each.name == "*":
                stars.append(where)
            else:
                bound[each.asname or each.name] = (where, each.name)
    return bound, stars


def uses_of(nodes: Iterable[ast.AST], self_name: str | None = None) -> Uses:
    """What code uses. self_name: what a flow's method calls its flow."""
    found = Uses()
    for node in nodes:
        _Reader(found, self_name).visit(node)
    return found


class _Reader(ast.NodeVisitor):
    def __init__(self, found: Uses, self_name: str | None) -> None:
        self._found, self._self = found, self_name

    def visit_Attribute(self, node: ast.Attribute) -> None:
        """A dotted name, or a name after something that is no name."""
        chain, inner = [node.attr], node.value
        while isinstance(inner, ast.Attribute):
            chain.append(inner.attr)
            inner = inner.value
        self._found.attributes.update(chain)
        if isinstance(inner, ast.Name):
            self._note((inner.id, *chain[::-1]))
        else:
            self.visit(inner)

    def visit_Name(self, node: ast.Name) -> None:
        """A name by itself."""
        self._note((node.id,))
        if node.id == self._self:
            self._found.whole_self = True

    def visit_Constant(self, node: ast.Constant) -> None:
        """A text may name an attribute."""
        if isinstance(node.value, str):
            self._found.words.add(node.value)
            if node.value.isidentifier():
                self._found.texts.add(node.value)

    def visit_Expr(self, node: ast.Expr) -> None:
        """A text that stands for itself is a docstring."""
        if not (isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)):
            self.generic_visit(node)

    def visit_Import(self, node: ast.Import) -> None:
        """An import within a function."""
        self._found.imports.append(node)
        self._roots(each.name for each in node.names)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        """An import within a function."""
        self._found.imports.append(node)
        self._roots([node.module or ""])

    def visit_Call(self, node: ast.Call) -> None:
        """Where a step goes to is not what it uses; a getattr of self with a made-up name may be anything."""
        function = node.func
        if isinstance(function, ast.Attribute) and function.attr == "next" and _is(function.value, self._self):
            for keyword in node.keywords:
                self.visit(keyword.value)
            return
        if isinstance(function, ast.Name) and function.id in ("getattr", "setattr", "hasattr"):
            named = len(node.args) > 1 and isinstance(node.args[1], ast.Constant) and _is(node.args[0], self._self)
            for each in node.args[1:] if named else node.args:
                self.visit(each)
            return
        self.generic_visit(node)

    def _note(self, chain: tuple[str, ...]) -> None:
        self._found.chains.add(chain)
        self._found.dynamic |= is_dynamic(chain) or chain[0] in _DYNAMIC_NAMES

    def _roots(self, modules: Iterable[str]) -> None:
        self._found.dynamic |= any(each.split(".")[0] in _DYNAMIC_ROOTS for each in modules)


def is_dynamic(chain: Sequence[str]) -> bool:
    """Whether what a full dotted name, from its module on, comes to cannot be told without running it."""
    return (
        chain[0] in _DYNAMIC_ROOTS
        or (chain[0] in ("builtins", "__builtins__") and not _DYNAMIC_NAMES.isdisjoint(chain[1:] or _DYNAMIC_NAMES))
        or tuple(chain[:2]) in (("sys", "modules"), ("sys", "path"), ("torch", "load"))
        or not _DYNAMIC_ATTRIBUTES.isdisjoint(chain[1:])
    )


def _is(node: ast.AST, name: str | None) -> bool:
    return name is not None and isinstance(node, ast.Name) and node.id == name


def _name(decorator: ast.expr) -> str:
    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    return called.attr if isinstance(called, ast.Attribute) else called.id if isinstance(called, ast.Name) else ""


def dumped(nodes: Iterable[ast.AST]) -> Digest:
    """A digest of code as Python parses it: comments, blank lines and places do not count."""
    text = "\n".join(ast.dump(node, include_attributes=False) for node in nodes)
    return digest_of(text.encode("utf-8", "surrogatepass"))


class Importer:
    """Finds modules of a tree as a flow's imports do. read: the source of a file of the tree, by path."""

    def __init__(self, paths: Iterable[str], flow_file: str, read: Callable[[str], bytes]) -> None:
        self._paths = frozenset(path for path in paths if path.endswith(".py"))
        self._folder = PurePosixPath(flow_file).parent
        self._read = read
        self._modules: dict[str, Module | None] = {}
        self._roots = frozenset(part.removesuffix(".py") for path in self._paths for part in path.split("/"))

    def path_of(self, name: str) -> str | None:
        """The file of a dotted module of the tree, None when it has none; a package's is its ``__init__.py``."""
        place = self._folder.joinpath(*name.split("."))
        for candidate in (f"{place}.py", f"{place}/__init__.py"):
            if candidate in self._paths:
                return candidate
        return None

    def is_elsewhere(self, name: str) -> bool:
        """Whether the tree has something of that name, but not where imports look for it."""
        return name.split(".")[0] in self._roots and self.path_of(name.split(".")[0]) is None

    def module(self, path: str) -> Module | None:
        """A module, taken apart once; None when it cannot be parsed."""
        if path not in self._modules:
            inner = PurePosixPath(path).relative_to(self._folder) if self._is_inside(path) else PurePosixPath(path)
            self._modules[path] = module_of(self._read(path), path, inner.parent.parts)
        return self._modules[path]

    def names(self) -> Mapping[str, str]:
        """Every module that imports can reach: path by dotted name."""
        found = {}
        for path in self._paths:
            if self._is_inside(path):
                parts = PurePosixPath(path).relative_to(self._folder).with_suffix("").parts
                found[".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)] = path
        return found

    def _is_inside(self, path: str) -> bool:
        return PurePosixPath(path).is_relative_to(self._folder)
