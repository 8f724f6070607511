"""Whether what an earlier run used of the caller's environment is still what it was, file by file.

The record of an environment says what is installed; a package that is edited where it lies, or was installed to be edited,
keeps its record. What its files were is in the lock that the earlier run was kept with, and is packed anew to compare.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from stillrun_engine.archive import KeptRun
from stillrun_envs.ambient import keep_ambient
from stillrun_envs.lock import Lock, read_lock
from stillrun_snapshot.digest import Digest

__all__ = ["other_package"]


def other_package(
    origin: KeptRun,
    ambient: Digest,
    modules: Iterable[str],
    variables: Mapping[str, str],
    told: Callable[[str], None],
) -> str | None:
    """What of the caller's environment is another than when ``origin`` ran in it, in words; None when nothing is.

    modules: what the flow imports today. What was never kept cannot be told from what it is now.
    """
    entry = origin.record.get("environments", {}).get(ambient)
    if entry is None or entry["lock"] is None:
        return None
    borrowed = [task.get("borrowed", {}) for task in origin.tasks()]
    now = keep_ambient(
        origin.store,
        ambient,
        {*modules, *(name for one in borrowed for name in one.get("modules", ()))},
        metadata={name for one in borrowed for name in one.get("metadata", ())},
        children=any(one.get("children", False) for one in borrowed),
        environ=variables,
        progress=told,
    )
    return _differs(read_lock(origin.store, Digest(entry["lock"])), read_lock(origin.store, now))


def _differs(before: Lock, now: Lock) -> str | None:
    had = {package.name: package.digest for package in before.packages}
    for package in now.packages:
        if had.get(package.name, package.digest) != package.digest:
            return f"the installed package {package.name} is another"
    unkept = [one.name for one in before.not_kept if not one.version and one.name.isidentifier()]
    return f"the module {unkept[0]} is of no installed package and was not kept" if unkept else None
