"""`stillrun replay FLOW/RUN[/STEP[/TASK]]`: run it again in what was recorded, and judge."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from stillrun_cli.carry import taken_from
from stillrun_cli.console import VERDICT_STYLES, clean, common_options, duration, paint, print_json, short, word
from stillrun_cli.debug import debug_command
from stillrun_cli.difference import detail_lines
from stillrun_cli.narrator import Narrator, counted
from stillrun_cli.rest import bring_what_is_left
from stillrun_cli.settings import caller, default_workers, open_store, reading
from stillrun_engine.archive import KeptRun, open_run
from stillrun_engine.environments import find_lock
from stillrun_engine.pathspec import parse_pathspec
from stillrun_engine.replay import ReplayOutcome, ReplayRequest, replay_run
from stillrun_engine.reporter import Reporter
from stillrun_engine.stopping import StopSignals
from stillrun_engine.vary import AXES, Causes, find_causes
from stillrun_snapshot.digest import Digest

__all__ = ["replay_command"]

_LINES_SHOWN = 12  # beside what is said first, an empty line and the verdict
_WORST_SHOWN = 5
_ENVIRONMENTS_SHOWN = 2
_LINE_MAX = 400
_HOW = {
    "rebuilt": "rebuilt from kept packages",
    "as it stands": "the caller's, unchanged",
    "another": "another one, as was asked for",
}
_PASSES = frozenset({"identical", "equivalent", "within_tolerance", "volatile"})
_EXIT = {"identical": 0, "equivalent": 0, "within_tolerance": 0, "not_comparable": 1, "different": 1}


@click.command(short_help="Run a kept run, step or task again and judge it.")
@click.argument("pathspec", metavar="FLOW/RUN[/STEP[/TASK]]")
@click.option("--offline", is_flag=True, help="A task that opens a network connection fails.")
@click.option("--no-network", is_flag=True, help="Tasks and the programs they start have no network at all (Linux).")
@click.option("--max-workers", type=click.IntRange(1), help="Tasks at once; default: the number of cores.")
@click.option("--fresh-process", is_flag=True, help="Run each task in a new interpreter.")
@click.option(
    "--compare-limit", type=click.FloatRange(0, min_open=True), default=60.0, metavar="SECONDS",
    help="Most time to find out what differs in one artifact; default: 60.",
)  # fmt: skip
@click.option("--repeat", type=click.IntRange(2), metavar="N", help="Replay N times: does it differ by itself?")
@click.option(
    "--vary",
    metavar="AXES",
    help=f"Change one thing at a time and tell what results depend on: all, or {','.join(AXES)}.",
)
@click.option("--only", multiple=True, metavar="STEP", help="Replay only this step; may be repeated.")
@click.option(
    "--env", metavar="ENV", help="Replay in another environment: 'ambient' for yours, or a lock by name or digest."
)
@click.option("--set", "given", multiple=True, metavar="NAME=VALUE", help="Replay with another value of a parameter.")
@click.option(
    "--code",
    type=click.Path(path_type=Path),
    metavar="FLOW.py|DIR",
    help="Replay this flow file, or the one that lies in this folder; 'as-recorded' is the default.",
)
@click.option(
    "--from", "source", type=click.Path(path_type=Path), metavar="PLACE",
    help="Take the run from a remote, a file that 'export' wrote, or another store's folder; what was missing is kept.",
)  # fmt: skip
@click.option("--keep-going", is_flag=True, help="Leave out what cannot be replayed any more, and judge all that can.")
@click.option("--debug", is_flag=True, help="Open the named task by hand instead, as 'stillrun debug' does.")
@click.option("--quiet", is_flag=True, help="Print only failures and the verdict.")
@common_options
@click.pass_context
def replay_command(
    ctx: click.Context,
    pathspec: str,
    offline: bool,
    no_network: bool,
    max_workers: int | None,
    fresh_process: bool,
    compare_limit: float,
    repeat: int | None,
    vary: str | None,
    only: tuple[str, ...],
    env: str | None,
    given: tuple[str, ...],
    code: Path | None,
    source: Path | None,
    keep_going: bool,
    debug: bool,
    quiet: bool,
    as_json: bool,
) -> int:
    """Rebuild the recorded code, environments and inputs, run the tasks again, and judge every artifact.

    Environments are always rebuilt from what the store keeps; no index or channel is asked. The exit code is 0 when everything is
    identical, equivalent or within the tolerance that the flow granted, 1 when something differs or cannot be compared, 2
    when the replay could not be done.
    """
    if debug and source is None:
        return int(ctx.invoke(debug_command, pathspec=pathspec))
    spec = parse_pathspec(pathspec, least=2, most=4)
    narrator = Narrator(as_json=as_json, quiet=quiet)
    axes = _axes(vary)
    with open_store(ctx, create=source is not None) as store, StopSignals() as stop:
        if source is not None:
            line, spec = taken_from(source, store, spec, as_json)
            narrator.say(line)
            if debug:
                return int(ctx.invoke(debug_command, pathspec=str(spec)))
        run = open_run(store, spec)
        bring_what_is_left(run, offline=offline, as_json=as_json)
        request = ReplayRequest(
            reading(caller(), store, run.record.get("namespace")),
            max_workers=max_workers or default_workers(),
            offline=offline,
            fresh_process=fresh_process,
            compare_limit_s=compare_limit,
            only=only,
            environment=None if env in (None, "ambient", "as-recorded") else find_lock(store, str(env)),
            ambient=env == "ambient",
            parameters=_values(given),
            flow_file=_flow_file(code, run),
            no_network=no_network,
            keep_going=keep_going,
        )
        if repeat is not None or axes:
            return _print_causes(
                find_causes(run, request, axes, repeat or 2, stop, _telling(narrator)), narrator, as_json
            )
        outcome = replay_run(run, request, stop, narrator)
    if as_json:
        print_json(_report(outcome))
    else:
        _print_verdict(narrator, outcome)
    return _EXIT[outcome.verdict]


def _axes(asked: str | None) -> list[str]:
    """The things to change, by name."""
    if asked is None:
        return []
    names = list(AXES) if asked == "all" else [name.strip() for name in asked.split(",") if name.strip()]
    for name in names:
        if name not in AXES:
            raise click.UsageError(
                f"--vary {name}: there is no such thing to change; there are all, {', '.join(AXES)}."
            )
    return names


def _values(given: tuple[str, ...]) -> dict[str, str]:
    for text in given:
        if "=" not in text:
            raise click.UsageError(f"--set {text}: write --set NAME=VALUE.")
    return dict(text.split("=", 1) for text in given)


def _flow_file(code: Path | None, run: KeptRun) -> Path | None:
    """The file to replay; of a folder the one that is called as the recorded one. None: the recorded code."""
    if code is None or str(code) == "as-recorded":
        return None
    recorded = run.store.get_record(Digest(run.record["code"]), "code")["flow_file"]
    places = [code / recorded, code / Path(recorded).name] if code.is_dir() else [code]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        what = f"no {Path(recorded).name} in it" if code.is_dir() else "no such flow file"
        raise click.UsageError(f"--code {code}: there is {what}.")
    return found.absolute()


def _telling(narrator: Narrator) -> Callable[[str], Reporter]:
    """Says before each replay what is changed, and leaves out what its tasks write."""

    def told(changed: str) -> Reporter:
        narrator.note(f"Replaying with {changed} changed.")
        return Reporter()

    return told


def _print_causes(found: Causes, narrator: Narrator, as_json: bool) -> int:
    """Tell what depends on what; the exit code."""
    assert found.first is not None, "it was replayed"
    if as_json:
        causes = [cause.to_record() for cause in found.causes]
        told = {"causes": causes, "replays": found.replays, "skipped": found.skipped, "verdict": found.first.verdict}
        print_json({**told, "first": found.first.record})
    else:
        _print_verdict(narrator, found.first)
        narrator.say("")
        for cause in found.causes:
            narrator.say(clean(cause.sentence))
        changed = ", ".join(dict.fromkeys(str(one["changed"]) for one in found.replays if one["changed"]))
        if not found.causes:
            nor = f", nor with another {changed}" if changed else ""
            narrator.say(f"Nothing differs between {len(found.replays)} replays{nor}.")
        for name in found.skipped:
            narrator.say(f"{name} cannot be changed on this machine")
    return 1 if found.causes else _EXIT[found.first.verdict]


def _report(outcome: ReplayOutcome) -> dict[str, Any]:
    return {**outcome.record, "run": outcome.pathspec, "wall_us": outcome.wall_us}


def _print_verdict(narrator: Narrator, outcome: ReplayOutcome) -> None:
    """At most 15 lines: what there is room for of the differences stands below each."""
    record = outcome.record
    head, foot, worst = _head_lines(record), _foot_lines(outcome), _worst(record)
    shown = worst[:_WORST_SHOWN]
    left = len(worst) - len(shown)
    room = _LINES_SHOWN - len(head) - len(shown) - len(foot) - (left > 0)
    verdict = paint(_spoken(outcome.verdict).upper(), **VERDICT_STYLES[outcome.verdict])
    narrator.say("")
    narrator.say(f"Verdict on {record['scope']}: {verdict}{_meaning(outcome.verdict)}")
    for line in head:
        narrator.say(clean(line)[:_LINE_MAX])
    for number, entry in enumerate(shown):
        name = "/".join(entry[part] for part in ("step", "task", "name") if part in entry)
        narrator.say(clean(f"  {name}: {word(entry['verdict'])}: {entry['reason']}")[:_LINE_MAX])
        details = detail_lines(entry.get("difference"), room // (len(shown) - number))
        room -= len(details)
        for line in details:
            narrator.say(f"      {line}")
    if left > 0:
        narrator.say(f"  ... and {left} more; --json lists all")
    for line in foot:
        narrator.say(clean(line)[:_LINE_MAX])


def _head_lines(record: Mapping[str, Any]) -> list[str]:
    """How many artifacts got which verdict, and where the run came apart."""
    counts = Counter(entry["verdict"] for entry in record["artifacts"])
    told = ", ".join(f"{number} {_spoken(level)}" for level, number in counts.most_common())
    amounts = f"{counted(len(record['tasks']), 'task')}, {counted(len(record['artifacts']), 'artifact')}"
    left = f"; not replayed: {_left_out(record['not_replayed'])}" if record["not_replayed"] else ""
    lines = [f"  {amounts}" + (f": {told}" if told else "") + left]
    first = record["first_divergence"]
    if first is not None:
        where = "/".join(str(first[part]) for part in ("step", "task", "artifact") if first[part] is not None)
        lines.append(f"  first apart: {where}; each task was given the recorded results of those before it")
    return lines


def _foot_lines(outcome: ReplayOutcome) -> list[str]:
    """What is told beside the verdict."""
    record = outcome.record
    effects = _effects_line(record["side_effects"])
    lines = [] if effects is None else [effects]
    lines += _environment_lines(record)
    lines += _beside(record)
    other = [] if record["machine"]["same"] else ["the machine is not the one of the original run"]
    if not record["path"]["same"]:
        other.append(f"it was replayed in another folder: {record['path']['reason']}")
    if other:
        lines.append("  " + "; ".join(other))
    kept = f"kept as {outcome.pathspec}, {duration(outcome.wall_us)}; exit code {_EXIT[outcome.verdict]}"
    return [*lines, f"  every kept object was hashed; {kept}"]


def _beside(record: Mapping[str, Any]) -> list[str]:
    """What the verdict leaves out of account."""
    told = {"running": "is still going on", "interrupted": "was interrupted"}.get(record["origin"]["status"])
    lines = [f"  the original {told}: only what had ended is judged"] if told else []
    granted = record["changed"]["granted"]
    if granted is not None:
        tolerances = [f"{step}/{name}" for step, names in granted["tolerance"].items() for name in names]
        volatiles = [f"{step}/{name}" for step, names in granted["volatile"].items() for name in names]
        both = (("tolerance", tolerances), ("volatile", volatiles))
        said = "; ".join(f"{word} {', '.join(names)}" for word, names in both if names) or "nothing"
        lines.append(f"  this code grants {said}: what was granted before the run counts")
    return lines


def _environment_lines(record: Mapping[str, Any]) -> list[str]:
    """One line for each environment, or one for all when there are many."""
    places = record["environments"]
    lines = []
    for place in places[:_ENVIRONMENTS_SHOWN]:
        where = _HOW[place["how"]]
        lines.append(
            f"  environment of {', '.join(place['steps'])}: {where} ({short(place['lock'] or place['environment'])})"
        )
    if len(places) > _ENVIRONMENTS_SHOWN:
        lines[1:] = [f"  ... and {len(places) - 1} more environments"]
    return lines


def _left_out(tasks: Sequence[Mapping[str, Any]]) -> str:
    """How many tasks were left out, and why."""
    reasons = Counter(task["reason"] for task in tasks)
    told = {"interrupted": "did not end in the original run"}
    return "; ".join(f"{counted(number, 'task')}: {told.get(why, why)}" for why, number in reasons.most_common(3))


def _effects_line(effects: Sequence[Mapping[str, Any]]) -> str | None:
    """What steps did beside their artifacts, in one line."""
    told = []
    for one in effects:
        verbs = (("wrote", one["written"]), ("connected to", one["addresses"]), ("ran", one["programs"]))
        parts = [f"{verb} {_first(names)}" for verb, names in verbs if names]
        told.append(f"{one['step']} {', '.join(parts)}")
    return f"  not judged: {'; '.join(told)}" if told else None


def _first(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"


def _spoken(level: str) -> str:
    return level.replace("_", " ")


def _meaning(verdict: str) -> str:
    return {
        "identical": " - every artifact has the same bytes",
        "equivalent": " - every artifact has the same value, some in other bytes",
        "within_tolerance": " - numbers differ by no more than was granted before the run",
        "not_comparable": " - something is other bytes, and nobody can tell whether it is the same",
        "different": " - something came out otherwise",
    }[verdict]


def _worst(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    tasks = [task for task in record["tasks"] if task["reason"]]
    unequal = [entry for entry in record["artifacts"] if entry["verdict"] not in _PASSES]
    granted = [entry for entry in record["artifacts"] if entry["verdict"] == "within_tolerance"]
    return [*tasks, *unequal, *granted[:1]]
