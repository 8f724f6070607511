"""Texts looked through for secrets before they are kept. Rules: docs/spec/secrets.md."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence

from stillrun_snapshot.deferred import dataclass
from stillrun_snapshot.errors import CaptureError
from stillrun_snapshot.secret_rules import RULES, Rule
from stillrun_snapshot.selection import is_source

__all__ = ["Finding", "SecretFound", "is_program", "masked", "refuse", "rule_names", "scan", "worth_scanning"]

DATA_MAX = 1 << 20  # bytes of a file that nobody writes by hand; what is larger is not looked through
_HEAD = 8192
_SHOWN = 12
_PROGRAM = r".*\.(pyi?|pyx|pxd|r|jl|js|ts|java|scala|c|cc|cpp|cuh?|h|hpp|go|rs|lua|pl|sql|stan)"
_FOLDED_WORDS = tuple(dict.fromkeys(word for rule in RULES if rule.folded for word in rule.words))
_WORDS = tuple(dict.fromkeys(word for rule in RULES if not rule.folded for word in rule.words))
_COMPILED: dict[int, re.Pattern[bytes]] = {}


@dataclass(frozen=True)
class Finding:
    """Something that looks like a secret, which is not told. where: a file, or what else it stands in; line: from 1."""

    rule: str
    where: str
    line: int
    shown: str  # its first letters
    begin: int
    end: int

    def __str__(self) -> str:
        """Where, and what it looks like."""
        return f"{self.where}:{self.line}: {self.rule} ({self.shown})"


class SecretFound(CaptureError):
    """What was to be kept for ever looks like a secret; nothing of it was kept."""

    def __init__(self, findings: Sequence[Finding], what: str, looked_through: int = 1) -> None:
        self.looked_through = looked_through
        rules = sorted({each.rule for each in findings})
        lines = [f"  {each}" for each in findings[:_SHOWN]]
        if len(findings) > _SHOWN:
            lines.append(f"  and {len(findings) - _SHOWN} more")
        count = "what looks like a secret" if len(findings) == 1 else f"{len(findings)} things that look like secrets"
        allow = " ".join(f"--allow-secret {rule}" for rule in rules)
        super().__init__(
            f"{what} has {count}, and what is kept is kept for ever; nothing of it was.\n"
            + "\n".join(lines)
            + "\nTake it out (an environment variable, @secrets, .stillrunignore for a file), "
            f"or, if it is none: {allow} --reason 'WHY'."
        )
        self.findings = list(findings)
        self.facts = [
            {"kind": "secret", "rule": each.rule, "file": each.where, "line": each.line, "message": str(each)}
            for each in findings
        ]


def rule_names() -> list[str]:
    """The names of all rules."""
    return sorted({rule.name for rule in RULES})


def scan(data: bytes, where: str, *, allowed: Collection[str] = (), program: bool = False) -> list[Finding]:
    """Return what looks like a secret in ``data``, by place, each place once.

    allowed: rules that are not asked. program: it is program text, in which what follows '=' without quotes is no literal.
    """
    text = _as_text(data)
    folded = text.lower()
    for word in _FOLDED_WORDS:
        if word in folded:
            break
    else:  # what most tasks leave has none of the words, and is passed over as fast as can be
        for word in _WORDS:
            if word in text:
                break
        else:
            return []
    binary = b"\0" in text[:_HEAD]
    found: list[Finding] = []
    for number, rule in enumerate(RULES):
        if rule.name in allowed or (binary and rule.text_only) or (program and rule.loose):
            continue
        searched = folded if rule.folded else text
        words = [word for word in rule.words if word in searched]
        if words:
            found += _findings(rule, _matches(number, rule, text, searched, words), text, where)
    found.sort(key=lambda each: (each.begin, -each.end))
    return list(_each_place_once(found))


def masked(data: bytes, *, allowed: Collection[str] = ()) -> tuple[bytes, list[Finding]]:
    """Return ``data`` with each secret replaced by as many asterisks, and what was found."""
    findings = scan(data, "", allowed=allowed)
    if not findings or _as_text(data) is not data:
        return data, findings
    changed = bytearray(data)
    for each in findings:
        changed[each.begin : each.end] = b"*" * (each.end - each.begin)
    return bytes(changed), findings


def worth_scanning(path: str, size: int) -> bool:
    """Return whether a file is looked through: all that people write, and small ones of other kinds."""
    return size <= DATA_MAX or is_source(path)


def is_program(path: str) -> bool:
    """Return whether a file is program text, going by its name."""
    return bool(re.fullmatch(_PROGRAM, path.lower()))


def refuse(findings: Iterable[Finding], what: str, looked_through: int = 1) -> None:
    """Raise SecretFound when there are findings. looked_through: how many texts were."""
    found = list(findings)
    if found:
        raise SecretFound(found, what, looked_through)


def _matches(
    number: int, rule: Rule, text: bytes, searched: bytes, words: Iterable[bytes]
) -> Iterator[re.Match[bytes]]:
    pattern = _COMPILED.get(number)
    if pattern is None:
        pattern = _COMPILED[number] = re.compile(rule.pattern)
    if not rule.anchored:
        yield from pattern.finditer(text)
        return
    for word in words:
        place = searched.find(word)
        while place >= 0:
            match = pattern.match(text, place)
            if match is not None:
                yield match
            place = searched.find(word, place + 1)


def _findings(rule: Rule, matches: Iterable[re.Match[bytes]], text: bytes, where: str) -> Iterator[Finding]:
    for match in matches:
        if rule.judge is not None and not rule.judge(match):
            continue
        begin, end = match.span("value" if "value" in match.re.groupindex else rule.secret)
        shown = text[begin : begin + 4].decode("ascii", "replace") + "…"
        yield Finding(rule.name, where, text.count(b"\n", 0, begin) + 1, shown, begin, end)


def _each_place_once(found: Iterable[Finding]) -> Iterator[Finding]:
    end = -1
    for each in found:
        if each.begin >= end:
            yield each
            end = each.end


def _as_text(data: bytes) -> bytes:
    """The same in UTF-8, when it is marked as UTF-16."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", "replace").encode("utf-8", "replace")
    return data
