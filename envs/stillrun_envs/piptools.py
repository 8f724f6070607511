"""The second resolver: pip-tools chooses the versions, by pip's own rules; files are then found as for the first.

pip looks at the Python that it runs on, so it is run by the Python that is locked for, with nothing but itself to import.
"""

from __future__ import annotations

import importlib.metadata
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from stillrun_envs import command
from stillrun_envs.errors import EnvError, FetchError, ResolveError
from stillrun_envs.location import without_credentials_in
from stillrun_envs.platforms import Target
from stillrun_envs.request import EnvRequest

__all__ = ["NoWheel", "pinned"]

_TOOLS = ("pip-tools", "pip", "build", "click", "packaging", "pyproject-hooks", "setuptools", "wheel", "tomli")
_UV_TO_PIP = {
    "UV_DEFAULT_INDEX": "PIP_INDEX_URL",
    "UV_INDEX_URL": "PIP_INDEX_URL",
    "UV_INDEX": "PIP_EXTRA_INDEX_URL",
    "UV_EXTRA_INDEX_URL": "PIP_EXTRA_INDEX_URL",
    "UV_FIND_LINKS": "PIP_FIND_LINKS",
    "UV_NO_INDEX": "PIP_NO_INDEX",
}
_OUT_OF_REACH = ("newconnectionerror", "connection broken", "timed out", "max retries", "http error", "client error")


class NoWheel(ResolveError):
    """pip found no wheels that fit of the packages ``names``; there may be sources of them."""

    names: tuple[str, ...] = ()


def pinned(
    request: EnvRequest,
    target: Target,
    environ: Mapping[str, str],
    *,
    python: Path,
    supplied: Mapping[str, str] = MappingProxyType({}),
    preferred: Mapping[str, str] = MappingProxyType({}),
    upgrade: Sequence[str] = (),
) -> tuple[str, ...]:
    """The requirements of ``request`` and all that they need, each pinned as ``name==version`` or to its address, sorted.

    python: the one that is locked for. supplied: what comes from elsewhere, by version; it binds and is left out.
    preferred: versions to stay at, but for those of ``upgrade``. Raises ResolveError, NoWheel where a source may help.
    """
    _require_able(request, target)
    with tempfile.TemporaryDirectory(prefix="stillrun-") as folder:
        place = Path(folder)
        tools = _only_tools(place / "tools")
        (place / "requirements.in").write_text("".join(f"{text}\n" for text in request.pypi or ()), "utf-8")
        limits = [*request.constraints, *(f"{name}=={version}" for name, version in supplied.items())]
        (place / "constraints.txt").write_text("".join(f"{text}\n" for text in limits), "utf-8")
        out = place / "requirements.txt"
        stay = {name: version for name, version in preferred.items() if name not in upgrade}
        out.write_text("".join(f"{name}=={version}\n" for name, version in sorted(stay.items())), "utf-8")
        ended = command.run(
            [python, "-s", "-m", "piptools", *_arguments(request, place, out)],
            environ=_surroundings(request, environ, tools, place),
        )
        if ended.code != 0:
            raise _failure(ended.errors)
        lines = [line.strip() for line in out.read_text("utf-8").splitlines()]
    found = [text for line in lines if (text := _pin(line)) is not None]
    return tuple(sorted(text for text in found if canonicalize_name(Requirement(text).name) not in supplied))


def _arguments(request: EnvRequest, place: Path, out: Path) -> list[str]:
    arguments = ["compile", str(place / "requirements.in"), "--output-file", str(out), "--no-config"]
    arguments += ["--constraint", str(place / "constraints.txt"), "--allow-unsafe", "--strip-extras"]
    arguments += ["--no-header", "--no-annotate", "--no-emit-options", "--resolver", "backtracking"]
    arguments += ["--cache-dir", str(place / "cache"), "--pip-args=--only-binary :all:"]
    if request.prereleases == "allow":
        arguments.append("--pre")
    if request.exclude_newer is not None:
        arguments += ["--uploaded-prior-to", request.exclude_newer]
    return arguments


def _require_able(request: EnvRequest, target: Target) -> None:
    if not target.is_here:
        raise ResolveError(
            f"pip-tools resolves for the machine it runs on, not for {target.platform}; use resolver='uv'."
        )
    if request.overrides:
        raise ResolveError("pip-tools knows no overrides; use resolver='uv' for them.")
    for name in ("pip-tools", "pip"):
        try:
            needs = importlib.metadata.metadata(name)["Requires-Python"] or ""
        except importlib.metadata.PackageNotFoundError as err:
            raise EnvError(
                f"{name} is not installed; install it ('pip install pip-tools'), or use resolver='uv'."
            ) from err
        if not SpecifierSet(needs).contains(target.version, prereleases=True):
            version = importlib.metadata.version(name)
            raise ResolveError(
                f"{name} {version} runs on Python {needs} and the lock is for {target.version}; use resolver='uv'."
            )


def _only_tools(folder: Path) -> Path:
    """A folder from which pip-tools can be imported, and nothing else that is installed beside it."""
    folder.mkdir()
    for name in _TOOLS:
        try:
            files = importlib.metadata.files(name) or ()
        except importlib.metadata.PackageNotFoundError:
            continue
        for top in {file.parts[0] for file in files} - {"..", "__pycache__"}:
            source = Path(str(importlib.metadata.distribution(name).locate_file(top)))
            if source.exists() and not (folder / top).exists():
                (folder / top).symlink_to(source)
    return folder


def _surroundings(request: EnvRequest, environ: Mapping[str, str], tools: Path, place: Path) -> dict[str, str]:
    """Indexes travel in variables, not in arguments, which every user of the machine can read."""
    found = command.quiet_environment(environ)
    for name, becomes in _UV_TO_PIP.items():
        if found.get(name) and not environ.get(becomes):
            addresses = [word.rpartition("=")[2] if "=http" in word else word for word in found[name].split()]
            found[becomes] = " ".join([*found.get(becomes, "").split(), *addresses]).replace(",", " ")
    if request.index_url is not None:
        found["PIP_INDEX_URL"] = request.index_url
    if request.extra_indices:
        found["PIP_EXTRA_INDEX_URL"] = " ".join([*request.extra_indices, *found.get("PIP_EXTRA_INDEX_URL", "").split()])
    if request.find_links:
        found["PIP_FIND_LINKS"] = " ".join([*request.find_links, *found.get("PIP_FIND_LINKS", "").split()])
    temporary = {"PIP_CACHE_DIR": str(place / "cache"), "TMPDIR": str(place)}
    return {**found, **temporary, "PYTHONPATH": str(tools), "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"}


def _pin(line: str) -> str | None:
    """A line of the output as a pin; None for comments and options."""
    if not line or line.startswith(("#", "-")):
        return None
    try:
        return str(Requirement(line.partition(" #")[0]))
    except InvalidRequirement as err:
        raise ResolveError(f"pip-tools answered {line!r}, which is not a requirement; use resolver='uv'.") from err


def _failure(said: str) -> EnvError:
    text = without_credentials_in(said)
    asked = [f"{who or 'the request'} asks for {what}" for what, who in _conflict(text)]
    missing = sorted(set(re.findall(r"No matching distribution found for ([^\n]+)", text)))
    last = next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "it gave no reason")
    if asked:
        reason, cure = "; ".join(dict.fromkeys(asked)), "Loosen one of the versions named."
    elif missing:
        reason = f"no wheel was found for {', '.join(missing)}"
        cure = "Check the spelling, the version and which index it is on."
    else:
        reason, cure = last[:600].rstrip("."), "Check the network and the index, or use resolver='uv'."
    told = f"{reason}. {cure}"
    if not asked and any(sign in text.lower() for sign in _OUT_OF_REACH):
        return FetchError(f"pip-tools cannot read the package index: {told}")
    names = [re.split(r"[^\w.-]", what, maxsplit=1)[0] for what in (*missing, *(what for what, _ in _conflict(text)))]
    if not names:
        return ResolveError(f"the packages cannot be resolved by pip-tools: {told}")
    error = NoWheel(f"the packages cannot be resolved by pip-tools: {told}")
    error.names = tuple(dict.fromkeys(map(canonicalize_name, names)))
    return error


def _conflict(text: str) -> list[tuple[str, str]]:
    """The requirements that cannot stand together, and the file that each comes from; pip tells them in its traceback."""
    causes = re.findall(r"requirement=\w+\('([^']+)'\), parent=(None|\w+\('[^']+'\))", text)
    return [(what, file[1] if (file := re.search(r"([\w.+\-]+\.whl)", who)) else "") for what, who in causes]
