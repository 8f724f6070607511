"""What a run borrowed from the caller's environment, packed again into wheels that any machine can install."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from packaging.markers import default_environment
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from stillrun_envs.ambient import Borrowing
from stillrun_envs.ambient_conda import CondaEnvironment
from stillrun_envs.discovery import PythonFacts, describe_python
from stillrun_envs.errors import EnvError
from stillrun_envs.installed import Installed, RecordRow, headers, owned_modules, read_record
from stillrun_envs.interpreter import keep_interpreter
from stillrun_envs.lock import Interpreter, Lock, NotKept, PinnedPackage, package_from_record
from stillrun_envs.memo import Memo
from stillrun_envs.platforms import platform_of
from stillrun_envs.repack import UnpackableError, repack, source_files
from stillrun_envs.watched import Watch
from stillrun_snapshot.deferred import dataclass
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.store import Store

__all__ = ["Borrowed", "keep_borrowed"]

_OWN = frozenset({"stillrun"})  # the face of a run is captured apart
_UNOWNED = frozenset({"_virtualenv", "sitecustomize", "usercustomize", "distutils-precedence", "_distutils_hack"})
_REPACKED = 1  # raised when the same files would be packed otherwise


@dataclass(frozen=True)
class Borrowed:
    """A lock of what was borrowed. rests_on: the files whose change may change it; None when it is to be asked again."""

    lock: Lock
    digest: Digest
    rests_on: Mapping[str, str] | None


def keep_borrowed(
    store: Store,
    memo: Memo,
    environment: Digest,
    wanted: Borrowing,
    environ: Mapping[str, str],
    progress: Callable[[str], None],
    *,
    offline: bool = False,
) -> Borrowed:
    """A lock of the interpreter and of each distribution behind ``wanted``; see ``keep_ambient``."""
    keeping = _Keeping.of(store, memo, environ, environment)
    facts = describe_python(Path(keeping.record["python"]["executable"]), memo, environ, isolated=False)
    lock, settled = None, True
    if facts.is_conda:
        platform = platform_of(facts.platform)
        conda = CondaEnvironment(facts.base_prefix, platform, store, memo, environ, keeping.watch, offline)
        if "python" in conda.notes:
            lock = _of_conda(keeping, conda, facts, wanted, progress)
            settled = lock is not None and not any(one.name in conda.notes for one in lock.not_kept)
    if lock is None:
        lock = _of_wheels(keeping, facts, wanted, progress)
    return Borrowed(lock, store.put_record(lock.to_record()), keeping.watch.to_record() if settled else None)


def _of_wheels(keeping: _Keeping, facts: PythonFacts, wanted: Borrowing, progress: Callable[[str], None]) -> Lock:
    used, not_kept = keeping.used(wanted)
    packages, failed = keeping.packed(used, set(wanted.modules), progress)
    interpreter = keep_interpreter(facts, keeping.store, keeping.memo, keeping.environ)
    return Lock(interpreter, tuple(packages), not_kept=(*not_kept, *failed))


def _of_conda(
    keeping: _Keeping,
    conda: CondaEnvironment,
    facts: PythonFacts,
    wanted: Borrowing,
    progress: Callable[[str], None],
) -> Lock | None:
    """The lock of what was borrowed of a conda environment; None when its Python cannot be kept as a package."""
    used, not_kept = keeping.used(wanted, conda)
    wheels = [one for one in used if not conda.installed(keeping.sites[one.site] / one.metadata)]
    owned = [conda.owners(path) for module in wanted.modules if (path := keeping.place_of(module)) is not None]
    owned += [conda.owners(keeping.sites[one.site] / one.metadata) for one in used if one not in wheels]
    kept = conda.keep(set[str]().union(*owned), keeping.paths_of(wheels, conda.prefix), progress)
    if not any(one.name == "python" for one in kept.packages):
        return None
    packages, failed = keeping.packed(wheels, set(wanted.modules), progress)
    interpreter = Interpreter(
        facts.version, facts.implementation, facts.soabi, facts.platform, f"bin/python{facts.family}"
    )
    return Lock(
        interpreter,
        (*kept.packages, *packages),
        needs=kept.needs,
        link_scripts=kept.link_scripts,
        not_kept=(*not_kept, *failed, *kept.not_kept),
    )


@dataclass(frozen=True)
class _Keeping:
    """One environment on its way into the store."""

    store: Store
    memo: Memo
    environ: Mapping[str, str]
    environment: Digest
    record: Mapping[str, Any]
    sites: tuple[Path, ...]
    distributions: Mapping[str, Installed]
    watch: Watch

    @classmethod
    def of(cls, store: Store, memo: Memo, environ: Mapping[str, str], environment: Digest) -> _Keeping:
        record = store.get_record(environment, "environment")
        if record.get("kind") != "ambient":
            raise EnvError(f"{environment} is a {record.get('kind')} environment; only the caller's can be kept so.")
        found = [Installed.from_record(item) for item in record["distributions"]]
        sites = tuple(map(Path, record["sites"]))
        watch = Watch()
        watch.add(map(str, sites))
        return cls(store, memo, environ, environment, record, sites, {one.name: one for one in found}, watch)

    def used(self, wanted: Borrowing, conda: CondaEnvironment | None = None) -> tuple[list[Installed], list[NotKept]]:
        """The distributions behind what was used and all that they need; and what belongs to none."""
        owners = self._owners()
        names = {one.name for one in self.distributions.values() if one.metadata in wanted.metadata}
        not_kept = []
        for module in sorted(set(wanted.modules) - _OWN):
            owned_by = set(owners.get(module, ())) or self._editable_owner(module)
            names |= owned_by
            if not owned_by and module not in _UNOWNED and not module.startswith("__editable__"):
                place = self.place_of(module)
                if place is not None and not (conda is not None and conda.owners(place)):
                    reason = "belongs to no installed package; put it beside the flow"
                    not_kept.append(NotKept(module, "", f"it is imported from {place.parent} and {reason}"))
        if wanted.children:
            not_kept.append(
                NotKept("child interpreters", "", "what Python programs that steps started used is not known")
            )
        return [self.distributions[name] for name in sorted(self._closure(names) - _OWN)], not_kept

    def place_of(self, module: str) -> Path | None:
        """Where a module lies, without suffix; None when it is in none of the folders, as the standard library's are."""
        return next((site / module for site in self.sites if _holds(site, module)), None)

    def paths_of(self, wheels: Iterable[Installed], prefix: Path) -> set[str]:
        """The files that wheels brought, below ``prefix``."""
        found = set()
        for one in wheels:
            for row in self._rows(one):
                path = os.path.normpath(self.sites[one.site] / row.path)
                if path.startswith(f"{prefix}/"):
                    found.add(os.path.relpath(path, prefix))
        return found

    def known(self, one: Installed) -> PinnedPackage | None:
        """The kept wheel of a distribution whose files have not been touched since."""
        answer = None if one.editable else self.memo.get(*self._question(one))
        if not isinstance(answer, dict) or answer["seal"] != self._seal(one):
            return None
        package = package_from_record(answer["package"])
        return package if self.store.has(package.digest) else None

    def packed(
        self, used: Sequence[Installed], modules: set[str], progress: Callable[[str], None]
    ) -> tuple[list[PinnedPackage], list[NotKept]]:
        """Every distribution as a kept wheel, and those that cannot be."""
        for one in used:
            self.watch.add(self._sources(one, modules))
        packages = {one.name: known for one in used if (known := self.known(one)) is not None}
        missing = [one for one in used if one.name not in packages]
        if not missing:
            return list(packages.values()), []
        progress(f"Keeping {len(missing)} installed package{'s' * (len(missing) > 1)}.")
        folder = self.store.scratch("repack")
        try:
            with ThreadPoolExecutor(max_workers=2) as pool:  # compressing and hashing leave the interpreter lock
                jobs = [pool.submit(self._one, one, modules, folder / str(index)) for index, one in enumerate(missing)]
                results = [job.result() for job in jobs]
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        packages.update((one.name, one) for one in results if isinstance(one, PinnedPackage))
        return list(packages.values()), [one for one in results if isinstance(one, NotKept)]

    def _one(self, one: Installed, modules: set[str], path: Path) -> PinnedPackage | NotKept:
        seal = self._seal(one)  # before the files are read: a change in between is seen the next time
        try:
            made = repack(one, self.sites[one.site], Path(self.record["python"]["prefix"]), modules, path)
        except UnpackableError as err:
            return NotKept(one.name, one.version, str(err))
        except OSError as err:
            return NotKept(one.name, one.version, f"its files cannot be read ({err})")
        self.store.put_file(path, expect=made.digest)
        path.unlink()
        package = PinnedPackage(
            "pypi", one.name, one.version, made.file, made.digest, made.size, origin="installed", edited=made.edited
        )
        self.memo.set({"seal": seal, "package": package.to_record()}, *self._question(one))
        return package

    def _question(self, one: Installed) -> tuple[object, ...]:
        return "repacked", _REPACKED, str(self.sites[one.site]), one.metadata, str(one.record)

    def _seal(self, one: Installed) -> str:
        """What the file system says of every file of a distribution."""
        if one.record is None:
            return ""
        site = os.fspath(self.sites[one.site])
        return self.watch.add(f"{site}/{row.path}" for row in self._rows(one))

    def _rows(self, one: Installed) -> list[RecordRow]:
        if one.record is None:
            return []
        return [row for row in read_record(self.sites[one.site], one.metadata) if not row.path.endswith(".pyc")]

    def _sources(self, one: Installed, modules: set[str]) -> Iterator[str]:
        """The files and folders that an editable distribution is packed from."""
        site = self.sites[one.site]
        for module in sorted(modules) if one.editable else ():
            top = source_files(one, site, module)
            if top is not None:
                yield str(top)
                for folder, folders, files in os.walk(top):
                    folders[:] = sorted(name for name in folders if name != "__pycache__")
                    yield from (f"{folder}/{name}" for name in (*folders, *sorted(files)) if not name.endswith(".pyc"))

    def _owners(self) -> Mapping[str, list[str]]:
        """Module to the distributions that installed it."""
        known = self.memo.get("owners", str(self.environment))
        if isinstance(known, dict):
            return known
        owners: dict[str, list[str]] = {}
        for one in self.distributions.values():
            for module in sorted(owned_modules(self.sites[one.site], one)):
                owners.setdefault(module, []).append(one.name)
        self.memo.set(owners, "owners", str(self.environment))
        return owners

    def _editable_owner(self, module: str) -> set[str]:
        for one in self.distributions.values():
            if one.editable and one.name not in _OWN and source_files(one, self.sites[one.site], module) is not None:
                return {one.name}
        return set()

    def _closure(self, names: set[str]) -> set[str]:
        """``names`` and every installed distribution that they need here."""
        question = ("closure", str(self.environment), sorted(names))
        known = self.memo.get(*question)
        if not isinstance(known, list):
            known = sorted(self._closed(names))
            self.memo.set(known, *question)
        return set(known)

    def _closed(self, names: set[str]) -> set[str]:
        python = self.record["python"]
        here = {
            **default_environment(),
            "python_version": ".".join(python["version"].split(".")[:2]),
            "python_full_version": python["version"],
            "implementation_name": python["implementation"],
        }
        waiting = [(name, "") for name in sorted(names)]
        seen = set(waiting)
        while waiting:
            name, extra = waiting.pop()
            for needed, extras in self._needs(name, {**here, "extra": extra}):
                for each in ("", *extras):
                    if needed in self.distributions and (needed, each) not in seen:
                        seen.add((needed, each))
                        waiting.append((needed, each))
        return {name for name, _ in seen}

    def _needs(self, name: str, here: dict[str, str]) -> Iterable[tuple[str, tuple[str, ...]]]:
        one = self.distributions[name]
        for text in headers(self.sites[one.site], one.metadata).get_all("Requires-Dist", []):
            try:
                requirement = Requirement(text)
            except InvalidRequirement:
                continue  # old metadata that no installer would follow either
            if requirement.marker is None or requirement.marker.evaluate(here):
                yield canonicalize_name(requirement.name), tuple(sorted(requirement.extras))


def _holds(site: Path, module: str) -> bool:
    return (site / module).is_dir() or (site / f"{module}.py").is_file() or any(site.glob(f"{module}.*so"))
