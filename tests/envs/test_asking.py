"""What decorators ask for."""

from __future__ import annotations

import pytest

from stillrun_envs.errors import RequestError
from stillrun_envs.request import EnvRequest


def asked(*decorators: tuple[str, dict[str, object]]) -> EnvRequest | None:
    return EnvRequest.from_decorators([{"name": name, "attributes": values, "line": 7} for name, values in decorators])


def test_no_decorator_means_the_callers_environment() -> None:
    assert asked() is None
    assert asked(("retry", {"times": 3})) is None


def test_versions_are_spelled_as_in_metaflow() -> None:
    packages = {"Alpha": "1.2", "beta": "", "gamma": "*", "delta": ">=1.5,<2", "eps[x]": "~=3.1", "zeta": "1.2.*"}
    request = asked(("pypi", {"packages": packages}))
    assert request is not None
    assert request.pypi == ("alpha==1.2", "beta", "delta<2,>=1.5", "eps[x]~=3.1", "gamma", "zeta==1.2.*")


def test_a_step_wins_over_its_flow_package_by_package() -> None:
    request = asked(
        ("pypi", {"packages": {"scikit_learn": "1.5"}, "python": None}),
        ("pypi_base", {"packages": {"scikit-learn": "1.4", "pandas": "2.2.3"}, "python": "3.11"}),
    )
    assert request is not None
    assert request.pypi == ("pandas==2.2.3", "scikit-learn==1.5")
    assert request.python == "3.11"


def test_disabled_in_a_step_removes_what_the_flow_asks() -> None:
    base = ("conda_base", {"packages": {"numpy": ""}})
    assert asked(base, ("conda", {"disabled": True})) is None
    assert asked(("pypi_base", {"packages": {"a": ""}, "disabled": True}), ("pypi", {"disabled": False})) is not None


def test_libraries_are_packages_and_channels_are_kept_in_order() -> None:
    request = asked(
        (
            "conda",
            {"libraries": {"numpy": "1.26", "bioconda::samtools": ">=1.2"}, "channels": ["b", "a"], "python": "3.11"},
        )
    )
    assert request is not None
    assert request.conda == ("bioconda::samtools >=1.2", "numpy ==1.26")
    assert request.channels == ("b", "a")


def test_conda_and_pypi_stand_together() -> None:
    request = asked(("conda_base", {"packages": {"numpy": ""}}), ("pypi", {"packages": {"six": ""}}))
    assert request is not None
    assert (request.conda, request.pypi, request.channels) == (("numpy",), ("six",), ("conda-forge",))


def test_an_empty_decorator_asks_for_python_alone() -> None:
    request = asked(("pypi", {"packages": {}}))
    assert request is not None
    assert request.pypi == ()


@pytest.mark.parametrize(
    ("decorator", "values", "said"),
    [
        ("pypi", {"packages": {"bad name": "1"}}, "package 'bad name'"),
        ("pypi", {"packages": {"alpha": "one two"}}, "'one two' is not a requirement"),
        ("pypi", {"packages": {"alpha": 1}}, "a name and its version are strings"),
        ("pypi", {"packages": ["alpha"]}, "packages is list, not a dict"),
        ("pypi", {"packages": {"a": "@ git+https://u:pw@host/a.git"}}, "https://host/a.git, which is source"),
        ("conda", {"packages": {"num py": "1"}}, "'num py' is not a conda package name"),
        ("conda", {"packages": {"numpy": "a b"}}, "write '1.2.3'"),
        ("pypi", {"python": "three"}, "python='three' is not a Python version"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(decorator: str, values: dict[str, object], said: str) -> None:
    with pytest.raises(RequestError) as refused:
        asked((decorator, values))
    assert said in str(refused.value)
    assert "pw" not in str(refused.value)


def test_two_pythons_for_one_step_are_refused() -> None:
    with pytest.raises(RequestError, match=r"@conda asks for Python 3.10 and @pypi asks for Python 3.11"):
        asked(("conda", {"python": "3.10"}), ("pypi", {"python": "3.11"}))


def test_the_request_id_forgets_credentials_and_order() -> None:
    one = asked(("pypi", {"packages": {"a": "1", "b": "2"}, "index_url": "https://u:secret@host/simple"}))
    two = asked(("pypi", {"packages": {"b": "2", "a": "1"}, "index_url": "https://host/simple"}))
    assert one is not None and two is not None
    assert one.request_id == two.request_id
    assert "secret" not in str(one.to_record())
