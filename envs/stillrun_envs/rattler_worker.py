"""The process that rattler runs in: one JSON request on standard input, one JSON answer on the last line of output.

rattler is native code that may panic or crash; here that costs one process, never the engine.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping
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
    from rattler import Channel, ChannelConfig, Gateway, GenericVirtualPackage, VirtualPackage, solve

    alias = {"channel_alias": request["alias"]} if request["alias"] else {}
    config = ChannelConfig(root_dir="/", **alias)
    detected: list[GenericVirtualPackage] = [one.into_generic() for one in VirtualPackage.detect()]
    records = await solve(
        [Channel(name, config) for name in request["channels"]],
        request["specs"],
        gateway=Gateway(cache_dir=Path(request["cache"])),
        platforms=[request["platform"], "noarch"],
        virtual_packages=detected,
    )
    return {
        "packages": [_described(record) for record in records],
        "virtual_packages": [f"{one.name.normalized}={one.version}={one.build_string}" for one in detected],
    }


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
    return {}


if __name__ == "__main__":
    main()
