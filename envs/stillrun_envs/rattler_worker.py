"""The process that rattler runs in: one JSON request on standard input, one JSON answer on the last line of output.

rattler is native code that may panic or crash; here that costs one process, never the engine.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

__all__ = ["main"]


def main() -> None:
    """Answer the request on standard input."""
    request = json.load(sys.stdin)
    work = {"solve": _solve, "install": _install}[request["op"]]
    try:
        answer = {"ok": asyncio.run(work(request))}
    except BaseException as err:
        answer = {"error": {"type": type(err).__name__, "message": str(err)}}
    sys.stdout.write("\n" + json.dumps(answer) + "\n")


async def _solve(request: Mapping[str, Any]) -> dict[str, Any]:
    from rattler import Channel, ChannelConfig, Client, Gateway, solve

    alias = {"channel_alias": request["alias"]} if request["alias"] else {}
    config = ChannelConfig(root_dir="/", **alias)
    channels = [Channel(name, config) for name in request["channels"]]
    gateway = Gateway(cache_dir=Path(request["cache"]), client=Client.default_client())
    machine = _machine(request["virtual_packages"], detect=request["detect"])
    platforms = [request["platform"], "noarch"]
    newest = request["exclude_newer"]
    records = await solve(
        channels,
        request["specs"],
        gateway=gateway,
        platforms=platforms,
        locked_packages=await _locked(request["preferred"], gateway, channels, platforms),
        virtual_packages=machine,
        exclude_newer=datetime.fromisoformat(newest) if newest else None,
        constraints=request["constraints"],
    )
    return {
        "packages": [_described(record) for record in records],
        "virtual_packages": [f"{one.name.normalized}={one.version}={one.build_string}" for one in machine],
    }


def _machine(told: Sequence[str], *, detect: bool) -> list[Any]:
    """The virtual packages of the machine that is solved for: those of this one, when it is it, and those told."""
    from rattler import (
        BuildString,
        GenericVirtualPackage,
        PackageName,
        Version,
        VirtualPackage,
        VirtualPackageOverrides,
    )

    found: dict[str, Any] = {}
    for one in VirtualPackage.detect(VirtualPackageOverrides.from_env()) if detect else ():  # CONDA_OVERRIDE_CUDA=…
        generic: GenericVirtualPackage = one.into_generic()
        found[generic.name.normalized] = generic
    for text in told:
        name, version, build = (*text.split("="), "0", "0")[:3]
        if version in ("", "none"):  # NAME= : as if the machine did not have it
            found.pop(name, None)
        else:
            found[name] = GenericVirtualPackage(PackageName(name), Version(version), BuildString(build))
    return [found[name] for name in sorted(found)]


async def _locked(
    preferred: Sequence[str], gateway: Any, channels: Sequence[Any], platforms: Sequence[str]
) -> list[Any]:
    """The records of the packages that are kept as they are where nothing speaks against it."""
    if not preferred:
        return []
    found = await gateway.query(sources=channels, platforms=platforms, specs=preferred, recursive=False)
    return [record for group in found for record in group]


def _described(record: Any) -> dict[str, Any]:
    return {
        "name": record.name.normalized,
        "version": str(record.version),
        "build": str(record.build),
        "subdir": record.subdir,
        "file": record.file_name,
        "url": str(record.url),
        "sha256": record.sha256.hex() if record.sha256 else None,
        "md5": record.md5.hex() if record.md5 else None,
        "size": record.size,
        "depends": list(record.depends),
    }


async def _install(request: Mapping[str, Any]) -> dict[str, Any]:
    from rattler import RepoDataRecord, Subdir, install

    records = []
    for path in request["archives"]:
        record = await RepoDataRecord.from_package_archive(path)
        record.url = Path(path).as_uri()  # it follows links to names without the suffix that installing goes by
        records.append(record)
    await install(
        records,
        target_prefix=request["prefix"],
        alternative_target_prefix=request["final"],
        cache_dir=Path(request["cache"]),
        platform=Subdir(request["platform"]),
        execute_link_scripts=False,
        show_progress=False,
    )
    return {"lacks": [need for need in request["needs"] if not await _is_met(need)]}


async def _is_met(need: str) -> bool:
    """Whether this machine has a virtual package that fits."""
    from rattler import solve
    from rattler.exceptions import SolverError

    try:
        await solve([], [need], virtual_packages=_machine((), detect=True))
    except SolverError:
        return False
    return True


if __name__ == "__main__":
    main()
