"""`stillrun key ...`: the keys that sign, made, listed, handed out and revoked."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from stillrun_cli.console import clean, common_options, print_json, print_table
from stillrun_cli.outfile import whole_file
from stillrun_cli.settings import open_store, store_path
from stillrun_engine.machine import user_of
from stillrun_snapshot.checkpoint import verifier_line
from stillrun_snapshot.ed25519 import PrivateKey, PublicKey
from stillrun_snapshot.keys import check_line, known_keys, publish_key, revoke_key, revoked
from stillrun_snapshot.logtree import LogTree
from stillrun_snapshot.own_keys import KeyMissing, OwnKeys
from stillrun_snapshot.store import STORE_MARK, Store

__all__ = ["holder_here", "key_group", "key_option", "own_keys", "signing_key", "trusted_keys"]


def own_keys() -> OwnKeys:
    """The user's keys: STILLRUN_KEYS, else the folder of the user's settings."""
    given = os.environ.get("STILLRUN_KEYS")
    if given:
        return OwnKeys(Path(given).expanduser().absolute())
    import platformdirs

    return OwnKeys(platformdirs.user_config_path("stillrun", appauthor=False) / "keys")


def key_option(function: Any) -> Any:
    """The option that chooses among the user's keys."""
    told = "Which of your keys: its holder, or the beginning of its name. Default: the newest that is not revoked."
    return click.option("--key", "key_name", metavar="KEY", help=told)(function)


def signing_key(store: Store, name: str | None) -> tuple[PrivateKey, str]:
    """One of the user's keys, and its holder."""
    found = own_keys().find(name, frozenset(revoked(store)))
    return own_keys().secret(found), found.holder


def holder_here() -> str:
    """Who calls, as their system knows them."""
    return user_of(os.environ) or "unknown"


def trusted_keys(files: Iterable[Path]) -> list[PublicKey]:
    """The public keys in files that somebody was handed."""
    return [PublicKey.of_pem(file.read_text("utf-8", "replace"), f"the key {file}") for file in files]


@click.group("key", short_help="Make, list, hand out and revoke the keys that sign.")
def key_group() -> None:
    """Keys sign runs and checkpoints. The secret stays with you; a store gets the public part. Changes are logged."""


@key_group.command("new")
@click.option("--holder", help="Whose it is, as others will read it; default: your login name.")
@click.option(
    "--replaces", metavar="KEY", help="A key of yours that this one takes over from; it vouches for the new one."
)
@click.option("--keyring", is_flag=True, help="Keep the secret in the system's keyring instead of a file.")
@common_options
@click.pass_context
def new(ctx: click.Context, holder: str | None, replaces: str | None, keyring: bool, as_json: bool) -> None:
    """Make a key and make it known in the store."""
    own, place = own_keys(), "keyring" if keyring else "file"
    name = check_line(holder or holder_here(), "the holder of a key")
    with open_store(ctx, create=True) as store:
        before = signing_key(store, replaces) if replaces else None
        made = own.new(name, place="keyring" if keyring else "file")
        if before is not None:
            publish_key(store, *before)
        publish_key(store, made, name, replaces=before[0] if before else None)
    where = "the system's keyring" if keyring else str(own.folder / f"{made.keyid}.pem")
    if as_json:
        print_json({"key": made.keyid, "holder": name, "place": place, "public": made.public.pem})
    else:
        click.echo(f"{made.keyid}  {clean(name)}")
        click.echo(f"The secret is in {where}; nobody else needs it. Hand out: stillrun key export {made.keyid[:12]}")


@key_group.command("list")
@common_options
@click.pass_context
def list_keys(ctx: click.Context, as_json: bool) -> None:
    """List your keys, and those that the store knows."""
    mine = {key.keyid: key for key in own_keys().all()}
    known = {}
    if (store_path(ctx) / STORE_MARK).exists():
        with open_store(ctx) as store:
            known = known_keys(store)
    rows = []
    for keyid in dict.fromkeys([*known, *mine]):
        there, here = known.get(keyid), mine.get(keyid)
        gone = there.revocation if there else None
        rows.append(
            {
                "key": keyid,
                "holder": there.holder if there else mine[keyid].holder,
                "made": there.time if there else mine[keyid].created,
                "yours": here.place if here else None,
                "in_store": there is not None,
                "replaces": there.replaces if there else None,
                "revoked": gone and {"time": gone.time, "reason": gone.reason, "compromised": gone.compromised},
            }
        )
    if as_json:
        print_json({"keys": rows})
        return
    print_table(("key", "holder", "made", "yours", "state"), ([*_row(row)] for row in rows))


def _row(row: dict[str, Any]) -> Iterable[str]:
    gone = row["revoked"]
    state = "not in this store" if not row["in_store"] else "in use" if not gone else f"revoked: {gone['reason']}"
    return row["key"][:16], row["holder"], row["made"][:19], row["yours"] or "-", state


@key_group.command("export")
@click.argument("name", metavar="[KEY]", required=False)
@click.option("--checkpoint", "as_line", is_flag=True, help="As the line that verifiers of checkpoints take (C2SP).")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="The file; default: standard output.")
@common_options
@click.pass_context
def export(ctx: click.Context, name: str | None, as_line: bool, output: Path | None, as_json: bool) -> None:
    """Print a public key (PEM), to hand to whoever will check signatures: --trust FILE."""
    public = _public(ctx, name)
    line = None
    if as_line or as_json:
        with open_store(ctx) as store:
            tree = LogTree(store.root)
            line = verifier_line(tree.origin, public) if tree.size or as_line else None
    text = f"{line}\n" if as_line else public.pem
    if output is not None:
        with whole_file(output) as file:
            file.write(text.encode())
    if as_json:
        print_json({"key": public.keyid, "public": public.pem, "checkpoint": line})
    else:
        click.echo(f"{output}: {public.keyid}" if output else text, nl=output is not None)


def _public(ctx: click.Context, name: str | None) -> PublicKey:
    """A key by name: of the user's, else one that the store knows."""
    own = own_keys()
    try:
        return own.secret(own.find(name)).public
    except KeyMissing:
        if name is None or not (store_path(ctx) / STORE_MARK).exists():
            raise
        with open_store(ctx) as store:
            found = [
                key.public for keyid, key in known_keys(store).items() if len(name) >= 4 and keyid.startswith(name)
            ]
        if len(found) != 1:
            raise
        return found[0]


@key_group.command("revoke")
@click.argument("name", metavar="KEY")
@click.option("--reason", required=True, help="Why; one line, kept in the log.")
@click.option(
    "--compromised", is_flag=True, help="Somebody else may have it: nothing that it ever signed counts any more."
)
@common_options
@click.pass_context
def revoke(ctx: click.Context, name: str, reason: str, compromised: bool, as_json: bool) -> None:
    """Say in the log that a key is not to be relied on. What it signed before counts on, unless it was compromised."""
    with open_store(ctx) as store:
        known = known_keys(store)
        found = [keyid for keyid in known if len(name) >= 4 and keyid.startswith(name)]
        if len(found) != 1:
            own = own_keys().find(name)
            publish_key(store, own_keys().secret(own), own.holder)
            found = [own.keyid]
        signer = next((own_keys().secret(key) for key in own_keys().all() if key.keyid == found[0]), None)
        revoke_key(store, found[0], reason, holder_here(), compromised=compromised, signer=signer)
    if as_json:
        print_json({"key": found[0], "revoked": True, "compromised": compromised})
    else:
        click.echo(f"{found[0]} is revoked. Replace it: stillrun key new")
