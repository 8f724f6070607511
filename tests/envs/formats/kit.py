"""Listings to write, made of files that are there and of ones that need not be."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from hypothesis import strategies as st

from stillrun_envs.formats.listing import Listed, Listing
from stillrun_envs.platforms import Target
from stillrun_snapshot.digest import Digest, digest_of, digest_of_file

ROOT = Path(__file__).parents[3]
BIN = Path(sys.executable).parent
LINUX = Target.elsewhere("linux-64", "3.11.7")
MAC = Target.elsewhere("osx-arm64", "3.12")


def run(*words: str | Path, environ: dict[str, str] | None = None, cwd: Path | None = None, check: bool = True) -> str:
    """What a command says, which must succeed unless ``check`` is off."""
    done = subprocess.run(
        list(map(str, words)), env=environ, cwd=cwd, capture_output=True, text=True, check=False, timeout=300
    )
    assert not check or done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def wheel(name: str, version: str, url: str = "", **more: object) -> Listed:
    """A listed wheel that need not be there."""
    file = f"{name.replace('-', '_')}-{version}-py3-none-any.whl"
    values: dict[str, object] = {"digest": digest_of(file.encode()), "size": 100 + len(file)}
    return Listed("pypi", name, version, file, url or f"https://files.example/{file}", **{**values, **more})  # type: ignore[arg-type]


def archive(name: str, version: str, build: str = "h0_0", subdir: str = "linux-64", **more: object) -> Listed:
    """A listed conda archive that need not be there."""
    file = f"{name}-{version}-{build}.conda"
    values: dict[str, object] = {"digest": digest_of(file.encode()), "md5": digest_of(file.encode()).hex[:32]}
    url = f"https://conda.example/forge/{subdir}/{file}"
    return Listed("conda", name, version, file, url, build=build, subdir=subdir, **{**values, **more})  # type: ignore[arg-type]


def real_archives(channel: Path, *names: str) -> list[Listed]:
    """Archives of our own channel, as they are."""
    found = []
    for subdir in ("linux-64", "noarch"):
        index = json.loads((channel / subdir / "repodata.json").read_text("utf-8"))["packages.conda"]
        for file, facts in index.items():
            if f"{facts['name']}-{facts['version']}" in names or facts["name"] in names:
                path = channel / subdir / file
                assert hashlib.sha256(path.read_bytes()).hexdigest() == facts["sha256"]
                found.append(
                    Listed(
                        "conda",
                        facts["name"],
                        facts["version"],
                        file,
                        path.as_uri(),
                        Digest.parse(f"sha256:{facts['sha256']}"),
                        facts["md5"],
                        facts["size"],
                        facts["build"],
                        subdir,
                        tuple(facts["depends"]),
                    )
                )
    assert len(found) == len(names)
    return found


def real_wheel(path: Path, url: str = "", depends: Sequence[str] = ()) -> Listed:
    """A wheel file, as it is."""
    name, version = path.name.split("-")[:2]
    digest, size = digest_of_file(path)
    return Listed("pypi", name, version, path.name, url or path.as_uri(), digest, size=size, depends=tuple(depends))


_NAMES = st.from_regex(r"[a-z][a-z0-9]{0,8}(-[a-z0-9]{1,5})?", fullmatch=True)
_VERSIONS = st.from_regex(r"(0|[1-9][0-9]?)\.(0|[1-9][0-9]?)(\.(0|[1-9]))?", fullmatch=True)
_DIGESTS = st.binary(max_size=8).map(digest_of)
_HOSTS = st.sampled_from(["https://files.example", "http://127.0.0.1:8000/x", "file:///srv/wheels"])


@st.composite
def wheels(draw: st.DrawFn, sizes: bool = True, sources: bool = True) -> Listed:
    """Wheels and source archives of all kinds that have an address."""
    name, version, host = draw(_NAMES), draw(_VERSIONS), draw(_HOSTS)
    stem, form = (
        f"{name.replace('-', '_')}-{version}",
        draw(st.sampled_from(["whl", "sdist", "git"] if sources else ["whl"])),
    )
    depends = tuple(sorted(draw(st.sets(_NAMES.map(lambda one: f"{one}>=1"), max_size=2))))
    if form == "git":
        return Listed("pypi", name, version, "", "", source=f"git+https://git.example/{name}.git@{'a1' * 20}")
    file = f"{stem}-py3-none-any.whl" if form == "whl" else f"{stem}.tar.gz"
    url = f"{host}/{file}"
    size = draw(st.none() | st.integers(0, 1 << 40)) if sizes else None
    return Listed(
        "pypi",
        name,
        version,
        file,
        url,
        draw(_DIGESTS),
        size=size,
        depends=depends,
        source="" if form == "whl" else url,
    )


@st.composite
def archives(draw: st.DrawFn, sizes: bool = True) -> Listed:
    """conda archives."""
    depends = tuple(sorted(draw(st.sets(_NAMES.map(lambda one: f"{one} >=1,<2"), max_size=3))))
    return archive(
        draw(_NAMES),
        draw(_VERSIONS),
        draw(st.sampled_from(["h0_0", "py311_1", "pyhd8ed1ab_0"])),
        draw(st.sampled_from(["linux-64", "noarch"])),
        digest=draw(_DIGESTS),
        md5=draw(_DIGESTS).hex[:32],
        size=draw(st.none() | st.integers(0, 1 << 40)) if sizes else None,
        depends=depends,
    )


def listings(packages: st.SearchStrategy[Listed], **more: st.SearchStrategy[object]) -> st.SearchStrategy[Listing]:
    """Listings of such packages for a Linux, each name once."""
    chosen = st.lists(packages, max_size=6, unique_by=lambda one: (one.manager, one.name)).map(tuple)
    return st.builds(
        Listing, python=more.pop("python", st.just("")), platform=st.just("linux-64"), packages=chosen, **more
    )  # type: ignore[arg-type]
