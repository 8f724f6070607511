"""`stillrun inputs FLOW/RUN[/STEP[/TASK]]`: the files that tasks read, and a kept copy of one."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from stillrun_cli.console import common_options, print_json, print_table, short, size
from stillrun_cli.outfile import whole_file
from stillrun_cli.settings import open_store
from stillrun_engine.archive import open_run
from stillrun_engine.errors import EngineError, NotFound
from stillrun_engine.pathspec import nearest, parse_pathspec
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.store import Store

__all__ = ["inputs_command"]


@click.command(short_help="List the files that tasks read, or write a kept copy of one.")
@click.argument("pathspec", metavar="FLOW/RUN[/STEP[/TASK]]")
@click.option("--path", help="One of the files, as it is listed.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write the kept copy of --path here.")
@common_options
@click.pass_context
def inputs_command(ctx: click.Context, pathspec: str, path: str | None, out: Path | None, as_json: bool) -> None:
    """List the files that tasks read, by digest; --path FILE --out COPY writes one as it was read."""
    store = open_store(ctx)
    run = open_run(store, parse_pathspec(pathspec, least=2, most=4))
    files = {file["path"]: file for task in run.selected() for file in task["files"]}
    if path is not None and path not in files:
        raise NotFound(f"no task of {run.spec} read '{path}'.{nearest(path, files)}")
    shown = [files[path]] if path is not None else list(files.values())
    if out is not None:
        if path is None:
            raise click.UsageError("--out needs --path: which of the files is to be written.")
        _write(store, files[path], out)
    if as_json:
        print_json({"run": run.pathspec, "files": shown, "out": str(out) if out else None})
    elif out is not None:
        click.echo(f"{out}: {path} as {run.spec} read it")
    else:
        rows = [(f["path"], size(f["size"]), short(f["digest"]), "kept" if f["kept"] else f["reason"]) for f in shown]
        print_table(("FILE", "SIZE", "DIGEST", "COPY"), rows)


def _write(store: Store, file: Mapping[str, Any], out: Path) -> None:
    if not file["kept"]:
        raise EngineError(f"there is no kept copy of {file['path']}: {file['reason']}.")
    if out.exists():
        raise EngineError(f"cannot write {out}: it is there already.")
    with whole_file(out) as target, store.open_object(Digest(file["digest"])) as source:
        shutil.copyfileobj(source, target, 1 << 20)
