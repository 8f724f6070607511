"""`stillrun artifact FLOW/RUN/STEP[/TASK]/NAME`: what an artifact is, or its value in a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from stillrun_cli.console import clean, common_options, print_json, size
from stillrun_cli.outfile import whole_file
from stillrun_cli.settings import open_store
from stillrun_engine.archive import KeptRun, Record, open_run
from stillrun_engine.errors import EngineError, NotFound
from stillrun_engine.export import write_pickle
from stillrun_engine.parts import content_digest
from stillrun_engine.pathspec import Pathspec, parse_pathspec
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.store import Store

__all__ = ["artifact_command"]


@click.command(short_help="Show an artifact, or write it to a file.")
@click.argument("pathspec", metavar="FLOW/RUN/STEP[/TASK]/NAME")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write the value as a pickle file.")
@common_options
@click.pass_context
def artifact_command(ctx: click.Context, pathspec: str, out: Path | None, as_json: bool) -> None:
    """Show an artifact's type, size, digests and preview; every byte is hashed, nothing is unpickled.

    --out writes a pickle that `pickle.load` reads; load it only where you trust the flow that made it.
    """
    store = open_store(ctx)
    run, task, name = _find(store, pathspec)
    digest, artifact = run.artifact(task, name)
    for part in artifact["parts"]:
        store.locate(Digest(part["digest"]))  # which fetches what was left in a remote
        store.verify(Digest(part["digest"]))
    if out is not None:
        with whole_file(out) as file:
            write_pickle(store, artifact, file)
    if as_json:
        print_json({**_facts(run, task, name, digest, artifact), "out": str(out) if out else None})
    elif out is None:
        for label, value in _facts(run, task, name, digest, artifact).items():
            click.echo(f"{label.ljust(9)}  {clean(str(value))}")
    else:
        click.echo(f"{out}: {artifact['type']}, {size(out.stat().st_size)}")


def _find(store: Store, text: str) -> tuple[KeptRun, Record, str]:
    """FLOW/RUN/STEP/NAME when the step has one task, FLOW/RUN/STEP/TASK/NAME otherwise."""
    spec = parse_pathspec(text, least=4)
    run = open_run(store, Pathspec(spec.flow, spec.run, spec.step))
    step, last = str(spec.step), str(spec.artifact or spec.task)
    if spec.artifact is not None:
        return run, run.task(step, str(spec.task)), last
    tasks = run.selected()
    if not tasks:
        raise NotFound(f"step '{step}' of {run.pathspec} has no kept task.")
    if len(tasks) > 1:
        raise EngineError(
            f"step '{step}' of {run.pathspec} has {len(tasks)} tasks; name one: {run.pathspec}/{step}/{tasks[0]['task']}/{last}."
        )
    return run, tasks[0], last


def _facts(run: KeptRun, task: Record, name: str, digest: Digest, artifact: Record) -> dict[str, Any]:
    return {
        "artifact": f"{run.pathspec}/{task['step']}/{task['task']}/{name}",
        "type": artifact["type"],
        "size": artifact["size"],
        "digest": content_digest(artifact),
        "canonical": artifact["canonical"]["digest"] if artifact["canonical"] else None,
        "record": digest,
        "value": artifact["preview"],
    }
