"""What uv is asked, and what it answers: resolution for one Python, which need not be on this machine."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from stillrun_envs import command
from stillrun_envs.errors import EnvError, FetchError, Offline, ResolveError
from stillrun_envs.location import without_credentials_in
from stillrun_envs.platforms import Target
from stillrun_envs.request import EnvRequest
from stillrun_snapshot.deferred import dataclass

__all__ = ["Asking", "Question", "compiled", "failure"]

_REASON_LINES = 6
_LAST = "pylock.toml"  # uv wants this name of a lock that it goes on from
_OUT_OF_REACH = ("failed to fetch", "error sending request", "request failed", "http status", "dns error", "timed out")
_EMPTY_CONCLUSION = re.compile(r",? (?:and )?we can conclude that your requirements are unsatisfiable\.?")


@dataclass(frozen=True)
class Asking:
    """What stays the same in every question to uv."""

    request: EnvRequest
    target: Target
    environ: Mapping[str, str]
    python: Path


@dataclass(frozen=True)
class Question:
    """The packages of one resolution."""

    requirements: Sequence[str]
    supplied: Mapping[str, str]
    preferred: Mapping[str, str]
    upgrade: Sequence[str]
    refresh: bool


def compiled(asking: Asking, question: Question, built: Path, folder: Path) -> command.Outcome:
    """What uv answers. Packages that conda brings and the index does not have are left out of the question."""
    arguments = _arguments(asking, question, folder)
    # in a variable, beside the user's own: an argument would take their place
    links = ",".join(filter(None, [str(built), asking.environ.get("UV_FIND_LINKS", "")]))
    limits, excludes = folder / "constraints.txt", folder / "excludes.txt"
    left_out: set[str] = set()
    while True:
        bound = {name: version for name, version in question.supplied.items() if name not in left_out}
        lines = [*asking.request.constraints, *(f"{name}=={version}" for name, version in bound.items())]
        limits.write_text("".join(f"{line}\n" for line in lines), "utf-8")
        excludes.write_text("".join(f"{name}\n" for name in sorted(left_out)), "utf-8")
        more = ["--constraints", str(limits)] if lines else []
        more += ["--excludes", str(excludes)] if left_out else []
        ended = command.run(
            [command.uv(), *arguments, *more],
            environ=command.quiet_environment({**asking.environ, "UV_FIND_LINKS": links}),
            given="\n".join(question.requirements) + "\n",
        )
        absent = {name for name in bound if ended.code != 0 and _is_absent(name, ended.errors)}
        if not absent:
            last = folder / _LAST
            return replace(ended, output=last.read_text("utf-8")) if ended.code == 0 and last.exists() else ended
        left_out |= absent


def _arguments(asking: Asking, question: Question, folder: Path) -> list[str]:
    request, target = asking.request, asking.target
    arguments = ["pip", "compile", "-", "--format", "pylock.toml", "--only-binary", ":all:", "--no-header", "--quiet"]
    arguments += ["--python", str(asking.python), "--no-python-downloads", "--python-version", target.version]
    arguments += ["--prerelease", request.prereleases]
    if target.uv_platform is not None:
        arguments += ["--python-platform", target.uv_platform]
    if request.exclude_newer is not None:
        arguments += ["--exclude-newer", request.exclude_newer]
    if request.overrides:
        overrides = folder / "overrides.txt"
        overrides.write_text("".join(f"{line}\n" for line in request.overrides), "utf-8")
        arguments += ["--overrides", str(overrides)]
    if question.upgrade and question.preferred:
        last = folder / _LAST
        last.write_text(_last_choice(question.preferred), "utf-8")
        arguments += ["--output-file", str(last)]
        for name in question.upgrade:
            arguments += ["--upgrade-package", name]
    arguments += ["--refresh"] if question.refresh else []
    for name in question.supplied:
        arguments += ["--no-emit-package", name]
    return arguments


def _last_choice(preferred: Mapping[str, str]) -> str:
    """The last choice as uv reads it: names and versions count, the file that stands for each is never fetched."""
    lines = ['lock-version = "1.0"', 'created-by = "stillrun"']
    for name, version in sorted(preferred.items()):
        file = f"{name.replace('-', '_')}-{version}-py3-none-any.whl"
        wheel = f'name = "{file}", url = "http://127.0.0.1:9/{file}", hashes = {{ sha256 = "{"0" * 64}" }}'
        lines += ["", "[[packages]]", f'name = "{name}"', f'version = "{version}"', f"wheels = [{{ {wheel} }}]"]
    return "\n".join(lines) + "\n"


def _is_absent(name: str, said: str) -> bool:
    """Whether uv says that the index lacks a package, or the version of it that was asked for."""
    flat = " ".join(said.split())
    missing = rf"(?<![\w.-]){re.escape(name)} was not found in|no version of {re.escape(name)}=="
    return re.search(missing, flat) is not None


def failure(said: str, target: Target) -> EnvError:
    """What uv says went wrong, in the fewest lines that name both sides, free of credentials."""
    lines = [line.strip() for line in without_credentials_in(said).splitlines() if line.strip()]
    text = "\n".join(lines)
    if "network was disabled" in text:
        return Offline(f"{_plain(lines)} and the network is off; run once with it.")
    if "No solution found" not in text and any(sign in text.lower() for sign in _OUT_OF_REACH):
        place = next((word for word in text.split() if "://" in word), "the index").rstrip(")`.,;:")
        reason = lines[-1].partition("cause: ")[2] or lines[-1]
        return FetchError(
            f"the package index cannot be reached at {place}: {reason}. "
            "Check the network, the proxy settings and the index address, then run again."
        )
    return ResolveError(f"{_plain(lines)} {_cure(text, target)}")


def _plain(lines: Sequence[str]) -> str:
    """The resolver's reasons without what frames them."""
    kept = [
        re.sub(r"^(error: |cause: )+", "", line)
        for line in lines
        if "No solution found" not in line and not line.startswith("hint:")
    ]
    text = " ".join(_EMPTY_CONCLUSION.sub("", line).rstrip(".,") + "." for line in kept[:_REASON_LINES] if line)
    return f"the packages cannot be resolved: {text.removeprefix('Because ') or 'uv gave no reason.'}"


def _cure(text: str, target: Target) -> str:
    if "was not found in the package registry" in text:
        return "Check the spelling of the name and which index it is on."
    if "there is no version of" in text or "there are no versions of" in text:
        return "Ask for a version that the index has."
    if "no wheels" in text or "no usable wheels" in text or "Only binary" in text:
        return f"Choose a version with a wheel for Python {target.version}, or build one once ('pip wheel')."
    return "Loosen one of the versions named."
