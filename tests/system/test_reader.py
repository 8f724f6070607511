"""A stranger with Python and the pages in docs/spec reads what Stillrun wrote: `fixtures/reader`, with nothing of ours."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from tests.conftest import Commands

from stillrun_snapshot.digest import digest_of
from stillrun_snapshot.store import Store

FIXTURES = Path(__file__).parents[2] / "fixtures"
GOLDEN = FIXTURES / "formats" / "store" / "v2"
Objects = dict[str, bytes]


def loaded(path: Path) -> ModuleType:
    """A module of the fixtures."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def reader(store: Path, *words: str, code: int = 0) -> str:
    """What the reader says, run without anything that was installed."""
    command = [sys.executable, "-S", "-E", FIXTURES / "reader" / "reader.py", store, *words]
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == code, done.stderr
    return done.stdout.decode()


def extracted(store: Path, folder: Path) -> Objects:
    """Every object that the reader finds."""
    reader(store, "extract", "-o", str(folder))
    return {f"sha256:{path.name}": path.read_bytes() for path in folder.iterdir()}


def held(root: Path) -> tuple[Objects, list[str]]:
    """Every object and ref that Stillrun finds."""
    with Store.open(root) as store:
        refs = [f"{digest} {name}" for name, digest in sorted(store.refs.names())]
        return {str(digest): store.get(digest) for digest in store.digests()}, refs


def test_the_golden_store_is_read_alike_by_both(tmp_path: Path) -> None:
    root = shutil.copytree(GOLDEN, tmp_path / "store")
    theirs, refs = extracted(root, tmp_path / "out"), reader(root, "refs").splitlines()
    assert reader(root, "verify") == "33 objects, 13 refs, 15 lines of the log, 1 runs: sound\n"
    assert reader(root, "log").encode() == (GOLDEN / "log").read_bytes()
    assert (theirs, refs) == held(root)


def test_what_is_written_now_is_read_alike_by_both(tmp_path: Path) -> None:
    golden = loaded(FIXTURES / "formats" / "store" / "make_store.py")
    golden.make(tmp_path / "store")
    theirs, refs = extracted(tmp_path / "store", tmp_path / "out"), reader(tmp_path / "store", "refs").splitlines()
    assert (theirs, refs) == held(tmp_path / "store")
    assert {*golden.sample_objects().values()} <= {*theirs.values()}


def test_the_golden_remote_is_read(tmp_path: Path) -> None:
    found = extracted(FIXTURES / "formats" / "remote" / "v1", tmp_path)
    assert {b"", b"small", b"text that is packed " * 40} < {*found.values()}
    assert all(digest_of(data) == name for name, data in found.items())
    assert reader(FIXTURES / "formats" / "remote" / "v2", "list") == ""  # of the second version, swept


@pytest.mark.slow
def test_every_form_is_in_the_golden_store() -> None:
    assert {line.split()[2] for line in reader(GOLDEN, "list").splitlines()} == {"packed", "chunks", "loose"}
    assert 'artifact y: int "2"' in reader(GOLDEN, "run", "Tiny/20261126-074635-019j8")


@pytest.mark.slow
def test_what_is_changed_or_missing_is_told(tmp_path: Path) -> None:
    root = shutil.copytree(GOLDEN, tmp_path / "store")
    loose = next((root / "objects").glob("*/*"))
    loose.chmod(0o644)
    loose.write_bytes(b"x" + loose.read_bytes()[1:])
    assert f"{loose.parent.name}{loose.name}" in reader(root, "verify", code=1)
    reader(root, "cat", f"sha256:{loose.parent.name}{loose.name}", code=2)
    (root / "log").write_bytes((root / "log").read_bytes().replace(b"golden", b"silver"))
    reader(root, "log", code=2)


@pytest.mark.slow
def test_a_store_with_real_runs_is_read_alike_by_both(stillrun: Commands, tmp_path: Path) -> None:
    stillrun.write(
        "arrays.py",
        """
import numpy as np
from stillrun import FlowSpec, step

class Arrays(FlowSpec):
    @step
    def start(self):
        self.sorted = np.sort(np.random.default_rng(1).normal(size=60_000))
        self.table = "\\n".join(f"{n};{n * n};{n % 7}" for n in range(20_000))
        self.next(self.end)
    @step
    def end(self):
        self.again = self.table + "the end"
""",
    )
    stillrun.run("arrays.py")
    assert stillrun("store", "pack", "--all").code == 0
    theirs, refs = extracted(stillrun.store, tmp_path / "out"), reader(stillrun.store, "refs").splitlines()
    assert (theirs, refs) == held(stillrun.store)
    assert ": sound" in reader(stillrun.store, "verify")
    (tmp_path / "team").mkdir()
    assert stillrun("remote", "add", "team", str(tmp_path / "team")).code == 0
    assert stillrun("push", "--all").code == 0
    there = extracted(tmp_path / "team", tmp_path / "pushed")
    assert len(there) > 20
    assert all(theirs.get(name, data) == data for name, data in there.items())  # evidence is made when it is pushed
    assert reader(tmp_path / "team", "verify").endswith(": sound\n")


@pytest.mark.slow
@pytest.mark.parametrize("level", [-5, 1, 3, 6, 12, 19])
def test_frames_of_every_level_are_taken_apart(level: int) -> None:
    import random

    import zstandard

    frames, chance = loaded(FIXTURES / "reader" / "zstd_frames.py"), random.Random(level)
    samples = [
        b"",
        b"a",
        b"abc" * 1000,
        bytes(300_000),
        chance.randbytes(5000),
        bytes(chance.choice(b"ab") for _ in range(200_000)),
        bytes(int(chance.gauss(128, 10)) for _ in range(200_000)),
        " ".join(str(chance.random()) for _ in range(9_000)).encode(),
        (FIXTURES.parent / "docs" / "spec" / "run.md").read_bytes(),
        Path(sys.executable).read_bytes()[:400_000],
    ]
    for data in samples:
        for checksum in (False, True):
            frame = zstandard.ZstdCompressor(level=level, write_checksum=checksum).compress(data)
            assert frames.decompressed(frame, len(data)) == data
        for _ in range(10):
            bad = bytearray(frame)
            bad[chance.randrange(len(bad))] ^= 1 << chance.randrange(8)
            try:
                assert len(frames.decompressed(bytes(bad), len(data))) == len(data)
            except frames.FrameDamage:
                continue


def commands_of(page: str, place: int) -> str:
    """A block of commands of a page in docs/spec."""
    return (FIXTURES.parent / "docs" / "spec" / page).read_text().split("```sh\n")[place].split("```")[0]


def by_shell(commands: str, folder: Path) -> str:
    done = subprocess.run(["bash", "-c", commands], cwd=folder, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


@pytest.mark.slow
def test_what_pages_say_of_other_tools_finds_damage_and_nothing_else(tmp_path: Path) -> None:
    root = shutil.copytree(GOLDEN, tmp_path / "store")
    objects, chain = commands_of("store.md", 1), commands_of("log.md", 1)
    assert by_shell(objects, root) == "" and by_shell(chain, root) == ""
    (root / "log").write_bytes((root / "log").read_bytes().replace(b"the golden one", b"another one"))
    assert "does not continue the one before" in by_shell(chain, root)
    loose = next((root / "objects").glob("*/*"))
    loose.chmod(0o644)
    loose.write_bytes(b"x" + loose.read_bytes()[1:])
    assert f"{loose.parent.name}/{loose.name}: FAILED" in by_shell(objects, root)
