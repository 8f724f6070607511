"""`stillrun audit --sign`: the statements of an audit in envelopes that a key of yours has signed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from stillrun_snapshot.store import Store

__all__ = ["signing_options", "write_signed"]


def signing_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """--sign and --key KEY."""
    from stillrun_cli.key import key_option

    told = "Sign the statements with a key of yours, for openssl, in-toto and cosign to verify."
    with_key: Callable[..., Any] = key_option(function)
    return click.option("--sign", is_flag=True, help=told)(with_key)


def write_signed(store: Store, folder: Path, key_name: str | None) -> list[Path]:
    """Write the envelopes, and the public key beside them; UsageError where there is no statement."""
    from stillrun_cli.key import signing_key
    from stillrun_reports.evidence.statements import sign_statements

    key, _ = signing_key(store, key_name)
    signed = sign_statements(folder, key)
    if not signed:
        raise click.UsageError("--sign signs statements: leave --format out, or give '--format slsa' too.")
    public = folder / f"key-{key.keyid[:16]}.pem"
    public.write_text(key.public.pem, encoding="utf-8")
    return [*signed, public]
