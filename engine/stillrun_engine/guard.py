"""What looks like a secret is kept out of what a run keeps for ever: parameters, artifacts, logs, errors, inputs.

Rules and what happens where: docs/spec/secrets.md. Code is looked through when it is captured (snapshot/capture.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stillrun_engine.errors import FlowRefused
from stillrun_engine.executor import Finished
from stillrun_engine.reporter import Reporter
from stillrun_snapshot.selection import is_secret

if TYPE_CHECKING:
    from stillrun_snapshot.secret_scan import Finding

__all__ = ["SecretGuard", "allowances", "allowed_rules", "check_texts", "recorded_allowances"]

_BODY_MAX = 1 << 16  # bytes of a task's inline parts that are looked through for tokens
_INPUT_MAX = 1 << 20


class SecretGuard:
    """Looks through what one run is about to keep. allowed: rules that the user let pass, with the reason.

    refusing: whether artifacts are refused; those of a replay are in the store already, or none of it.
    """

    def __init__(
        self, allowed: Mapping[str, str] | None = None, reporter: Reporter | None = None, *, refusing: bool = True
    ) -> None:
        self._refusing = refusing
        self.allowed = dict(allowed or {})
        self._reporter = reporter or Reporter()
        self._told: set[str] = set()

    def log(self, data: bytes, what: str) -> bytes:
        """What a task wrote, with secrets replaced by asterisks; as long as before."""
        from stillrun_snapshot.secret_scan import masked

        clean, found = masked(data, allowed=self.allowed)
        if found:
            self._tell(what, {each.rule for each in found})
        return clean

    def error(self, error: Mapping[str, Any] | None, what: str) -> dict[str, Any] | None:
        """An ERROR with secrets in its texts replaced by asterisks."""
        if error is None:
            return None
        return {
            name: self.log(value.encode("utf-8", "surrogatepass"), what).decode("utf-8", "surrogatepass")
            if isinstance(value, str)
            else value
            for name, value in error.items()
        }

    def refusal(self, event: Finished) -> dict[str, Any] | None:
        """The ERROR of a task that went well and would keep a secret as an artifact; nothing of its artifacts is kept then."""
        result = event.result or {}
        outputs = {name: out for name, out in result.get("artifacts", {}).items() if "preview" in out}
        if not outputs or not self._refusing:
            return None
        from stillrun_snapshot.secret_scan import scan

        shown = "\n".join(f"{name} = {out['preview']}" for name, out in outputs.items()).encode("utf-8", "replace")
        found = scan(shown, "", allowed=self.allowed, program=True)
        told = f"the artifact {_named(found[0], shown)}" if found else "an artifact"
        if not found and len(event.body) <= _BODY_MAX:
            found = scan(
                b"\0" + event.body, "", allowed=self.allowed
            )  # as what is no text: tokens by their shape alone
        if not found:
            return None
        rule = found[0].rule
        return {
            "kind": "secret",
            "type": None,
            "message": f"{told} looks like a secret ({rule}), and what is kept is kept for ever; nothing was",
            "step": event.work.key.step,
            "file": None,
            "line": None,
            "traceback": None,
            "cure": f"Keep it out of self, or, if it is none: --allow-secret {rule} --reason 'WHY'.",
        }

    def input(self, path: Path, size: int, copy: Path | None = None) -> str | None:
        """Why a file that a task read is not kept; None when it may be. copy: of what it held then."""
        if is_secret(path.as_posix().lstrip("/")):
            return "secret"
        if size > _INPUT_MAX:
            return None
        from stillrun_snapshot.secret_scan import is_program, scan

        found = scan((copy or path).read_bytes(), str(path), allowed=self.allowed, program=is_program(path.name))
        return f"looks like a secret ({found[0].rule}, line {found[0].line})" if found else None

    def _tell(self, what: str, rules: Iterable[str]) -> None:
        for rule in rules:
            told = f"{what}: {rule}"
            if told not in self._told:
                self._told.add(told)
                self._reporter.note(f"{what}: what looks like a secret ({rule}) was masked before it was kept.")


def _named(finding: Finding, shown: bytes) -> str:
    """The name before the preview that a finding is in."""
    return shown[: finding.begin].rpartition(b"\n")[2].partition(b" ")[0].decode("utf-8", "replace")


def check_texts(texts: Mapping[str, str], what: str, allowed: Iterable[str]) -> None:
    """FlowRefused when a parameter or configuration that was given looks like a secret."""
    from stillrun_snapshot.secret_scan import scan

    rules = frozenset(allowed)
    for name, text in texts.items():
        line = f"{name}={text}" if "\n" not in text else text
        found = scan(line.encode("utf-8", "replace"), name, allowed=rules)
        if found:
            rule = found[0].rule
            raise FlowRefused(
                f"the {what} {name} looks like a secret ({rule}), and what is kept is kept for ever; nothing was. "
                f"Read it in the step, from a variable or @secrets; or, if it is none: --allow-secret {rule} --reason 'WHY'.",
                [{"kind": "secret", "rule": rule, "file": name, "line": found[0].line}],
            )


def allowed_rules(names: Sequence[str], reason: str | None) -> dict[str, str]:
    """Rules that a user lets pass, with the reason. Raises FlowRefused for a rule that is none, and without a reason."""
    if not names:
        return {}
    from stillrun_snapshot.secret_scan import rule_names

    known = rule_names()
    for name in names:
        if name not in known:
            raise FlowRefused(f"--allow-secret {name}: there is no such rule. There are: {', '.join(known)}.")
    if reason is None or not reason.strip():
        raise FlowRefused("--allow-secret needs --reason 'WHY': it is kept with the run.")
    return dict.fromkeys(names, reason.strip())


def allowances(allowed: Mapping[str, str]) -> dict[str, Any]:
    """What a run's record says of rules that were let pass; nothing where none were."""
    entries = [{"rule": rule, "reason": reason} for rule, reason in sorted(allowed.items())]
    return {"allowed_secrets": entries} if entries else {}


def recorded_allowances(record: Mapping[str, Any]) -> dict[str, str]:
    """What a run's record says was let pass."""
    return {each["rule"]: each["reason"] for each in record.get("allowed_secrets", ())}
