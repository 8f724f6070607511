"""Resolution: from a request to a lock whose interpreter and packages are all kept.

An unchanged request is answered from memory, with no network and no process, as long as the store holds what its
lock needs. Otherwise conda solves first, what it chose binds the index side, and every file is fetched and kept.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from stillrun_envs import conda, pypi
from stillrun_envs.discovery import PythonFacts, find_python
from stillrun_envs.errors import InterpreterError, Offline
from stillrun_envs.fetch import Wanted, fetch
from stillrun_envs.interpreter import keep_interpreter
from stillrun_envs.location import without_credentials
from stillrun_envs.lock import Interpreter, Lock, PinnedPackage, read_lock
from stillrun_envs.memo import Memo, file_identity
from stillrun_envs.network import Network
from stillrun_envs.request import EnvRequest
from stillrun_snapshot.digest import Digest, digest_of
from stillrun_snapshot.record import canonical_bytes
from stillrun_snapshot.store import Store

__all__ = ["lock_for"]

HINTS = "stillrun/lock-hints/1"
# what a user can set that leads to other packages; addresses count without their credentials
_STEERING = re.compile(
    r"^(UV|PIP)_(DEFAULT_INDEX|INDEX_URL|INDEX|EXTRA_INDEX_URL|FIND_LINKS|NO_INDEX|INDEX_STRATEGY|EXCLUDE_NEWER|"
    r"RESOLUTION|PRERELEASE|CONSTRAINT|OVERRIDE|TORCH_BACKEND|CONFIG_FILE)$"
)


@dataclass(frozen=True)
class _Asking:
    """Everything that one resolution needs."""

    request: EnvRequest
    store: Store
    memo: Memo
    environ: Mapping[str, str]
    progress: Callable[[str], None]
    refresh: bool


def lock_for(
    request: EnvRequest,
    store: Store,
    *,
    base_python: Path,
    offline: bool = False,
    refresh: bool = False,
    environ: Mapping[str, str] | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Digest:
    """The lock of ``request``, with its interpreter and every package kept in the store.

    base_python: the Python to use when the request names no version. refresh: resolve again, even if unchanged.
    environ: carries the user's proxies, certificates and index settings; the process's own when None.
    Raises ResolveError, FetchError, InterpreterError; Offline when the network is needed and ``offline`` is set.
    """
    surroundings = os.environ if environ is None else environ
    with Memo(store) as memo:
        asking = _Asking(request, store, memo, surroundings, progress, refresh)
        facts, question = _question(asking, base_python.absolute())
        if not refresh:
            known = _remembered(asking, question)
            if known is not None:
                return known
        if isinstance(facts, InterpreterError):
            raise facts
        if offline:
            raise Offline(
                f"the environment {_spoken(request)} has not been locked on this machine yet and the network is off; "
                "run once with the network on."
            )
        lock, hints = _resolved(asking, facts)
        digest = store.put_record(lock.to_record())
        answer = {"lock": str(digest), "hints": str(store.put_record({**hints, "lock": str(digest)}))}
        memo.set(answer, *question)
        memo.set(answer, *_without_python(question))
        return digest


def _question(asking: _Asking, base_python: Path) -> tuple[PythonFacts | InterpreterError, tuple[object, ...]]:
    """The Python that would be used, or why there is none, and under what the lock is remembered."""
    request, environ = asking.request, asking.environ
    steering = [
        f"{name}={' '.join(map(without_credentials, value.split()))}"
        for name, value in sorted(environ.items())
        if _STEERING.match(name)
    ]
    told = str(digest_of(canonical_bytes({"schema": "stillrun/steering/1", "set": steering})))
    try:
        # conda brings its own Python: there the caller's only tells the platform
        wanted = request.python if request.conda is None else None
        facts = find_python(wanted, base_python, asking.memo, environ)
    except InterpreterError as err:
        return err, ("lock", str(request.request_id), told)
    python = [str(facts.base_executable), facts.version, file_identity(facts.base_executable)]
    return facts, ("lock", str(request.request_id), told, python)


def _without_python(question: tuple[object, ...]) -> tuple[object, ...]:
    """Under what a lock is found when the Python that it was made with has been removed from the machine."""
    return question[:3]


def _remembered(asking: _Asking, question: tuple[object, ...]) -> Digest | None:
    answer = asking.memo.get(*question)
    if not isinstance(answer, dict):
        return None
    digest = Digest.parse(answer.get("lock"))
    if not asking.store.has(digest):
        return None
    lock = read_lock(asking.store, digest)
    return digest if all(map(asking.store.has, lock.digests())) else None


def _resolved(asking: _Asking, facts: PythonFacts) -> tuple[Lock, dict[str, object]]:
    """The lock of a request, everything in it kept, and where its files came from."""
    request = asking.request
    if request.conda is None:
        asking.progress(f"Resolving {_spoken(request)} for Python {facts.version}.")
        packages, sources = _from_index(asking, facts)
        interpreter = keep_interpreter(facts, asking.store, asking.memo, asking.environ)
        return Lock(interpreter, packages), {"schema": HINTS, "sources": sources}
    platform = conda.platform_of(facts.platform)
    asking.progress(f"Resolving {_spoken(request)} for {platform}.")
    solution = conda.solve(_conda_specs(request, facts), request.channels, platform, asking.store, asking.environ)
    packages, sources = _from_channels(asking, solution)
    python = _python_of(solution, facts)
    if request.pypi:
        supplied = conda.supplied_distributions(asking.store, packages)
        wheels, more = _from_index(asking, python, supplied)
        packages, sources = (*packages, *wheels), [*sources, *more]
    interpreter = Interpreter(
        python.version, python.implementation, python.soabi, python.platform, f"bin/python{python.family}"
    )
    lock = Lock(interpreter, packages, virtual_packages=solution.virtual_packages)
    return lock, {"schema": HINTS, "sources": sources}


def _from_index(
    asking: _Asking, facts: PythonFacts, supplied: Mapping[str, str] = MappingProxyType({})
) -> tuple[tuple[PinnedPackage, ...], list[dict[str, str]]]:
    """Wheels from the index, kept; supplied: what conda brings, which binds the others and is not taken again."""
    request, environ = asking.request, asking.environ
    chosen = pypi.resolve(
        request.pypi or (),
        facts,
        environ,
        index_url=request.index_url,
        extra_indices=request.extra_indices,
        supplied=supplied,
        refresh=asking.refresh,
    )
    addresses = tuple(url for url in (request.index_url, *request.extra_indices) if url)
    wanted = [Wanted(one.url, one.digest, one.size) for one in chosen]
    fetched = fetch(wanted, asking.store, Network(environ, addresses), progress=asking.progress)
    pairs = list(zip(chosen, fetched, strict=True))
    packages = tuple(
        PinnedPackage("pypi", one.name, one.version, one.file, kept.digest, kept.size) for one, kept in pairs
    )
    return packages, [{"digest": str(kept.digest), "url": without_credentials(one.url)} for one, kept in pairs]


def _from_channels(asking: _Asking, solution: conda.Solution) -> tuple[tuple[PinnedPackage, ...], list[dict[str, str]]]:
    """The archives of a solution, kept."""
    addresses = tuple(url for url in asking.request.channels if "://" in url)
    wanted = [Wanted(one.url, one.digest, one.size) for one in solution.packages]
    fetched = fetch(wanted, asking.store, Network(asking.environ, addresses), progress=asking.progress)
    pairs = list(zip(solution.packages, fetched, strict=True))
    packages = tuple(
        PinnedPackage(
            "conda", one.name, one.version, one.file, kept.digest, kept.size, build=one.build, subdir=one.subdir
        )
        for one, kept in pairs
    )
    sources = [
        {"digest": str(kept.digest), "url": without_credentials(one.url), "md5": one.md5 or ""} for one, kept in pairs
    ]
    return packages, sources


def _conda_specs(request: EnvRequest, facts: PythonFacts) -> list[str]:
    """What is asked of conda, Python included: the one asked for, or one of the family of the caller's."""
    specs = list(request.conda or ())
    if any(spec.rpartition("::")[2].split(" ")[0] == "python" for spec in specs):
        return specs
    wanted = request.python or facts.family
    return [*specs, f"python =={wanted}" if wanted.count(".") == 2 else f"python {wanted}.*"]


def _python_of(solution: conda.Solution, facts: PythonFacts) -> PythonFacts:
    """The Python of a solution, as far as it can be known before it is installed."""
    version = solution.python.version
    short = "".join(version.split(".")[:2])
    soabi = re.sub(r"^cpython-\d+[a-z]*", f"cpython-{short}", facts.soabi)
    return replace(facts, version=version, soabi=soabi, implementation="cpython")


def _spoken(request: EnvRequest) -> str:
    """The request in a few words."""
    packages = [*(request.conda or ()), *(request.pypi or ())]
    shown = ", ".join(packages[:4]) or "without packages"
    return shown if len(packages) <= 4 else f"{shown} and {len(packages) - 4} more"
