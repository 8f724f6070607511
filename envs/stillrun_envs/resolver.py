"""Resolution: from a request to a lock whose interpreter and packages are all kept.

An unchanged request is answered from memory, with no network and no process, as long as the store holds what its
lock needs. Otherwise conda solves first, what it chose binds the index side, and every file is fetched and kept.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType

from stillrun_envs import conda, pypi, sources
from stillrun_envs.building import Builder
from stillrun_envs.contents import supplied_distributions
from stillrun_envs.discovery import PythonFacts, find_python
from stillrun_envs.errors import InterpreterError, LockError, Offline, ResolveError
from stillrun_envs.formats.listing import Listed
from stillrun_envs.hints import Hints, keep_hints
from stillrun_envs.interpreter import keep_interpreter
from stillrun_envs.keeping import KeepPackages, Kept, as_solved, keep_archives, keep_wheels
from stillrun_envs.location import without_credentials
from stillrun_envs.lock import Interpreter, Lock, NotKept, PinnedPackage, read_lock
from stillrun_envs.memo import Memo, file_identity
from stillrun_envs.network import Network
from stillrun_envs.platforms import Target
from stillrun_envs.prefix import prefix_for
from stillrun_envs.request import EnvRequest
from stillrun_snapshot.deferred import dataclass
from stillrun_snapshot.digest import Digest, digest_of
from stillrun_snapshot.record import canonical_bytes
from stillrun_snapshot.store import Store

__all__ = ["lock_for", "target_for"]

# what a user can set that leads to other packages; addresses count without their credentials
_STEERING = re.compile(
    r"^(UV|PIP)_(DEFAULT_INDEX|INDEX_URL|INDEX|EXTRA_INDEX_URL|FIND_LINKS|NO_INDEX|INDEX_STRATEGY|EXCLUDE_NEWER|"
    r"RESOLUTION|PRERELEASE|CONSTRAINT|OVERRIDE|TORCH_BACKEND|CONFIG_FILE)$|^CONDA_OVERRIDE_[A-Z]+$"
)
_OUR_LAYOUT = 2  # raised when the same request would be locked otherwise


@dataclass(frozen=True)
class _Asking:
    """Everything that one resolution needs."""

    request: EnvRequest
    store: Store
    memo: Memo
    environ: Mapping[str, str]
    progress: Callable[[str], None]
    refresh: bool
    base_python: Path
    keep: KeepPackages
    last: Lock | None = None  # whose versions stay where nothing speaks against it
    upgrade: tuple[str, ...] = ()  # packages that leave the last lock

    @property
    def network(self) -> Network:
        request = self.request
        addresses = (request.index_url, *request.extra_indices, *request.channels)
        return Network(self.environ, tuple(url for url in addresses if url and "://" in url))


def lock_for(
    request: EnvRequest,
    store: Store,
    *,
    base_python: Path,
    offline: bool = False,
    refresh: bool = False,
    upgrade: Sequence[str] = (),
    keep: KeepPackages = "all",
    environ: Mapping[str, str] | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Digest:
    """The lock of ``request``, with its interpreter and every package in the store.

    base_python: the Python to use when the request names no version. refresh: resolve again, even if unchanged.
    keep: which packages stay in the store; the others are there until its cache is emptied.
    upgrade: resolve again, but let only these packages leave the versions of the last lock without need.
    environ: carries the user's proxies, certificates and index settings; the process's own when None.
    Raises ResolveError, FetchError, InterpreterError; Offline when the network is needed and ``offline`` is set.
    """
    surroundings = os.environ if environ is None else environ
    with Memo(store) as memo:
        asking = _Asking(
            request, store, memo, surroundings, progress, refresh or bool(upgrade), base_python.absolute(), keep
        )
        facts, question = _question(asking)
        known = _remembered(asking, question)
        if known is not None and not asking.refresh:
            return known
        if isinstance(facts, InterpreterError):
            raise facts
        if offline:
            raise Offline(
                f"the environment {_spoken(request)} has not been locked on this machine yet and the network is off; "
                "run once with the network on."
            )
        if upgrade and known is not None:
            asking = replace(asking, last=read_lock(store, known), upgrade=tuple(upgrade))
        lock, hints = _resolved(asking, facts)
        digest = store.put_record(lock.to_record())
        keep_hints(store, digest, hints)
        memo.set({"lock": str(digest)}, *question)
        memo.set({"lock": str(digest)}, *_without_python(question))
        return digest


def target_for(
    python: str | None, base_python: Path, store: Store, *, environ: Mapping[str, str], platform: str | None = None
) -> Target:
    """What a request for Python ``python`` (None: the base Python) on ``platform`` (None: here) is locked for."""
    with Memo(store) as memo:
        if platform is not None and python is not None:
            return Target.elsewhere(platform, python)
        try:
            facts = find_python(python, base_python.absolute(), memo, environ)
        except InterpreterError:
            if python is None:
                raise
            facts = replace(
                find_python(None, base_python.absolute(), memo, environ), version=python
            )  # conda may have it
    return Target.here(facts) if platform is None else Target.elsewhere(platform, facts.family)


def _question(asking: _Asking) -> tuple[PythonFacts | InterpreterError, tuple[object, ...]]:
    """The Python that would be used, or why there is none, and under what the lock is remembered."""
    request, environ = asking.request, asking.environ
    steering = [
        f"{name}={' '.join(map(without_credentials, value.split()))}"
        for name, value in sorted(environ.items())
        if _STEERING.match(name)
    ]
    folders = [f"{text}={sources.folder_state(text)}" for text in _folders(request)]
    told = str(digest_of(canonical_bytes({"schema": "stillrun/steering/1", "set": [*steering, *folders]})))
    about = ("lock", _OUR_LAYOUT, str(request.request_id), told)
    try:
        # conda brings its own Python: there the caller's only tells the platform
        wanted = request.python if request.conda is None and _here(request) and not _brings_python(request) else None
        facts = find_python(wanted, asking.base_python, asking.memo, environ)
    except InterpreterError as err:
        return err, about
    python = [str(facts.base_executable), facts.version, file_identity(facts.base_executable)]
    return facts, (*about, python)


def _without_python(question: tuple[object, ...]) -> tuple[object, ...]:
    """Under what a lock is found when the Python that it was made with has been removed from the machine."""
    return question[:4]


def _remembered(asking: _Asking, question: tuple[object, ...]) -> Digest | None:
    answer = asking.memo.get(*question)
    if not isinstance(answer, dict):
        return None
    digest = Digest.parse(answer.get("lock"))
    if not asking.store.has(digest):
        return None
    needed = read_lock(asking.store, digest).digests()
    if asking.store.absent(needed):
        return None
    if asking.keep == "all":
        for one in needed:
            asking.store.keep_spare(one)  # another run may have left it out
    return digest


def _folders(request: EnvRequest) -> list[str]:
    """The requirements that lie in folders of this machine: their content is part of the question."""
    asked = [*(request.pypi or ()), *(request.overrides), *(request.constraints)]
    listed = [] if request.listing is None else [one.source for one in request.listing.packages if one.source]
    return [text for text in (*asked, *listed) if "file://" in text]


def _here(request: EnvRequest) -> bool:
    return request.platform is None


def _brings_python(request: EnvRequest) -> bool:
    """Whether a listing names conda's Python."""
    return request.listing is not None and any(
        one.manager == "conda" and one.name == "python" for one in request.listing.packages
    )


def _resolved(asking: _Asking, facts: PythonFacts) -> tuple[Lock, Hints]:
    """The lock of a request, everything in it kept, and where its files came from."""
    request = asking.request
    here = Target.here(facts)
    target = here if _here(request) else _elsewhere(request, facts)
    machine: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    if request.listing is not None:
        asking.progress(f"Keeping the {len(request.listing.packages)} packages of a lock for {target.platform}.")
        kept = _from_listing(asking, target, facts)
    elif request.conda is not None:
        asking.progress(f"Resolving {_spoken(request)} for {target.platform}.")
        solution = _solved(asking, target)
        machine, needs = solution.virtual_packages, solution.needs
        kept = keep_archives(solution.packages, asking.store, asking.network, asking.progress, asking.keep)
        if request.pypi:
            bound = replace(
                target, version=solution.python.version, soabi=_soabi(solution.python.version, facts, target)
            )
            kept += _from_index(asking, bound, facts, supplied_distributions(asking.store, kept.packages))
    else:
        asking.progress(f"Resolving {_spoken(request)} for Python {target.version}.")
        kept = _from_index(asking, target, facts)
    interpreter, missing = _interpreter(asking, kept, target, facts)
    lock = Lock(interpreter, kept.packages, needs=needs, link_scripts=request.link_scripts, not_kept=missing)
    return lock, Hints(request.to_record(), kept.origins, machine)


def _elsewhere(request: EnvRequest, facts: PythonFacts) -> Target:
    assert request.platform is not None, "asked for another machine"
    return Target.elsewhere(request.platform, request.python or facts.family, request.virtual_packages)


def _interpreter(
    asking: _Asking, kept: Kept, target: Target, facts: PythonFacts
) -> tuple[Interpreter, tuple[NotKept, ...]]:
    """The Python of a lock: a conda package, this machine's as an object, or another machine's, which cannot be kept."""
    brought = next((one for one in kept.packages if one.manager == "conda" and one.name == "python"), None)
    if brought is not None:
        version = brought.version
        family = ".".join(version.split(".")[:2])
        soabi = _soabi(version, facts, target)
        platform = facts.platform if target.is_here else target.sysconfig_platform
        return Interpreter(version, "cpython", soabi, platform, f"bin/python{family}"), ()
    if any(one.manager == "conda" for one in kept.packages):
        raise LockError("the conda packages hold no Python; add 'python' to them, since a step needs one.")
    if target.is_here:
        return keep_interpreter(facts, asking.store, asking.memo, asking.environ), ()
    reason = f"no Python for {target.platform} is on this machine to be kept; make the lock there, or use conda's"
    bare = Interpreter(
        target.version, "cpython", _soabi(target.version, facts, target), target.sysconfig_platform,
        f"bin/python{target.family}",
    )  # fmt: skip
    return bare, (NotKept("python", target.version, reason),)


def _soabi(version: str, facts: PythonFacts, target: Target) -> str:
    """The ABI name of a CPython that is not unpacked yet."""
    short = "".join(version.split(".")[:2])
    if target.is_here:
        return re.sub(r"^cpython-\d+[a-z]*", f"cpython-{short}", facts.soabi)
    system = target.sysconfig_platform
    machine = system.partition("-")[2]
    return f"cpython-{short}-darwin" if system.startswith("macosx") else f"cpython-{short}-{machine}-linux-gnu"


def _solved(asking: _Asking, target: Target) -> conda.Solution:
    """What conda chooses."""
    request = asking.request
    stay = [one for one in (asking.last.of("conda") if asking.last else ()) if one.name not in asking.upgrade]
    return conda.solve(
        _conda_specs(request, target),
        request.channels,
        target.platform,
        asking.store,
        asking.environ,
        preferred=[f"{one.name} =={one.version} {one.build}" for one in stay],
        exclude_newer=request.exclude_newer,
        virtual_packages=(*(() if target.is_here else target.virtual_packages()), *request.virtual_packages),
        detect=target.is_here,
    )


def _from_index(
    asking: _Asking, target: Target, facts: PythonFacts, supplied: Mapping[str, str] = MappingProxyType({})
) -> Kept:
    """Wheels from the index, kept; supplied: what conda brings, which binds the others and is not taken again."""
    last = {one.name: one.version for one in (asking.last.of("pypi") if asking.last else ())}
    request = asking.request
    builder = _builder(asking, target, facts)
    chosen = pypi.resolve(
        request,
        target,
        asking.environ,
        python=facts.base_executable,
        supplied=supplied,
        preferred=last,
        upgrade=asking.upgrade,
        refresh=asking.refresh,
        wheel_of=builder.wheel_of,
        network=asking.network,
        place=partial(_place, asking.store),
    )
    return keep_wheels(
        [one for one in chosen if isinstance(one, pypi.Chosen)],
        asking.store,
        asking.network,
        asking.progress,
        asking.keep,
    ) + Kept(tuple(one for one in chosen if isinstance(one, PinnedPackage)), tuple(builder.origins))


def _from_listing(asking: _Asking, target: Target, facts: PythonFacts) -> Kept:
    """The packages of another tool's lock, kept: exactly these files, whatever an index says today."""
    assert asking.request.listing is not None, "a listing was asked for"
    listed = asking.request.listing.packages
    archives = [one for one in listed if one.manager == "conda"]
    wheels = [one for one in listed if one.manager == "pypi"]
    python = next((one for one in archives if one.name == "python"), None)
    if python is not None:
        target = replace(target, version=python.version, soabi=_soabi(python.version, facts, target))
    elif asking.request.listing.python and not asking.request.listing.python.startswith(target.family):
        said = asking.request.listing.python
        raise ResolveError(f"the lock is for Python {said}, the step runs on {target.version}; write python={said!r}.")
    kept = keep_archives(list(map(as_solved, archives)), asking.store, asking.network, asking.progress, asking.keep)
    files = [one for one in wheels if not one.source]
    builder = _builder(asking, target, facts)
    found = pypi.locate(files, target, asking.request, asking.environ, asking.network)
    refs = [sources.source_of(_reference(one), one.digest) for one in wheels if one.source]
    refs += [one for one in found if isinstance(one, sources.SourceRef)]
    chosen = [one for one in found if isinstance(one, pypi.Chosen)]
    kept += keep_wheels(chosen, asking.store, asking.network, asking.progress, asking.keep)
    built = tuple(map(builder.wheel_of, refs))
    return kept + Kept(built, tuple(builder.origins))


def _place(store: Store, package: PinnedPackage, path: Path) -> None:
    path.write_bytes(store.get(package.digest))


def _reference(one: Listed) -> str:
    return one.source if " @ " in one.source else f"{one.name} @ {one.source}"


def _builder(asking: _Asking, target: Target, facts: PythonFacts) -> Builder:
    """What makes wheels of sources, in an environment that is locked and kept like any other."""
    asked = asking.request

    def lock_build(requirements: Sequence[str]) -> Digest:
        needs = tuple(sorted(set(requirements)))
        version = target.version if target.is_here else facts.version
        request = EnvRequest(
            python=version,
            pypi=needs,
            conda=() if target.is_here and asked.conda is not None else None,  # compiled code fits conda's own Python
            channels=asked.channels if asked.conda is not None else (),
            index_url=asked.index_url,
            extra_indices=asked.extra_indices,
            find_links=asked.find_links,
            exclude_newer=asked.exclude_newer,
        )
        return lock_for(
            request, asking.store, base_python=asking.base_python, environ=asking.environ, progress=asking.progress
        )

    return Builder(
        target=target,
        facts=facts,
        store=asking.store,
        memo=asking.memo,
        network=asking.network,
        environ=asking.environ,
        progress=asking.progress,
        lock_build=lock_build,
        prefix_of=partial(prefix_for, store=asking.store, environ=asking.environ, progress=asking.progress),
    )


def _conda_specs(request: EnvRequest, target: Target) -> list[str]:
    """What is asked of conda, Python included: the one asked for, or one of the family of the caller's."""
    specs = list(request.conda or ())
    if any(re.split(r"[\s<>=!~\[]", spec.rpartition("::")[2], maxsplit=1)[0] == "python" for spec in specs):
        return specs
    wanted = request.python or target.family
    return [*specs, f"python =={wanted}" if wanted.count(".") == 2 else f"python {wanted}.*"]


def _spoken(request: EnvRequest) -> str:
    """The request in a few words."""
    listed = () if request.listing is None else tuple(f"{one.name}=={one.version}" for one in request.listing.packages)
    packages = [*(request.conda or ()), *map(without_credentials, request.pypi or ()), *listed]
    shown = ", ".join(packages[:4]) or "without packages"
    return shown if len(packages) <= 4 else f"{shown} and {len(packages) - 4} more"
