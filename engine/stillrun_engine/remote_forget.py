"""Runs that a remote is not to have any more: an event of its log says so. Files go later, with `stillrun remote gc`."""

from __future__ import annotations

from collections.abc import Sequence

from stillrun_engine.errors import EngineError, NotFound
from stillrun_engine.pathspec import LATEST, Pathspec
from stillrun_engine.remote_log import Change, Known
from stillrun_engine.remote_objects import fetched_small
from stillrun_engine.remote_pull import find_there
from stillrun_engine.remotes import OpenRemote
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.errors import StoreError
from stillrun_snapshot.record import parse_record

__all__ = ["forget_there"]

_WHY_MAX = 500


def forget_there(remote: OpenRemote, specs: Sequence[Pathspec], why: str, *, anyway: bool = False) -> list[str]:
    """Take runs out of a remote; their names. Stores that have them keep them.

    anyway: also those with tags, and those that cannot be read there. Raises NotFound, and EngineError for one with tags.
    """
    if not why.isprintable() or len(why) > _WHY_MAX:
        raise EngineError(f"--why takes one line of at most {_WHY_MAX} characters.")
    remote.prove()
    known = remote.known()
    runs = list(dict.fromkeys(_named(remote, known, spec) for spec in specs))
    for run in [] if anyway else runs:
        if tags := _tags_there(remote, known.runs[run], run):
            told = ", ".join(sorted(tags))
            raise EngineError(f"{run} is tagged {told} in '{remote.name}'; nothing was forgotten. --anyway does it.")
    gone: list[str] = []

    def decide(known: Known) -> list[Change]:
        gone[:] = [run for run in runs if run in known.runs]  # another may have been faster
        return [Change(run, None, known.runs[run], why) for run in gone]

    remote.remember(remote.log.append(known, decide))
    return gone


def _named(remote: OpenRemote, known: Known, spec: Pathspec) -> str:
    if spec.run == LATEST:
        raise NotFound("'latest' is too vague to forget by: give the run's name.")
    return find_there(remote, known, spec)


def _tags_there(remote: OpenRemote, manifest: Digest, run: str) -> list[str]:
    """The tags of a run, as a remote has them."""
    try:
        told = remote.manifest(manifest)
        ref, schema = (
            (f"tags/{run}", "stillrun/tags/1") if f"tags/{run}" in told.refs else (f"runs/{run}", "stillrun/run/1")
        )
        digest = told.refs[ref]
        record = parse_record(fetched_small(remote.bucket, digest, told.places()[digest]), schema)
        return list(record["tags"])
    except (StoreError, KeyError) as err:
        raise EngineError(
            f"{run} cannot be read in '{remote.name}' ({err}); --anyway forgets it there all the same."
        ) from err
