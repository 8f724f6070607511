"""Sources are kept whole and built once, apart from the network and the user's settings."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from stillrun_envs.building import _without_network
from stillrun_envs.errors import BuildError, EnvError, FetchError, RequestError, ResolveError
from stillrun_envs.lock import PinnedPackage, read_lock
from stillrun_envs.prefix import prefix_for
from stillrun_envs.request import EnvRequest
from stillrun_envs.resolver import lock_for
from stillrun_envs.sources import source_of
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.store import Store

PYTHON = Path(sys.executable)
ROOT = Path(__file__).parents[2]
Site = Any  # the server in conftest.py


def samples() -> ModuleType:
    spec = importlib.util.spec_from_file_location("samples", ROOT / "fixtures" / "envs" / "samples.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def backed(tmp_path_factory: pytest.TempPathFactory, make_wheel: Any, environ: dict[str, str]) -> dict[str, str]:
    """The variables of a user whose folder of wheels has the small build backend, and nothing else."""
    folder = tmp_path_factory.mktemp("backends")
    make_wheel(folder, "plain-backend", "1.0", modules={"plain_backend.py": samples().BACKEND})
    make_wheel(folder, "tint", "1.0")
    return {**environ, "UV_NO_INDEX": "1", "UV_FIND_LINKS": str(folder)}


def project(folder: Path, name: str = "fern", *, backend: str = "plain_backend", module: str = "") -> Path:
    (folder / "src" / name).mkdir(parents=True)
    (folder / "src" / name / "__init__.py").write_text("VERSION = '0.4'\n")
    requires = '"plain-backend"' if backend == "plain_backend" else ""
    path = 'backend-path = ["."]\n' if module else ""
    (folder / "pyproject.toml").write_text(
        f'[build-system]\nrequires = [{requires}]\nbuild-backend = "{backend}"\n{path}\n'
        f'[project]\nname = "{name}"\nversion = "0.4"\ndependencies = []\n'
    )
    if module:
        (folder / f"{backend}.py").write_text(module)
    return folder


def locked(store: Store, environ: dict[str, str], *requirements: str, **others: Any) -> Digest:
    return lock_for(EnvRequest(pypi=requirements, **others), store, base_python=PYTHON, environ=environ)


def built(store: Store, lock: Digest) -> PinnedPackage:
    (found,) = (one for one in read_lock(store, lock).packages if one.origin == "built")
    return found


def test_a_folder_is_built_once_and_works(lonely: Store, backed: dict[str, str], tmp_path: Path) -> None:
    place = project(tmp_path / "my fern")
    asked = f"fern @ {place.as_uri()}"
    first = locked(lonely, backed, asked)
    package = built(lonely, first)
    assert package.source is not None
    assert package.source.build is not None
    assert [one.name for one in read_lock(lonely, package.source.build).packages] == ["plain-backend"]
    assert sorted(path.name for path in place.iterdir()) == ["pyproject.toml", "src"]  # nothing is left in it
    notes: list[str] = []
    request = EnvRequest(pypi=(asked,))
    again = lock_for(request, lonely, base_python=PYTHON, environ=backed, refresh=True, progress=notes.append)
    assert again == first
    assert not any(note.startswith("Building fern") for note in notes)
    prefix = prefix_for(first, lonely, environ=backed)
    said = subprocess.run([prefix.python, "-c", "import fern; print(fern.VERSION)"], capture_output=True, text=True)
    assert said.stdout == "0.4\n"


@pytest.mark.slow
def test_the_same_source_gives_the_same_wheel_in_another_store_and_folder(
    backed: dict[str, str], tmp_path: Path
) -> None:
    found = set()
    for number in ("one", "two"):
        place = project(tmp_path / number / "fern")
        os.utime(place / "pyproject.toml", (len(found), len(found)))
        with Store.open(tmp_path / f"store-{number}") as store:
            found.add(locked(store, backed, f"fern @ {place.as_uri()}"))
    assert len(found) == 1


def test_ignored_files_and_secrets_are_not_kept(lonely: Store, backed: dict[str, str], tmp_path: Path) -> None:
    place = project(tmp_path / "fern")
    subprocess.run(["git", "init", "-q"], cwd=place, check=True)
    (place / ".gitignore").write_text("data/\n")
    (place / "data").mkdir()
    (place / "data" / "large.bin").write_bytes(b"x" * 1000)
    (place / ".env").write_text("TOKEN=hunter2\n")
    source = built(lonely, locked(lonely, backed, f"fern @ {place.as_uri()}")).source
    assert source is not None
    with tarfile.open(fileobj=io.BytesIO(lonely.get(source.digest))) as archive:
        names = archive.getnames()
    assert names == [".gitignore", "pyproject.toml", "src/fern/__init__.py"]


@pytest.mark.parametrize("revision", ["", "@main", "@v1", "@COMMIT"])
def test_a_git_reference_is_pinned_to_its_commit(
    store: Store, backed: dict[str, str], tmp_path: Path, revision: str
) -> None:
    place = project(tmp_path / "repository", "moss")
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-q", "-m", "one"], ["tag", "v1"]):
        subprocess.run([*git, *words], cwd=place, check=True)
    commit = subprocess.run([*git, "rev-parse", "HEAD"], cwd=place, check=True, capture_output=True, text=True)
    wanted = revision.replace("COMMIT", commit.stdout.strip())
    package = built(store, locked(store, backed, f"moss @ git+{place.as_uri()}{wanted}"))
    assert package.source is not None
    assert package.source.commit == commit.stdout.strip()


def test_a_revision_or_repository_that_is_not_there_is_named(
    store: Store, backed: dict[str, str], tmp_path: Path
) -> None:
    place = project(tmp_path / "repository", "moss")
    subprocess.run(["git", "init", "-q"], cwd=place, check=True)
    subprocess.run(
        ["git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "--allow-empty", "-m", "x"],
        cwd=place,
        check=True,
    )
    with pytest.raises(FetchError, match="no branch, tag or commit 'v9'"):
        locked(store, backed, f"moss @ git+{place.as_uri()}@v9")
    with pytest.raises(FetchError, match="git cannot fetch moss") as refused:
        locked(store, backed, "moss @ git+https://ada:hunter2@127.0.0.1:9/moss.git")
    assert "hunter2" not in str(refused.value)


BROKEN = """
def get_requires_for_build_wheel(config_settings=None):
    return []
def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    {body}
"""


def test_a_build_that_fails_tells_the_end_of_what_it_said(store: Store, backed: dict[str, str], tmp_path: Path) -> None:
    module = BROKEN.format(body="print('compiling the thing'); raise SystemExit('no such header: thing.h')")
    place = project(tmp_path / "fern", backend="own_backend", module=module)
    with pytest.raises(BuildError, match="could not be built") as refused:
        locked(store, backed, f"fern @ {place.as_uri()}")
    assert "no such header: thing.h" in str(refused.value)


def test_a_build_has_no_network_and_nothing_of_the_users(store: Store, backed: dict[str, str], tmp_path: Path) -> None:
    body = (
        "import os, urllib.request; print(sorted(os.environ), flush=True); urllib.request.urlopen('http://192.0.2.1/x')"
    )
    place = project(tmp_path / "fern", backend="own_backend", module=BROKEN.format(body=body))
    with pytest.raises(BuildError, match="wanted the network") as refused:
        locked(store, {**backed, "MY_TOKEN": "hunter2"}, f"fern @ {place.as_uri()}")
    assert "MY_TOKEN" not in str(refused.value)


def test_the_network_is_really_away(index: Site) -> None:
    words = _without_network()
    if not words:
        pytest.skip("this system lets nobody make network namespaces")
    code = f"import urllib.request; urllib.request.urlopen('{index.url}/simple/')"
    index.requests.clear()
    assert subprocess.run([*words, sys.executable, "-c", code], capture_output=True).returncode != 0
    assert index.requests == []


def test_a_wheel_of_another_name_is_refused(store: Store, backed: dict[str, str], tmp_path: Path) -> None:
    place = project(tmp_path / "fern")
    with pytest.raises(BuildError, match="built into the package fern"):
        locked(store, backed, f"moss @ {place.as_uri()}")


def test_an_sdist_that_leads_outside_is_refused(store: Store, backed: dict[str, str], tmp_path: Path) -> None:
    for name, link in (("../evil.py", ""), ("/abs.py", ""), ("a/link", "../../..")):
        path = tmp_path / "fern-1.0.tar.gz"
        with tarfile.open(path, "w:gz") as archive:
            member = tarfile.TarInfo(name)
            if link:
                member.type, member.linkname = tarfile.SYMTYPE, link
            archive.addfile(member, io.BytesIO())
        with pytest.raises(BuildError, match="refused"):
            locked(store, backed, f"fern @ {path.as_uri()}")


def test_an_sdist_is_held_to_its_hash(store: Store, backed: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "fern-0.4.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        archive.add(project(tmp_path / "fern-0.4"), "fern-0.4")
    right = hashlib.sha256(path.read_bytes()).hexdigest()
    package = built(store, locked(store, backed, f"fern @ {path.as_uri()}#sha256={right}"))
    assert package.source is not None
    assert package.source.digest.hex == right
    with pytest.raises(FetchError, match="expected sha256:0000"):
        locked(store, backed, f"fern @ {path.as_uri()}#sha256={'0' * 64}")


@pytest.mark.slow
def test_compiled_code_is_built_for_this_python_and_refused_for_another(
    store: Store, backed: dict[str, str], tmp_path: Path
) -> None:
    if shutil.which("cc") is None:
        pytest.skip("there is no C compiler on this machine")
    module = """
import base64, hashlib, os, pathlib, subprocess, sysconfig, zipfile
def get_requires_for_build_wheel(config_settings=None):
    return []
def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    pathlib.Path("speck.c").write_text('''#include <Python.h>
static struct PyModuleDef m = {PyModuleDef_HEAD_INIT, "speck", NULL, -1, NULL};
PyMODINIT_FUNC PyInit_speck(void) { PyObject *o = PyModule_Create(&m); PyModule_AddIntConstant(o, "N", 42); return o; }
''')
    words = ["cc", "-shared", "-fPIC", *os.environ["CFLAGS"].split(), "-I" + sysconfig.get_paths()["include"], "speck.c"]
    subprocess.run([*words, "-o", "speck" + suffix], check=True)
    tag = "cp%d%d" % __import__("sys").version_info[:2]
    files = {"speck" + suffix: pathlib.Path("speck" + suffix).read_bytes()}
    info = "speck-1.0.dist-info"
    files[info + "/METADATA"] = b"Metadata-Version: 2.1\\nName: speck\\nVersion: 1.0\\n"
    files[info + "/WHEEL"] = f"Wheel-Version: 1.0\\nRoot-Is-Purelib: false\\nTag: {tag}-{tag}-linux_x86_64\\n".encode()
    name = f"speck-1.0-{tag}-{tag}-linux_x86_64.whl"
    rows = ""
    for path, data in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        rows += f"{path},sha256={digest},{len(data)}\\n"
    files[info + "/RECORD"] = (rows + info + "/RECORD,,\\n").encode()
    with zipfile.ZipFile(pathlib.Path(wheel_directory) / name, "w") as archive:
        for path, data in files.items():
            archive.writestr(path, data)
    return name
"""
    place = project(tmp_path / "speck", "speck", backend="own_backend", module=module)
    lock = locked(store, backed, f"speck @ {place.as_uri()}")
    prefix = prefix_for(lock, store, environ=backed)
    said = subprocess.run([prefix.python, "-c", "import speck; print(speck.N)"], capture_output=True, text=True)
    assert said.stdout == "42\n", said.stderr
    with pytest.raises(ResolveError, match="osx-arm64"):
        locked(store, backed, f"speck @ {place.as_uri()}", platform="osx-arm64")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("https://host/x.tar.gz", "names no package"),
        ("x @ https://host/x.exe", "neither a wheel"),
        ("x @ file:///nowhere/at/all", "neither a wheel"),
        ("x @ git+https://host/x#subdirectory=../..", "leads outside"),
    ],
)
def test_what_is_no_source_is_refused(text: str, said: str) -> None:
    with pytest.raises(RequestError, match=said):
        source_of(text)


def test_every_failure_has_one_root(store: Store, backed: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(EnvError, match=r"neither pyproject\.toml nor setup\.py"):
        locked(store, backed, f"x @ {(tmp_path / 'empty').as_uri()}")
