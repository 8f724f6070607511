"""What a run borrowed from the caller's environment, packed again into wheels that any machine can install."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.markers import default_environment
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from stillrun_envs.ambient import Borrowing
from stillrun_envs.ambient_conda import CondaEnvironment
from stillrun_envs.discovery import PythonFacts, describe_python
from stillrun_envs.errors import EnvError
from stillrun_envs.installed import Installed, headers, owned_modules, read_record
from stillrun_envs.interpreter import keep_interpreter
from stillrun_envs.lock import Interpreter, Lock, NotKept, PinnedPackage, package_from_record
from stillrun_envs.memo import Memo
from stillrun_envs.repack import UnpackableError, repack, source_files
from stillrun_snapshot.digest import Digest, digest_of
from stillrun_snapshot.store import Store

__all__ = ["keep_borrowed"]

_OWN = frozenset({"stillrun"})  # the face of a run is captured apart
_UNOWNED = frozenset({"_virtualenv", "sitecustomize", "usercustomize", "distutils-precedence", "_distutils_hack"})
_REPACKED = 1  # raised when the same files would be packed otherwise


def keep_borrowed(
    store: Store,
    memo: Memo,
    environment: Digest,
    wanted: Borrowing,
    environ: Mapping[str, str],
    progress: Callable[[str], None],
) -> tuple[Lock, Digest]:
    """A lock of the interpreter and of each distribution behind ``wanted``, and its digest; see ``keep_ambient``."""
    keeping = _Keeping.of(store, memo, environ, environment)
    modules = set(wanted.modules)
    used, not_kept = keeping.used(modules - _OWN, set(wanted.metadata))
    if wanted.children:
        not_kept.append(NotKept("child interpreters", "", "what Python programs that steps started used is not known"))
    facts = describe_python(Path(keeping.record["python"]["executable"]), memo, environ, isolated=False)
    if facts.is_conda:
        lock = _of_conda(keeping, facts, used, not_kept, wanted, progress)
        if lock is not None:
            return lock, store.put_record(lock.to_record())
    packages, failed = keeping.packed(used, modules, progress)
    interpreter = keep_interpreter(facts, store, memo, environ)
    lock = Lock(interpreter, tuple(packages), not_kept=(*not_kept, *failed))
    return lock, store.put_record(lock.to_record())


def _of_conda(
    keeping: _Keeping,
    facts: PythonFacts,
    used: Sequence[Installed],
    not_kept: Sequence[NotKept],
    wanted: Borrowing,
    progress: Callable[[str], None],
) -> Lock | None:
    """The lock of what was borrowed of a conda environment; None when its Python's own archive cannot be had."""
    conda = CondaEnvironment(facts.base_prefix, keeping.environ)
    parts = {*wanted.modules, *wanted.metadata, *(one.metadata for one in used)}
    kept = conda.keep(parts, keeping.store, keeping.memo, progress)
    if not any(one.name == "python" for one in kept.packages):
        return None
    wheels = [one for one in used if not conda.owns(one.metadata)]
    packages, failed = keeping.packed(wheels, set(wanted.modules), progress)
    strangers = [one for one in not_kept if not conda.owns(one.name)]
    interpreter = Interpreter(
        facts.version, facts.implementation, facts.soabi, facts.platform, f"bin/python{facts.family}"
    )
    return Lock(
        interpreter,
        (*kept.packages, *packages),
        needs=kept.needs,
        not_kept=(*strangers, *failed, *kept.not_kept),
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

    @classmethod
    def of(cls, store: Store, memo: Memo, environ: Mapping[str, str], environment: Digest) -> _Keeping:
        record = store.get_record(environment, "environment")
        if record.get("kind") != "ambient":
            raise EnvError(f"{environment} is a {record.get('kind')} environment; only the caller's can be kept so.")
        found = [Installed.from_record(item) for item in record["distributions"]]
        sites = tuple(map(Path, record["sites"]))
        return cls(store, memo, environ, environment, record, sites, {one.name: one for one in found})

    def used(self, modules: set[str], metadata: set[str]) -> tuple[list[Installed], list[NotKept]]:
        """The distributions behind ``modules`` and all that they need; and modules that belong to none."""
        owners = self._owners()
        names = {one.name for one in self.distributions.values() if one.metadata in metadata}
        not_kept = []
        for module in sorted(modules):
            owned_by = set(owners.get(module, ())) or self._editable_owner(module)
            names |= owned_by
            if not owned_by and module not in _UNOWNED and not module.startswith("__editable__"):
                place = next((site for site in self.sites if _holds(site, module)), None)
                if place is not None:
                    reason = f"it is imported from {place} and belongs to no installed package; put it beside the flow"
                    not_kept.append(NotKept(module, "", reason))
        return [self.distributions[name] for name in sorted(self._closure(names) - _OWN)], not_kept

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
        rows = read_record(self.sites[one.site], one.metadata)
        facts = [_stat_line(f"{site}/{row.path}") for row in rows if not row.path.endswith(".pyc")]
        return digest_of("\n".join(facts).encode("utf-8", "surrogateescape"))

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
    return (site / module).is_dir() or (site / f"{module}.py").is_file() or any(site.glob(f"{module}.*.so"))


def _stat_line(path: str) -> str:
    try:
        found = os.stat(path)  # noqa: PTH116 - thousands of files, each end of a run
    except OSError:
        return f"{path} missing"
    return f"{path} {found.st_size} {found.st_mtime_ns} {found.st_ctime_ns} {found.st_ino}"
