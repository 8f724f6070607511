"""`stillrun verify FLOW/RUN|--all`: hash everything, follow the log, check signatures; say what was checked and what was not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stillrun_cli.console import clean, common_options, paint, print_json, size
from stillrun_cli.progress import hashing_progress
from stillrun_cli.rest import tell_what_is_left
from stillrun_cli.settings import open_store
from stillrun_engine.archive import open_run
from stillrun_engine.pathspec import parse_pathspec

if TYPE_CHECKING:
    from stillrun_engine.hashing import Damage
    from stillrun_engine.verification import RunFinding, Verification
    from stillrun_snapshot.redaction import Tombstone

__all__ = ["verify_command"]

_SHOWN = 20
_file = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command(short_help="Hash everything that a run stands on.")
@click.argument("pathspec", metavar="[FLOW/RUN[/STEP[/TASK]]]", required=False)
@click.option(
    "--all", "everything", is_flag=True, help="Every run of the store, and every ref, record, key and tombstone."
)
@click.option("--full", is_flag=True, help="With --all: every object that is held, also those that no run needs.")
@click.option(
    "--trust", multiple=True, type=_file, help="A public key that you were handed; its signature is then demanded."
)
@click.option(
    "--checkpoint", "kept", type=_file, help="A checkpoint that was kept elsewhere: shows whether the log was cut."
)
@common_options
@click.pass_context
def verify_command(
    ctx: click.Context,
    pathspec: str | None,
    everything: bool,
    full: bool,
    trust: tuple[Path, ...],
    kept: Path | None,
    as_json: bool,
) -> int:
    """Hash every object that the run needs (code, packages, interpreter, inputs, artifacts, logs), follow the log of refs, and
    check the run's signatures.

    The exit code is 0 when all is sound, 2 when something is damaged, missing or was tampered with; each is named with what it is
    there for. Redacted objects are named, and are no damage.
    """
    from stillrun_cli.key import trusted_keys
    from stillrun_engine.verification import Asked, verify_run, verify_store
    from stillrun_snapshot.checkpoint import parse_note

    if everything == (pathspec is not None) or (full and not everything):
        raise click.UsageError("give FLOW/RUN, or --all; --full goes with --all.")
    note = None if kept is None else parse_note(kept.read_text("utf-8", "replace"), f"the checkpoint {kept}")
    asked = Asked(trusted_keys(trust), note, full)
    with open_store(ctx) as store, hashing_progress(as_json, "hashing") as told:
        if pathspec is None:
            found = verify_store(store, asked, lambda one, count: told(one.purpose, count))
        else:
            run = open_run(store, parse_pathspec(pathspec, least=2, most=4))
            found = verify_run(run, asked, lambda one, count: told(one.purpose, count))
    if as_json:
        head = {"run": found.runs[0].run} if pathspec is not None else {"store": str(store.root)}
        print_json({**head, **_facts(found)})
    else:
        if pathspec is not None:
            tell_what_is_left(run)
        _tell(found, str(run.spec) if pathspec is not None else str(store.root))
    return 0 if found.sound else 2


def _facts(found: Verification) -> dict[str, Any]:
    from stillrun_engine.signing import statement_facts

    return {
        "sound": found.sound,
        "objects": found.objects,
        "bytes": found.bytes,
        "log_lines": found.log_lines,
        "refs": found.refs,
        "damaged": [_damage(each) for each in _all_damage(found)],
        "redacted": [_redacted(each) for each in _all_redacted(found)],
        "problems": [*found.problems, *(f"{run.run}: {told}" for run in found.runs for told in run.problems)],
        "signatures": [{"run": run.run, **statement_facts(each)} for run in found.runs for each in run.signatures],
        "checkpoint": None
        if found.checkpoint is None
        else {"verdict": found.checkpoint.word, "told": found.checkpoint.told},
        "runs": [{"run": run.run, "sound": run.sound, "objects": run.objects} for run in found.runs],
        "not_checked": found.not_checked,
    }


def _all_damage(found: Verification) -> Iterator[Damage]:
    yield from found.damaged
    for run in found.runs:
        yield from run.damaged


def _all_redacted(found: Verification) -> list[Tombstone]:
    every = {each.digest: each for run in found.runs for each in run.redacted}
    every.update((each.digest, each) for each in found.redacted)
    return list(every.values())


def _damage(damage: Damage) -> dict[str, str]:
    return {"digest": damage.needed.digest, "purpose": damage.needed.purpose, "problem": damage.problem}


def _redacted(each: Tombstone) -> dict[str, Any]:
    told = {"digest": each.digest, "size": each.size, "purposes": list(each.purposes)}
    return {**told, "reason": each.reason, "by": each.by, "time": each.time}


def _tell(found: Verification, what: str) -> None:
    for problem in found.problems:
        click.echo(clean(f"{paint('wrong', fg='red')}: {problem}"))
    for damage in found.damaged:
        _tell_damage(damage)
    for run in found.runs:
        _tell_run(run)
    for each in _all_redacted(found):
        purpose = each.purposes[0] if each.purposes else "an object"
        click.echo(
            clean(f"{paint('redacted', fg='yellow')}: {purpose}: by {each.by} at {each.time[:10]}: {each.reason}")
        )
    if found.checkpoint is not None:
        click.echo(clean(f"checkpoint {found.checkpoint.word}: {found.checkpoint.told}."))
    wrong = len(found.problems) + sum(1 for _ in _all_damage(found)) + sum(len(run.problems) for run in found.runs)
    wrong += sum(1 for run in found.runs for each in run.signatures if not each.counts)
    count = sum(1 for _ in _all_damage(found))
    told = f"{count} damaged" if count and count == wrong else f"{wrong} wrong"
    result = told if wrong else paint("all sound", fg="green")
    refs = f"{found.refs:,} refs, " if found.refs else ""
    click.echo(
        f"{what}: {found.objects} objects, {size(found.bytes)} hashed, {refs}{found.log_lines} log lines checked: {result}"
    )
    for open_question in found.not_checked:
        click.echo(clean(f"  not checked: {open_question}"))


def _tell_run(run: RunFinding) -> None:
    for damage in run.damaged[:_SHOWN]:
        _tell_damage(damage)
    if len(run.damaged) > _SHOWN:
        click.echo(f"and {len(run.damaged) - _SHOWN:,} more of {run.run}; --json lists all.")
    for problem in run.problems:
        click.echo(clean(f"{paint('wrong', fg='red')}: {run.run}: {problem}"))
    for each in run.signatures:
        style = {"fg": "green" if each.counts else "red"}
        told = f" {each.told}" if each.told else ""
        who = f"{each.signer} (key {each.keyid[:16]}) at {each.time[:19]}: {each.meaning}." if each.keyid else each.ref
        click.echo(clean(f"signature {paint(each.standing, **style)}: {run.run}: {who}{told}"))


def _tell_damage(damage: Damage) -> None:
    click.echo(clean(f"{paint('damaged', fg='red')}: {damage.needed.purpose}: {damage.problem}"))
