"""What differs between two locks, for people and for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from stillrun_cli.console import print_table
from stillrun_envs.dependencies import Change

__all__ = ["change_record", "changes_table"]


def changes_table(changes: Sequence[Change], *, nothing: str) -> None:
    """What differs between two locks, for people."""
    if not changes:
        if nothing:
            click.echo(nothing)
        return
    marks = {"added": "+", "removed": "-", "changed": "~"}
    rows = [
        (marks[one.kind], one.name, one.manager, one.before or "-", one.after or "-", " > ".join(one.why) or "-")
        for one in changes
    ]
    print_table(("", "PACKAGE", "FROM", "BEFORE", "AFTER", "ASKED FOR BY"), rows)


def change_record(one: Change) -> dict[str, Any]:
    """One change, for programs."""
    told = {"kind": one.kind, "manager": one.manager, "name": one.name}
    return {**told, "before": one.before or None, "after": one.after or None, "why": list(one.why)}
