"""The caller's environment is listed, and what was used of it is kept so that it can be built again."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from stillrun_envs import command
from stillrun_envs.ambient import ambient_environment, keep_ambient
from stillrun_envs.lock import read_lock
from stillrun_envs.prefix import prefix_for
from stillrun_snapshot.store import Store

PYTHON = Path(sys.executable)
ROOT = Path(__file__).parents[2]

SCHEMA = json.loads((ROOT / "docs/spec/schemas/environment-1.json").read_text())


@pytest.fixture
def venv(tmp_path: Path, environ: dict[str, str], wheelhouse: Path) -> Path:
    """A virtual environment with beta (so alpha 1.0), bulky and an editable project; its Python."""
    python = tmp_path / "venv/bin/python"
    uv(environ, "venv", "--python", PYTHON, tmp_path / "venv")
    uv(environ, "pip", "install", "--python", python, "beta", "bulky")
    return python


def uv(environ: dict[str, str], *arguments: str | Path) -> None:
    ended = subprocess.run([command.uv(), *arguments], env=environ, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr


def site(python: Path) -> Path:
    return next(python.parent.parent.glob("lib/python*/site-packages"))


def made_editable(python: Path, project: Path) -> None:
    """What an editable install leaves behind (PEP 660), without a build back end."""
    (project / "src/lab").mkdir(parents=True)
    (project / "src/lab/__init__.py").write_text("answer = 42\n")
    info = site(python) / "lab-0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: lab\nVersion: 0.1\nRequires-Dist: bulky\n")
    (info / "WHEEL").write_text("Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    (info / "RECORD").write_text("_lab.pth,,\nlab-0.1.dist-info/METADATA,,\n")
    (info / "direct_url.json").write_text(json.dumps({"url": f"file://{project}", "dir_info": {"editable": True}}))
    (site(python) / "_lab.pth").write_text(f"{project}/src\n")


def names(store: Store, digest: str) -> list[str]:
    return [item["name"] for item in store.get_record(digest, "environment")["distributions"]]  # type: ignore[arg-type]


def test_the_listing_names_what_is_installed(store: Store, environ: dict[str, str], venv: Path) -> None:
    digest = ambient_environment(store, venv, environ=environ)
    record = store.get_record(digest, "environment")
    assert names(store, digest) == ["alpha", "beta", "bulky"]
    jsonschema.validate(record, SCHEMA)


def test_an_unchanged_environment_is_listed_without_a_process(
    store: Store, environ: dict[str, str], venv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = ambient_environment(store, venv, environ=environ)
    monkeypatch.setattr("stillrun_envs.command.run", None)
    monkeypatch.setattr("stillrun_envs.installed.installed_distributions", None)
    assert ambient_environment(store, venv, environ=environ) == first


def test_an_upgrade_is_another_environment(store: Store, environ: dict[str, str], venv: Path) -> None:
    first = ambient_environment(store, venv, environ=environ)
    uv(environ, "pip", "install", "--python", venv, "alpha==2.0")
    assert ambient_environment(store, venv, environ=environ) != first
    uv(environ, "pip", "install", "--python", venv, "alpha==1.0")
    assert ambient_environment(store, venv, environ=environ) == first


def test_credentials_of_an_origin_are_not_written_down(store: Store, environ: dict[str, str], venv: Path) -> None:
    info = next(site(venv).glob("beta-*.dist-info"))
    (info / "direct_url.json").write_text('{"url": "https://ada:hunter2@host/beta.whl", "archive_info": {}}')
    record = store.get(ambient_environment(store, venv, environ=environ)).decode()
    assert "https://host/beta.whl" in record
    assert "hunter2" not in record


def test_what_was_imported_is_kept_with_what_it_needs_and_runs_again(
    store: Store, environ: dict[str, str], venv: Path
) -> None:
    environment = ambient_environment(store, venv, environ=environ)
    digest = keep_ambient(store, environment, ["beta", "json", "no_such_module"], environ=environ)
    lock = read_lock(store, digest)
    assert [one.file for one in lock.packages] == ["alpha-1.0-py3-none-any.whl", "beta-1.0-py3-none-any.whl"]
    assert lock.complete and all(one.origin == "installed" and not one.edited for one in lock.packages)
    prefix = prefix_for(digest, store, environ=environ)
    ended = subprocess.run([prefix.path / "bin/alpha"], capture_output=True, text=True, check=True)
    assert ended.stdout == "alpha 1.0\n"


def test_keeping_twice_packs_once(
    store: Store, environ: dict[str, str], venv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = ambient_environment(store, venv, environ=environ)
    first = keep_ambient(store, environment, ["bulky"], environ=environ)
    monkeypatch.setattr("stillrun_envs.borrowed.repack", None)
    assert keep_ambient(store, environment, ["bulky"], environ=environ) == first


def test_an_edited_file_is_kept_as_it_is_and_named(store: Store, environ: dict[str, str], venv: Path) -> None:
    environment = ambient_environment(store, venv, environ=environ)
    keep_ambient(store, environment, ["alpha"], environ=environ)
    edited = site(venv) / "alpha/__init__.py"
    text = edited.read_text() + "edited = True\n"
    edited.unlink()
    edited.write_text(text)
    digest = keep_ambient(store, environment, ["alpha"], environ=environ)
    assert read_lock(store, digest).packages[0].edited == ("alpha/__init__.py",)
    prefix = prefix_for(digest, store, environ=environ)
    subprocess.run([prefix.python, "-c", "import alpha; assert alpha.edited"], check=True)


def test_an_editable_project_is_kept_from_its_source(
    store: Store, environ: dict[str, str], venv: Path, tmp_path: Path
) -> None:
    made_editable(venv, tmp_path / "project")
    environment = ambient_environment(store, venv, environ=environ)
    lock = read_lock(store, keep_ambient(store, environment, ["lab"], environ=environ))
    assert [one.name for one in lock.packages] == ["bulky", "lab"]
    first = lock.packages[1].digest
    (tmp_path / "project/src/lab/__init__.py").write_text("answer = 43\n")
    digest = keep_ambient(store, environment, ["lab"], environ=environ)
    assert read_lock(store, digest).packages[1].digest != first
    prefix = prefix_for(digest, store, environ=environ)
    subprocess.run([prefix.python, "-c", "import lab; assert lab.answer == 43"], check=True)


def test_what_cannot_be_kept_is_named(store: Store, environ: dict[str, str], venv: Path) -> None:
    (site(venv) / "stray.py").write_text("")
    next(site(venv).glob("bulky-*.dist-info/RECORD")).unlink()
    (next(site(venv).glob("bulky-*.dist-info")) / "top_level.txt").write_text("bulky\n")
    environment = ambient_environment(store, venv, environ=environ)
    lock = read_lock(store, keep_ambient(store, environment, ["bulky", "stray"], environ=environ))
    assert not lock.complete
    assert [(one.name, one.reason.split(";")[0]) for one in lock.not_kept] == [
        ("bulky", "it has no RECORD of its files"),
        ("stray", f"it is imported from {site(venv)} and belongs to no installed package"),
    ]
