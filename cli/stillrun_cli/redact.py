"""`stillrun redact OBJECT|FLOW/RUN/STEP/TASK/ARTIFACT --reason WHY`: take bytes out, and leave a signed word about them."""

from __future__ import annotations

import click

from stillrun_cli.console import clean, common_options, print_json, short, size
from stillrun_cli.key import key_option, signing_key
from stillrun_cli.settings import open_store
from stillrun_engine.redacting import redactions_of, refuse_while_running
from stillrun_snapshot.redaction import redact

__all__ = ["redact_command"]


@click.command(short_help="Take an object's bytes out of the store, by a signed tombstone.")
@click.argument("what", metavar="OBJECT|FLOW/RUN/STEP/TASK/ARTIFACT")
@click.option("--reason", required=True, metavar="WHY", help="Why; one line, kept for ever.")
@click.option("--by", "signer", metavar="NAME", help="Your name as it is to stand there; default: the key's holder.")
@click.option("--yes", is_flag=True, help="Do not ask: it cannot be undone.")
@key_option
@common_options
@click.pass_context
def redact_command(
    ctx: click.Context, what: str, reason: str, signer: str | None, yes: bool, key_name: str | None, as_json: bool
) -> None:
    """Take the bytes of an object, or of an artifact, out of every place in the store. A tombstone, signed by a key of yours,
    says what was there, who took it out, when and why. Signatures and checkpoints stay sound.

    Copies elsewhere (bundles, other stores, backups) keep what they have. A secret that was kept counts as known: change it.
    """
    with open_store(ctx) as store:
        refuse_while_running(store)
        key, holder = signing_key(store, key_name)
        redactions = redactions_of(store, what)
        if not (yes or as_json):
            for each in redactions:
                click.echo(clean(f"{short(each.digest)}  {'; '.join(each.purposes[:3]) or 'an object'}"))
            click.confirm(f"Take {len(redactions)} out for good?", abort=True)
        found = redact(store, redactions, reason, signer or holder, key)
    if as_json:
        objects = [{"digest": each.digest, "size": each.size, "purposes": list(each.purposes)} for each in found]
        print_json({"redacted": objects, "reason": reason, "by": signer or holder, "key": key.keyid})
        return
    for tombstone in found:
        click.echo(f"{tombstone.digest}  {size(tombstone.size)} redacted")
    click.echo("Bundles, other stores and backups may still have it. Was it a secret? Change it.")
