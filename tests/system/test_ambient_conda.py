"""Runs from a conda environment: its archives are found again, kept, and make it anew when all of it is gone."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.conftest import Commands
from tests.envs.conftest import made_channel
from tests.system.test_environments import fixture

INSTALL = """
import asyncio, os, sys
from pathlib import Path
from rattler import Channel, Gateway, VirtualPackage, install, solve
channel, prefix, cache = sys.argv[1:4]
async def main():
    found = await solve([Channel(channel)], sys.argv[4:], gateway=Gateway(cache_dir=Path(cache) / "repodata"),
                        platforms=["linux-64", "noarch"], virtual_packages=VirtualPackage.detect())
    await install(found, target_prefix=prefix, cache_dir=Path(cache) / "pkgs", show_progress=False)
asyncio.run(main())
os._exit(0)
"""
FLOW = """
from stillrun import FlowSpec, step

class Greeting(FlowSpec):
    @step
    def start(self):
        import greet, numpy
        self.said, self.total = greet.hello(), numpy.arange(5).sum().item()
        self.next(self.end)

    @step
    def end(self):
        pass
"""
Place = tuple[Path, Path]  # a conda environment, and its channel


@pytest.fixture
def make(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Place]:
    """Makes a conda environment as a user's conda would, of a channel of its own."""

    def made(*specs: str) -> Place:
        channel, prefix = tmp_path / "channel", tmp_path / "conda" / "\u00e9tude"
        shutil.copytree(made_channel(tmp_path_factory), channel)
        cache = tmp_path / "conda"
        words = [sys.executable, "-c", INSTALL, channel.as_uri(), prefix, cache, "python", *specs]
        subprocess.run([str(word) for word in words], check=True)
        return prefix, channel

    return made


def gone(*places: Path) -> None:
    for place in places:
        shutil.rmtree(place, ignore_errors=True)


def test_a_conda_environment_is_kept_and_made_anew_offline(lonely: Commands, make: Callable[..., Place]) -> None:
    prefix, channel = make("greet", "numpy")
    lonely.write("greeting.py", FLOW)
    done = lonely("run", "greeting.py", "--python", str(prefix / "bin" / "python"), "--json")
    assert (done.code, done.json["captured"], done.json["not_kept"]) == (0, True, []), done.err
    shown = lonely("env", "show", f"{done.json['run']}/start", "--json").json
    assert [(one["manager"], one["name"]) for one in shown["packages"]] == [
        ("conda", "greet"), ("conda", "numpy"), ("conda", "python"),
    ]  # fmt: skip
    assert "__glibc >=2.17" in shown["needs"]
    gone(prefix.parent, channel, lonely.store / "envs", lonely.store / "cache")
    replayed = lonely("replay", done.json["run"], "--offline", "--json")
    assert (replayed.code, replayed.json["verdict"]) == (0, "identical"), replayed.err


@pytest.mark.slow
def test_what_is_on_the_channel_alone_is_fetched_and_what_is_nowhere_is_packed_from_its_files(
    lonely: Commands, make: Callable[..., Place]
) -> None:
    prefix, channel = make("greet", "numpy")
    shutil.rmtree(prefix.parent / "pkgs", ignore_errors=True)
    lonely.write("greeting.py", FLOW)
    python = str(prefix / "bin" / "python")
    assert lonely("run", "greeting.py", "--python", python, "--json").json["captured"] is True
    gone(channel, lonely.store)
    done = lonely("run", "greeting.py", "--python", python, "--json")
    assert done.json["captured"] is True, done.json["not_kept"]
    shown = lonely("env", "show", f"{done.json['run']}/start", "--json").json
    assert {one["origin"] for one in shown["packages"]} == {"installed"}
    assert (
        "packed from its files, as its archive was not at hand: greet"
        in lonely("env", "show", f"{done.json['run']}/start").out
    )
    gone(prefix.parent, lonely.store / "envs", lonely.store / "cache")
    replayed = lonely("replay", done.json["run"], "--offline", "--json")
    assert (replayed.code, replayed.json["verdict"]) == (0, "identical"), replayed.err


@pytest.mark.slow
def test_an_edited_file_is_kept_as_it_was_edited(lonely: Commands, make: Callable[..., Place]) -> None:
    prefix, _ = make("greet", "numpy")
    (module,) = prefix.glob("lib/python*/site-packages/greet/__init__.py")
    module.write_text(module.read_text() + "hello = lambda: 'edited'\n")
    lonely.write("greeting.py", FLOW)
    done = lonely("run", "greeting.py", "--python", str(prefix / "bin" / "python"), "--json")
    assert done.json["captured"] is True, done.json["not_kept"]
    env = f"{done.json['run']}/start"
    edited = {
        one["name"]: one["edited"] for one in lonely("env", "show", env, "--json").json["packages"] if one["edited"]
    }
    assert edited == {"greet": [module.relative_to(prefix).as_posix()]}
    assert "edited since it was installed: greet" in lonely("env", "show", env).out
    gone(prefix.parent, lonely.store / "envs", lonely.store / "cache")
    replayed = lonely("replay", done.json["run"], "--offline", "--json")
    assert (replayed.code, replayed.json["verdict"]) == (0, "identical"), replayed.err
    assert "edited" in lonely("artifact", f"{env}/said").out


@pytest.mark.slow
def test_a_pip_package_on_top_is_packed_again(lonely: Commands, make: Callable[..., Place], tmp_path: Path) -> None:
    prefix, channel = make("greet", "numpy")
    from stillrun_envs import command

    wheel = fixture("wheels/make_wheel.py").make_wheel(tmp_path / "w", "tint", "1.0", requires=["numpy"])
    words = [command.uv(), "pip", "install", "--quiet", "--python", str(prefix / "bin" / "python"), "--no-deps"]
    subprocess.run([*words, "--break-system-packages", str(wheel)], check=True)
    lonely.write("greeting.py", FLOW.replace("import greet, numpy", "import greet, numpy, tint"))
    done = lonely("run", "greeting.py", "--python", str(prefix / "bin" / "python"), "--json")
    assert done.json["captured"] is True, done.json["not_kept"]
    gone(prefix.parent, channel, lonely.store / "envs", lonely.store / "cache")
    replayed = lonely("replay", done.json["run"], "--offline", "--json")
    assert (replayed.code, replayed.json["verdict"]) == (0, "identical"), replayed.err
