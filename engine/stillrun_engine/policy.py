"""What was said before a run about how its results are judged: by the decorators ``@tolerance`` and ``@volatile``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stillrun_snapshot.deferred import dataclass
from stillrun_snapshot.digest import Digest, digest_of
from stillrun_snapshot.record import canonical_bytes

__all__ = ["Policy", "Tolerance"]

_ALL = "*"


@dataclass(frozen=True)
class Tolerance:
    """|b - a| <= atol + rtol * |a| is tolerated."""

    rtol: float = 0.0
    atol: float = 0.0


@dataclass(frozen=True)
class Policy:
    """How the artifacts of each step are judged."""

    tolerances: Mapping[str, Mapping[str, Tolerance]]  # step -> artifact, or * for all others
    volatiles: Mapping[str, frozenset[str]]  # step -> artifacts

    @classmethod
    def of(cls, description: Mapping[str, Any]) -> Policy:
        """The policy that a flow's description records; a step's own words win over the flow's."""
        tolerances: dict[str, dict[str, Tolerance]] = {}
        volatiles: dict[str, frozenset[str]] = {}
        for step in description["steps"]:
            asked: dict[str, Any] = {}
            named: set[str] = set()
            for one in (*description["decorators"], *step["decorators"]):
                if one["name"] == "tolerance":
                    asked.update(one["attributes"])
                elif one["name"] == "volatile":
                    named.update(one["attributes"]["names"])
            if asked:
                tolerances[step["name"]] = {
                    name: Tolerance(**{key: float(each) for key, each in limits.items()})
                    for name, limits in asked.items()
                }
            if named:
                volatiles[step["name"]] = frozenset(named)
        return cls(tolerances, volatiles)

    def tolerance(self, step: str, artifact: str) -> Tolerance | None:
        """By how much numbers in an artifact may differ; None when they may not."""
        known = self.tolerances.get(step, {})
        return known.get(artifact, known.get(_ALL))

    def is_volatile(self, step: str, artifact: str) -> bool:
        """Whether the artifact is another one each time; one whose name begins with an underscore may be."""
        return artifact.startswith("_") or artifact in self.volatiles.get(step, ())

    def to_record(self) -> dict[str, Any]:
        """The policy as it stands in a verdict, with its own digest."""
        # numbers as text: records hold no floats
        said = {
            "tolerance": {
                step: {name: {"rtol": repr(each.rtol), "atol": repr(each.atol)} for name, each in sorted(found.items())}
                for step, found in sorted(self.tolerances.items())
            },
            "volatile": {step: sorted(found) for step, found in sorted(self.volatiles.items())},
        }
        return {**said, "digest": self._digest(said)}

    def _digest(self, said: Mapping[str, Any]) -> Digest:
        return digest_of(canonical_bytes(said))
