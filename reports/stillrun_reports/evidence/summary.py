"""A run in a page of Markdown, for the summary of a CI job (docs/spec/evidence.md §8)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from stillrun_reports.evidence.dossier import Dossier, Judgement
from stillrun_reports.evidence.spelling import markdown
from stillrun_reports.evidence.statements import PASSED

__all__ = ["summary_text"]

_ROWS = 50
"""A CI page takes 1 MiB in all; whoever wants every row opens the report."""


def summary_text(dossier: Dossier) -> str:
    """The page. Names, previews and messages of others are code in it, whatever they hold."""
    return "\n".join([*_head(dossier), *_judgements(dossier), *_tasks(dossier), *_environments(dossier)]) + "\n"


def _head(dossier: Dossier) -> Iterator[str]:
    record, git = dossier.record, dossier.code["git"]
    yield f"## Run {markdown(dossier.run.pathspec)}: {dossier.status}"
    yield ""
    commit = f", commit {markdown((git['commit'] or 'none')[:12])}" if git else ""
    changed = " with uncommitted changes" if git and git["dirty"] else ""
    facts = {
        "record": markdown(dossier.run.digest),
        "started, finished": f"{record['started']}, {dossier.finished}",
        "by": markdown(record["user"] or "nobody named"),
        "code": f"{markdown(dossier.code['flow_file'])}{commit}{changed}",
        "captured": _captured(dossier),
    }
    facts.update({f"parameter {markdown(n)}": markdown(one["text"]) for n, one in record["parameters"].items()})
    yield from _table(("", ""), facts.items())
    if record.get("failure"):
        failure = record["failure"]
        said = f"{failure['error']['type']}: {failure['error']['message']}"
        yield f"\n**Failed** at {markdown(failure['step'] + '/' + failure['task'])}: {markdown(said)}"


def _captured(dossier: Dossier) -> str:
    if dossier.record.get("captured"):
        return "all that it needs is in the store"
    lost = dossier.record.get("not_kept") or ["it was cut off, and what had not ended is not there"]
    return "not all of it: " + "; ".join(markdown(one) for one in lost[:10])


def _judgements(dossier: Dossier) -> Iterator[str]:
    if not dossier.judgements:
        yield "\n### Replays\n\nNone: nobody has tried yet whether the results come out again."
    for one in dossier.judgements:
        yield from _judgement(one)


def _judgement(one: Judgement) -> Iterator[str]:
    verdict = one.verdict
    counts = Counter(entry["verdict"] for entry in verdict["artifacts"])
    said = ", ".join(f"{count} {level}" for level, count in sorted(counts.items()))
    yield f"\n### Replay {markdown(verdict['replay'])}: {verdict['verdict']}\n"
    same = "the same machine" if verdict["machine"]["same"] else "another machine"
    yield f"{len(verdict['artifacts'])} artifacts judged on {same}: {said or 'none'}."
    bad = [entry for entry in verdict["artifacts"] if entry["verdict"] not in PASSED]
    if bad:
        yield ""
        rows = [
            (markdown(f"{e['step']}/{e['task']}/{e['name']}"), e["verdict"], markdown(e["reason"] or "")) for e in bad
        ]
        yield from _table(("artifact", "verdict", "why"), rows)
    for entry in verdict["not_replayed"]:
        yield f"\nNot replayed: {markdown(entry['step'] + '/' + entry['task'])}: {markdown(entry['reason'])}"


def _tasks(dossier: Dossier) -> Iterator[str]:
    yield f"\n### Tasks\n\n{len(dossier.tasks)} ended.\n"
    rows = []
    for task in dossier.tasks:
        made = ", ".join(markdown(name) for name in list(task.made)[:8])
        ended = task.record["status"] + (" (taken over)" if "reused" in task.record else "")
        rows.append((markdown(task.name), ended, f"{task.record['usage'].get('wall_us', 0) / 1e6:.2f} s", made))
    yield from _table(("task", "ended", "time", "made"), rows)


def _environments(dossier: Dossier) -> Iterator[str]:
    yield "\n### Environments\n"
    rows = []
    for one in dossier.environments:
        steps = ", ".join(map(markdown, one.steps))
        lock = one.lock
        kept = "recorded, not kept" if lock is None else f"Python {lock.python.version}, {len(lock.packages)} packages"
        rows.append((markdown(one.name.hex[:12]), steps, kept))
    yield from _table(("environment", "steps", "what"), rows)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    rows = list(rows)
    yield f"| {' | '.join(head)} |"
    yield f"|{' --- |' * len(head)}"
    for row in rows[:_ROWS]:
        yield f"| {' | '.join(row)} |"
    if len(rows) > _ROWS:
        yield f"\n{len(rows) - _ROWS} more are in the report."
