"""Targets: what wheels and markers are chosen for, on this machine and on others."""

from __future__ import annotations

import sys
import sysconfig
from pathlib import Path

import pytest
from packaging import markers, tags

from stillrun_envs.discovery import describe_python
from stillrun_envs.errors import LockError, RequestError
from stillrun_envs.memo import Memo
from stillrun_envs.platforms import PLATFORMS, Target, platform_of
from stillrun_snapshot.store import Store


def test_this_machine_takes_the_wheels_that_pip_takes(store: Store, environ: dict[str, str]) -> None:
    with Memo(store) as memo:
        target = Target.here(describe_python(Path(sys.executable), memo, environ))
    assert target.tags() == list(tags.sys_tags())
    assert platform_of(sysconfig.get_platform()) == target.platform


def test_this_machine_has_the_markers_that_pip_sees(store: Store, environ: dict[str, str]) -> None:
    with Memo(store) as memo:
        target = Target.here(describe_python(Path(sys.executable), memo, environ))
    here, told = {k: str(v) for k, v in markers.default_environment().items()}, target.markers()
    passing = {"platform_release", "platform_version", "extra"}  # of this very system: no lock may depend on them
    assert {k: v for k, v in told.items() if k not in passing} == {k: v for k, v in here.items() if k not in passing}


def test_a_linux_takes_what_its_c_library_can_load() -> None:
    found = [str(tag) for tag in Target.elsewhere("linux-aarch64", "3.12.1", ("__glibc=2.31",)).tags()]
    assert found[0] == "cp312-cp312-manylinux_2_31_aarch64"
    assert "cp312-cp312-manylinux2014_aarch64" in found
    assert "cp312-abi3-manylinux_2_17_aarch64" in found
    assert "py3-none-any" in found
    assert not any("2_32" in tag or "x86_64" in tag for tag in found)


def test_a_mac_takes_what_its_release_can_load() -> None:
    found = [str(tag) for tag in Target.elsewhere("osx-arm64", "3.11", ("__osx=14.2",)).tags()]
    assert "cp311-cp311-macosx_14_0_arm64" in found
    assert "cp311-cp311-macosx_11_0_universal2" in found
    assert not any("macosx_15" in tag or "manylinux" in tag for tag in found)


@pytest.mark.parametrize("name", PLATFORMS)
def test_every_platform_can_be_told_to_every_tool(name: str) -> None:
    target = Target.elsewhere(name, "3.12.1")
    assert target.uv_platform
    assert platform_of(target.sysconfig_platform) == name
    assert {one.split("=")[0] for one in target.virtual_packages()} >= {"__unix", "__archspec"}
    assert target.markers()["python_version"] == "3.12"


def test_a_platform_that_is_none_is_refused() -> None:
    with pytest.raises(RequestError, match=r"'plan9-64' is no platform.*linux-64"):
        Target.elsewhere("plan9-64", "3.12")
    with pytest.raises(LockError, match="use @pypi there"):
        platform_of("linux-sparc")
