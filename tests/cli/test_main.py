"""The command line itself: help, completion, usage errors, what is imported when."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest
from tests.conftest import Commands

from stillrun_cli.console import clean, duration, size
from stillrun_cli.run import flow_parameters

COMMANDS = (
    "run",
    "replay",
    "list",
    "show",
    "logs",
    "artifact",
    "inputs",
    "code",
    "env",
    "verify",
    "store",
    "completion",
)


def test_help_names_every_command(stillrun: Commands) -> None:
    shown = stillrun("--help")
    assert shown.code == 0
    for name in COMMANDS:
        assert f"  {name} " in shown.out
    assert "flow " not in shown.out.split("Commands:")[1].splitlines()


def test_help_imports_neither_the_engine_nor_rich() -> None:
    code = (
        "import sys; sys.argv = ['stillrun', '--help']\n"
        "import stillrun_cli.main as main\n"
        "try: main.main()\n"
        "except SystemExit: pass\n"
        "heavy = [m for m in sys.modules if m.split('.')[0] in ('stillrun_engine', 'stillrun_envs', 'rich', 'git', 'rattler')]\n"
        "sys.exit(1 if heavy else 0)"
    )
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL, check=False).returncode == 0


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(stillrun: Commands, name: str) -> None:
    shown = stillrun(name, "--help")
    assert shown.code == 0
    assert shown.out.startswith("Usage: stillrun")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_a_script_for_the_shell(stillrun: Commands, shell: str) -> None:
    script = stillrun("completion", shell)
    assert script.code == 0
    assert "_STILLRUN_COMPLETE" in script.out


def test_an_unknown_command_or_option_is_a_usage_error_with_the_nearest_name(stillrun: Commands) -> None:
    done = stillrun("replya", "X/1")
    assert done.code == 2
    assert "replay" in done.err
    assert stillrun("list", "--jsno").code == 2


def test_a_reader_that_leaves_early_sees_no_traceback(stillrun: Commands) -> None:
    with stillrun.start("--help") as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == ""


QUIET = """
from stillrun import FlowSpec, step
class Quiet(FlowSpec):
    @step
    def start(self):
        print("\u2665\\n" * 5000)
        self.next(self.end)
    @step
    def end(self):
        pass
"""


def test_a_run_whose_reader_leaves_goes_on(stillrun: Commands) -> None:
    stillrun.write("quiet.py", QUIET)
    with stillrun.start("run", "quiet.py") as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(timeout=60) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""
    assert stillrun("show", "Quiet/latest", "--json").json["status"] == "ok"


def test_any_locale_and_output_encoding_gives_the_same_tree_and_no_traceback(stillrun: Commands) -> None:
    stillrun.write("quiet.py", QUIET)
    stillrun.write("földer/mödule.py", "")
    trees = set()
    for variables in (
        {},
        {"PYTHONIOENCODING": "ascii"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ):
        stillrun.variables = variables
        done = stillrun("run", "quiet.py")
        assert done.code == 0, done.err
        trees.add(stillrun("code", "Quiet/latest", "--json").json["tree"])
    assert len(trees) == 1


@pytest.mark.slow
def test_a_store_whose_temporary_folders_were_deleted_works(lonely: Commands) -> None:
    lonely.write("quiet.py", QUIET)
    run = lonely.run("quiet.py")
    for name in ("tmp", "locks"):
        shutil.rmtree(lonely.store / name)
    lonely.run("quiet.py")
    assert lonely("replay", run).code == 0


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ((), {}),
        (("--a", "1", "--b=2"), {"a": "1", "b": "2"}),
        (("--a", "-1"), {"a": "-1"}),
        (("--a=",), {"a": ""}),
        (("--a", "--b"), {"a": "--b"}),
    ],
)
def test_parameters_are_pairs(words: tuple[str, ...], found: dict[str, str]) -> None:
    assert flow_parameters(words) == found


def test_numbers_are_told_as_people_say_them() -> None:
    assert [size(n) for n in (0, 999, 1000, 1_500_000, 2_000_000_000)] == ["0 B", "999 B", "1.0 kB", "1.5 MB", "2.0 GB"]
    assert [duration(n) for n in (1000, 1_500_000, 125_000_000)] == ["1 ms", "1.5 s", "2 min 5 s"]


def test_names_cannot_drive_the_terminal() -> None:
    assert "\x1b" not in clean("\x1b[31mred\x07")


def test_the_store_may_be_named_before_or_after_the_command(stillrun: Commands) -> None:
    elsewhere = stillrun.cwd / "elsewhere"
    for words in (("--store", str(elsewhere), "list"), ("list", "--store", str(elsewhere))):
        assert str(elsewhere) in stillrun(*words).out


def test_a_flow_file_without_a_command_shows_its_help(stillrun: Commands) -> None:
    stillrun.write("some.py", "from stillrun import FlowSpec, step\nclass Some(FlowSpec):\n    pass\nSome()\n")
    shown = stillrun(command=("some.py",))
    assert shown.code == 0
    assert shown.out.startswith("Usage: python some.py")
