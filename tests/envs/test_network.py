"""The user's settings reach the index, and nothing else does."""

from __future__ import annotations

from pathlib import Path

import pytest

from stillrun_envs.location import without_credentials, without_credentials_in
from stillrun_envs.network import Network, index_environment


def test_pips_settings_serve_where_uv_has_none(tmp_path: Path) -> None:
    pips = {"PIP_INDEX_URL": "https://a/simple", "PIP_EXTRA_INDEX_URL": "https://b/simple", "PIP_CERT": "/c.pem"}
    found = index_environment({**pips, "PIP_FIND_LINKS": f"{tmp_path} /no/such/folder"})
    assert found["UV_DEFAULT_INDEX"] == "https://a/simple"
    assert found["UV_EXTRA_INDEX_URL"] == "https://b/simple"
    assert found["SSL_CERT_FILE"] == "/c.pem"
    assert found["UV_FIND_LINKS"] == str(tmp_path)


def test_uvs_own_settings_win_and_the_requests_before_them() -> None:
    environ = {"PIP_INDEX_URL": "https://pip/", "UV_INDEX_URL": "https://uv/", "UV_INDEX": "https://more/"}
    assert "UV_DEFAULT_INDEX" not in index_environment(environ)
    found = index_environment(environ, "https://asked/", ["https://extra/"])
    assert found["UV_DEFAULT_INDEX"] == "https://asked/"
    assert "UV_INDEX_URL" not in found
    assert found["UV_INDEX"] == "https://extra/ https://more/"


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("https://ada:pw@host:8/simple?token=x#f", "https://host:8/simple"),
        ("https://host/t/sec-ret/channel/linux-64", "https://host/channel/linux-64"),
        ("file:///a/b", "file:///a/b"),
        ("conda-forge", "conda-forge"),
    ],
)
def test_addresses_lose_their_credentials(url: str, kept: str) -> None:
    assert without_credentials(url) == kept


def test_text_loses_the_credentials_of_every_address_in_it() -> None:
    said = "error for (https://ada:pw@host/x), then http://b:pw2@c/d."
    assert without_credentials_in(said) == "error for (https://host/x), then http://c/d."


def test_netrc_and_index_addresses_give_credentials_to_their_host_only(tmp_path: Path) -> None:
    (tmp_path / ".netrc").write_text("machine files.example login bob password hidden\n")
    network = Network({"HOME": str(tmp_path)}, ("https://ada:p%40w@index.example/simple",))
    assert network.credentials("https://index.example/files/a.whl") == ("ada", "p@w")
    assert network.credentials("https://files.example/a.whl") == ("bob", "hidden")
    assert network.credentials("https://index.example:444/a.whl") is None
    assert network.credentials("http://index.example/a.whl") is None


@pytest.mark.parametrize(
    ("host", "proxy"),
    [
        ("pkgs.example", "http://proxy:3128"),
        ("a.inner.example", ""),
        ("inner.example", ""),
        ("thinner.example", "http://proxy:3128"),
    ],
)
def test_proxies_are_those_of_the_environment(host: str, proxy: str) -> None:
    network = Network({"https_proxy": "http://proxy:3128", "NO_PROXY": "localhost,.inner.example"})
    assert network.proxy(f"https://{host}/x") == proxy


def test_pips_files_serve_where_nothing_else_says_anything(tmp_path: Path) -> None:
    (tmp_path / ".config/pip").mkdir(parents=True)
    (tmp_path / ".config/pip/pip.conf").write_text(
        "[global]\nindex-url = https://conf/simple\nextra-index-url =\n  https://b\n  https://c\n"
    )
    environ = {"HOME": str(tmp_path)}
    found = index_environment(environ)
    assert (found["UV_DEFAULT_INDEX"], found["UV_EXTRA_INDEX_URL"]) == ("https://conf/simple", "https://b https://c")
    assert "PIP_INDEX_URL" not in index_environment({**environ, "UV_DEFAULT_INDEX": "https://uv"})
    assert "PIP_INDEX_URL" not in index_environment({**environ, "PIP_CONFIG_FILE": "/dev/null"})


def test_a_keyring_is_asked_where_uv_was_told_to(tmp_path: Path) -> None:
    program = tmp_path / "keyring"
    program.write_text('#!/bin/sh\n[ "$1 $3" = "get ada" ] && echo "of $2" || exit 1\n')
    program.chmod(0o755)
    environ = {"PATH": f"{tmp_path}:/usr/bin:/bin", "HOME": str(tmp_path), "UV_INDEX": "https://ada@host/simple"}
    told = {**environ, "UV_KEYRING_PROVIDER": "subprocess"}
    assert Network(told).credentials("https://host/files/a.whl") == ("ada", "of https://host/files/a.whl")
    assert Network(environ).credentials("https://host/files/a.whl") is None
