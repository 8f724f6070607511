"""What decorators and the files they name ask for."""

from __future__ import annotations

from pathlib import Path

import pytest

from stillrun_envs.asking import platforms_of, request_from
from stillrun_envs.errors import RequestError
from stillrun_envs.platforms import Target
from stillrun_envs.request import EnvRequest

LINUX = Target.elsewhere("linux-64", "3.11.7")


def asked(*decorators: tuple[str, dict[str, object]], folder: Path = Path("/")) -> EnvRequest | None:
    said = [{"name": name, "attributes": values, "line": 7} for name, values in decorators]
    return request_from(said, folder, lambda _: LINUX)


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
        ("pypi", {"packages": {"a": "@ git+https://u:pw@host/a b c"}}, "is not a requirement"),
        ("pypi", {"packages": {"a": "@ ./nowhere"}}, "/nowhere, which is not there"),
        ("pypi", {"constraints": ["a b"]}, "'a b' is not a requirement"),
        ("pypi", {"exclude_newer": "yesterday"}, "neither a day nor a time"),
        ("pypi", {"exclude_newer": "2026-06-01T00:00:00"}, "names no time zone"),
        ("pypi", {"file": "nowhere.txt"}, "there is no file /nowhere.txt"),
        ("conda", {"virtual_packages": {"cuda": "12"}}, "no virtual package"),
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


def test_a_day_counts_whole_and_times_are_told_in_utc() -> None:
    assert EnvRequest(exclude_newer="2026-06-01").exclude_newer == "2026-06-02T00:00:00Z"
    assert EnvRequest(exclude_newer="2026-06-01T02:00:00+02:00").exclude_newer == "2026-06-01T00:00:00Z"


def test_a_folder_is_named_from_where_the_flow_lies(tmp_path: Path) -> None:
    (tmp_path / "libs" / "my lib").mkdir(parents=True)
    for spec in ("@ ./libs/my lib", "-e libs/my lib"):
        request = asked(("pypi", {"packages": {"mine": spec}}), folder=tmp_path)
        assert request is not None
        assert request.pypi == (f"mine @ {(tmp_path / 'libs/my%20lib').as_uri().replace('%25', '%')}",)


def test_files_come_before_packages_and_the_step_before_its_flow(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("alpha==1.0\nbeta>=2\n--index-url https://index.invalid/simple\n")
    (tmp_path / "more.txt").write_text("beta==3\n")
    request = asked(
        ("pypi_base", {"file": "requirements.txt", "packages": {"alpha": "1.5", "gamma": ""}}),
        ("pypi", {"file": "more.txt"}),
        folder=tmp_path,
    )
    assert request is not None
    assert request.pypi == ("alpha==1.5", "beta==3", "gamma")
    assert request.index_url == "https://index.invalid/simple"


def test_an_environment_file_brings_its_pip_section(tmp_path: Path) -> None:
    (tmp_path / "environment.yml").write_text(
        "channels: [mine]\ndependencies:\n  - python=3.11\n  - numpy>=1.26\n  - pip:\n    - six==1.17\n"
    )
    request = asked(("conda", {"file": "environment.yml"}), folder=tmp_path)
    assert request is not None
    assert (request.python, request.channels, request.pypi) == ("3.11", ("mine",), ("six==1.17",))
    assert [spec.replace(" ", "") for spec in request.conda or ()] == ["numpy>=1.26"]


def test_a_lock_leaves_no_room_for_packages(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text(f"six==1.17.0 --hash=sha256:{'a' * 64}\n")
    request = asked(("pypi", {"lock": "requirements.txt"}), folder=tmp_path)
    assert request is not None
    assert request.listing is not None
    assert [(one.name, one.version) for one in request.listing.packages] == [("six", "1.17.0")]
    with pytest.raises(RequestError, match="a lock says exactly which packages"):
        asked(("pypi", {"lock": "requirements.txt", "packages": {"numpy": ""}}), folder=tmp_path)


def test_a_lock_of_a_step_takes_the_place_of_its_flows_packages(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text(f"six==1.17.0 --hash=sha256:{'a' * 64}\n")
    base = ("pypi_base", {"packages": {"numpy": ""}})
    request = asked(base, ("pypi", {"lock": "requirements.txt"}), folder=tmp_path)
    assert request is not None
    assert request.listing is not None


def test_platforms_are_gathered_once() -> None:
    said = [{"name": "pypi", "attributes": {"platforms": ["osx-arm64", "linux-aarch64"]}}, {"name": "retry"}]
    assert platforms_of([*said, *said]) == ("linux-aarch64", "osx-arm64")
