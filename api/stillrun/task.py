"""One task: the step run on a flow instance that inherits what came before, and what came of it."""

from __future__ import annotations

import os
import signal
import sys

from stillrun.caught import CaughtException
from stillrun.context import Parameters, current
from stillrun.errors import FlowError, NextError, NotPicklable, StepTimeout, StillrunError
from stillrun.facts import facts_of
from stillrun.failure import error_of
from stillrun.flowfile import LoadedFlow
from stillrun.graph import graph_of
from stillrun.items import tell_items
from stillrun.joined import Inputs, records_of
from stillrun.network import refuse_network
from stillrun.reader import ArtifactReader
from stillrun.source import assigned_names, step_source
from stillrun.taskstate import TaskState
from stillrun.traces import TraceRecorder
from stillrun.wrapped import call_step
from stillrun.writer import ArtifactWriter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dataclasses import dataclass
    from typing import Any, Mapping, Sequence
else:
    from stillrun.light import dataclass

__all__ = ["Outcome", "opened", "run_task"]


@dataclass(frozen=True)
class Outcome:
    """A RESULT of the host protocol, its inline parts, and the exit code of the process."""

    result: dict[str, Any]
    body: bytes
    code: int


class _Ended(Exception):
    def __init__(self, error: dict[str, Any], code: int = 1) -> None:
        super().__init__(error["message"])
        self.error = error
        self.code = code


def run_task(
    loaded: LoadedFlow, spec: Mapping[str, Any], body: bytes, recorder: TraceRecorder | None = None
) -> Outcome:
    """Run one task in this process, which is its own. Never raises."""
    ignored = (each.rstrip(os.sep) + os.sep for each in (spec["spill"], *spec.get("ignore", ())))
    recorder = recorder or TraceRecorder((*loaded.not_recorded, *ignored), spec["spill"])
    artifacts: dict[str, Any] = {}
    following, failure, caught, code, data = None, None, None, 0, b""
    flow = state = None
    try:
        flow, state = _prepared(loaded, spec, ArtifactReader(body, recorder.quietly))
        caught = _run_or_catch(loaded, spec, flow, state, recorder)
        following = _following(spec, state)
        try:
            artifacts, data = _kept(loaded, spec, flow, state)
        except _Ended as ended:  # something cannot be kept: that is let pass too, without what the step has made
            caught = _let_pass(spec, flow, state, ended)
            following = _following(spec, state)
            artifacts, data = _kept(loaded, spec, flow, state)
    except _Ended as ended:
        failure, code = ended.error, ended.code
    except BaseException as err:
        failure, code = error_of(err, loaded.places, spec["step"]), 1
    if failure is not None and state is not None and failure["kind"] != "interrupted":
        artifacts, data = _left(spec, flow, state)
    result = {"ok": failure is None, "artifacts": artifacts, "next": following}
    told = {
        **recorder.seen(),
        "modules": loaded.modules.news(),
        "caught": caught,
        "cards": _cards(failure is None),
        "error": failure,
    }
    return Outcome({**result, **{name: value for name, value in told.items() if value}}, data, code)


def _prepared(loaded: LoadedFlow, spec: Mapping[str, Any], reader: ArtifactReader) -> tuple[Any, TaskState]:
    """A flow instance that knows what it inherits, in the folder and with the variables of the task."""
    os.environ.update(spec.get("variables") or {})
    secrets = getattr(loaded.steps.get(spec["step"]), "__stillrun_secrets__", None)
    if secrets:
        from stillrun.secret_values import secret_values

        os.environ.update(secret_values(secrets))
    try:
        os.chdir(spec["cwd"])
    except OSError as err:
        raise FlowError(
            f"the working directory {spec['cwd']} cannot be entered ({err.strerror}).",
            cure="Make it again, or start the run from a folder that exists.",
        ) from err
    if spec["step"] not in loaded.steps:
        raise FlowError(f"flow {loaded.flow.__name__} has no step {spec['step']!r}.")
    inherited = {} if spec["join"] or not spec["inputs"] else spec["inputs"][0]["artifacts"]
    state = TaskState(
        step=spec["step"],
        steps=loaded.steps,
        reader=reader,
        inherited=inherited,
        parameters=spec["parameters"],
        foreach=spec["foreach"],
        joins=spec["join"],
        splits_max=spec.get("splits_max"),
        last=spec["step"] == loaded.end,
        joined=spec["inputs"] if spec["join"] else (),
    )
    flow: Any = object.__new__(loaded.flow)  # a flow's own __init__ is not run
    object.__setattr__(flow, "_stillrun", state)
    names = tuple(name for name in loaded.parameters if name in spec["parameters"])
    current._bind(facts_of(loaded, spec), Parameters(names, flow))
    if spec.get("artifacts_module") is not None:
        from stillrun.overrides import override

        override(flow, state, spec["artifacts_module"])
    return flow, state


def _run_or_catch(
    loaded: LoadedFlow, spec: Mapping[str, Any], flow: Any, state: TaskState, recorder: TraceRecorder
) -> dict[str, Any] | None:
    """Run the step; the ERROR that its @catch let pass, or None."""
    catch, failure = spec.get("catch"), spec.get("fallback")
    if failure is None:
        try:
            _run_step(loaded, spec, flow, state, recorder)
        except _Ended as ended:
            return _caught(spec, flow, state, _lets_pass(spec, ended))
    else:
        return _caught(spec, flow, state, failure)
    var = None if catch is None else catch["var"]
    if var is not None and var not in vars(flow):
        setattr(flow, var, None)
    return None


def _lets_pass(spec: Mapping[str, Any], ended: _Ended) -> dict[str, Any]:
    """The error, which the step's @catch lets pass; it is raised again where none does."""
    catch = spec.get("catch")
    if catch is None or not catch["last"] or ended.error["kind"] == "interrupted":
        raise ended
    return ended.error


def _let_pass(spec: Mapping[str, Any], flow: Any, state: TaskState, ended: _Ended) -> dict[str, Any]:
    """Let a failure to keep pass: nothing stays of what the step has set."""
    failure = _lets_pass(spec, ended)
    for name in [each for each in vars(flow) if each != "_stillrun"]:
        vars(flow).pop(name)
    return _caught(spec, flow, state, failure)


def _caught(spec: Mapping[str, Any], flow: Any, state: TaskState, failure: Mapping[str, Any]) -> dict[str, Any]:
    """Go on after a failure as @catch says; the failure."""
    catch = spec["catch"]
    var = catch["var"]
    if catch["print_exception"]:
        sys.stderr.write((failure.get("traceback") or failure["message"]).rstrip() + "\n")
        sys.stderr.write(f"stillrun: @catch lets the flow go on after the failure of {spec['step']!r}.\n")
    if var is not None:
        setattr(flow, var, CaughtException.of(failure))
    state.next = {"steps": catch["next"], "foreach": None, "count": None} if catch["next"] else None
    return dict(failure)


def _run_step(
    loaded: LoadedFlow, spec: Mapping[str, Any], flow: Any, state: TaskState, recorder: TraceRecorder
) -> None:
    step, arguments = spec["step"], _arguments(loaded, spec, state)
    if spec.get("offline"):
        refuse_network()
    recorder.start()
    try:
        with _TimeLimit(step, spec.get("timeout_ms")):
            call_step(flow, step, arguments)
    except SystemExit as err:
        code = err.code if isinstance(err.code, int) else int(err.code is not None)
        found = error_of(err, loaded.places, step)
        found["message"] = f"step {step!r} ended Python with sys.exit({err.code!r}) before it was done."
        raise _Ended({**found, "cure": "Let the step return instead."}, code & 0xFF) from err
    except BaseException as err:
        raise _Ended(error_of(err, loaded.places, step)) from err
    finally:
        recorder.stop()


class _TimeLimit:
    """Raises StepTimeout in the step when it runs for longer; what does not heed it is killed by the host."""

    def __init__(self, step: str, limit_ms: int | None) -> None:
        self._step, self._limit_ms = step, limit_ms

    def __enter__(self) -> None:
        if self._limit_ms is not None:
            signal.signal(signal.SIGALRM, self._over)
            signal.setitimer(signal.ITIMER_REAL, self._limit_ms / 1000)

    def __exit__(self, *_: object) -> None:
        if self._limit_ms is not None:
            signal.setitimer(signal.ITIMER_REAL, 0)

    def _over(self, *_: object) -> None:
        assert self._limit_ms is not None
        raise StepTimeout(f"step {self._step!r} ran for longer than its @timeout of {self._limit_ms / 1000:g} seconds.")


def _arguments(loaded: LoadedFlow, spec: Mapping[str, Any], state: TaskState) -> list[Any]:
    """What the step's method is called with: the inputs of a join."""
    if not spec["join"]:
        return []
    records = records_of(spec, state.reader)
    variable = _foreach_variable(loaded, records)
    return [Inputs(records, state.reader, spec["parameters"], variable, state.overridden)]


def opened(loaded: LoadedFlow, spec: Mapping[str, Any], reader: ArtifactReader) -> tuple[Any, list[Any]]:
    """The flow instance of a task as its step would get it, and what the step is called with."""
    flow, state = _prepared(loaded, spec, reader)
    return flow, _arguments(loaded, spec, state)


def _foreach_variable(loaded: LoadedFlow, records: Sequence[Mapping[str, Any]]) -> str | None:
    """The artifact whose items the joined tasks were for; None for static branches."""
    if not records or records[0].get("index") is None:
        return None
    nodes = graph_of(loaded.flow).nodes
    name, inner = records[0]["step"], 0
    for _ in nodes:  # back from the joined step to the split that it is a branch of, past whole inner splits
        inner += nodes[name].takes_inputs
        parent = next((node for node in nodes.values() if name in node.next and node.name != name), None)
        if parent is None:
            return None
        if parent.splits:
            if inner == 0:
                return parent.foreach
            inner -= 1
        name = parent.name
    return None


def _cards(done: bool) -> list[dict[str, Any]]:
    """What the task's cards hold; nothing of a task that failed."""
    cards = getattr(current, "card", None) if done else None
    found: list[dict[str, Any]] = [] if cards is None else cards.to_records()
    return found


def _following(spec: Mapping[str, Any], state: TaskState) -> dict[str, Any] | None:
    if state.next is None and not state.last:
        raise NextError(
            f"step {spec['step']!r} ended without calling self.next().",
            cure="Look for a return before its last line.",
        )
    return state.next


def _kept(loaded: LoadedFlow, spec: Mapping[str, Any], flow: Any, state: TaskState) -> tuple[dict[str, Any], bytes]:
    """The artifacts of the task as OUTs, and their inline parts."""
    own = _own(flow)
    kept = _passed_on(state, own)
    writer = ArtifactWriter(spec["spill"], spec["inline_max"], state.reader)
    items = _items(flow, state)
    try:
        for name in list(own):
            try:
                kept[name] = writer.encode(name, own.pop(name), state.loaded.get(name))
            except NotPicklable:
                if name[:1] != "_":
                    raise  # what is private to a step may be a lock or a connection
        if state.next is not None and state.next["foreach"] is not None:
            _keep_items(state, kept, items, writer)
    except StillrunError as err:
        writer.discard()
        file, line = _assignment(loaded, spec["step"], getattr(err, "artifact", ""))
        place = {"file": file, "line": line} if isinstance(err, NotPicklable) else {}
        raise _Ended(error_of(err, loaded.places, spec["step"], **place)) from err
    except BaseException:
        writer.discard()
        raise
    return kept, writer.body


def _left(spec: Mapping[str, Any], flow: Any, state: TaskState) -> tuple[dict[str, Any], bytes]:
    """What a task that failed had set until then, as far as it can be kept: for whoever looks into the failure."""
    own = _own(flow)
    left = _passed_on(state, own)
    writer = ArtifactWriter(spec["spill"], spec["inline_max"], state.reader)
    for name in list(own):
        try:
            left[name] = writer.encode(name, own.pop(name), state.loaded.get(name))
        except Exception:  # noqa: S112  # the task has failed already: what cannot be kept is not
            continue
    return left, writer.body


def _own(flow: Any) -> dict[str, Any]:
    return {name: value for name, value in vars(flow).items() if name[:2] != "__" and name != "_stillrun"}


def _passed_on(state: TaskState, own: Mapping[str, Any]) -> dict[str, Any]:
    """OUTs of what the step inherited and did not set anew."""
    return {name: {"same": ref["artifact"]} for name, ref in state.inherited.items() if name not in own}


def _items(flow: Any, state: TaskState) -> Any:
    """What the foreach that follows is over; None when none does."""
    if state.next is None or state.next["foreach"] is None:
        return None
    return getattr(flow, state.next["foreach"]) if state.items is None else state.items


def _keep_items(state: TaskState, kept: Mapping[str, Any], items: Any, writer: ArtifactWriter) -> None:
    """Add to what comes next what its tasks are for."""
    assert state.next is not None
    name = state.next["foreach"]
    if state.items is not None:
        state.next["items"] = writer.encode(name, items)
    out = state.next.get("items") or kept.get(name)
    tell_items(state.next, state.ref_of(name) if out is None or "same" in out else out, items, writer)


def _assignment(loaded: LoadedFlow, step: str, artifact: str) -> tuple[str, int]:
    """Where the step sets an artifact; its first line when it is set elsewhere."""
    source = step_source(loaded.flow, step, getattr(loaded.flow, step))
    lines: dict[str, int] = {}
    if source.node is not None and source.node.args.args:
        lines = assigned_names(source.node, source.node.args.args[0].arg)
    return loaded.places.shown(source.file), lines.get(artifact, source.line)
