"""The decorators of a flow: step, those that ask for an environment, and those that say how results are judged.

They only write down what was asked for; the engine reads it from the flow's description and acts on it.
"""

from __future__ import annotations

import os
import sys

from stillrun.errors import FlowError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any, TypeVar

    Decorated = TypeVar("Decorated")

__all__ = [
    "ASKED",
    "END_HERE",
    "START_HERE",
    "STEP",
    "Asked",
    "conda",
    "conda_base",
    "configurable",
    "inputs",
    "line_of_user",
    "pypi",
    "pypi_base",
    "refuse_unknown",
    "step",
    "tolerance",
    "volatile",
]

_VARKEYWORDS = 0x08  # inspect.CO_VARKEYWORDS, without its price
_OWN = os.path.dirname(os.path.abspath(__file__)) + os.sep
STEP = "__stillrun_step__"  # attribute of a function that is a step
START_HERE, END_HERE = "__stillrun_start__", "__stillrun_end__"  # of a step that is said to be the first, or the last
ASKED = "__stillrun_decorators__"  # list on a step or a flow: what its decorators asked for, in source order


class Asked(dict):  # type: ignore[type-arg]  # what the description holds of it
    """One decorator that was written down. given: positions and names of its arguments, for the flow's own mutators."""

    given: tuple[list[Any], dict[str, Any]] = ([], {})


def line_of_user() -> int:
    """The line of the flow's file that called into this package."""
    frame: Any = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_OWN):
        frame = frame.f_back
    return int(frame.f_lineno)


def configurable(decorator: Decorated) -> Decorated:
    """Let a decorator's arguments be expressions over configurations that are made after it is written down."""
    call: Any = decorator

    def asked(target: Any = None, **named: Any) -> Any:
        if not call.__code__.co_flags & _VARKEYWORDS:
            refuse_unknown(call.__name__, named, call.__code__.co_varnames)
        configs = sys.modules.get("stillrun.configs")
        line = line_of_user()
        if configs is None and target is None:
            call(**named)  # what is wrong with its arguments is told where they stand

        def attach(decorated: Any) -> Any:
            given = named if configs is None else configs.settled(named)
            done = call(**given)(decorated)
            held = vars(done)[ASKED][0]
            held["line"], held.given = line, ([], {**(call.__kwdefaults__ or {}), **given})
            return done

        return attach if target is None else attach(target)

    asked.__doc__, asked.__name__ = call.__doc__, call.__name__
    return asked  # type: ignore[return-value]  # it is called alike


def refuse_unknown(decorator: str, named: Iterable[str], known: Iterable[str]) -> None:
    """Raises FlowError for the first argument that a decorator does not know."""
    from stillrun.nearest import did_you_mean, listed

    for name in named:
        if name not in known:
            cure = did_you_mean(name, known) or f"It takes: {listed(sorted(known))}."
            raise FlowError(f"@{decorator} does not take {name!r}.", cure=cure)


def step(function: Any = None, *, start: bool = False, end: bool = False) -> Any:
    """Make a method a step of its flow.

    A step ends with ``self.next(...)``, except the last. A step that joins branches takes ``inputs`` as well.
    start, end: it is the first, or the last, though it is not called so.
    """
    if function is None:
        return lambda method: step(method, start=start, end=end)
    if isinstance(function, type) or not callable(function):
        raise FlowError(f"@step stands on {function!r}, which is not a method.", cure="Put it on a method.")
    setattr(function, STEP, True)
    function.name = function.__name__
    for word, said in ((START_HERE, start), (END_HERE, end)):
        if said:
            setattr(function, word, True)
    return function


@configurable
def pypi(
    target: Any = None,
    *,
    packages: Mapping[str, str] | None = None,
    python: str | None = None,
    file: str | None = None,
    lock: str | None = None,
    extras: Sequence[str] | None = None,
    groups: Sequence[str] | None = None,
    index_url: str | None = None,
    extra_indices: Sequence[str] | None = None,
    constraints: Sequence[str] | None = None,
    overrides: Sequence[str] | None = None,
    prereleases: str | None = None,
    exclude_newer: str | None = None,
    resolver: str | None = None,
    platforms: Sequence[str] | None = None,
    disabled: bool | None = None,
) -> Any:
    """Run the step in an environment of packages from a Python package index.

    packages: name to version, such as ``{"pandas": ">=2.2", "scikit-learn": "1.5.0", "mine": "@ ./libs/mine"}``.
    python: the interpreter's version, such as "3.11"; the caller's when not given.
    file: requirements.txt or pyproject.toml (with extras and groups) that asks for packages; beside the flow file.
    lock: pylock.toml, uv.lock or hashed requirements.txt that says exactly which; nothing is resolved then.
    constraints, overrides: requirements that limit, or replace, what packages ask of each other.
    prereleases: "allow" or "disallow". exclude_newer: a day or time; what was published later does not count.
    resolver: "uv" (default) or "pip-tools". platforms: others to lock for as well, such as ["osx-arm64"].
    disabled: take the step out of the flow's ``pypi_base``.
    """
    return _asking("pypi", "step", target, locals(), line_of_user())


@configurable
def conda(
    target: Any = None,
    *,
    packages: Mapping[str, str] | None = None,
    libraries: Mapping[str, str] | None = None,
    channels: Sequence[str] | None = None,
    python: str | None = None,
    file: str | None = None,
    lock: str | None = None,
    groups: Sequence[str] | None = None,
    exclude_newer: str | None = None,
    link_scripts: Sequence[str] | None = None,
    virtual_packages: Mapping[str, str] | None = None,
    platforms: Sequence[str] | None = None,
    disabled: bool | None = None,
) -> Any:
    """Run the step in an environment of conda packages.

    packages: name to version, such as ``{"numpy": "1.26.*"}``; libraries is an older word for the same.
    channels: where to look, first one first. python: the interpreter's version.
    file: environment.yml or pixi.toml that asks for packages; beside the flow file.
    lock: conda-lock.yml, pixi.lock or an @EXPLICIT list that says exactly which; nothing is resolved then.
    groups: of these files, such as pixi's environments. exclude_newer: a day or time; what was made later does not count.
    link_scripts: packages whose install scripts may run. platforms: others to lock for as well.
    virtual_packages: what the machine is taken to have, such as ``{"__cuda": "12.4"}``.
    disabled: take the step out of the flow's ``conda_base``.
    """
    return _asking("conda", "step", target, locals(), line_of_user())


@configurable
def pypi_base(
    target: Any = None,
    *,
    packages: Mapping[str, str] | None = None,
    python: str | None = None,
    file: str | None = None,
    lock: str | None = None,
    extras: Sequence[str] | None = None,
    groups: Sequence[str] | None = None,
    index_url: str | None = None,
    extra_indices: Sequence[str] | None = None,
    constraints: Sequence[str] | None = None,
    overrides: Sequence[str] | None = None,
    prereleases: str | None = None,
    exclude_newer: str | None = None,
    resolver: str | None = None,
    platforms: Sequence[str] | None = None,
    disabled: bool | None = None,
) -> Any:
    """Do for every step of the flow what ``pypi`` does for one; a step's own words win."""
    return _asking("pypi_base", "flow", target, locals(), line_of_user())


@configurable
def conda_base(
    target: Any = None,
    *,
    packages: Mapping[str, str] | None = None,
    libraries: Mapping[str, str] | None = None,
    channels: Sequence[str] | None = None,
    python: str | None = None,
    file: str | None = None,
    lock: str | None = None,
    groups: Sequence[str] | None = None,
    exclude_newer: str | None = None,
    link_scripts: Sequence[str] | None = None,
    virtual_packages: Mapping[str, str] | None = None,
    platforms: Sequence[str] | None = None,
    disabled: bool | None = None,
) -> Any:
    """Do for every step of the flow what ``conda`` does for one; a step's own words win."""
    return _asking("conda_base", "flow", target, locals(), line_of_user())


def volatile(*names: str) -> Any:
    """Say before the run which artifacts of the step, or of every step of a flow, are other ones each time.

    Such as ``@volatile("started_at")``. A replay tells that they differ, and counts them neither as equal nor as different.
    """
    if not names or not _is_texts(list(names)):
        raise FlowError("@volatile takes the names of artifacts.", cure='Write @volatile("started_at").')
    return _saying("volatile", {"names": list(names)}, line_of_user())


def tolerance(*, rtol: float | None = None, atol: float | None = None, **artifacts: Mapping[str, float]) -> Any:
    """Say before the run by how much numbers in the step's artifacts, or in those of every step of a flow, may differ.

    Such as ``@tolerance(score={"rtol": 1e-9})`` for one artifact, or ``@tolerance(rtol=1e-9)`` for all of them. Two numbers
    a and b are tolerated when ``|b - a| <= atol + rtol * |a|``; shape, types, labels and NaNs must be the same.
    """
    general = {key: value for key, value in (("rtol", rtol), ("atol", atol)) if value is not None}
    asked: dict[str, Any] = {**({"*": general} if general else {}), **artifacts}
    for name, limits in asked.items():
        known = isinstance(limits, dict) and limits and set(limits) <= {"rtol", "atol"}
        if not known or not all(isinstance(each, (int, float)) and 0 <= each < 1 << 60 for each in limits.values()):
            raise FlowError(
                f"@tolerance({name}={limits!r}): a dict such as {{'rtol': 1e-9, 'atol': 0.0}} is expected.",
                cure="Give 'rtol', 'atol' or both, each a number that is not negative.",
            )
    if not asked:
        raise FlowError("@tolerance says of no artifact how much it may differ.", cure="Write @tolerance(rtol=1e-9).")
    # numbers as text: records hold no floats
    told = {name: {key: repr(float(each)) for key, each in limits.items()} for name, limits in asked.items()}
    return _saying("tolerance", told, line_of_user())


def inputs(*patterns: str) -> Any:
    """Say which files the step reads, where Python cannot see it: ``@inputs("data/*.parquet")``.

    What C and C++ libraries open by themselves is not noticed. Files that match are hashed and kept with the task as if Python
    had opened them, and put back at a replay; patterns begin at the working directory, and ``**`` stands for any folders.
    """
    if not patterns or not _is_texts(list(patterns)):
        raise FlowError("@inputs takes patterns of files.", cure='Write @inputs("data/*.parquet").')
    return _saying("inputs", {"patterns": list(patterns)}, line_of_user())


def _saying(name: str, attributes: dict[str, Any], line: int) -> Any:
    """A decorator for a step or a flow that says something about its files or its results."""

    def attach(decorated: Any) -> Any:
        if not callable(decorated):
            raise FlowError(f"@{name} stands on {decorated!r}.", cure="Put it on a step or on the flow class.")
        held = list(vars(decorated).get(ASKED, ()))
        held.insert(0, Asked(name=name, attributes=attributes, line=line))
        setattr(decorated, ASKED, held)
        return decorated

    return attach


def _asking(name: str, level: str, target: Any, asked: dict[str, Any], line: int) -> Any:
    attributes = _checked(name, asked)

    def attach(decorated: Any) -> Any:
        _refuse_wrong_place(name, level, decorated)
        held = list(vars(decorated).get(ASKED, ()))
        # decorators are applied from the bottom up, so the one applied last stands first in the source
        held.insert(0, Asked(name=name, attributes=attributes, line=line))
        setattr(decorated, ASKED, held)
        return decorated

    return attach if target is None else attach(target)


def _refuse_wrong_place(name: str, level: str, decorated: Any) -> None:
    if isinstance(decorated, type) == (level == "flow") and callable(decorated):
        return
    here, there = ("a flow class", "a step") if level == "flow" else ("a step", "a flow class")
    other = name[: -len("_base")] if level == "flow" else name + "_base"
    raise FlowError(
        f"@{name} belongs on {here}, but stands on {getattr(decorated, '__name__', repr(decorated))}.",
        cure=f"Use @{other} there." if callable(decorated) else f"@{name} takes named arguments only ({there}).",
    )


def _checked(name: str, asked: dict[str, Any]) -> dict[str, Any]:
    given = {key: value for key, value in asked.items() if value is not None and key != "target"}
    for key, value in given.items():
        accepts, expected = _WANTED[key]
        if not accepts(value):
            raise FlowError(f"@{name}({key}={value!r}): {expected} is expected.")
        if isinstance(value, (tuple, dict)):
            given[key] = dict(value) if isinstance(value, dict) else list(value)
    return given


def _is_packages(value: object) -> bool:
    return isinstance(value, dict) and all(
        isinstance(key, str) and isinstance(version, str) for key, version in value.items()
    )


def _is_texts(value: object) -> bool:
    return isinstance(value, (list, tuple)) and all(isinstance(each, str) for each in value)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


_PACKAGES = (_is_packages, "a dict from package name to version, both str, such as {'numpy': '1.26.*'},")
_REQUIREMENTS = (_is_texts, "a list of requirements, such as ['numpy<2'],")
_WANTED: dict[str, Any] = {
    "packages": _PACKAGES,
    "libraries": _PACKAGES,
    "channels": (_is_texts, "a list of channel names"),
    "extra_indices": (_is_texts, "a list of addresses"),
    "python": (_is_text, "a version as text, such as '3.11',"),
    "file": (_is_text, "the path of a file beside the flow"),
    "lock": (_is_text, "the path of a file beside the flow"),
    "extras": (_is_texts, "a list of names of the file's extras"),
    "groups": (_is_texts, "a list of names of the file's groups"),
    "index_url": (_is_text, "an address"),
    "constraints": _REQUIREMENTS,
    "overrides": _REQUIREMENTS,
    "prereleases": (lambda value: value in ("allow", "disallow"), "'allow' or 'disallow'"),
    "exclude_newer": (_is_text, "a day or a time, such as '2026-06-01',"),
    "resolver": (lambda value: value in ("uv", "pip-tools"), "'uv' or 'pip-tools'"),
    "link_scripts": (_is_texts, "a list of package names"),
    "virtual_packages": (_is_packages, "a dict such as {'__cuda': '12.4'}"),
    "platforms": (_is_texts, "a list such as ['linux-64', 'osx-arm64']"),
    "disabled": (lambda value: isinstance(value, bool), "True or False"),
}
