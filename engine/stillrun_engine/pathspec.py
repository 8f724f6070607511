"""FLOW/RUN[/STEP[/TASK[/ARTIFACT]]]: the name of anything in a store, and how it is looked up."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from itertools import chain, islice

from stillrun_engine.errors import EngineError, NotFound
from stillrun_snapshot.deferred import dataclass
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.store import Store

__all__ = ["LATEST", "Pathspec", "nearest", "parse_pathspec", "resolve", "run_of"]

LATEST = "latest"
"""Stands for the newest run of a flow that is not a replay's record."""
_OFFERED = 1000  # of the newest runs, in place of one that is not there
_LONGEST = 1024  # characters: as of a ref


@dataclass(frozen=True)
class Pathspec:
    """Parts from the outside in; what is not named is None."""

    flow: str
    run: str | None = None
    step: str | None = None
    task: str | None = None
    artifact: str | None = None

    def __str__(self) -> str:
        parts = (self.flow, self.run, self.step, self.task, self.artifact)
        return "/".join(part for part in parts if part is not None)

    @property
    def run_ref(self) -> str:
        """The ref that holds the run's record."""
        return f"runs/{self.flow}/{self.run}"


def parse_pathspec(text: str, *, least: int = 1, most: int = 5) -> Pathspec:
    """The parts of ``text``; EngineError when there are fewer than ``least`` or more than ``most``."""
    parts = text.strip("/").split("/")
    if not all(parts) or not least <= len(parts) <= most or not text.isprintable() or len(text) > _LONGEST:
        shape = "/".join(("FLOW", "RUN", "STEP", "TASK", "ARTIFACT")[:most])
        shown = f"'{text}'" if text.isprintable() and len(text) <= _LONGEST else repr(text[:80])
        raise EngineError(f"{shown} is not a pathspec of the form {shape}; 'stillrun list' shows what there is.")
    return Pathspec(*parts)


def resolve(store: Store, spec: Pathspec) -> Pathspec:
    """``spec`` with its run found: 'latest', a unique beginning of a run id, or the id itself.

    Raises NotFound with the nearest names.
    """
    if spec.run is None:
        raise EngineError(f"'{spec}' names a flow; name one of its runs: {spec.flow}/RUN or {spec.flow}/{LATEST}.")
    if any(store.refs.get(f"{kind}/{spec.flow}/{spec.run}") is not None for kind in ("runs", "spins")):
        return spec
    runs = store.refs.newest(f"runs/{spec.flow}/")
    first = next(runs, None)
    if first is None:
        raise NotFound(f"no flow '{spec.flow}' in {store.root}.{nearest(spec.flow, store.refs.parts('runs/'))}")
    runs = chain([first], runs)
    if spec.run == LATEST:
        return _with_run(spec, _latest(store, spec.flow, runs))
    matches = [run_of(name) for name, _ in store.refs.names(spec.run_ref)]
    if len(matches) == 1:
        return _with_run(spec, matches[0])
    if matches:
        raise NotFound(f"'{spec.flow}/{spec.run}' is the beginning of {len(matches)} runs: {', '.join(matches[:5])}.")
    known = [run_of(name) for name, _ in islice(runs, _OFFERED)]
    raise NotFound(f"no run '{spec.flow}/{spec.run}' in {store.root}.{nearest(spec.run, known, spec.flow + '/')}")


def _latest(store: Store, flow: str, runs: Iterable[tuple[str, Digest]]) -> str:
    for name, digest in runs:
        if store.get_record(digest, "run")["kind"] == "run":
            return run_of(name)
    raise NotFound(f"flow '{flow}' has replays in {store.root}, but no run.")


def run_of(ref: str) -> str:
    """The run that a ref such as runs/FLOW/RUN is of."""
    return ref.rsplit("/", 1)[1]


def _with_run(spec: Pathspec, run: str) -> Pathspec:
    return Pathspec(spec.flow, run, spec.step, spec.task, spec.artifact)


def nearest(name: str, known: Iterable[str], prefix: str = "") -> str:
    """A sentence that offers up to three names close to ``name``, or some that exist; empty when none do."""
    names = list(known)
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    if close:
        return f" Did you mean {' or '.join(prefix + n for n in close)}?"
    return f" There is {', '.join(prefix + n for n in names[:5])}." if names else ""
