"""``import stillrun`` in a step's environment: light, lazy, standard library only."""

from __future__ import annotations

import subprocess
import sys

import pytest

from .driver import FACE, WANTED, python

HEAVY = ("inspect", "ast", "json", "typing", "dataclasses", "re", "pickle", "threading", "ctypes")


def modules_after(executable: str, statement: str) -> set[str]:
    code = f"import sys; sys.path.insert(0, {str(FACE)!r}); before = set(sys.modules); {statement}"
    code += "; print(*set(sys.modules) - before)"
    shown = subprocess.run([executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
    return set(shown.stdout.split())


@pytest.mark.parametrize("version", WANTED)
def test_import_loads_nothing_else(version: str) -> None:
    assert modules_after(python(version), "import stillrun") <= {"stillrun", "__future__"}


@pytest.mark.parametrize("version", WANTED)
def test_the_names_of_a_flow_file_load_nothing_heavy(version: str) -> None:
    statement = "from stillrun import FlowSpec, Parameter, JSONType, step, pypi, pypi_base, conda, conda_base, current"
    assert not modules_after(python(version), statement) & set(HEAVY)


def test_every_public_name_is_there() -> None:
    import stillrun

    for name in stillrun.__all__:
        assert getattr(stillrun, name) is not None
    assert set(stillrun.__all__) <= set(dir(stillrun))


def test_an_unknown_name_is_an_attribute_error() -> None:
    import stillrun

    with pytest.raises(AttributeError, match="retries"):
        stillrun.retries  # noqa: B018


def test_current_stays_an_object_when_its_module_was_imported_first() -> None:
    code = f"import sys; sys.path.insert(0, {str(FACE)!r}); import stillrun.context\n"
    code += "from stillrun import current; print(current.run_id)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout == "None\n"
