"""environment.yml: what conda is asked for, with the part for pip."""

from __future__ import annotations

import re
from collections.abc import Sequence

from stillrun_envs.formats.document import Document, Table
from stillrun_envs.formats.listing import Asked
from stillrun_envs.formats.requirements import Lines, read_lines
from stillrun_envs.platforms import PLATFORMS, Target

__all__ = ["plain_python", "read_request"]

# in conda's words '=3.11' and '3.11.*' are a family, and '==3.11' is 3.11.0
_PYTHON = re.compile(
    r"python(?:\s*=\s*(\d+\.\d+(?:\.\d+)?)(?:\.\*)?|\s*(?:==\s*|\s)(?:(\d+\.\d+)\.\*|(\d+\.\d+\.\d+)))"
)
_SELECTOR = re.compile(r"^(?P<line>.*\S)\s+#\s*\[(?P<wanted>[^\]]+)\]\s*$")
_NAMES = frozenset(
    {"unix", "linux", "osx", "win", "x86", "x86_64", "aarch64", "arm64", "ppc64le", "s390x"}
) | frozenset(name for one in (*PLATFORMS, "win-64", "win-arm64") for name in (one, one.replace("-", "")))
_KNOWN = {"name", "channels", "dependencies", "platforms", "prefix", "category"}


def read_request(document: Document, target: Target, extras: Sequence[str] = (), groups: Sequence[str] = ()) -> Asked:
    """What the file asks for on ``target``: lines with a selector such as ``# [linux]`` count where it holds."""
    if extras or groups:
        raise document.refused(
            f"has no extras or groups, and {(*extras, *groups)[0]!r} is asked for", "Leave that out."
        )
    root = document.yaml(_selected(document, document.text(), target))
    if "variables" in root:
        raise document.refused(
            "sets variables, which are no part of an environment here", "Set them where you run, and drop 'variables'."
        )
    unknown = sorted(set(root.values) - _KNOWN)
    if unknown:
        raise document.refused(
            f"has the key {unknown[0]!r}, which is not known", f"Known are {', '.join(sorted(_KNOWN))}."
        )
    specs, lines, python = [], Lines(), None
    for index, item in enumerate(root.items("dependencies")):
        if isinstance(item, dict):
            lines = _pip_lines(document, Table(document, f"dependencies[{index}]", item), lines)
        elif not isinstance(item, str) or not item.strip():
            raise root.wrong("dependencies", "a list of match specs")
        else:
            version = plain_python(item)
            if version is not None:
                python = version
            elif item.strip().split("=")[0] != "pip":  # wheels are installed from outside
                specs.append(" ".join(item.split()))
    channels = tuple(one for one in root.texts("channels") if one != "nodefaults")
    return Asked(
        python=python,
        pypi=tuple(text for text, _ in lines.requirements) or None,
        conda=tuple(specs),
        channels=channels,
        index_url=lines.index_url,
        extra_indices=tuple(lines.extra_indices),
        constraints=tuple(lines.constraints),
        platforms=root.texts("platforms"),
        find_links=tuple(lines.find_links),
    )


def plain_python(spec: str) -> str | None:
    """The version in a match spec that asks for nothing but a Python, such as ``python=3.11``; None for another."""
    match = _PYTHON.fullmatch(spec.strip())
    return next(filter(None, match.groups())) if match else None


def _pip_lines(document: Document, table: Table, before: Lines) -> Lines:
    unknown = sorted(set(table.values) - {"pip"})
    if unknown or before.requirements:
        raise document.refused(
            f"has {table.place} with the key {(unknown or ['pip'])[0]!r}", "One 'pip:' part is known."
        )
    return read_lines(document, "\n".join(table.texts("pip")) + "\n")


def _selected(document: Document, text: str, target: Target) -> str:
    kept = []
    for line in text.splitlines():
        match = _SELECTOR.match(line)
        if match is None:
            kept.append(line)
        elif _holds(document, match["wanted"], target):
            kept.append(match["line"])
    return "\n".join(kept) + "\n"


def _holds(document: Document, selector: str, target: Target) -> bool:
    """Whether a selector such as ``linux and not aarch64`` is true of the target."""
    system, machine = _machine(target)
    true = {"unix", system, machine, f"{system}-{machine}", target.platform, target.platform.replace("-", "")}

    def holds(word: str) -> bool:
        negated = word.startswith("not ")
        name = word.removeprefix("not ").strip()
        if name not in _NAMES | true:
            raise document.refused(
                f"has the selector '# [{selector.strip()}]', in which {name!r} is not known",
                f"Known are {', '.join(sorted(_NAMES))}, with 'not', 'and' and 'or'; write other comments without brackets.",
            )
        return (name in true) != negated

    options = [part.split(" and ") for part in " ".join(selector.lower().split()).split(" or ")]
    found = [[holds(word.strip()) for word in words] for words in options]  # every word is looked at
    return any(map(all, found))


def _machine(target: Target) -> tuple[str, str]:
    """The system and the machine as selectors call them."""
    if target.platform not in PLATFORMS:
        return "linux", target.platform.rpartition("-")[2]
    _, machine, system, _ = PLATFORMS[target.platform]
    return "linux" if system == "linux" else "osx", machine
