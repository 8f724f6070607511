"""The caller's environment: what is installed in it, and what of it a run used, kept so that it can be built again.

A step without a decorator runs in it as it is. Listing it starts no process and reads no metadata while nothing has changed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from stillrun_envs.discovery import PythonFacts, describe_python
from stillrun_envs.memo import Answers, Memo, file_identity
from stillrun_envs.watched import are_unchanged
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.store import Store

if TYPE_CHECKING:
    from stillrun_envs.installed import Installed

__all__ = ["SCHEMA", "Borrowing", "ambient_environment", "keep_ambient"]

SCHEMA = "stillrun/environment/1"


class Borrowing(NamedTuple):
    """What a run is known to have used: imported modules, metadata that was read, and whether Python programs ran."""

    modules: Sequence[str]
    metadata: Sequence[str]
    children: bool


def ambient_environment(store: Store, python: Path, *, environ: Mapping[str, str] | None = None) -> Digest:
    """The record of what ``python`` has installed; the same digest while nothing has changed.

    Raises InterpreterError when ``python`` is not a Python that can be used.
    """
    surroundings = os.environ if environ is None else environ
    answers = Answers(store)
    facts = describe_python(python.absolute(), answers, surroundings, isolated=False)
    question = ("ambient", str(facts.executable), [str(path) for path in facts.path])
    known = answers.get(*question)
    if isinstance(known, dict) and _unchanged(known["watched"]):
        digest = Digest.parse(known["record"])
        if store.has(digest):
            return digest
    from stillrun_envs.installed import installed_distributions  # its parsers are needed only now

    sites = _sites(facts)
    watched = _watched(sites)
    found = installed_distributions(sites)
    digest = store.put_record(_record(facts, sites, found))
    answers.set({"record": str(digest), "watched": watched}, *question)
    return digest


def keep_ambient(
    store: Store,
    environment: Digest,
    modules: Iterable[str],
    *,
    metadata: Iterable[str] = (),
    children: bool = False,
    environ: Mapping[str, str] | None = None,
    offline: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> Digest:
    """A lock of the interpreter and of each distribution that owns one of ``modules``, with all that these need.

    modules: top-level names. metadata: dist-info folders that were read. children: Python programs were started, and
    nobody knows what they used. offline: archives of conda packages are not fetched. What cannot be kept is named in
    the lock's ``not_kept``. While no file of it has changed, the files are looked at and no more.
    """
    surroundings = os.environ if environ is None else environ
    wanted = Borrowing(sorted(set(modules)), sorted(set(metadata)), children)
    python = Path(store.get_record(environment, "environment")["python"]["executable"])
    answers, question = Answers(store), ("borrowed", str(environment), list(wanted), file_identity(python))
    known = answers.get(*question)
    if (
        isinstance(known, dict)
        and are_unchanged(known["rests_on"])
        and not store.absent(map(Digest.parse, known["needs"]))
    ):
        return Digest.parse(known["lock"])
    from stillrun_envs.borrowed import keep_borrowed  # packing wheels is rare

    with Memo(store) as memo:
        kept = keep_borrowed(store, memo, environment, wanted, surroundings, progress, offline=offline)
    if kept.rests_on is not None:
        needs = [str(kept.digest), *map(str, kept.lock.digests())]
        answers.set({"lock": str(kept.digest), "needs": needs, "rests_on": kept.rests_on}, *question)
    return kept.digest


def _sites(facts: PythonFacts) -> list[Path]:
    """The folders in which distributions may lie: all but the standard library's."""
    library = (facts.stdlib, facts.stdlib / "lib-dynload")
    return [path for path in dict.fromkeys(facts.path) if path not in library and path.suffix != ".zip"]


def _watched(sites: Sequence[Path]) -> list[list[Any]]:
    """Everything whose change may change the listing, with what the file system says of it now."""
    paths = list(sites)
    for site in sites:
        if site.is_dir():
            named = sorted(site.glob("*.dist-info")) + sorted(site.glob("*.egg-info"))
            paths += [file for path in named for file in (path / "RECORD", path / "METADATA", path / "direct_url.json")]
            paths += sorted(site.glob("*.pth"))
    return [[str(path), file_identity(path)] for path in paths]


def _unchanged(watched: list[list[Any]]) -> bool:
    return all(file_identity(path) == identity for path, identity in watched)


def _record(facts: PythonFacts, sites: Sequence[Path], found: Sequence[Installed]) -> dict[str, object]:
    return {
        "schema": SCHEMA,
        "kind": "ambient",
        "python": {
            "executable": str(facts.executable),
            "version": facts.version,
            "implementation": facts.implementation,
            "soabi": facts.soabi,
            "platform": facts.platform,
            "prefix": str(facts.prefix),
            "conda": facts.is_conda,
        },
        "sites": [str(site) for site in sites],
        "distributions": [one.to_record() for one in found],
    }
