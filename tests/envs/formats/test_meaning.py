"""Files mean here what they mean to the tools that they are written for; what cannot be held to is refused, never dropped."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.envs.formats.kit import BIN, LINUX, MAC, ROOT, run

from stillrun_envs.errors import LockError, RequestError
from stillrun_envs.formats import read_lock_file, read_request_file
from stillrun_envs.formats.listing import Asked, Listing
from stillrun_envs.location import without_credentials
from stillrun_envs.platforms import Target

D = "a" * 64
COMMIT = "c0ffee" * 6 + "beef"


@pytest.fixture
def asked(tmp_path: Path) -> Callable[..., Asked]:
    def read(name: str, text: str, target: Target = LINUX, **more: tuple[str, ...]) -> Asked:
        (tmp_path / name).write_text(text)
        return read_request_file(tmp_path / name, target, **more)

    return read


@pytest.fixture
def listed(tmp_path: Path) -> Callable[..., Listing]:
    def read(name: str, text: str, target: Target = LINUX, **more: tuple[str, ...]) -> Listing:
        (tmp_path / name).write_text(text)
        return read_lock_file(tmp_path / name, target, **more)

    return read


# -- pyproject.toml ------------------------------------------------------------------------------

PROJECT = "[project]\nname = 'p'\nversion = '0'\ndependencies = ['torch', 'six']\n"
TWO = "[[tool.uv.index]]\nname = 'first'\nurl = 'https://first/simple'\n[[tool.uv.index]]\nname = 'cu'\nurl = 'https://cu/simple'\n"


def test_an_explicit_index_serves_no_other_package(asked: Callable[..., Asked]) -> None:
    text = PROJECT + "[[tool.uv.index]]\nname = 'cu'\nurl = 'https://cu/simple'\nexplicit = true\n"
    assert asked("pyproject.toml", text).extra_indices == ()
    with pytest.raises(RequestError, match=r"takes torch from the index 'cu' alone.*uv\.lock"):
        asked("pyproject.toml", text + "[tool.uv.sources]\ntorch = { index = 'cu' }\n")


def test_an_index_that_is_asked_first_may_be_named(asked: Callable[..., Asked]) -> None:
    found = asked("pyproject.toml", PROJECT + TWO + "[tool.uv.sources]\ntorch = { index = 'first' }\n")
    assert found.extra_indices == ("https://first/simple", "https://cu/simple")
    for name in ("cu", "nowhere"):
        with pytest.raises(RequestError, match="one list of indexes"):
            asked("pyproject.toml", PROJECT + TWO + f"[tool.uv.sources]\ntorch = {{ index = '{name}' }}\n")


def test_dependencies_that_only_a_build_backend_knows_are_refused(asked: Callable[..., Asked]) -> None:
    text = "[project]\nname = 'p'\ndynamic = ['version', 'dependencies', 'optional-dependencies']\n"
    with pytest.raises(RequestError, match="leaves its dependencies to its build backend"):
        asked("pyproject.toml", text)
    text = "[project]\nname = 'p'\ndynamic = ['version', 'optional-dependencies']\ndependencies = ['six']\n"
    assert asked("pyproject.toml", text).pypi == ("six",)
    with pytest.raises(RequestError, match="leaves its optional-dependencies"):
        asked("pyproject.toml", text, extras=("x",))


@pytest.mark.parametrize(
    ("source", "address"),
    [
        ("git = 'ssh://git@host/r', rev = 'abc'", "git+ssh://git@host/r@abc"),
        ("git = 'https://host/r'", "git+https://host/r"),
        ("git = 'https://host/r', subdirectory = 'in'", "git+https://host/r#subdirectory=in"),
        ("git = 'ssh://git@host/r', branch = 'b', subdirectory = 'in'", "git+ssh://git@host/r@b#subdirectory=in"),
    ],
)
def test_git_sources_keep_their_user_and_folder(asked: Callable[..., Asked], source: str, address: str) -> None:
    found = asked("pyproject.toml", PROJECT + f"[tool.uv.sources]\ntorch = {{ {source} }}\n")
    assert found.pypi == (f"torch @ {address}", "six")


# -- pixi.toml -----------------------------------------------------------------------------------

PIXI = (
    "[workspace]\nname = 'p'\nchannels = ['c']\nplatforms = ['linux-64']\n[workspace.dependencies]\nscipy = '1.14.*'\n"
)


@pytest.mark.parametrize(
    ("said", "spec"),
    [
        ("'1.2'", "numpy ==1.2"),
        ("'1.2.*'", "numpy 1.2.*"),
        ("'=1.2'", "numpy =1.2"),
        ("'*'", "numpy"),
        ("'>=1.2,<2'", "numpy >=1.2,<2"),
        ("{ version = '1.2', channel = 'nvidia' }", "nvidia::numpy ==1.2"),
        ("{ version = '1.2', build = 'py311*' }", "numpy ==1.2 py311*"),
        ("{ build = 'py311*' }", "numpy * py311*"),
    ],
)
def test_a_version_is_what_it_is_to_pixi(asked: Callable[..., Asked], said: str, spec: str) -> None:
    assert asked("pixi.toml", PIXI + f"[dependencies]\nnumpy = {said}\n").conda == (spec,)


def test_a_version_of_the_workspace_is_taken_from_there(asked: Callable[..., Asked]) -> None:
    assert asked("pixi.toml", PIXI + "[dependencies]\nscipy = { workspace = true }\n").conda == ("scipy 1.14.*",)
    with pytest.raises(RequestError, match="the workspace, which says none"):
        asked("pixi.toml", PIXI + "[dependencies]\nnumpy = { workspace = true }\n")


def test_packages_of_the_index_are_read(asked: Callable[..., Asked], tmp_path: Path) -> None:
    text = PIXI + (
        "[pypi-dependencies]\na = '*'\nb = '>=1,<2'\nc = { version = '==1.0', extras = ['x'] }\n"
        "d = { path = './d', editable = true }\n"
        "e = { git = 'ssh://git@host/e', tag = 'v1', subdirectory = 'in' }\n[pypi-options]\nfind-links = [{ path = './w' }]\n"
    )
    found = asked("pixi.toml", text)
    assert found.pypi is not None
    assert set(found.pypi) == {
        "a",
        "b<2,>=1",
        "c[x]==1.0",
        f"d @ {(tmp_path / 'd').as_uri()}",
        "e @ git+ssh://git@host/e@v1#subdirectory=in",
    }
    assert found.find_links == ((tmp_path / "w").as_uri(),)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[dependencies]\nnumpy = { version = '1', sha256 = 'x' }\n", "sha256"),
        ("[dependencies]\nnumpy = { path = '.' }\n", "built from source"),
        ("[pypi-dependencies]\nnumpy = '1.2'\n", "with its operator"),
        ("[pypi-dependencies]\nnumpy = { version = '==1', index = 'https://x' }\n", "index"),
        ("[pypi-options]\ndependency-overrides = { numpy = '>=2' }\n", "dependency-overrides"),
    ],
)
def test_what_a_pixi_file_says_and_is_not_read_is_refused(asked: Callable[..., Asked], text: str, says: str) -> None:
    with pytest.raises(RequestError, match=says):
        asked("pixi.toml", PIXI + text)


# -- environment.yml -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("selector", "linux", "mac"),
    [
        ("linux", True, False),
        ("osx", False, True),
        ("unix", True, True),
        ("win", False, False),
        ("not win", True, True),
        ("arm64", False, True),
        ("aarch64", False, False),
        ("x86_64", True, False),
        ("linux64", True, False),
        ("osx-arm64", False, True),
        ("osx and arm64", False, True),
        ("linux and not aarch64", True, False),
        ("win or osx", False, True),
        ("LINUX", True, False),
    ],
)
def test_a_selector_counts_where_it_is_true(asked: Callable[..., Asked], selector: str, linux: bool, mac: bool) -> None:
    text = f"channels: [c]\ndependencies:\n- six\n- numpy  # [{selector}]\n"
    for target, here in ((LINUX, linux), (MAC, mac)):
        assert asked("environment.yml", text, target).conda == (("six", "numpy") if here else ("six",))


@pytest.mark.parametrize("selector", ["py>=36", "see issue 5", "linux and beos"])
def test_a_selector_that_is_none_is_refused(asked: Callable[..., Asked], selector: str) -> None:
    with pytest.raises(RequestError, match="not known"):
        asked("environment.yml", f"dependencies:\n- numpy  # [{selector}]\n")


@pytest.mark.parametrize(
    ("said", "python", "spec"),
    [
        ("python=3.11", "3.11", None),
        ("python =3.11", "3.11", None),
        ("python=3.11.4", "3.11.4", None),
        ("python 3.11.*", "3.11", None),
        ("python==3.11.4", "3.11.4", None),
        ("python==3.11", None, "python==3.11"),
        ("python 3.11", None, "python 3.11"),
        ("python >=3.11", None, "python >=3.11"),
    ],
)
def test_a_python_is_a_family_or_exact_as_to_conda(
    asked: Callable[..., Asked], said: str, python: str | None, spec: str | None
) -> None:
    found = asked("environment.yml", f"dependencies:\n- {said}\n- six\n")
    assert found.python == python
    assert found.conda == ((spec, "six") if spec else ("six",))


# -- requirements.txt ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("six==1.17 --no-deps", "--no-deps"),
        ("six --pre", "--pre"),
        ("--no-index", "UV_NO_INDEX"),
        ("--no-binary six", "never built here"),
        ("--fancy", "--fancy"),
    ],
)
def test_an_option_that_cannot_be_held_to_is_refused(asked: Callable[..., Asked], line: str, says: str) -> None:
    with pytest.raises(RequestError, match=says):
        asked("requirements.txt", f"tqdm\n{line}\n")


def test_a_variable_is_filled_in_as_by_pip(asked: Callable[..., Asked], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INDEX_HOST", "host.example")
    monkeypatch.delenv("NOT_SET", raising=False)
    found = asked("requirements.txt", "--index-url https://${INDEX_HOST}/${NOT_SET}/simple\nsix\n")
    assert found.index_url == "https://host.example/${NOT_SET}/simple"


@pytest.mark.parametrize("reference", ["main", "v1.0", COMMIT[:12], ""])
def test_a_lock_names_commits(listed: Callable[..., Listing], reference: str) -> None:
    pinned = f"six==1.17.0 --hash=sha256:{D}\n"
    text = pinned + "mine @ git+https://host/mine" + (f"@{reference}" if reference else "") + "\n"
    with pytest.raises(LockError, match="may move"):
        listed("requirements.txt", text)
    found = listed("requirements.txt", pinned + f"mine @ git+https://host/mine@{COMMIT}\n")
    assert [one.source for one in found.packages] == [f"git+https://host/mine@{COMMIT}", ""]


# -- locks ---------------------------------------------------------------------------------------


def test_extras_and_groups_that_a_pylock_has_not_are_refused(listed: Callable[..., Listing]) -> None:
    text = (
        "lock-version = '1.0'\ncreated-by = 'x'\nextras = ['GPU']\ndependency-groups = ['dev']\n[[packages]]\nname = 'six'\n"
        f"version = '1'\nmarker = \"'gpu' in extras\"\n"
        f"wheels = [{{ url = 'https://h/six-1-py3-none-any.whl', hashes = {{ sha256 = '{D}' }} }}]\n"
    )
    assert [one.name for one in listed("pylock.toml", text, extras=("Gpu",)).packages] == ["six"]
    assert listed("pylock.toml", text, groups=("dev",)).packages == ()
    with pytest.raises(LockError, match=r"has no extra 'tpu'. It has gpu"):
        listed("pylock.toml", text, extras=("tpu",))
    with pytest.raises(LockError, match=r"has no dependency group 'test'. It has dev"):
        listed("pylock.toml", text, groups=("test",))


@pytest.mark.parametrize(
    ("location", "source"),
    [
        (f"git+https://host/r?rev=main#{COMMIT}", f"git+https://host/r@{COMMIT}"),
        (f"git+https://host/r.git?subdirectory=in&tag=v1#{COMMIT}", f"git+https://host/r.git@{COMMIT}#subdirectory=in"),
        (f"git+https://host/r@{COMMIT}#subdirectory=in", f"git+https://host/r@{COMMIT}#subdirectory=in"),
        (f"git+ssh://git@host/r?branch=b#{COMMIT}", f"git+ssh://git@host/r@{COMMIT}"),
    ],
)
def test_a_commit_in_a_pixi_lock(listed: Callable[..., Listing], location: str, source: str) -> None:
    text = (
        f"version: 6\nenvironments:\n  default:\n    channels: []\n    packages:\n      linux-64:\n      - pypi: {location}\n"
        f"packages:\n- pypi: {location}\n  name: mine\n  version: '1'\n"
    )
    assert [one.source for one in listed("pixi.lock", text).packages] == [source]
    with pytest.raises(LockError, match="names no commit"):
        listed("pixi.lock", text.replace(COMMIT, "main"))


@pytest.fixture(scope="module")
def conflicting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A uv.lock, by uv, of a project whose extras exclude each other and change what a third package needs."""
    folder = tmp_path_factory.mktemp("uv")
    spec = importlib.util.spec_from_file_location("make_wheel", ROOT / "fixtures/wheels/make_wheel.py")
    assert spec is not None and spec.loader is not None
    maker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(maker)
    for version in ("1.0", "2.0"):
        maker.make_wheel(folder / "w", "tint", version)
    maker.make_wheel(folder / "w", "cloth", "1.0", requires=["tint"])
    maker.make_index(folder / "w", folder / "index")
    (folder / "pyproject.toml").write_text(
        "[project]\nname = 'my-project'\nversion = '0'\nrequires-python = '>=3.10'\ndependencies = ['cloth']\n"
        "[project.optional-dependencies]\nold-one = ['tint==1.0']\nnew = ['tint==2.0']\n"
        "[tool.uv]\nconflicts = [[{ extra = 'old-one' }, { extra = 'new' }]]\n"
    )
    environ = {"UV_DEFAULT_INDEX": (folder / "index/simple").as_uri(), "UV_NO_CONFIG": "1", "HOME": str(folder)}
    run(BIN / "uv", "lock", "--python", BIN / "python", environ=environ, cwd=folder)
    return folder / "uv.lock"


@pytest.mark.parametrize(
    ("extras", "version"), [((), "2.0"), (("old-one",), "1.0"), (("Old_One",), "1.0"), (("new",), "2.0")]
)
def test_the_conflicts_of_a_uv_lock_are_settled(conflicting: Path, extras: tuple[str, ...], version: str) -> None:
    found = read_lock_file(conflicting, LINUX, extras=extras)
    assert {one.name: one.version for one in found.packages} == {"cloth": "1.0", "tint": version}


def test_extras_that_exclude_each_other_are_refused(conflicting: Path) -> None:
    with pytest.raises(LockError, match="new and old-one exclude each other"):
        read_lock_file(conflicting, LINUX, extras=("old-one", "new"))


def test_a_uv_lock_for_another_python_is_refused(conflicting: Path) -> None:
    with pytest.raises(LockError, match=r"locked for Python >=3\.10, and 3\.9\.1"):
        read_lock_file(conflicting, Target.elsewhere("linux-64", "3.9.1"))


# -- addresses and machines ----------------------------------------------------------------------


@given(
    st.text("abc:/@?#[]%.\\ é1", max_size=30),
    st.sampled_from(["https://", "git+ssh://", "ftp://[", "", "x://user:pw@"]),
)
def test_any_address_is_cleaned(text: str, scheme: str) -> None:
    without_credentials(scheme + text)


@pytest.mark.parametrize(
    ("address", "bare"),
    [
        ("https://ada:pw@host/a?b#c", "https://host/a"),
        ("https://ada:pw@[host/a?token=x", "https://[host/a"),
        ("git+ssh://git:pw@host/r", "git+ssh://git@host/r"),
        ("ssh://git@host/r", "ssh://git@host/r"),
    ],
)
def test_no_secret_stays_in_an_address(address: str, bare: str) -> None:
    assert without_credentials(address) == bare


def test_markers_of_a_machine_that_conda_does_not_know() -> None:
    found = Target("linux-riscv64", "3.12.1").markers()
    assert (found["sys_platform"], found["platform_machine"], found["platform_system"]) == ("linux", "riscv64", "Linux")
