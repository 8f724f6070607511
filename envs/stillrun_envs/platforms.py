"""Platforms: the Python and machine that a lock is for, which need not be the ones it is made on."""

from __future__ import annotations

import re
import sysconfig
from collections.abc import Iterator, Mapping, Sequence

from packaging import tags

from stillrun_envs.discovery import PythonFacts, version_numbers
from stillrun_envs.errors import LockError, RequestError
from stillrun_snapshot.deferred import dataclass

__all__ = ["PLATFORMS", "Target", "platform_of", "runs_here", "spoken"]

_SYSCONFIG = {
    "linux-x86_64": "linux-64",
    "linux-aarch64": "linux-aarch64",
    "linux-ppc64le": "linux-ppc64le",
}
# conda's name -> (uv's machine, machine in wheel tags, sys_platform, platform_system)
PLATFORMS: Mapping[str, tuple[str, str, str, str]] = {
    "linux-64": ("x86_64", "x86_64", "linux", "Linux"),
    "linux-aarch64": ("aarch64", "aarch64", "linux", "Linux"),
    "linux-ppc64le": ("powerpc64le", "ppc64le", "linux", "Linux"),
    "osx-64": ("x86_64-apple-darwin", "x86_64", "darwin", "Darwin"),
    "osx-arm64": ("aarch64-apple-darwin", "arm64", "darwin", "Darwin"),
}
_GLIBC = (2, 28)  # of a Linux that nobody described: what manylinux_2_28 promises, and uv assumes
_MACOS = (13, 0)  # likewise of a Mac


def platform_of(platform: str) -> str:
    """conda's name of a platform that ``sysconfig`` names; macOS carries its release in the latter."""
    if platform in PLATFORMS:
        return platform
    if platform in _SYSCONFIG:
        return _SYSCONFIG[platform]
    if platform.startswith("macosx"):
        return "osx-arm64" if platform.endswith("arm64") else "osx-64"
    raise LockError(f"conda has no packages for {platform}; use @pypi there.")


def spoken(platform: str) -> str:
    """conda's name of a platform where it has one, else the name itself: for messages."""
    try:
        return platform_of(platform)
    except LockError:
        return platform


def runs_here(platform: str) -> bool:
    """Whether this machine is of a platform that ``sysconfig`` names, whatever the release of a Mac."""
    here = sysconfig.get_platform()
    try:
        return platform == here or platform_of(platform) == platform_of(here)
    except LockError:
        return False


@dataclass(frozen=True)
class Target:
    """What wheels and markers are chosen for."""

    platform: str  # conda's name; of a machine that conda does not know, sysconfig's
    version: str  # of Python, whole when it is known: 3.11.7, else 3.11
    implementation: str = "cpython"
    soabi: str = ""  # of the Python, when it is here
    system: tuple[int, int] | None = None  # release of the C library or of macOS; None: this machine's

    @classmethod
    def here(cls, facts: PythonFacts) -> Target:
        """This machine, with the Python of ``facts``."""
        try:
            platform = platform_of(facts.platform)
        except LockError:
            platform = facts.platform
        return cls(platform, facts.version, facts.implementation, facts.soabi)

    @classmethod
    def elsewhere(cls, platform: str, python: str, virtual_packages: Sequence[str] = ()) -> Target:
        """Another machine. virtual_packages: NAME=VERSION…, which may tell its C library or macOS release."""
        if platform not in PLATFORMS:
            raise RequestError(f"{platform!r} is no platform to lock for; write one of {', '.join(PLATFORMS)}.")
        told = dict(one.split("=")[:2] for one in virtual_packages if one.count("="))
        linux = PLATFORMS[platform][2] == "linux"
        release = version_numbers(told.get("__glibc" if linux else "__osx", ""))
        system = (release[0], release[1]) if len(release) > 1 else (_GLIBC if linux else _MACOS)
        return cls(platform, python, system=system)

    @property
    def is_here(self) -> bool:
        """Whether it is the machine that this runs on."""
        return self.system is None

    @property
    def family(self) -> str:
        """Major and minor version of Python, such as 3.11."""
        return ".".join(self.version.split(".")[:2])

    @property
    def uv_platform(self) -> str | None:
        """What uv calls the platform; None for this machine, which it looks at itself."""
        if self.system is None:
            return None
        machine, _, system, _ = PLATFORMS[self.platform]
        return machine if system == "darwin" else f"{machine}-manylinux_{self.system[0]}_{self.system[1]}"

    @property
    def sysconfig_platform(self) -> str:
        """What ``sysconfig`` calls the platform there."""
        _, machine, system, _ = PLATFORMS.get(self.platform) or _unknown(self.platform)
        if system == "linux":
            return f"linux-{machine}"
        release = self.system or _MACOS
        return f"macosx-{release[0]}.{release[1]}-{machine}"

    def tags(self) -> list[tags.Tag]:
        """The wheel tags that are accepted there, best first (PEP 425)."""
        version = version_numbers(self.version)[:2]
        short = "".join(map(str, version))
        platforms = list(tags.platform_tags() if self.system is None else self._platform_tags(self.system))
        if self.implementation != "cpython":
            found = list(tags.generic_tags(f"pp{short}", abis=[self.soabi.replace("-", "_")], platforms=platforms))
            return found + list(tags.compatible_tags(version, interpreter=f"pp{short}", platforms=platforms))
        match = re.match(r"cpython-(\d+[a-z]*)", self.soabi)
        abi = f"cp{match[1]}" if match else f"cp{short}"
        found = list(tags.cpython_tags(version, abis=[abi], platforms=platforms))
        return found + list(tags.compatible_tags(version, interpreter=f"cp{short}", platforms=platforms))

    def markers(self) -> dict[str, str]:
        """The environment that dependency markers are evaluated in there (PEP 508)."""
        _, machine, system, name = PLATFORMS.get(self.platform) or _unknown(self.platform)
        return {
            "implementation_name": self.implementation,
            "implementation_version": self.version,
            "os_name": "posix",
            "platform_machine": machine,
            "platform_python_implementation": "CPython" if self.implementation == "cpython" else "PyPy",
            "platform_release": "",
            "platform_system": name,
            "platform_version": "",
            "python_full_version": self.version,
            "python_version": self.family,
            "sys_platform": system,
            "extra": "",
        }

    def virtual_packages(self) -> tuple[str, ...]:
        """What conda is told of a machine that it does not run on: NAME=VERSION=BUILD."""
        system = PLATFORMS[self.platform][2]
        release = ".".join(map(str, self.system or (_GLIBC if system == "linux" else _MACOS)))
        arch = {"linux-64": "x86_64", "osx-64": "x86_64", "osx-arm64": "m1"}.get(
            self.platform, PLATFORMS[self.platform][1]
        )
        own = ("__linux=4.18=0", f"__glibc={release}=0") if system == "linux" else (f"__osx={release}=0",)
        return ("__unix=0=0", *own, f"__archspec=1={arch}")

    def _platform_tags(self, release: tuple[int, int]) -> Iterator[str]:
        _, machine, system, _ = PLATFORMS[self.platform]
        if system == "darwin":
            yield from tags.mac_platforms(release, machine)
            return
        legacy = {(2, 17): "manylinux2014", (2, 12): "manylinux2010", (2, 5): "manylinux1"}
        for minor in range(release[1], 4, -1):
            yield f"manylinux_{release[0]}_{minor}_{machine}"
            if (release[0], minor) in legacy and (machine == "x86_64" or minor == 17):
                yield f"{legacy[release[0], minor]}_{machine}"
        yield f"linux_{machine}"


def _unknown(platform: str) -> tuple[str, str, str, str]:
    """Of a machine that conda does not know, what its ``sysconfig`` name such as linux-riscv64 tells, as in PLATFORMS."""
    system, _, machine = platform.partition("-")
    return machine, machine, system, system.capitalize()
