"""Steps with environments of their own, through the command line: a small index and a small channel made here."""

from __future__ import annotations

import http.server
import importlib.util
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest
from tests.conftest import Commands

ROOT = Path(__file__).parents[2]


def fixture(name: str) -> ModuleType:
    """A maker out of fixtures/."""
    spec = importlib.util.spec_from_file_location(Path(name).stem, ROOT / "fixtures" / name)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules.setdefault(f"fixtures_{spec.name}", importlib.util.module_from_spec(spec))
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


@contextmanager
def served(root: Path) -> Iterator[str]:
    """The address of an index while it is up."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(root))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/simple"
        server.shutdown()


@pytest.fixture(scope="module")
def index_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package index with tint 1.0 and 2.0, and dye, which needs tint<2."""
    maker, wheels, root = (
        fixture("wheels/make_wheel.py"),
        tmp_path_factory.mktemp("wheels"),
        tmp_path_factory.mktemp("i"),
    )
    for version in ("1.0", "2.0"):
        maker.make_wheel(wheels, "tint", version, modules={"tint.py": f"VERSION = {version!r}\n"})
    maker.make_wheel(wheels, "dye", "1.0", requires=["tint<2"])
    maker.make_index(wheels, root)
    return Path(root)


@pytest.fixture(scope="module")
def index(index_folder: Path) -> Iterator[str]:
    """The index on the loopback."""
    with served(index_folder) as address:
        yield address


@pytest.fixture
def indexed(stillrun: Commands, index: str) -> Commands:
    """The command of a user who has nothing set but our index."""
    stillrun.variables.update(UV_DEFAULT_INDEX=index, UV_HTTP_RETRIES="0", UV_NO_CONFIG="1")
    return stillrun


def tinted(packages: str, **more: str) -> str:
    """A flow whose first step has packages."""
    extra = "".join(f", {name}={value!r}" for name, value in more.items())
    return f"""
import sys
from stillrun import FlowSpec, pypi, step

class Tinted(FlowSpec):
    @pypi(packages={packages}{extra})
    @step
    def start(self):
        import tint
        self.version, self.python = tint.VERSION, sys.version_info[:2]
        self.next(self.end)

    @step
    def end(self):
        assert "tint" not in sys.modules
"""


def shown(stillrun: Commands, pathspec: str) -> str:
    value: str = stillrun("artifact", pathspec, "--json").json["value"]
    return value


def test_a_step_gets_its_packages_and_a_replay_rebuilds_them_without_the_index(indexed: Commands) -> None:
    indexed.write("tinted.py", tinted("{'tint': '<2'}"))
    run = indexed.run("tinted.py")
    assert shown(indexed, f"{run}/start/version") == "'1.0'"
    locked = indexed("env", "show", f"{run}/start", "--json").json
    assert [(p["name"], p["version"]) for p in locked["packages"]] == [("tint", "1.0")]
    for folder in ("envs", "pythons", "cache", "trees"):
        shutil.rmtree(indexed.store / folder)
    indexed.variables["UV_DEFAULT_INDEX"] = "http://127.0.0.1:9/simple"
    done = indexed("replay", run, "--offline", "--json")
    assert (done.code, done.json["verdict"]) == (0, "identical"), done.err
    assert {place["how"] for place in done.json["environments"]} == {"rebuilt"}


def test_an_unchanged_request_needs_no_index(indexed: Commands, index_folder: Path) -> None:
    indexed.write("tinted.py", tinted("{'tint': ''}"))
    with served(index_folder) as address:
        indexed.variables["UV_DEFAULT_INDEX"] = address
        indexed.run("tinted.py")
    indexed.run("tinted.py", "--offline")


@pytest.mark.parametrize(
    ("packages", "says"),
    [
        ("{'no-such-package': ''}", ("no-such-package",)),
        ("{'tint': '==9'}", ("tint", "9")),
        ("{'tint': '>=2', 'dye': ''}", ("tint", "dye")),
        ("{'tint': 'newest please'}", ("tint", "newest please")),
    ],
)
def test_what_cannot_be_resolved_is_refused_with_the_reason(
    indexed: Commands, packages: str, says: tuple[str, ...]
) -> None:
    indexed.write("tinted.py", tinted(packages))
    done = indexed("run", "tinted.py")
    assert done.code == 2, done.out
    assert "Traceback" not in done.err
    for word in says:
        assert word in done.err


def test_an_index_out_of_reach_is_said(indexed: Commands) -> None:
    indexed.variables["UV_DEFAULT_INDEX"] = "http://127.0.0.1:9/simple"
    indexed.write("tinted.py", tinted("{'tint': '>=0.5'}"))
    done = indexed("run", "tinted.py")
    assert done.code == 2
    assert "127.0.0.1:9" in done.err
    assert "Traceback" not in done.err


def test_a_python_that_is_not_here_is_said(indexed: Commands) -> None:
    indexed.write("tinted.py", tinted("{'tint': ''}", python="3.5"))
    done = indexed("run", "tinted.py")
    assert done.code == 2
    assert "3.5" in done.err
    assert f"{sys.version_info[0]}.{sys.version_info[1]}" in done.err


def test_a_step_that_writes_into_its_environment_is_noticed_at_the_next_use(indexed: Commands) -> None:
    body = tinted("{'tint': '<2'}").replace(
        "self.next(self.end)", "open(tint.__file__, 'a').write('# mine')\n        self.next(self.end)"
    )
    indexed.write("tinted.py", body)
    run = indexed.run("tinted.py")
    done = indexed("replay", run)
    assert done.code == 0, done.err
    assert "tint.py" in done.out


def test_the_conda_decorator_works_on_a_channel_and_without_it_afterwards(stillrun: Commands, tmp_path: Path) -> None:
    channel = tmp_path / "channel"
    maker = ROOT / "fixtures" / "conda" / "make_channel.py"
    subprocess.run([sys.executable, maker, channel], check=True)
    stillrun.write(
        "greeting.py",
        f"""
import sys
from stillrun import FlowSpec, conda, step

class Greeting(FlowSpec):
    @conda(packages={{"greet": "<2"}}, channels=["{channel.as_uri()}"])
    @step
    def start(self):
        import greet
        self.said, self.prefix = greet.hello(), sys.prefix
        self.next(self.end)

    @step
    def end(self):
        pass
""",
    )
    run = stillrun.run("greeting.py")
    assert shown(stillrun, f"{run}/start/said") == "'hello 1.0'"
    shutil.rmtree(channel)
    shutil.rmtree(stillrun.store / "envs")
    done = stillrun("replay", run, "--offline", "--json")
    assert (done.code, done.json["verdict"]) == (0, "identical"), done.err


def test_what_was_not_kept_is_said_and_serves_only_while_it_is_unchanged(stillrun: Commands, tmp_path: Path) -> None:
    library = tmp_path / "library"
    library.mkdir()
    (library / "stray_module.py").write_text("VALUE = 1\n")
    stillrun.write(
        "stray.py",
        """
from stillrun import FlowSpec, step

class Stray(FlowSpec):
    @step
    def start(self):
        import stray_module
        self.value = stray_module.VALUE
        self.next(self.end)

    @step
    def end(self):
        pass
""",
    )
    stillrun.variables["PYTHONPATH"] = str(library)
    ran = stillrun("run", "stray.py", "--json").json
    assert not ran["captured"]
    assert "stray_module" in ran["not_kept"][0]
    done = stillrun("replay", ran["run"], "--json")
    assert (done.code, done.json["environments"][0]["how"]) == (0, "as it stands")
    del stillrun.variables["PYTHONPATH"]
    done = stillrun("replay", ran["run"])
    assert done.code == 1
    assert "stray_module will be missing" in done.out


def test_what_is_used_without_an_import_is_kept_or_said(stillrun: Commands) -> None:
    stillrun.write(
        "quietly.py",
        """
import importlib.metadata, subprocess, sys
from stillrun import FlowSpec, Parameter, step

class Quietly(FlowSpec):
    child = Parameter("child", default=False)

    @step
    def start(self):
        self.version = importlib.metadata.version("click")
        if self.child:
            subprocess.run([sys.executable, "-c", "import click"], check=True)
        self.next(self.end)

    @step
    def end(self):
        pass
""",
    )
    ran = stillrun("run", "quietly.py", "--json").json
    assert ran["captured"], ran["not_kept"]
    done = stillrun("replay", ran["run"], "--json")
    assert (done.code, {place["how"] for place in done.json["environments"]}) == (0, {"rebuilt"}), done.err
    ran = stillrun("run", "quietly.py", "--child", "true", "--json").json
    assert not ran["captured"]
    assert "Python programs" in ran["not_kept"][0]


@pytest.mark.parametrize("kind", ["pypi", "ambient"])
def test_undecorated_steps_get_what_the_option_says(indexed: Commands, kind: str) -> None:
    indexed.write(
        "bare.py",
        """
import sys
from stillrun import FlowSpec, step

class Bare(FlowSpec):
    @step
    def start(self):
        try:
            import click
            self.found = "the caller's packages"
        except ImportError:
            self.found = "nothing"
        self.next(self.end)

    @step
    def end(self):
        pass
""",
    )
    run = indexed.run("bare.py", "--environment", kind)
    assert shown(indexed, f"{run}/start/found") == ("'nothing'" if kind == "pypi" else '"the caller\'s packages"')
    assert indexed("show", run, "--json").json["captured"] is True
