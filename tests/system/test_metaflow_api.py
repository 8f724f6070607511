"""`pip install stillrun[metaflow-api]`: `python flow.py run` for files that import metaflow, and never in front of Metaflow."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
from tests.conftest import Commands, Done
from tests.system.test_environments import fixture

ROOT = Path(__file__).parents[2]
BUILD = "import sys; from hatchling import build; print(getattr(build, sys.argv[1])(sys.argv[2]))"
FLOW = """
from metaflow import FlowSpec, Flow, namespace, step
from metaflow.cards import Markdown
import metaflow.client


class Hello(FlowSpec):
    @step
    def start(self):
        self.greeting = "hello"
        self.next(self.end)

    @step
    def end(self):
        print(self.greeting)


if __name__ == "__main__":
    Hello()
"""
READ = (
    "from metaflow import Flow, namespace; namespace(None); print(Flow('Hello').latest_run['start'].task.data.greeting)"
)


def built(project: Path, what: str, folder: Path) -> Path:
    done = subprocess.run([sys.executable, "-c", BUILD, what, str(folder)], cwd=project, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / done.stdout.split()[-1]


def installed(python: Path, *what: str | Path) -> None:
    """Install with no index, and with no dependencies: those of Stillrun are found in this interpreter's own folder."""
    words = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--offline", "--no-index", "--no-deps"]
    variables = {**os.environ, "PYTHONPATH": sysconfig.get_path("purelib")}  # hatchling, for what is built
    subprocess.run([*words, "--python", str(python), *map(str, what)], check=True, env=variables)


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Wheels of Stillrun and of the module; the latter by way of its source distribution."""
    folder = tmp_path_factory.mktemp("wheels")
    source = built(ROOT / "metaflow-api", "build_sdist", folder)
    subprocess.run(["tar", "-xzf", str(source)], cwd=folder, check=True)
    unpacked = folder / source.name.removesuffix(".tar.gz")
    return built(ROOT, "build_wheel", folder), built(unpacked, "build_wheel", folder)


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """The Python of a new virtual environment that finds what Stillrun needs, and no Stillrun."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv")], check=True)
    (site,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    (site / "needed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return tmp_path / "venv" / "bin" / "python"


def called(commands: Commands, python: Path, *words: str) -> Done:
    """A command of that Python; programs that Stillrun needs are those of this one."""
    variables = commands.environment()
    variables["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{variables['PATH']}"
    done = subprocess.run([python, *words], cwd=commands.cwd, env=variables, capture_output=True, text=True)
    return Done(done.returncode, done.stdout, done.stderr)


def test_the_extra_asks_for_the_module(wheels: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(wheels[0]) as wheel:
        (name,) = [each for each in wheel.namelist() if each.endswith(".dist-info/METADATA")]
        metadata = wheel.read(name).decode()
    assert "Provides-Extra: metaflow-api" in metadata
    assert "stillrun-metaflow-api==0.1.0; extra == 'metaflow-api'" in metadata.replace('"', "'")


@pytest.mark.parametrize("editable", [False, True])
def test_a_flow_file_runs_itself(stillrun: Commands, wheels: tuple[Path, Path], python: Path, editable: bool) -> None:
    stillrun.write("hello.py", FLOW)
    without = called(stillrun, python, "hello.py", "run")
    assert (without.code, "No module named 'metaflow'" in without.err) == (1, True), without.err
    installed(python, wheels[0], *(["--no-build-isolation", "-e", ROOT / "metaflow-api"] if editable else wheels[1:]))
    done = called(stillrun, python, "hello.py", "run", "--tag", "here")
    assert done.code == 0, done.err
    assert "hello" in done.out
    assert called(stillrun, python, "-c", READ).out == "hello\n"
    replayed = called(stillrun, python, "-m", "stillrun_cli", "replay", "Hello/latest", "--json")
    assert replayed.code == 0, replayed.err
    assert not replayed.json.get("not_kept")


def test_metaflow_itself_is_found_first(
    stillrun: Commands, wheels: tuple[Path, Path], python: Path, tmp_path: Path
) -> None:
    installed(python, *wheels)
    where = "import metaflow; print(metaflow.__file__, hasattr(metaflow, 'FlowSpec'))"
    assert called(stillrun, python, "-c", where).out.endswith("True\n")
    other = fixture("wheels/make_wheel.py").make_wheel(tmp_path, "metaflow", "2.0")
    installed(python, other)
    assert called(stillrun, python, "-c", where).out.endswith("site-packages/metaflow/__init__.py False\n")
    stillrun.write("hello.py", FLOW)
    refused = called(stillrun, python, "-m", "stillrun_cli", "run", "hello.py")
    assert (refused.code, "Traceback" in refused.err) == (2, False), refused.err
    stillrun.variables["STILLRUN_METAFLOW"] = "names"
    assert called(stillrun, python, "-m", "stillrun_cli", "run", "hello.py").code == 0
