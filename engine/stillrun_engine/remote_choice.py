"""Which remote is meant, and where asked runs are found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from stillrun_engine.errors import EngineError, NotFound
from stillrun_engine.pathspec import Pathspec
from stillrun_engine.remote_log import Known
from stillrun_engine.remote_pull import find_there
from stillrun_engine.remotes import OpenRemote, known_remotes, opened_remote
from stillrun_snapshot.store import Store

__all__ = ["chosen_remote", "runs_there"]

Found = tuple[OpenRemote, Known, str]


def chosen_remote(store: Store, name: str | None) -> str:
    """``name``, or that of the only remote there is; EngineError otherwise."""
    if name is not None:
        return name
    known = list(known_remotes(store))
    if len(known) == 1:
        return known[0]
    if known:
        raise EngineError(f"this store has the remotes {', '.join(known)}; say which with --remote NAME.")
    raise EngineError("this store has no remote; 'stillrun remote add NAME ADDRESS' adds one.")


def runs_there(store: Store, name: str | None, specs: Sequence[Pathspec], variables: Mapping[str, str]) -> list[Found]:
    """Where each of ``specs`` is: a run, or all runs of a flow; all runs of the remote when there are none.

    Without ``name`` all remotes are looked through. Raises NotFound, and EngineError for a run that two remotes have otherwise.
    """
    names = [name] if name is not None or not specs else list(known_remotes(store))
    opened = []
    for one in names or [None]:
        remote = opened_remote(store, chosen_remote(store, one), variables)
        opened.append((remote, remote.known()))
    if not specs:
        remote, known = opened[0]
        return [(remote, known, run) for run in sorted(known.runs)]
    return [found for spec in specs for found in _found(opened, spec)]


def _found(opened: Sequence[tuple[OpenRemote, Known]], spec: Pathspec) -> list[Found]:
    candidates: list[list[Found]] = []
    for remote, known in opened:
        try:
            runs = _runs_of(remote, known, spec)
        except NotFound:
            if len(opened) == 1:
                raise
            continue
        candidates.append([(remote, known, run) for run in runs])
    if not candidates:
        names = ", ".join(remote.name for remote, _ in opened)
        raise NotFound(f"no run '{spec}' in any of the remotes {names}.")
    if len(candidates) > 1 and len({_identity(found) for found in candidates}) > 1:
        names = " and ".join(found[0][0].name for found in candidates)
        raise EngineError(
            f"'{spec}' is in the remotes {names}, and not the same in both; say which with --remote NAME."
        )
    return candidates[0]


def _runs_of(remote: OpenRemote, known: Known, spec: Pathspec) -> list[str]:
    if spec.run is not None:
        return [find_there(remote, known, spec)]
    runs = sorted(run for run in known.runs if run.startswith(f"{spec.flow}/"))
    return runs or [find_there(remote, known, spec)]  # which says what there is


def _identity(found: Sequence[Found]) -> tuple[tuple[str, str], ...]:
    """Which runs, and the records that they lead to."""
    return tuple((run, remote.manifest(known.runs[run]).refs[f"runs/{run}"]) for remote, known, run in found)
