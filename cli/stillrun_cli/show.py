"""`stillrun show FLOW/RUN[/STEP[/TASK]]`: what a run, a step or a task was."""

from __future__ import annotations

from typing import Any

import click

from stillrun_cli.carry import left_out_line
from stillrun_cli.console import (
    clean,
    common_options,
    duration,
    paint,
    print_json,
    print_table,
    short,
    size,
    word,
)
from stillrun_cli.narrator import counted
from stillrun_cli.settings import open_store
from stillrun_engine.archive import KeptRun, Record, open_run
from stillrun_engine.pathspec import parse_pathspec
from stillrun_engine.run_refs import left_behind
from stillrun_envs.lock import read_lock
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.store import Store

__all__ = ["show_command"]


@click.command(short_help="Show a run, a step or a task.")
@click.argument("pathspec", metavar="FLOW/RUN[/STEP[/TASK]]")
@common_options
@click.pass_context
def show_command(ctx: click.Context, pathspec: str, as_json: bool) -> None:
    """Show what was kept: parameters, code, environments and tasks of a run; inputs and artifacts of a task."""
    run = open_run(open_store(ctx), parse_pathspec(pathspec, least=2, most=4))
    tasks = run.selected()
    if as_json:
        print_json(_facts(run, tasks))
        return
    if run.spec.step is None:
        _print_run(run)
    if run.spec.task is None:
        _print_tasks(tasks)
    else:
        _print_task(run, tasks[0])


def _facts(run: KeptRun, tasks: list[Record]) -> dict[str, Any]:
    return {
        "run": run.pathspec,
        "digest": run.digest,
        **{name: value for name, value in run.record.items() if name not in {"schema", "run", "tasks", "status"}},
        "status": run.status,
        "absent": [{"digest": one.digest, "kind": one.kind, "purpose": one.purpose} for one in left_behind(run)],
        "tasks": [{**task, "artifacts": _artifacts(run, task)} for task in tasks],
    }


def _artifacts(run: KeptRun, task: Record) -> dict[str, Any]:
    return {name: {"record": digest, **run.artifact(task, name)[1]} for name, digest in task["artifacts"].items()}


def _print_run(run: KeptRun) -> None:
    record, store = run.record, run.store
    code = store.get_record(Digest(record["code"]), "code")
    click.echo(
        f"{paint(run.pathspec, bold=True)} {word(run.status)}"
        + (
            f", {'replay of' if record['kind'] == 'replay' else 'from'} {record['origin']['run']}"
            if record["origin"]
            else ""
        )
    )
    facts = [
        ("started", record["started"]),
        ("finished", record.get("finished") or "-"),
        ("user", record["user"] or "-"),
    ]
    facts += [(f"--{name}", entry["text"]) for name, entry in record["parameters"].items()]
    facts.append(("code", f"{short(code['tree'])} {code['flow_file']}{_git(code['git'])}"))
    for step, entry in record["steps"].items():
        lock = run.lock_of(step)
        said = _environment(store, lock) if lock else f"{short(entry['environment'])}, recorded and not kept"
        facts.append((f"env of {step}", said))
    facts.append(
        (
            "machine",
            f"{record['machine']['system']} {record['machine']['machine']}, {record['machine']['processor']}",
        )
    )
    facts.append(("stillrun", record["stillrun"]))
    if record.get("finished") or run.status == "interrupted":
        facts.append(("captured", _captured(run)))
    if record.get("verdict"):
        facts.append(("verdict", word(store.get_record(Digest(record["verdict"]), "verdict")["verdict"])))
    width = max(len(name) for name, _ in facts)
    for name, value in facts:
        click.echo(f"  {name.ljust(width)}  {clean(str(value))}")


def _captured(run: KeptRun) -> str:
    """What the run kept, and what of it did not come here with the run."""
    cut_off = [] if run.record.get("finished") else ["it was cut off, and what had not ended is not there"]
    lost = "; ".join([*run.record.get("not_kept", []), *cut_off])
    kept = "everything" if run.record.get("captured") else f"not fully: {lost}"
    absent = left_behind(run)
    return f"{kept}; not brought here: {left_out_line(absent)}" if absent else kept


def _environment(store: Store, digest: Digest) -> str:
    lock = read_lock(store, digest)
    amount = sum(store.size(one) for one in lock.digests() if store.has(one) and not store.is_spare(one))
    return f"lock {short(digest)}: Python {lock.python.version}, {len(lock.packages)} packages, {size(amount)} kept"


def _git(git: Record | None) -> str:
    if git is None:
        return " (not in git)"
    changed = ", with uncommitted changes" if git["dirty"] else ""
    return f" at {(git['commit'] or 'no commit')[:10]} on {git['branch'] or 'no branch'}{changed}"


def _print_tasks(tasks: list[Record]) -> None:
    rows = [
        (
            f"{t['step']}/{t['task']}",
            f"reused from {t['reused'].rsplit('/', 2)[0]}" if "reused" in t else _how(t),
            duration(t["usage"].get("wall_us", 0)),
            ", ".join(t["artifacts"]),
            ", ".join(f["path"] for f in t["files"]),
        )
        for t in tasks
    ]
    print_table(("TASK", "STATUS", "TIME", "ARTIFACTS", "FILES READ"), rows, indent="  ")


def _how(task: Record) -> str:
    """How a task ended, in a word or two."""
    again = f", attempt {task['attempt'] + 1}" if task["attempt"] else ""
    return f"{task['status']}{', failure let pass' if task.get('caught') else ''}{again}"


def _print_task(run: KeptRun, task: Record) -> None:
    click.echo(f"{paint(run.pathspec + '/' + task['step'] + '/' + task['task'], bold=True)} {word(task['status'])}")
    if task["error"]:
        click.echo(clean(task["error"].get("traceback") or f"{task['error']['type']}: {task['error']['message']}"))
    if task.get("attempts"):
        click.echo(f"  after {counted(len(task['attempts']), 'failed attempt')}")
    if task.get("caught"):
        click.echo(clean(f"  let pass: {task['caught']['type']}: {task['caught']['message']}"))
    for file in task["files"]:
        kept = "kept" if file["kept"] else f"not kept: {file['reason']}"
        click.echo(clean(f"  read {file['path']} ({size(file['size'])}, {short(file['digest'])}, {kept})"))
    rows = [
        (
            name,
            artifact["type"],
            size(artifact["size"]),
            short(artifact["parts"][0]["digest"]),
            artifact["preview"],
        )
        for name, artifact in _artifacts(run, task).items()
    ]
    print_table(("ARTIFACT", "TYPE", "SIZE", "DIGEST", "VALUE"), rows, indent="  ")
