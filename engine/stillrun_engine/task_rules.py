"""How the tasks of a step are to be run, by its decorators: attempts, time, variables, share of the machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any

from stillrun_snapshot.deferred import dataclass

__all__ = ["PLAIN", "TaskRules", "rules_of"]


@dataclass(frozen=True)
class TaskRules:
    """retries: attempts after the first. catch: null, or what SPEC's ``catch`` says. cpu: cores; memory: MB."""

    retries: int = 0
    delay_s: float = 0.0
    catch: Mapping[str, Any] | None = None
    timeout_ms: int | None = None
    variables: Mapping[str, str] = field(default_factory=dict)
    cpu: float = 0.0
    memory: float = 0.0

    def spec(self, attempt: int, fallback: Mapping[str, Any] | None) -> dict[str, Any]:
        """The part of a SPEC (docs/spec/host-protocol.md) for an attempt. fallback: how the last one died."""
        found: dict[str, Any] = {"attempt": attempt, "variables": dict(self.variables)}
        if self.timeout_ms is not None:
            found["timeout_ms"] = self.timeout_ms
        if self.catch is not None:
            found["catch"] = {**self.catch, "last": attempt >= self.retries or fallback is not None}
        if fallback is not None:
            found["fallback"] = dict(fallback)
        return found


PLAIN = TaskRules()
"""Of a step without such decorators."""


def rules_of(description: Mapping[str, Any]) -> dict[str, TaskRules]:
    """The rules of each step of a description."""
    return {step["name"]: _rules(step) for step in description["steps"]}


def _rules(step: Mapping[str, Any]) -> TaskRules:
    told = {one["name"]: one["attributes"] for one in step["decorators"]}
    retry, resources, catch = told.get("retry"), told.get("resources"), told.get("catch")
    return TaskRules(
        retries=retry["times"] if retry else 0,
        delay_s=retry["delay_ms"] / 1000 if retry else 0.0,
        catch=None if catch is None else {**catch, "next": list(step["next"])},
        timeout_ms=told["timeout"]["limit_ms"] if "timeout" in told else None,
        variables=told.get("environment", {}).get("vars", {}),
        cpu=float(resources["cpu"]) if resources else 0.0,
        memory=float(resources["memory"]) if resources else 0.0,
    )
