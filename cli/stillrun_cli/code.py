"""`stillrun code FLOW/RUN`: the code as it was captured."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from stillrun_cli.console import clean, common_options, print_json, short, size
from stillrun_cli.settings import open_store
from stillrun_engine.archive import open_run
from stillrun_engine.pathspec import parse_pathspec
from stillrun_snapshot.archive import write_tar
from stillrun_snapshot.checkout import export_tree
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.tree import Entry, LinkEntry, tree_files

__all__ = ["code_command"]


@click.command(short_help="List or extract the captured code.")
@click.argument("pathspec", metavar="FLOW/RUN")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write the files into this empty or new folder.",
)
@click.option(
    "--tar",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write one deterministic .tar, .tar.gz or .tar.zst file.",
)
@common_options
@click.pass_context
def code_command(ctx: click.Context, pathspec: str, out: Path | None, tar: Path | None, as_json: bool) -> None:
    """List the captured files, or write them to a folder or a tar file."""
    store = open_store(ctx)
    run = open_run(store, parse_pathspec(pathspec, least=2, most=2))
    code = store.get_record(Digest(run.record["code"]), "code")
    tree = Digest(code["tree"])
    if out is not None:
        export_tree(store, tree, out)
    if tar is not None:
        write_tar(store, tree, tar)
    files = list(tree_files(store, tree))
    if as_json:
        listed = [{"path": path, **asdict(entry)} for path, entry in files]
        print_json({"run": run.pathspec, **{k: v for k, v in code.items() if k != "schema"}, "files": listed})
        return
    for path, entry in files if out is None and tar is None else ():
        shown = _shown(entry)
        click.echo(f"{shown}  {clean(path)}")
    for target in filter(None, (out, tar)):
        click.echo(f"{target}: {len(files)} files of {run.pathspec}, tree {tree}")


def _shown(entry: Entry) -> str:
    return f"-> {entry.target}" if isinstance(entry, LinkEntry) else f"{size(entry.size):>9}  {short(entry.digest)}"
