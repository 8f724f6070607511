"""Environments by name: what a person may call one, and what a flow or a file asks for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from stillrun_engine.archive import open_run
from stillrun_engine.caller import Caller
from stillrun_engine.errors import EngineError, FlowRefused, NotFound
from stillrun_engine.named_locks import pinned
from stillrun_engine.pathspec import nearest, parse_pathspec
from stillrun_engine.places import requests_of
from stillrun_engine.prepare import RunRequest, describe
from stillrun_engine.stopping import StopSignals
from stillrun_engine.warm import warm_host
from stillrun_envs.asking import asked_of_file, platforms_in
from stillrun_envs.hints import known_locks
from stillrun_envs.request import EnvRequest
from stillrun_envs.resolver import target_for
from stillrun_snapshot.deferred import dataclass
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.store import Store

__all__ = ["AskedFor", "find_lock", "requests_in"]

_HEX = re.compile(r"^(sha256:)?[0-9a-f]{6,64}$")


@dataclass(frozen=True)
class AskedFor:
    """One environment that a flow or a file asks for."""

    label: str  # the steps, or the file
    request: EnvRequest


def find_lock(store: Store, text: str) -> Digest:
    """The lock that ``text`` names: a pin, a digest or the beginning of one, or FLOW/RUN/STEP.

    Raises NotFound with the nearest names, EngineError when it names several.
    """
    pins = dict(pinned(store))
    if text in pins:
        return pins[text]
    if text.count("/") == 2:
        run = open_run(store, parse_pathspec(text, least=3, most=3))
        lock = run.lock_of(str(run.spec.step))
        if lock is None:
            raise NotFound(f"the environment of {run.spec} was recorded but not kept: the run ended before that.")
        return lock
    if _HEX.match(text):
        start = text.removeprefix("sha256:")
        found = [lock for lock in known_locks(store) if lock.hex.startswith(start)]
        if not found and len(start) == 64 and store.has(Digest.parse(f"sha256:{start}")):
            return Digest.parse(f"sha256:{start}")
        if len(found) > 1:
            raise EngineError(f"{len(found)} locks begin with {start}; give more digits.")
        if found:
            return found[0]
    raise NotFound(
        f"there is no environment '{text}' in {store.root}: give a name, a digest, FLOW/RUN/STEP or a file."
        f"{nearest(text, list(pins))} 'stillrun env list' shows what there is."
    )


def requests_in(
    store: Store,
    file: Path,
    caller: Caller,
    *,
    class_name: str | None = None,
    python: str | None = None,
    platforms: Sequence[str] = (),
    every_platform: bool = False,
    extras: Sequence[str] = (),
    groups: Sequence[str] = (),
) -> list[AskedFor]:
    """What a flow file, or a file of requirements or a lock of any tool, asks for here and on each of ``platforms``.

    every_platform: on those that the file itself says it is for, and here only when this is one of them.
    """
    if not file.is_file():
        raise EngineError(f"there is no file {file}; give a flow, or a file such as environment.yml or pylock.toml.")
    if file.suffix == ".py":
        return _of_flow(store, file, caller, class_name)
    found = []
    wanted: list[str | None] = [None, *platforms]
    if every_platform:
        here = target_for(python, caller.python, store, environ=caller.variables)
        named = platforms_in(file, here)
        wanted = [None if one == here.platform else one for one in named] + list(platforms) if named else wanted
    for platform in dict.fromkeys(wanted):
        target = target_for(python, caller.python, store, environ=caller.variables, platform=platform)
        request = asked_of_file(file, target, extras=extras, groups=groups)
        found.append(AskedFor(file.name, request if platform is None else request.on(platform)))
    return found


def _of_flow(store: Store, file: Path, caller: Caller, class_name: str | None) -> list[AskedFor]:
    with StopSignals() as stop:
        described = describe(store, RunRequest(file.absolute(), caller, class_name), stop, warm_host(store, caller))
        described.executor.close()
    description = described.description
    if description["problems"]:
        first = description["problems"][0]
        raise FlowRefused(f"{description['file']}:{first['line']}: {first['what']} {first['cure']}", [first])
    asked = requests_of(store, description, caller, file.absolute().parent)
    return [AskedFor(", ".join(steps), request) for request, steps in asked.items()]
