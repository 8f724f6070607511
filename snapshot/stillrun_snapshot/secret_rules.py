"""What secrets look like: shapes that issuers gave their tokens, and assignments of literals to names of secrets.

Each rule has words without which it cannot match, so that most texts are passed over by a plain search; patterns are compiled
when they are first needed. In words: docs/spec/secrets.md. A change of the rules is a new VERSION: what was passed before is
looked at again.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from stillrun_snapshot.deferred import dataclass

__all__ = ["RULES", "VERSION", "Rule"]

VERSION = 1

Judge = Callable[["re.Match[bytes]"], bool]


@dataclass(frozen=True)
class Rule:
    """One kind of secret. words: one of them is in every match. folded: they are looked for in lower case.

    secret: the group of the pattern that is the secret itself. judge: a closer look. text_only: not among other bytes; the others
    are tokens that are told by their shape alone, also among other bytes. loose: not in program text, where a name is no literal.
    anchored: a match begins with one of the words.
    """

    name: str
    words: tuple[bytes, ...]
    pattern: bytes
    secret: int = 0
    folded: bool = False
    judge: Judge | None = None
    text_only: bool = False
    loose: bool = False
    anchored: bool = False


_PLACEHOLDER = (
    rb"(?i)x{4,}|\*{3,}|\.{3}|<|>|\$|\{|%\(|%s|example|placeholder|your[_-]?|change[_-]?me|dummy|fake|sample|redacted|"
    rb"insert|replace|todo|none$|null$|true$|false$|1234567|abcdef|test|mock|foo|\bbar\b|my[_-]|not[_-]?a|lorem|undefined"
)
_WORDS_OF_PLACE = frozenset(
    b"password passwd pass pw pwd secret token user username hunter2 postgres root admin guest key mypassword pass123 p4ssw0rd"
    b" p@ss pw123 passw0rd password123 123456 12345678 anonymous".split()
)
_VALUE_SHAPE = rb"(?=.*[0-9])(?=.*[A-Za-z])[\x21-\x7e]+\Z"
_MIXED = rb"(?=.*[A-Za-z])(?=.*[0-9!@#^&*+=?~;])[\x21-\x7e]+\Z"
_NOT_A_SECRET = (
    rb"(?i)(?:https?|file|s3|gs)://|/[a-z]|\./|[a-z_]+\.[a-z_.]+\Z|[a-z]+(?:[_-][a-z]+)+[_-]?\d{0,2}\Z|[a-z]+/[\w./-]+\Z|[a-z]+\d{0,2}\Z|"
    rb"[\w.-]+@[\w.-]+\.\w+\Z|u?int\d+|v?\d+(?:\.\d+)+|sha\d+|md5|utf|\d{4}-\d\d-\d\d|[A-Z][a-z]+(?:[A-Z][a-z]+)+\d?\Z|"
    rb"arn:|[0-9a-f]{8}-0000|[a-z0-9]+(?:[._-][a-z]+)+\Z|(?:\\x[0-9a-f]{2})+\Z|\\|\[|\("
)


def _is_value(text: bytes, least: int) -> bool:
    """Whether a literal may be a secret: not a word, a path, an address, a place to fill in."""
    if (
        len(text) < least
        or text.lower() in _WORDS_OF_PLACE
        or re.search(_PLACEHOLDER, text)
        or re.match(_NOT_A_SECRET, text)
    ):
        return False
    return len(set(text)) >= 6


def _password_in_url(match: re.Match[bytes]) -> bool:
    user, password = match[1], match[2]
    if password.lower() in _WORDS_OF_PLACE or re.search(_PLACEHOLDER, password) or password.lower() == user.lower():
        return False
    return len(set(password)) >= 4 and not re.fullmatch(rb"[0-9]{1,5}|[a-z]{1,4}", password)


def _assigned(match: re.Match[bytes]) -> bool:
    name, value = match["name"].lower(), match["value"]
    if name == b"key" and not re.search(_KEY_OF, match.string[max(0, match.start() - 12) : match.start()]):
        return False
    weak = not re.search(rb"passw|passphrase|pwd|secret", name)  # a token or a key: longer, and with digits
    shape = _VALUE_SHAPE if weak else _MIXED
    return bool(re.match(shape, value)) and _is_value(value, 20 if weak else 8)


def _varied(match: re.Match[bytes]) -> bool:
    """No place to fill in: a real token has many different characters."""
    return len(set(match[0])) >= 12


_NAME = rb"(?P<name>passw(?:or)?d|passphrase|pwd|secret(?:_?key)?|key|token)[0-9]?"
_NAMES = (b"passw", b"passphrase", b"pwd", b"secret", b"token", b"key")
_KEY_OF = rb"(?i)(?:api|access|auth|private|encryption|account|signing)[_-]?\Z"

_EDGE = rb"(?:(?<![A-Za-z0-9_])|(?<=\\[nrt]))"  # a new word, also behind the escape of a line's end

RULES: tuple[Rule, ...] = (
    Rule(
        "aws-access-key-id",
        (b"AKIA", b"ASIA"),
        _EDGE + rb"(?:AKIA|ASIA)[A-Z2-7]{16}(?![A-Za-z0-9+/=])",
        judge=lambda match: len(set(match[0])) >= 8,
        anchored=True,
    ),
    Rule(
        "aws-secret-access-key",
        (b"secret",),
        rb"(?i)secret_?(?:access_?)?key\\*[\"']?\s{0,4}[:=]\s{0,4}\\*[\"']?([A-Za-z0-9/+]{40})(?![A-Za-z0-9/+=])",
        secret=1,
        folded=True,
        judge=lambda match: len(set(match[1])) >= 12,
        anchored=True,
    ),
    Rule(
        "github-token",
        (b"ghp_", b"gho_", b"ghu_", b"ghs_", b"ghr_"),
        _EDGE + rb"gh[pousr]_[A-Za-z0-9]{36,255}\b",
        judge=_varied,
        anchored=True,
    ),
    Rule(
        "github-token",
        (b"github_pat_",),
        _EDGE + rb"github_pat_[A-Za-z0-9]{20,30}_[A-Za-z0-9]{40,}\b",
        judge=_varied,
        anchored=True,
    ),
    Rule("gitlab-token", (b"glpat-",), _EDGE + rb"glpat-[A-Za-z0-9_-]{20,}", judge=_varied, anchored=True),
    Rule("slack-token", (b"xox",), _EDGE + rb"xox[abeoprs]-[0-9A-Za-z-]{20,}", judge=_varied, anchored=True),
    Rule(
        "slack-webhook",
        (b"hooks.slack.com/services/",),
        rb"hooks\.slack\.com/services/T[A-Z0-9]{6,}/B[A-Z0-9]{6,}/[A-Za-z0-9]{20,}",
        judge=_varied,
        anchored=True,
    ),
    Rule("stripe-key", (b"k_live_",), _EDGE + rb"[sr]k_live_[0-9A-Za-z]{16,}", judge=_varied),
    Rule(
        "google-api-key", (b"AIza",), _EDGE + rb"AIza[0-9A-Za-z_-]{35}(?![0-9A-Za-z_-])", judge=_varied, anchored=True
    ),
    Rule(
        "google-oauth",
        (b"GOCSPX-", b"ya29."),
        _EDGE + rb"(?:GOCSPX-[0-9A-Za-z_-]{28}|ya29\.[0-9A-Za-z_-]{40,})",
        judge=_varied,
        anchored=True,
    ),
    Rule("openai-key", (b"T3BlbkFJ",), _EDGE + rb"sk-[A-Za-z0-9_-]{20,}T3BlbkFJ[A-Za-z0-9_-]{20,}"),
    Rule("anthropic-key", (b"sk-ant-",), _EDGE + rb"sk-ant-[a-z0-9]+-[A-Za-z0-9_-]{40,}", judge=_varied, anchored=True),
    Rule("huggingface-token", (b"hf_",), _EDGE + rb"hf_[A-Za-z]{34}\b", judge=_varied, anchored=True),
    Rule("pypi-token", (b"pypi-AgEI",), _EDGE + rb"pypi-AgEI[A-Za-z0-9_-]{50,}", anchored=True),
    Rule("npm-token", (b"npm_",), _EDGE + rb"npm_[A-Za-z0-9]{36}\b", judge=_varied, anchored=True),
    Rule(
        "azure-storage-key",
        (b"AccountKey=",),
        rb"AccountKey=([A-Za-z0-9+/]{86}==)",
        secret=1,
        judge=_varied,
        anchored=True,
    ),
    Rule(
        "sendgrid-key",
        (b"SG.",),
        _EDGE + rb"SG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}(?![A-Za-z0-9_-])",
        judge=_varied,
        anchored=True,
    ),
    Rule("databricks-token", (b"dapi",), _EDGE + rb"dapi[0-9a-f]{32}(?:-\d)?\b", judge=_varied, anchored=True),
    Rule(
        "private-key",
        (b"PRIVATE KEY",),
        rb"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----"
        rb"(?:\\+[rn]|[\s\"',])*(?:[A-Za-z-]+: [^\n]{1,80}(?:\\+[rn]|[\s\"',])+)*([A-Za-z0-9+/]{40,})",
        secret=1,
        judge=_varied,
    ),
    Rule(
        "jwt",
        (b"eyJ",),
        _EDGE + rb"eyJ[A-Za-z0-9_-]{12,}\.eyJ[A-Za-z0-9_-]{12,}\.[A-Za-z0-9_-]{20,}",
        judge=_varied,
        anchored=True,
    ),
    Rule("conda-token", (b"/t/",), rb"/t/([A-Za-z]{2}-[0-9a-f-]{30,})/", secret=1, anchored=True),
    Rule(
        "password-in-url",
        (b"://",),
        rb"://([^\s/:@\"'<>{}$%`\\|()\[\],;*]{0,80}):([^\s/@\"'<>{}$`\\|()\[\]]{3,200})@[A-Za-z0-9\[]",
        secret=2,
        judge=_password_in_url,
        text_only=True,
        anchored=True,
    ),
    Rule(
        "authorization-header",
        (b"authorization",),
        rb"(?i)authorization\\*[\"']?\s{0,4}[:=,]\s{0,4}\\*[\"']?(?:bearer|basic|token)\s+([A-Za-z0-9+/._=-]{20,})",
        secret=1,
        folded=True,
        judge=lambda match: _is_value(match[1], 20) and bool(re.match(_VALUE_SHAPE, match[1])),
        text_only=True,
        anchored=True,
    ),
    Rule(
        "assigned-secret",
        _NAMES,
        rb"(?i)" + _NAME + rb"\\*[\"']?\]?\s{0,4}(?::[ \t]*(?:str|bytes)[ \t]*)?(?:=|:|=>)\s{0,4}[rbuf]{0,2}\\*([\"'])"
        rb"(?P<value>[^\"'\s\\]{8,200})\\*\2(?![ \t]*[+%(\[:])",
        folded=True,
        judge=_assigned,
        text_only=True,
        anchored=True,
    ),
    Rule(
        "assigned-secret",
        _NAMES,
        rb"(?i)" + _NAME + rb"[ \t]{0,4}[=:][ \t]{0,4}(?P<value>[^\s\"'`,;\\\[\](){}<>*|]{8,200})(?=\Z|[\s\"',;\\])",
        folded=True,
        judge=_assigned,
        text_only=True,
        loose=True,
        anchored=True,
    ),
)
