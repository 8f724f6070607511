"""Each way to ask for an environment, end to end: locked, kept, every cache deleted, rebuilt offline, equal byte for byte."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from string import Template

import pytest
from tests.conftest import Commands
from tests.envs.conftest import made_channel
from tests.system.test_environments import fixture, served

from stillrun_envs import command
from stillrun_snapshot.store import Store

ROOT = Path(__file__).parents[2]
FOLDERS = ROOT / "fixtures" / "envs"
NOWHERE = "http://127.0.0.1:9/simple"


@dataclass(frozen=True)
class Places:
    """Where the samples' packages come from."""

    index: str
    channel: Path
    repository: Path
    commit: str


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Places]:
    samples, root = fixture("envs/samples.py"), tmp_path_factory.mktemp("samples")
    samples.make_index(root)
    commit = samples.make_repository(root / "moss")
    with served(root) as address:
        yield Places(address, made_channel(tmp_path_factory), root / "moss", commit)


@dataclass
class Sample:
    """A copy of one sample with its addresses filled in."""

    commands: Commands
    file: str

    def lock(self, *arguments: str) -> str:
        done = self.commands("env", "lock", self.file, "--json", *arguments)
        assert done.code == 0, done.err
        row = done.json["environments"][-1]
        self.row = row
        lock: str = row["lock"]
        return lock

    def tree(self, lock: str) -> str:
        """Every file of the built environment: mode, bytes, links."""
        done = self.commands("env", "build", lock, "--json")
        assert done.code == 0, done.err
        digest: str = done.json["tree"]
        return digest

    def lose_everything_but_the_store(self) -> None:
        for folder in ("envs", "pythons", "cache", "trees"):
            shutil.rmtree(self.commands.store / folder, ignore_errors=True)
        self.commands.variables.update(
            UV_DEFAULT_INDEX=NOWHERE, UV_CACHE_DIR="/nonexistent", PIP_CACHE_DIR="/nonexistent"
        )


def sample(commands: Commands, places: Places, name: str) -> Sample:
    commands.variables.update(UV_DEFAULT_INDEX=places.index, UV_HTTP_RETRIES="0", UV_NO_CONFIG="1")
    shutil.copytree(FOLDERS / name, commands.cwd, dirs_exist_ok=True)
    (file,) = (path for path in commands.cwd.iterdir() if path.is_file())
    filled = Template(file.read_text("utf-8")).safe_substitute(
        INDEX=places.index, CHANNEL=places.channel.as_uri(), REPOSITORY=f"git+{places.repository.as_uri()}"
    )
    file.write_text(filled, "utf-8")
    return Sample(commands, file.name)


@pytest.mark.parametrize(
    ("name", "packages"),
    [
        pytest.param("pure-wheels", ["cloth 1.0", "dye 1.0", "tint 1.0"], marks=pytest.mark.slow),
        pytest.param("compiled-wheels", ["numpy"], marks=pytest.mark.slow),
        pytest.param("sdist", ["sorrel 2.1", "tint 2.0"], marks=pytest.mark.slow),
        pytest.param("git", ["dye 1.0", "moss 0.9", "tint 1.0"], marks=pytest.mark.slow),
        pytest.param("local-path", ["dye 1.0", "fern 0.4", "tint 1.0"], marks=pytest.mark.slow),
        pytest.param("conda-only", ["greet 1.0", "needs-old-greet 1.0", "numpy", "python"], marks=pytest.mark.slow),
        ("mixed", ["cloth 1.0", "dye 1.0", "greet 2.0", "packaging", "python", "tint 1.0"]),
    ],
)
def test_a_sample_is_the_same_after_everything_but_the_store_is_gone(
    lonely: Commands, places: Places, name: str, packages: list[str]
) -> None:
    one = sample(lonely, places, name)
    lock = one.lock()
    assert one.row["not_kept"] == []
    shown = lonely("env", "show", lock, "--json").json
    found = sorted(f"{each['name']} {each['version']}" for each in shown["packages"])
    assert [text if " " in want else text.split(" ")[0] for text, want in zip(found, packages, strict=True)] == packages
    before = one.tree(lock)
    for _ in range(2):
        one.lose_everything_but_the_store()
        assert one.tree(lock) == before
    assert lonely("env", "verify", lock).code == 0


@pytest.mark.slow
def test_the_same_request_gives_the_same_lock_in_another_store_locale_and_hash_seed(
    lonely: Commands, places: Places, tmp_path: Path
) -> None:
    found = set()
    for number, name in enumerate(("mixed", "sdist", "git")):
        locks = set()
        for seed, locale in (("0", "C"), ("7", "C.UTF-8")):
            commands = Commands(tmp_path / f"{number}{seed}", tmp_path / f"store{number}{seed}")
            commands.cwd.mkdir()
            commands.variables.update(PYTHONHASHSEED=seed, LC_ALL=locale)
            locks.add(sample(commands, places, name).lock())
        assert len(locks) == 1, name
        found |= locks
    assert len(found) == 3


@pytest.mark.slow
def test_the_lock_of_a_git_requirement_names_the_commit(lonely: Commands, places: Places) -> None:
    lock = sample(lonely, places, "git").lock()
    packages = lonely("env", "show", lock, "--json").json["packages"]
    (moss,) = (one for one in packages if one["name"] == "moss")
    assert (moss["origin"], moss["source"]["kind"], moss["source"]["commit"]) == ("built", "git", places.commit)
    assert moss["source"]["build"] is not None


@pytest.mark.slow
def test_a_folder_that_changes_is_locked_again(lonely: Commands, places: Places) -> None:
    one = sample(lonely, places, "local-path")
    first = one.lock()
    assert one.lock() == first
    module = lonely.cwd / "libs/fern/src/fern/__init__.py"
    module.write_text(module.read_text() + "# more\n")
    assert one.lock() != first


def test_packages_for_another_machine_are_kept(lonely: Commands, places: Places) -> None:
    one = sample(lonely, places, "foreign-platform")
    lock = one.lock("--platform", "linux-aarch64")
    assert one.row["not_kept"] == []
    shown = lonely("env", "show", lock, "--json").json
    assert shown["python"]["platform"] == "linux-aarch64"
    assert lonely("env", "verify", lock).code == 0
    refused = lonely("env", "build", lock)
    assert refused.code == 2
    assert "linux-aarch64" in refused.err


@pytest.mark.parametrize(
    "family", [pytest.param(each, marks=pytest.mark.slow) for each in ("3.9", "3.10", "3.12", "3.13")]
)
def test_pythons_from_old_to_new_are_kept_and_rebuilt(lonely: Commands, places: Places, family: str) -> None:
    found = subprocess.run([command.uv(), "python", "find", family], capture_output=True, text=True)
    pyenv = sorted((Path.home() / ".pyenv" / "versions").glob(f"{family}.*"))
    if found.returncode != 0 and not pyenv and not sys.version.startswith(family):
        pytest.skip(f"Python {family} is not on this machine")
    one = sample(lonely, places, "pure-wheels")
    lock = one.lock("--python", family)
    assert one.row["python"].startswith(family + ".")
    before = one.tree(lock)
    one.lose_everything_but_the_store()
    assert one.tree(lock) == before
    done = lonely("env", "run", lock, "python", "-c", "import sys, cloth; print('%d.%d' % sys.version_info[:2])")
    assert done.out.strip() == family


def test_packages_are_kept_once_for_all_environments(lonely: Commands, places: Places) -> None:
    one = sample(lonely, places, "pure-wheels")
    one.lock()
    with Store.open(lonely.store) as store:
        before = store.stats().objects
    lonely.write("other.txt", "dye\ntint<2\n")
    done = lonely("env", "lock", "other.txt", "--json")
    assert done.code == 0, done.err
    with Store.open(lonely.store) as store:
        assert store.stats().objects - before <= 4  # the lock, what is known of it: no package


@pytest.mark.parametrize(
    "name",
    [
        "pure-wheels",
        "mixed",
        *(pytest.param(each, marks=pytest.mark.slow) for each in ("compiled-wheels", "sdist", "git", "local-path")),
    ],
)
def test_both_resolvers_choose_the_same_packages(lonely: Commands, places: Places, name: str) -> None:
    one = sample(lonely, places, name)
    found = []
    for resolver in ("uv", "pip-tools"):
        packages = lonely("env", "show", one.lock("--resolver", resolver), "--json").json["packages"]
        found.append([(each["name"], each["version"], each["digest"]) for each in packages])
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("name", "package"), [("sdist", "sorrel"), pytest.param("git", "moss", marks=pytest.mark.slow)]
)
@pytest.mark.slow
def test_what_was_built_is_exported_as_its_source(lonely: Commands, places: Places, name: str, package: str) -> None:
    lock = sample(lonely, places, name).lock()
    for form in ("pylock", "requirements", "pixi"):
        done = lonely("env", "export", lock, "--format", form)
        assert done.code == 0, done.err
        assert (places.commit if name == "git" else f"{package}-2.1.tar.gz") in done.out
    lonely("env", "export", lock, "--format", "pylock", "-o", "pylock.toml")
    again = lonely("env", "import", "pylock.toml", "--json").json["environments"][0]["lock"]
    changes = lonely("env", "diff", lock, again, "--json").json["changes"]
    assert changes == []
