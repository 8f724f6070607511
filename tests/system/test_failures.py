"""What fails is tried again, let pass or ended as the flow asks; every attempt is kept, and a replay does the same."""

from __future__ import annotations

from typing import Any

import pytest
from tests.conftest import Commands

HEAD = """
import os, signal, sys, time
from stillrun import FlowSpec, catch, current, environment, resources, retry, step, timeout

class Failing(FlowSpec):
"""
TAIL = """
    @step
    def end(self):
        pass
"""


def flow(body: str) -> str:
    return HEAD + body + TAIL


def task(commands: Commands, run: str, step: str, number: str = "0") -> dict[str, Any]:
    (found,) = commands("show", f"{run}/{step}/{number}", "--json").json["tasks"]
    return dict(found)


def value(commands: Commands, pathspec: str) -> str:
    out: str = commands("artifact", pathspec).out
    return out.split("value", 1)[1].strip()


def test_what_a_task_set_before_it_failed_is_there_to_be_looked_at(stillrun: Commands) -> None:
    stillrun.write(
        "failing.py",
        flow("""
    @retry(times=1, minutes_between_retries=0)
    @step
    def start(self):
        self.kept = ["as far as", current.retry_count]
        self.data = b"x" * 3_000_000
        self.handle = open(__file__)
        raise ValueError("no")
        self.next(self.end)
"""),
    )
    done = stillrun("run", "failing.py", "--json")
    assert done.code == 1, done.err
    run = done.json["run"]
    told = task(stillrun, run, "start")
    assert sorted(told["artifacts"]) == ["data", "kept"]
    assert value(stillrun, f"{run}/start/0/kept") == "['as far as', 1]"
    assert stillrun("verify", run).code == 0
    replayed = stillrun("replay", run, "--json")
    assert (replayed.code, replayed.json["verdict"]) == (0, "identical"), replayed.err


def test_a_failed_task_is_tried_again_and_every_attempt_is_kept(stillrun: Commands) -> None:
    stillrun.write(
        "failing.py",
        flow("""
    @retry(times=2, minutes_between_retries=0.005)
    @step
    def start(self):
        print("attempt", current.retry_count)
        if current.retry_count < 2:
            raise ValueError(f"no {current.retry_count}")
        self.attempt = current.retry_count
        self.next(self.end)
"""),
    )
    done = stillrun("run", "failing.py", "--json")
    assert done.code == 0, done.err
    run = done.json["run"]
    assert "start/0 failed and is tried again in 0.3 s" in done.err
    assert value(stillrun, f"{run}/start/0/attempt") == "2"
    told = task(stillrun, run, "start")
    assert (told["attempt"], len(told["attempts"]), told["status"]) == (2, 2, "ok")
    assert "ok, attempt 3" in stillrun("show", run).out
    assert "after 2 failed attempts" in stillrun("show", f"{run}/start/0").out
    assert stillrun("verify", run).code == 0
    replayed = stillrun("replay", run, "--json")
    assert (replayed.code, replayed.json["verdict"]) == (0, "identical")


def test_a_task_that_fails_every_time_fails_the_run(stillrun: Commands) -> None:
    stillrun.write(
        "failing.py",
        flow("""
    @retry(times=1, minutes_between_retries=0)
    @step
    def start(self):
        os.kill(os.getpid(), signal.SIGSEGV)
        self.next(self.end)
"""),
    )
    done = stillrun("run", "failing.py", "--json")
    assert done.code == 1
    assert done.json["failure"]["error"]["kind"] == "died"
    assert "SIGSEGV" in done.json["failure"]["error"]["message"]
    assert len(task(stillrun, done.json["run"], "start")["attempts"]) == 1


CATCHING = """
    @step
    def start(self):
        self.items = [0, 1, 2]
        self.next(self.fit, foreach="items")

    @catch(var="problem", print_exception=False)
    @retry(times=1, minutes_between_retries=0)
    @step
    def fit(self):
        self.seen = current.retry_count
        if self.input == 1:
            raise KeyError("gone")
        if self.input == 2:
            os._exit(7)
        self.next(self.join)

    @step
    def join(self, inputs):
        self.problems = [each.problem and (each.problem.type, each.problem.exception) for each in inputs]
        self.seen = [getattr(each, "seen", None) for each in inputs]
        self.next(self.end)
"""


def test_what_is_caught_goes_on_and_is_told(stillrun: Commands) -> None:
    stillrun.write("failing.py", flow(CATCHING))
    run = stillrun.run("failing.py")
    died = "the task's process exited with code 7 before the step had returned"
    assert value(stillrun, f"{run}/join/0/problems") == repr([None, ("KeyError", "'gone'"), ("ProcessDied", died)])
    assert value(stillrun, f"{run}/join/0/seen") == "[0, 1, None]", "what was set before the exception is there"
    assert task(stillrun, run, "fit", "1")["caught"]["message"] == "'gone'"
    assert "caught" not in task(stillrun, run, "fit", "0")
    assert [len(task(stillrun, run, "fit", number).get("attempts", [])) for number in "012"] == [0, 1, 2]
    done = stillrun("replay", run, "--json")
    assert done.code == 0, [(one["name"], one["reason"]) for one in done.json["artifacts"] if one["reason"]]


def test_what_cannot_be_kept_is_caught_too(stillrun: Commands) -> None:
    stillrun.write(
        "unkept.py",
        flow("""
    @catch(var="problem", print_exception=False)
    @step
    def start(self):
        self.whole, self.lines = 1, (line for line in "ab")
        self.next(self.fit)

    @catch(var="other", print_exception=False)
    @step
    def fit(self):
        self.lines = (line for line in "ab")
        raise KeyError("gone")
        self.next(self.end)
""").replace(
            "        pass",
            "        self.has = [hasattr(self, 'whole'), hasattr(self, 'lines'), self.problem.type, bool(self.other)]",
        ),
    )
    run = stillrun.run("unkept.py")
    assert value(stillrun, f"{run}/end/0/has") == "[False, False, 'NotPicklable', True]"
    assert "generator" in task(stillrun, run, "start")["caught"]["message"]


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("time.sleep(60)", "ran for longer than its @timeout of 0.5 seconds"),
        (
            "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM]); time.sleep(60)",
            "did not heed it and was killed",
        ),
    ],
)
def test_a_step_that_takes_too_long_is_ended(stillrun: Commands, body: str, told: str) -> None:
    stillrun.write(
        "failing.py",
        flow(f"""
    @timeout(seconds=0.5)
    @step
    def start(self):
        {body}
        self.next(self.end)
"""),
    )
    done = stillrun("run", "failing.py", "--json")
    assert done.code == 1
    error = done.json["failure"]["error"]
    assert error["type"] == "StepTimeout"
    assert told in error["message"]


def test_variables_are_set_in_the_steps_tasks_alone(stillrun: Commands) -> None:
    stillrun.write(
        "failing.py",
        flow("""
    @environment(vars={"MODE": "fast", "LEVEL": "3"})
    @step
    def start(self):
        self.mode = os.environ["MODE"] + os.environ["LEVEL"]
        self.next(self.middle)

    @step
    def middle(self):
        self.after = os.environ.get("MODE")
        self.next(self.end)
"""),
    )
    run = stillrun.run("failing.py")
    assert value(stillrun, f"{run}/middle/0/mode") == "'fast3'"
    assert value(stillrun, f"{run}/middle/0/after") == "None"
    assert stillrun("replay", run).code == 0


def test_no_more_tasks_start_than_the_machine_has_room_for(stillrun: Commands) -> None:
    stillrun.write(
        "failing.py",
        flow("""
    @step
    def start(self):
        self.items = list(range(6))
        self.next(self.fit, foreach="items")

    @resources(cpu=10000, memory=10)
    @step
    def fit(self):
        self.began = time.monotonic()
        time.sleep(0.05)
        self.ended = time.monotonic()
        self.next(self.join)

    @step
    def join(self, inputs):
        spans = sorted((each.began, each.ended) for each in inputs)
        self.apart = all(one[1] <= other[0] for one, other in zip(spans, spans[1:]))
        self.next(self.end)
"""),
    )
    done = stillrun("run", "failing.py", "--max-workers", "4", "--json")
    assert done.code == 0, done.err
    assert "fit asks for 10000 cores and 10 MB of memory, and this machine has" in done.err
    assert value(stillrun, f"{done.json['run']}/join/0/apart") == "True"


@pytest.mark.parametrize(
    ("decorator", "told"),
    [
        ("retry(times=9)", "from 0 to 4"),
        ("timeout(seconds=-1)", "not negative"),
        ("timeout()", "says no time"),
        ("catch(var='_x')", "name of an artifact"),
        ("resources(cpu='many')", "not negative"),
    ],
)
def test_what_is_asked_wrongly_is_refused_at_once(stillrun: Commands, decorator: str, told: str) -> None:
    stillrun.write(
        "failing.py", flow(f"\n    @{decorator}\n    @step\n    def start(self):\n        self.next(self.end)\n")
    )
    done = stillrun("run", "failing.py")
    assert done.code == 2
    assert told in done.err
