"""`stillrun audit --check DIR`: hold evidence that somebody hands over to its own records, and to a store that has the run."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click

from stillrun_cli.console import clean, paint, print_json, size
from stillrun_cli.key import trusted_keys
from stillrun_cli.narrator import counted
from stillrun_cli.settings import open_store, store_path
from stillrun_reports.evidence.checking import check_evidence
from stillrun_reports.evidence.findings import Checked

__all__ = ["checking_options", "print_check"]

_folder = click.Path(path_type=Path, exists=True, file_okay=False)
_file = click.Path(path_type=Path, exists=True, dir_okay=False)


def checking_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """--check DIR and --trust FILE."""
    told = "Write nothing: check the evidence in DIR against its own records, and the store where it has the run."
    check = click.option("--check", "evidence", metavar="DIR", type=_folder, help=told)
    trust = "A public key that you were handed; its signature, of the run or of the evidence, is then demanded."
    return check(click.option("--trust", "trusted", multiple=True, metavar="FILE", type=_file, help=trust)(function))


def print_check(ctx: click.Context, folder: Path, keys: Iterable[Path], as_json: bool) -> int:
    """Check a folder of evidence and say what was found; the exit code: 0 sound, 1 findings.

    keys: files with public keys in PEM, whose signatures count. A store is asked where there is one; none is made.
    """
    store = open_store(ctx) if store_path(ctx).is_dir() else None
    checked = check_evidence(folder, store=store, verifiers={key.keyid: key for key in trusted_keys(keys)})
    if as_json:
        print_json(
            {
                "run": checked.run or None,
                "record": checked.record or None,
                "sound": checked.sound,
                "checked": checked.counts,
                "findings": [{"file": one.file, "what": one.what} for one in checked.findings],
                "not_checked": checked.not_checked,
            }
        )
    else:
        _print(folder, checked)
    return 0 if checked.sound else 1


def _print(folder: Path, checked: Checked) -> None:
    for finding in checked.findings:
        click.echo(clean(f"{paint('found', fg='red')} {finding.file}: {finding.what}"))
    for sentence in checked.not_checked:
        click.echo(clean(f"not checked: {sentence}"))
    counts = dict(checked.counts)
    hashed = f", {size(counts.pop('bytes'))} hashed" if "bytes" in counts else ""
    looked = ", ".join(f"{number} {what}" for what, number in counts.items())
    result = (
        paint(counted(len(checked.findings), "finding"), fg="red") if checked.findings else paint("sound", fg="green")
    )
    if checked.record:
        click.echo(clean(f"{checked.run or 'the run'}, record {checked.record}"))
    click.echo(clean(f"{folder}: {looked}{hashed}: {result}"))
