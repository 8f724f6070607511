"""`stillrun checkpoint export|check|prove`: a few lines to keep elsewhere, and what they show later."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from stillrun_cli.console import clean, common_options, paint, print_json
from stillrun_cli.key import key_option, own_keys, signing_key, trusted_keys
from stillrun_cli.outfile import whole_file
from stillrun_cli.settings import open_store
from stillrun_engine.errors import EngineError
from stillrun_engine.pathspec import parse_pathspec, resolve
from stillrun_snapshot.checkpoint import agreement, checkpoint_of, inclusion_text, note_text, parse_note
from stillrun_snapshot.ed25519 import PrivateKey
from stillrun_snapshot.keys import known_keys, publish_key
from stillrun_snapshot.logtree import LogTree
from stillrun_snapshot.store import Store

if TYPE_CHECKING:
    from stillrun_snapshot.timestamping import Stamp

__all__ = ["checkpoint_group"]


@click.group("checkpoint", short_help="Lines to keep elsewhere that show later whether the log was changed.")
def checkpoint_group() -> None:
    """A checkpoint stands for the whole log of a store. Mail it, print it, commit it: whoever has it can show later that the log
    was cut or written anew."""


@checkpoint_group.command("export")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="The file; default: standard output.")
@click.option("--unsigned", is_flag=True, help="Without a signature, also where you have a key.")
@click.option(
    "--timestamp",
    "authority",
    metavar="URL",
    envvar="STILLRUN_TIMESTAMP_URL",
    help="A time stamp authority (RFC 3161); its stamp is written to FILE.tsr. Only a hash is sent.",
)
@key_option
@common_options
@click.pass_context
def export(
    ctx: click.Context, output: Path | None, unsigned: bool, authority: str | None, key_name: str | None, as_json: bool
) -> None:
    """Print the checkpoint of the log as it is, signed when you have a key."""
    if authority is not None and output is None:
        raise click.UsageError("--timestamp writes FILE.tsr: say with -o what FILE is.")
    with open_store(ctx) as store:
        keys = [] if unsigned else _keys(store, key_name)
        tree = LogTree(store.root)
        checkpoint = checkpoint_of(tree)
        text = note_text(checkpoint, *keys)
    if output is not None:
        stamp = None if authority is None else _stamped(authority, text)
        _write(output, text.encode())
        if stamp is not None:
            _write(_stamp_path(output), stamp)
        else:
            _stamp_path(output).unlink(missing_ok=True)  # that of another checkpoint
    if as_json:
        told = {"origin": checkpoint.origin, "size": checkpoint.size, "root": checkpoint.root.hex()}
        print_json({**told, "keys": [key.keyid for key in keys], "checkpoint": text})
    elif output is None:
        click.echo(text, nl=False)
    else:
        click.echo(
            f"{output}: {checkpoint.size:,} lines of the log. Keep it where this store's keepers cannot change it."
        )


def _keys(store: Store, name: str | None) -> list[PrivateKey]:
    """The key to sign with; none where the user has none."""
    if name is None and not any(True for _ in own_keys().all()):
        return []
    key, holder = signing_key(store, name)
    publish_key(store, key, holder)
    return [key]


def _stamped(authority: str, text: str) -> bytes:
    from stillrun_snapshot.timestamping import request_stamp

    return request_stamp(authority, text.encode())


def _stamp_path(file: Path) -> Path:
    return file.with_name(f"{file.name}.tsr")


def _write(path: Path, data: bytes) -> None:
    with whole_file(path) as file:
        file.write(data)


@checkpoint_group.command("check")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--trust",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A public key; repeatable.",
)
@click.option(
    "--authority",
    "authorities",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A certificate (PEM) of a time stamp authority that you rely on; repeatable.",
)
@common_options
@click.pass_context
def check(ctx: click.Context, file: Path, trust: tuple[Path, ...], authorities: tuple[Path, ...], as_json: bool) -> int:
    """Compare a checkpoint that was kept with the log as it is: was anything cut off or written anew?

    Every hash is computed from the log. The exit code is 0 when the log begins with what the checkpoint stands for, else 2.
    """
    stamp = _stamp(file, authorities)
    note = parse_note(file.read_text("utf-8", "replace"), f"the checkpoint {file}")
    with open_store(ctx) as store:
        handed = trusted_keys(trust)
        keys = handed or [key.public for key in known_keys(store).values()]
        signers = note.signers(keys)
        changes = store.refs.check()
        found = agreement(note.checkpoint, LogTree(store.root, anew=True))
    sound = found.sound and not (handed and not signers) and not (authorities and not (stamp and stamp.known))
    signed = ", ".join(key.keyid[:16] for key in signers) or (
        "nobody whom you trust" if handed else "nobody" if not note.signatures else "a key that is not known here"
    )
    if as_json:
        told = {"origin": note.checkpoint.origin, "size": note.checkpoint.size, "log_lines": changes}
        keyids = [key.keyid for key in signers]
        print_json(
            {
                **told,
                "sound": sound,
                "verdict": found.word,
                "told": found.told,
                "signed_by": keyids,
                "stamp": stamp and asdict(stamp),
            }
        )
    else:
        click.echo(clean(f"{paint(found.word, fg='green' if found.sound else 'red')}: {found.told}."))
        source = "a key that you trust" if handed else "a key from this store: it shows only who could sign here"
        click.echo(f"signed by {signed}{f' ({source})' if signers else ''}.")
        if stamp is not None:
            issued = "an authority that you rely on" if stamp.known else "an authority that nobody vouches for here"
            click.echo(clean(f"time stamp: {stamp.time} by {stamp.signer} ({issued})."))
    return 0 if sound else 2


def _stamp(file: Path, authorities: tuple[Path, ...]) -> Stamp | None:
    """The time stamp beside a checkpoint, checked; None when there is none."""
    if not _stamp_path(file).exists():
        return None
    from stillrun_snapshot.timestamping import authorities_of, check_stamp

    known = [each for path in authorities for each in authorities_of(path.read_bytes(), str(path))]
    return check_stamp(_stamp_path(file).read_bytes(), file.read_bytes(), known)


@checkpoint_group.command("prove")
@click.argument("what", metavar="FLOW/RUN|LINE")
@click.option(
    "--checkpoint", "file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Its checkpoint."
)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="The file; default: standard output.")
@key_option
@common_options
@click.pass_context
def prove(
    ctx: click.Context, what: str, file: Path | None, output: Path | None, key_name: str | None, as_json: bool
) -> None:
    """Print the proof that a run's last record, or a line by its number, is in the log of a checkpoint (c2sp.org/tlog-proof)."""
    with open_store(ctx) as store:
        tree = LogTree(store.root)
        ref, index = (None, int(what) - 1) if what.isdigit() else _place(store, tree, what)
        note = file.read_text("utf-8", "replace") if file else note_text(checkpoint_of(tree), *_keys(store, key_name))
        tree = LogTree(store.root)
        checkpoint = parse_note(note).checkpoint
        found = agreement(checkpoint, tree)
        if not found.sound or not 0 <= index < checkpoint.size:
            raise EngineError(f"line {index + 1} has no proof in this checkpoint: {found.told}.")
        proof, line = inclusion_text(tree, index, note), tree.line(index).decode()
    if output is not None:
        _write(output, proof.encode())
    if as_json:
        print_json({"line": index + 1, "ref": ref, "event": line, "proof": proof})
    elif output is None:
        click.echo(proof, nl=False)
    else:
        click.echo(f"{output}: line {index + 1} of the log.{os.linesep}{clean(line)}")


def _place(store: Store, tree: LogTree, what: str) -> tuple[str, int]:
    spec = resolve(store, parse_pathspec(what, least=2, most=2))
    index = tree.find(spec.run_ref)
    if index is None:
        raise EngineError(f"no line of the log names {spec.run_ref}.")
    return spec.run_ref, index
