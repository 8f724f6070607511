"""conda-lock.yml: what we write the real conda-lock parses, renders and installs; what it writes we read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.envs.formats.kit import BIN, LINUX, MAC, archive, archives, listings, real_archives, real_wheel, run
from tests.envs.formats.kit import wheel as listed_wheel
from tests.envs.formats.kit import wheels as some_wheels

from stillrun_envs.errors import LockError
from stillrun_envs.formats import read_lock_file, write_lock
from stillrun_envs.formats.listing import Listed, Listing


@pytest.mark.slow
def test_conda_lock_renders_and_installs_what_we_write(
    tmp_path: Path, channel: Path, wheelhouse: Path, conda: Path, offline: dict[str, str]
) -> None:
    packages = real_archives(channel, "python", "packaging", "greet-1.0")
    packages.append(real_wheel(wheelhouse / "beta-1.0-py3-none-any.whl", depends=["alpha<2"]))
    packages.append(real_wheel(wheelhouse / "alpha-1.0-py3-none-any.whl"))
    lock = tmp_path / "conda-lock.yml"
    lock.write_text(write_lock("conda-lock", Listing("", "linux-64", tuple(packages))), "utf-8")
    run(BIN / "conda-lock", "render", "-k", "explicit", "-p", "linux-64", lock, cwd=tmp_path, environ=offline)
    rendered = (tmp_path / "conda-linux-64.lock").read_text("utf-8")
    assert all(one.url in rendered for one in packages)
    run(BIN / "conda-lock", "install", "--conda", conda, "--prefix", tmp_path / "env", lock, environ=offline)
    program = "import alpha, beta, greet, packaging; print(alpha.__version__, greet.hello())"
    assert run(tmp_path / "env" / "bin" / "python", "-c", program, environ=offline) == "1.0 hello 1.0\n"


def test_we_read_what_conda_lock_writes(tmp_path: Path, channel: Path, conda: Path, offline: dict[str, str]) -> None:
    wanted = f"channels: [{channel.as_uri()}]\nplatforms: [linux-64]\ndependencies: [python, needs-old-greet]\n"
    (tmp_path / "environment.yml").write_text(wanted)
    run(BIN / "conda-lock", "lock", "--conda", conda, "-f", "environment.yml", cwd=tmp_path, environ=offline)
    listing = read_lock_file(tmp_path / "conda-lock.yml", LINUX)
    expected = real_archives(channel, "python", "needs-old-greet", "greet-1.0")
    assert {one.name: (one.digest, one.md5, one.build, one.url) for one in listing.packages} == {
        one.name: (one.digest, one.md5, one.build, one.url) for one in expected
    }
    assert listing.python.startswith("3.") and listing.channels == (channel.as_uri(),)
    needs = next(one.depends for one in listing.packages if one.name == "needs-old-greet")
    assert needs == ("greet <2", "python >=3.8")


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    listings(
        archives(sizes=False) | some_wheels(sizes=False),
        python=st.sampled_from(["", "3.11", "3.11.7"]),
        requested=st.sampled_from([(), ("greet <2", "alpha")]),
        channels=st.sampled_from([("https://conda.example/forge",), ("conda-forge", "https://b.example/c")]),
        virtual_packages=st.sampled_from([(), ("__glibc=2.28=0", "__unix=0=0")]),
    ),
    st.randoms(use_true_random=False),
)
def test_what_is_written_is_read_back_whatever_the_order(
    tmp_path_factory: pytest.TempPathFactory, listing: Listing, random: st.RandomSource
) -> None:
    """read(write(x)) == x, and write(x) does not depend on the order of x."""
    path = tmp_path_factory.getbasetemp() / "any.conda-lock.yml"
    text = write_lock("conda-lock", listing)
    path.write_text(text, "utf-8")
    assert read_lock_file(path, LINUX) == listing
    shuffled = list(listing.packages)
    random.shuffle(shuffled)
    other = replace(listing, packages=tuple(shuffled))
    assert write_lock("conda-lock", other) == text


def test_conda_locks_own_model_reads_every_kind_of_entry(tmp_path: Path, offline: dict[str, str]) -> None:
    git = Listed("pypi", "gamma", "3.0", "", "", source="git+https://git.example/gamma.git@" + "a1" * 20)
    packages = (
        archive("python", "3.11.7"),
        listed_wheel("alpha", "1.0", depends=("beta[x]>=1; sys_platform=='linux'",)),
        git,
    )
    path = tmp_path / "conda-lock.yml"
    path.write_text(write_lock("conda-lock", Listing("", "linux-64", packages, channels=("conda-forge",))), "utf-8")
    program = (
        "import pathlib, sys; from conda_lock.lockfile import parse_conda_lock_file as p; "
        "lock = p(pathlib.Path(sys.argv[1])); "
        "print(sorted((d.name, d.manager, d.source.url if d.source else '') for d in lock.package), "
        "lock.metadata.channels[0].url, [d.dependencies for d in lock.package if d.name == 'alpha'])"
    )
    said = run(BIN / "python", "-c", program, path, environ=offline)
    assert git.source in said and "conda-forge" in said and "{'beta': '>=1'}" in said


def test_credentials_do_not_get_into_the_file() -> None:
    secret = "https://user:hunter2@conda.example/t/tk-123/forge/linux-64/python-3.11.7-h0_0.conda"
    source = "git+https://token:hunter2@git.example/x.git@" + "a1" * 20
    packages = (archive("python", "3.11.7"), Listed("pypi", "x", "1", "", "", source=source))
    packages = (replace(packages[0], url=secret), packages[1])
    for form in ("conda-lock", "pixi"):
        text = write_lock(
            form, Listing("", "linux-64", packages, channels=("https://u:hunter2@conda.example/t/tk-1/a",))
        )
        assert "hunter2" not in text and "tk-1" not in text and "token" not in text


def test_the_category_main_is_taken_and_others_when_asked(tmp_path: Path) -> None:
    text = write_lock(
        "conda-lock", Listing("", "linux-64", (archive("python", "3.11.7"), listed_wheel("alpha", "1.0")))
    )
    path = tmp_path / "conda-lock.yml"
    path.write_text(text.replace("category: main\n  optional: false\n", "category: dev\n  optional: true\n"), "utf-8")
    with pytest.raises(LockError, match=r"no category 'docs'.*dev, main"):
        read_lock_file(path, LINUX, extras=["docs"])
    assert [one.name for one in read_lock_file(path, LINUX).packages] == []
    assert [one.name for one in read_lock_file(path, LINUX, groups=["dev"]).packages] == ["python", "alpha"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("version: 1", "version: 2"), "has format version 2, and version 1 is the one that is read"),
        (("name: alpha", "name: gamma"), "a file of alpha, for gamma"),
        (("python-3.11.7-h0_0", "python-3.11.8-h0_0"), "is python 3.11.7 with the address of python-3.11.8"),
        (("sha256: ", "sha256: x"), "where a SHA-256 of 64 hexadecimal digits is expected"),
        (("manager: conda", "manager: brew"), "where conda or pip is expected"),
        (("platforms:", "platforms: 3\n  xs:"), "where a list is expected"),
        (("hash:", "hash: &a"), "Correct|where|YAML|hash"),
    ],
)
def test_a_spoiled_lock_is_refused_in_a_sentence(tmp_path: Path, change: tuple[str, str], said: str) -> None:
    text = write_lock(
        "conda-lock", Listing("", "linux-64", (archive("python", "3.11.7"), listed_wheel("alpha", "1.0")))
    )
    path = tmp_path / "conda-lock.yml"
    path.write_text(text.replace(*change), "utf-8")
    if change[1].endswith("&a"):
        assert read_lock_file(path, LINUX).packages  # an anchor alone says nothing
        return
    with pytest.raises(LockError, match=said):
        read_lock_file(path, LINUX)


def test_another_platform_is_refused_with_the_command_to_run(tmp_path: Path) -> None:
    path = tmp_path / "conda-lock.yml"
    path.write_text(write_lock("conda-lock", Listing("3.11", "linux-64", ())), "utf-8")
    with pytest.raises(LockError) as caught:
        read_lock_file(path, MAC)
    assert str(caught.value) == (
        "conda-lock.yml is locked for linux-64, this is osx-arm64; lock it with "
        "'conda-lock lock -p osx-arm64' and name its sources."
    )


def test_packages_that_nobody_could_fetch_are_named(tmp_path: Path) -> None:
    kept = replace(listed_wheel("alpha", "1.0"), url="")
    for form in ("conda-lock", "pylock", "pixi"):
        with pytest.raises(LockError, match=r"alpha 1\.0 has none"):
            write_lock(form, Listing("3.11", "linux-64", (kept,)))
