"""Checkpoints: a few lines that stand for a whole log, and what they show later. Format: docs/spec/checkpoint.md."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterable, Sequence
from typing import Protocol

from stillrun_snapshot.deferred import dataclass
from stillrun_snapshot.ed25519 import PrivateKey, PublicKey
from stillrun_snapshot.errors import StillrunError
from stillrun_snapshot.logtree import LogTree
from stillrun_snapshot.merkle import is_included, leaf_hash

__all__ = [
    "Agreement",
    "Checkpoint",
    "CheckpointUnsound",
    "Note",
    "agreement",
    "checkpoint_of",
    "inclusion_text",
    "is_shown",
    "note_text",
    "parse_note",
    "verifier_line",
]

_DASH = "\N{EM DASH} "
_ED25519 = b"\1"
_PROOF = "c2sp.org/tlog-proof@v1"
_SIZE_LIMIT = 1_000_000  # bytes of a note; a checkpoint has some 300


class CheckpointUnsound(StillrunError):
    """A text is no checkpoint, or its signature is wrong."""


@dataclass(frozen=True)
class Checkpoint:
    """A log at one time: its name, how many lines it has, and the root over them."""

    origin: str
    size: int
    root: bytes

    @property
    def text(self) -> str:
        """The lines that are signed."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"


@dataclass(frozen=True)
class Note:
    """A checkpoint as it was read: the text that is signed, and signatures as (name, key hash, signature)."""

    checkpoint: Checkpoint
    text: str
    signatures: Sequence[tuple[str, bytes, bytes]]

    def signers(self, keys: Iterable[PublicKey]) -> list[PublicKey]:
        """Return those of ``keys`` that have signed; raises CheckpointUnsound where one's signature is wrong."""
        found = []
        for key in keys:
            for name, hashed, signature in self.signatures:
                if hashed != _key_hash(name, key):
                    continue
                if not key.verifies(signature, self.text.encode()):
                    raise CheckpointUnsound(
                        f"the signature of key {key.keyid[:16]} on the checkpoint is wrong: its lines were changed. "
                        "Take the copy that was mailed, printed or committed first."
                    )
                found.append(key)
        return found


def checkpoint_of(tree: LogTree, size: int | None = None) -> Checkpoint:
    """Return the checkpoint of a log as it is, or as it was at ``size`` lines; raises StoreError for one without lines."""
    count = tree.size if size is None else size
    return Checkpoint(tree.origin, count, tree.root(count))


def note_text(checkpoint: Checkpoint, *keys: PrivateKey) -> str:
    """Return the lines to keep elsewhere, signed by each of ``keys``."""
    lines = []
    for key in keys:
        signature = _key_hash(checkpoint.origin, key.public) + key.sign(checkpoint.text.encode())
        lines.append(f"{_DASH}{checkpoint.origin} {base64.b64encode(signature).decode()}\n")
    return checkpoint.text + "\n" + "".join(lines)


def parse_note(text: str, what: str = "the checkpoint") -> Note:
    """Return the checkpoint in ``text``; signatures are not checked yet. Raises CheckpointUnsound."""
    signed, separator, rest = text[:_SIZE_LIMIT].replace("\r\n", "\n").rpartition("\n\n")
    if not separator:  # an unsigned one, whose empty line got lost on the way
        signed, rest = rest.rstrip("\n"), ""
    try:
        checkpoint = _checkpoint(signed.split("\n"))
        signatures = [_signature(line) for line in rest.splitlines() if line]
    except (ValueError, binascii.Error) as error:
        raise CheckpointUnsound(
            f"{what} is none: {error}. Give the file that 'stillrun checkpoint export' wrote."
        ) from error
    return Note(checkpoint, signed + "\n", signatures)


class _Tree(Protocol):
    """What is asked of a log."""

    @property
    def size(self) -> int: ...

    @property
    def origin(self) -> str: ...

    def root(self, size: int | None = None) -> bytes: ...


@dataclass(frozen=True)
class Agreement:
    """What a checkpoint shows of a log. word: 'agrees', 'truncated', 'rewritten' or 'another'."""

    word: str
    told: str

    @property
    def sound(self) -> bool:
        """Whether the log is the checkpoint's, with nothing but lines added."""
        return self.word == "agrees"


def agreement(checkpoint: Checkpoint, tree: _Tree) -> Agreement:
    """Return whether a log still begins with the lines that the checkpoint stands for."""
    if not tree.size:
        return Agreement("truncated", f"all {checkpoint.size:,} lines of the checkpoint are gone: the log is empty")
    if tree.origin != checkpoint.origin:
        return Agreement(
            "another",
            f"the checkpoint is of {checkpoint.origin}, and this log is {tree.origin}: another one, or begun anew",
        )
    if tree.size < checkpoint.size:
        gone = checkpoint.size - tree.size
        return Agreement(
            "truncated",
            f"at least {gone:,} lines were cut off: the checkpoint has {checkpoint.size:,}, the log {tree.size:,}",
        )
    if tree.root(checkpoint.size) != checkpoint.root:
        return Agreement("rewritten", f"the first {checkpoint.size:,} lines of the log are not those of the checkpoint")
    more = tree.size - checkpoint.size
    return Agreement("agrees", f"the first {checkpoint.size:,} lines are the checkpoint's; {more:,} were added since")


def inclusion_text(tree: LogTree, index: int, note: str) -> str:
    """Return the proof, in lines, that line ``index`` of the log is in the checkpoint that ``note`` holds."""
    size = parse_note(note).checkpoint.size
    hashes = "".join(base64.b64encode(each).decode() + "\n" for each in tree.inclusion(index, size))
    return f"{_PROOF}\nindex {index}\n{hashes}\n{note}"


def is_shown(proof: str, line: bytes) -> bool:
    """Return whether a proof shows ``line`` in its checkpoint; raises CheckpointUnsound when it is no proof."""
    head, _, note = proof.partition("\n\n")
    checkpoint = parse_note(note).checkpoint
    kind, _, rest = head.partition("\n")
    index, *hashes = rest.split("\n")
    if kind != _PROOF or not index.startswith("index ") or not index[6:].isdigit():
        raise CheckpointUnsound(f"the proof is none: its first lines must be '{_PROOF}' and 'index NUMBER'.")
    try:
        path = [base64.b64decode(each, validate=True) for each in hashes]
    except binascii.Error as error:
        raise CheckpointUnsound(f"the proof is none: a line of it is no base64 ({error}).") from error
    return is_included(leaf_hash(line), int(index[6:]), checkpoint.size, path, checkpoint.root)


def verifier_line(origin: str, key: PublicKey) -> str:
    """Return a key in the form that verifiers of checkpoints take: NAME+HASH+KEY (c2sp.org/signed-note)."""
    return f"{origin}+{_key_hash(origin, key).hex()}+{base64.b64encode(_ED25519 + key.raw).decode()}"


def _key_hash(name: str, key: PublicKey) -> bytes:
    return hashlib.sha256(name.encode() + b"\n" + _ED25519 + key.raw).digest()[:4]


def _checkpoint(lines: Sequence[str]) -> Checkpoint:
    if len(lines) < 3 or not lines[0].strip():
        raise ValueError("a name, a number and a root are expected")
    size = lines[1]
    if not (size.isascii() and size.isdigit() and len(size) < 19 and str(int(size)) == size):
        raise ValueError(f"its second line is no number: {size[:40]!r}")
    root = base64.b64decode(lines[2], validate=True)
    if len(root) != 32:
        raise ValueError("its third line is no SHA-256 in base64")
    return Checkpoint(lines[0], int(size), root)


def _signature(line: str) -> tuple[str, bytes, bytes]:
    name, _, encoded = line.removeprefix(_DASH).rpartition(" ")
    if not line.startswith(_DASH) or not name:
        raise ValueError(f"{line[:60]!r} is no signature")
    raw = base64.b64decode(encoded, validate=True)
    return name, raw[:4], raw[4:]
