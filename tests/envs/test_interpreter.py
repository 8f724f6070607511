"""An interpreter is kept as an object and runs from wherever it is unpacked."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from stillrun_envs.discovery import describe_python, find_python
from stillrun_envs.errors import BuildError, InterpreterError
from stillrun_envs.interpreter import keep_interpreter, unpacked_interpreter
from stillrun_envs.lock import Interpreter
from stillrun_envs.memo import Memo
from stillrun_snapshot.store import Store

PYTHON = Path(sys.executable)

ASKED = "import sys, sysconfig, ssl, sqlite3, ctypes, zlib, hashlib, json; print(json.dumps([sys.prefix, sys.version]))"


def others() -> list[Path]:
    """One more Python of another version and one of the system's, where there are any."""
    pyenv = Path.home() / ".pyenv/versions"
    found = [*pyenv.glob("3.8.*/bin/python3.8"), *pyenv.glob("3.13.*/bin/python3.13")]
    return [path for path in [*sorted(found), Path("/usr/bin/python3")] if path.is_file()]


def kept(store: Store, python: Path, environ: dict[str, str]) -> Interpreter:
    with Memo(store) as memo:
        return keep_interpreter(describe_python(python, memo, environ), store, memo, environ)


def test_it_runs_from_the_store_and_needs_nothing_of_its_old_place(store: Store, environ: dict[str, str]) -> None:
    python = unpacked_interpreter(kept(store, PYTHON, environ), store, environ, lambda _: None)
    ended = subprocess.run([python, "-I", "-c", ASKED], capture_output=True, text=True, check=True)
    assert str(store.root) in ended.stdout
    ended = subprocess.run(["ldd", python], capture_output=True, text=True, check=True)
    assert sys.base_prefix not in ended.stdout


@pytest.mark.parametrize("python", others(), ids=str)
def test_pythons_of_other_makers_are_kept_too(store: Store, environ: dict[str, str], python: Path) -> None:
    interpreter = kept(store, python, environ)
    unpacked = unpacked_interpreter(interpreter, store, environ, lambda _: None)
    ended = subprocess.run(
        [unpacked, "-I", "-c", "import sys; print(sys.version)"], capture_output=True, text=True, check=True
    )
    assert ended.stdout.startswith(interpreter.version)
    assert interpreter.glibc and interpreter.libraries


def test_the_same_interpreter_is_the_same_object(tmp_path: Path, store: Store, environ: dict[str, str]) -> None:
    with Store.open(tmp_path / "empty") as empty:
        assert kept(empty, PYTHON, environ) == kept(store, PYTHON, environ)


def test_an_interpreter_is_packed_once(store: Store, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    first = kept(store, PYTHON, environ)
    monkeypatch.setattr("stillrun_envs.interpreter._packed", None)
    assert kept(store, PYTHON, environ) == first


def test_an_object_that_is_no_interpreter_is_refused(lonely: Store, environ: dict[str, str]) -> None:
    digest = lonely.put(b"not a tree")
    wrong = Interpreter("3.11.7", "cpython", "", "linux-x86_64", "bin/python3.11", digest)
    with pytest.raises(BuildError, match="is not one"):
        unpacked_interpreter(wrong, lonely, environ, lambda _: None)
    assert {path.suffix for path in (lonely.root / "pythons").iterdir()} <= {".lock", ".use"}


def test_a_damaged_interpreter_is_unpacked_again(lonely: Store, environ: dict[str, str]) -> None:
    interpreter = kept(lonely, PYTHON, environ)
    python = unpacked_interpreter(interpreter, lonely, environ, lambda _: None)
    victim = next(python.parent.parent.glob("lib/python*/json/decoder.py"))
    victim.write_text(victim.read_text() + "# edited\n")
    told: list[str] = []
    unpacked_interpreter(interpreter, lonely, environ, told.append)
    assert "json/decoder.py changed" in told[0]
    assert "# edited" not in victim.read_text()


def test_no_version_means_the_callers_python(store: Store, environ: dict[str, str]) -> None:
    with Memo(store) as memo:
        assert find_python(None, PYTHON, memo, environ).version == ".".join(map(str, sys.version_info[:3]))


def test_a_version_that_is_not_here_names_those_that_are(store: Store, environ: dict[str, str]) -> None:
    with Memo(store) as memo, pytest.raises(InterpreterError) as refused:
        find_python("3.99", PYTHON, memo, environ)
    assert "Python 3.99 is not on this machine; found" in str(refused.value)
    assert ".".join(map(str, sys.version_info[:3])) in str(refused.value)


def test_what_is_no_python_is_refused(store: Store, environ: dict[str, str]) -> None:
    with Memo(store) as memo, pytest.raises(InterpreterError, match="is not a Python"):
        describe_python(Path("/bin/true"), memo, environ)
