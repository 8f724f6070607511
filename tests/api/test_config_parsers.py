"""Files that ask for packages, read as configurations."""

from __future__ import annotations

import pytest

from stillrun.config_parsers import (
    conda_environment_yml_parser,
    pyproject_toml_parser,
    requirements_txt_parser,
    yaml_parser,
)
from stillrun.errors import ParameterError


def test_requirements_are_packages_and_a_python() -> None:
    text = "# data\npandas==2.1\nnumpy >= 1.2, <2  # both\n\npython==3.11.*\nplain\nextra[a,b]==1\n"
    assert requirements_txt_parser(text) == {
        "packages": {"pandas": "2.1", "numpy": ">= 1.2, <2", "plain": "", "extra[a,b]": "1"},
        "python": "3.11.*",
    }


def test_a_project_and_an_environment_give_the_same() -> None:
    project = '[project]\nname = "x"\nrequires-python = ">=3.9"\ndependencies = ["requests>=2", "numpy==1.2"]\n'
    expected = {"packages": {"requests": ">=2", "numpy": "1.2"}, "python": ">=3.9"}
    assert pyproject_toml_parser(project) == expected
    environment = "dependencies:\n  - python=3.10\n  - numpy=1.2\n  - requests\n"
    found = conda_environment_yml_parser(environment)
    assert found == {"packages": {"numpy": "1.2", "requests": ""}, "python": "3.10"}
    assert yaml_parser("a: [1]") == {"a": [1]}


@pytest.mark.parametrize(
    ("parser", "text"),
    [
        (requirements_txt_parser, "-r other.txt"),
        (requirements_txt_parser, "@@"),
        (pyproject_toml_parser, "[tool.x]\n"),
        (conda_environment_yml_parser, "dependencies:\n  - pip:\n    - x\n"),
    ],
)
def test_what_they_cannot_say_is_refused(parser: object, text: str) -> None:
    with pytest.raises(ParameterError):
        parser(text)  # type: ignore[operator]  # it is one of the functions above
