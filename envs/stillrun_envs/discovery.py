"""Discovery: what a Python on this machine is, and which one answers a request. Nothing is downloaded."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from stillrun_envs import command
from stillrun_envs.errors import EnvError, InterpreterError
from stillrun_envs.memo import Memo, Remembers, file_identity
from stillrun_snapshot.deferred import dataclass

__all__ = ["OLDEST", "PythonFacts", "describe_python", "find_python", "version_numbers"]

OLDEST = (3, 8)  # of the Pythons that steps run on
_REASON_MAX = 120  # what is no Python may quote the whole probe back
_PROBE = Path(__file__).with_name("_probe.py")


@dataclass(frozen=True)
class PythonFacts:
    """What a Python says of itself."""

    executable: Path  # as it was asked
    version: str
    implementation: str
    soabi: str
    platform: str
    libc: str
    base_executable: Path
    prefix: Path
    base_prefix: Path
    stdlib: Path
    include: Path
    libdir: Path
    path: tuple[Path, ...]  # where it looks for modules
    modules: tuple[str, ...]

    @property
    def family(self) -> str:
        """Major and minor version, such as 3.11."""
        return ".".join(self.version.split(".")[:2])

    @property
    def is_conda(self) -> bool:
        """Whether it lives in a conda environment."""
        return (self.base_prefix / "conda-meta").is_dir()


def describe_python(python: Path, memo: Remembers, environ: Mapping[str, str], *, isolated: bool = True) -> PythonFacts:
    """What ``python`` says of itself; asked once for each state of its files.

    isolated: without the user's own site folder and PYTHONPATH, which steps in a built environment never see.
    """
    steering = [] if isolated else [f"{name}={environ[name]}" for name in sorted(environ) if name.startswith("PYTHON")]
    question = ("python", str(python), _state(python), steering)
    said = memo.get(*question)
    if not isinstance(said, dict):
        said = _asked(python, environ, isolated=isolated)
        if version_numbers(said["version"])[:2] < OLDEST:
            oldest = ".".join(map(str, OLDEST))
            raise InterpreterError(f"{python} is Python {said['version']}, which is too old; take {oldest} or newer.")
        memo.set(said, *question)
    return _facts(python, said)


def find_python(version: str | None, base: Path, memo: Memo, environ: Mapping[str, str]) -> PythonFacts:
    """The Python on this machine that is ``version``, such as 3.11 or 3.11.7; ``base`` when it will do.

    Raises InterpreterError that names the versions that are here. Nothing is downloaded.
    """
    facts = describe_python(base, memo, environ)
    if version is None or _answers(facts.version, version):
        return facts
    known = memo.get("find", version, str(base))
    if isinstance(known, str):
        facts = _tried(Path(known), memo, environ) or facts
        if _answers(facts.version, version):
            return facts
    for candidate in _candidates(version, environ):
        found = _tried(candidate, memo, environ)
        if found is not None and _answers(found.version, version):
            memo.set(str(candidate), "find", version, str(base))
            return found
    here = sorted({facts.version, *_installed(environ)}, key=version_numbers)
    raise InterpreterError(
        f"Python {version} is not on this machine; found {', '.join(here)}. "
        f"Install it ('uv python install {version}'), or ask for one of these."
    )


def _state(python: Path) -> list[object]:
    """What changes when a Python or the virtual environment around it is replaced."""
    return [file_identity(python), file_identity(python.parent.parent / "pyvenv.cfg"), file_identity(_PROBE)]


def _facts(python: Path, said: dict[str, Any]) -> PythonFacts:
    return PythonFacts(
        executable=python,
        version=said["version"],
        implementation=said["implementation"],
        soabi=said["soabi"],
        platform=said["platform"],
        libc=said["libc"],
        base_executable=Path(said["base_executable"]),
        prefix=Path(said["prefix"]),
        base_prefix=Path(said["base_prefix"]),
        stdlib=Path(said["stdlib"]),
        include=Path(said["include"]),
        libdir=Path(said["libdir"]),
        path=tuple(map(Path, said["path"])),
        modules=tuple(said["modules"]),
    )


def _asked(python: Path, environ: Mapping[str, str], *, isolated: bool) -> dict[str, Any]:
    flags = ["-I"] if isolated else []
    surroundings = command.quiet_environment(environ) if isolated else {**environ, "PYTHONDONTWRITEBYTECODE": "1"}
    ended = command.run([python, *flags, "-c", _PROBE.read_text("utf-8")], environ=surroundings, limit_s=60)
    try:
        said = json.loads(ended.output.splitlines()[-1])
    except (ValueError, IndexError) as err:
        reason = (ended.errors.strip().splitlines() or [f"exit code {ended.code}"])[-1]
        raise InterpreterError(f"{python} is not a Python that can be used: {reason[:_REASON_MAX]}.") from err
    assert isinstance(said, dict), "the probe prints an object"
    return said


def _tried(python: Path, memo: Memo, environ: Mapping[str, str]) -> PythonFacts | None:
    try:
        return describe_python(python, memo, environ)
    except EnvError:
        return None


def _candidates(version: str, environ: Mapping[str, str]) -> Iterator[Path]:
    """Pythons that may be ``version``: those uv knows, then those of pyenv, newest first."""
    arguments = ["python", "find", version, "--system", "--no-python-downloads", "--no-project", "--no-config"]
    ended = command.run([command.uv(), *arguments], environ=command.quiet_environment(environ), limit_s=120)
    if ended.code == 0 and ended.output.strip():
        yield Path(ended.output.strip())
    yield from _pyenv(environ)


def _pyenv(environ: Mapping[str, str]) -> list[Path]:
    root = Path(environ.get("PYENV_ROOT") or Path(environ.get("HOME", "/")) / ".pyenv")
    found = [path for path in root.glob("versions/*/bin/python3") if path.parent.parent.name[:1].isdigit()]
    return sorted(found, key=lambda path: version_numbers(path.parent.parent.name), reverse=True)


def _installed(environ: Mapping[str, str]) -> set[str]:
    """The versions of the Pythons on this machine that steps can run on."""
    arguments = ["python", "list", "--only-installed", "--output-format", "json", "--no-config"]
    ended = command.run([command.uv(), *arguments], environ=command.quiet_environment(environ), limit_s=120)
    listed = json.loads(ended.output or "[]") if ended.code == 0 else []
    found = {one["version"] for one in listed if one.get("implementation") == "cpython"}
    found |= {path.parent.parent.name for path in _pyenv(environ)}
    return {version for version in found if version_numbers(version) >= OLDEST}


def _answers(version: str, wanted: str) -> bool:
    parts = wanted.split(".")
    return version.split(".")[: len(parts)] == parts


def version_numbers(version: str) -> tuple[int, ...]:
    """The numbers of a version, for comparing."""
    digits = [part for part in version.split(".")[:3] if part.isdigit()]
    return tuple(map(int, digits))
