"""`stillrun sign FLOW/RUN --as MEANING`: stand for a run, in words of your own."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import click

from stillrun_cli.console import clean, common_options, print_json
from stillrun_cli.key import key_option, signing_key
from stillrun_cli.outfile import whole_file
from stillrun_cli.settings import open_store
from stillrun_engine.archive import open_run
from stillrun_engine.closure import needed_objects
from stillrun_engine.errors import RunDamaged
from stillrun_engine.hashing import check_objects
from stillrun_engine.pathspec import parse_pathspec
from stillrun_engine.signing import sign_run

__all__ = ["sign_command"]


@click.command(short_help="Sign a run: who, when, and what it means.")
@click.argument("pathspec", metavar="FLOW/RUN")
@click.option("--as", "meaning", required=True, metavar="MEANING", help="What it means, such as 'approved for use'.")
@click.option("--by", "signer", metavar="NAME", help="Your name as it is to stand there; default: the key's holder.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Write the signed envelope (DSSE) to a file, too."
)
@key_option
@common_options
@click.pass_context
def sign_command(
    ctx: click.Context,
    pathspec: str,
    meaning: str,
    signer: str | None,
    output: Path | None,
    key_name: str | None,
    as_json: bool,
) -> None:
    """Check everything that a run stands on, then sign its record with a key of yours. The signature is a line of the log.

    It shows that the holder of the key said so of exactly this run; not who holds the key, nor that the clock was right.
    """
    with open_store(ctx) as store:
        run = open_run(store, parse_pathspec(pathspec, least=2, most=2))
        key, holder = signing_key(store, key_name)
        damaged = check_objects(store, needed_objects(run))[2]
        if damaged:
            raise RunDamaged(
                f"{run.pathspec} is not signed: {damaged[0].needed.purpose}: {damaged[0].problem} "
                f"See all: stillrun verify {run.pathspec}."
            )
        with nullcontext() if output is None else whole_file(output) as file:  # told before anything is signed
            ref = sign_run(run, key, signer or holder, meaning)
            digest = store.refs.get(ref)
            assert digest is not None, "it was made just now"
            if file is not None:
                file.write(store.get(digest))
        if as_json:
            print_json({"run": run.pathspec, "record": run.digest, "key": key.keyid, "meaning": meaning, "ref": ref})
        else:
            click.echo(clean(f"{run.pathspec} signed by {signer or holder} (key {key.keyid[:16]}): {meaning}"))
