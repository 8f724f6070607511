"""Which package made a result another one: found by replaying a run in environments between its own and another run's.

The environments in between take each package from one of the two locks, whose files are all kept: nothing is resolved or
fetched. Halves are tried until one change is left that makes the difference on top of those before it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import field, replace

from stillrun_engine.archive import KeptRun
from stillrun_engine.errors import EngineError
from stillrun_engine.replay import ReplayOutcome, ReplayRequest, replay_run
from stillrun_engine.reporter import Reporter
from stillrun_engine.stopping import StopSignals
from stillrun_envs.dependencies import Change, changes_between
from stillrun_envs.errors import EnvError
from stillrun_envs.lock import Lock, read_lock
from stillrun_snapshot.deferred import dataclass
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.store import Store

__all__ = ["Bisection", "Trial", "bisect_environment", "gives_the_same", "halved"]

_EQUAL = frozenset({"identical", "equivalent", "within_tolerance"})


@dataclass(frozen=True)
class Trial:
    """One replay. changes: the packages that were taken from the other run; equal: None when it could not be built or run."""

    changes: tuple[str, ...]
    lock: Digest
    equal: bool | None
    told: str


@dataclass
class Bisection:
    """What was found. culprit: the change that makes the difference; with: those before it that it was tried on top of."""

    culprit: Change | None = None
    on_top_of: tuple[Change, ...] = ()
    trials: list[Trial] = field(default_factory=list)
    reason: str = ""


def bisect_environment(
    good: KeptRun,
    bad: KeptRun,
    request: ReplayRequest,
    stop: StopSignals,
    note: Callable[[str], None] = lambda _: None,
) -> Bisection:
    """Find the package of ``bad``'s environment that changes what ``good``'s step gives; both name the same step.

    Raises EngineError when the two have one environment, or one that was not kept.
    """
    step = str(good.spec.step)
    before, after = good.lock_of(step), bad.lock_of(step)
    if before is None or after is None:
        raise EngineError(
            f"the environment of {(good if before is None else bad).spec} was not kept; there is nothing to try."
        )
    changes = [one for one in changes_between(good.store, before, after) if one.manager != "python"]
    if not changes:
        raise EngineError(
            f"{good.spec} and {bad.spec} ran with the same packages; 'stillrun why' tells what else differs."
        )
    asked = replace(request, explain=False, trial=True)
    found = Bisection()

    def tried(chosen: Sequence[Change]) -> bool | None:
        lock = _between(good.store, before, after, chosen)
        names = tuple(_told(one) for one in chosen)
        note(f"Trying {', '.join(names) or 'the packages as they were'}.")
        try:
            outcome = replay_run(good, replace(asked, environment=lock), stop, Reporter())
            equal, told = gives_the_same(outcome), outcome.verdict
        except EnvError as err:
            equal, told = None, str(err)
        found.trials.append(Trial(names, lock, equal, told))
        return equal

    if tried(()) is not True:
        found.reason = (
            "the result is another one already with the packages as they were; replay --vary tells what it depends on"
        )
    elif tried(changes) is not False:
        found.reason = "the result is the same with the other packages; 'stillrun why' tells what else differs"
    else:
        low, high = halved(len(changes), lambda count: tried(changes[:count]))
        found.culprit, found.on_top_of = changes[high - 1], tuple(changes[:low])
        if high - low > 1:
            names = ", ".join(_told(one) for one in changes[low:high])
            found.reason = f"it is one of {names}: they do not go together one by one"
    return found


def halved(count: int, tried: Callable[[int], bool | None]) -> tuple[int, int]:
    """Between 0 changes, which give the same, and ``count``, which do not: the last that do and the first that do not.

    tried: whether so many changes give the same; None when they cannot be tried, and then others nearby are.
    """
    low, high = 0, count
    while high - low > 1:
        middle = (low + high) // 2
        for number in sorted(range(low + 1, high), key=lambda each: abs(each - middle)):
            equal = tried(number)
            if equal is not None:
                low, high = (number, high) if equal else (low, number)
                break
        else:
            break
    return low, high


def gives_the_same(outcome: ReplayOutcome) -> bool:
    """Whether a replay came out as its original."""
    return outcome.verdict in _EQUAL


def _between(store: Store, before: Digest, after: Digest, chosen: Sequence[Change]) -> Digest:
    """The lock of ``before`` with the packages of ``chosen`` as ``after`` has them."""
    old, new = read_lock(store, before), read_lock(store, after)
    taken = {(one.manager, one.name) for one in chosen}
    packages = [one for one in old.packages if (one.manager, one.name) not in taken]
    packages += [one for one in new.packages if (one.manager, one.name) in taken]
    mixed = Lock(old.python, tuple(packages), needs=old.needs, link_scripts=old.link_scripts, not_kept=old.not_kept)
    return store.put_record(mixed.to_record())


def _told(one: Change) -> str:
    return f"{one.name} {one.before or 'none'} → {one.after or 'none'}"
