"""What an index page says, in both of its forms, and which source archive is taken."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from packaging.specifiers import SpecifierSet

from stillrun_envs.errors import FetchError
from stillrun_envs.network import Network
from stillrun_envs.simple_index import Indexes, files_of, newest_sdist

Site = Any  # the server in conftest.py
D = hashlib.sha256(b"x").hexdigest()


def page(site: Site, name: str, text: str) -> Indexes:
    folder = Path(site.folder) / "pages" / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "index.html").write_text(text)
    return Indexes((f"{site.url}/pages",))


def test_a_page_is_read_with_all_that_it_says(broken_index: Site) -> None:
    text = (
        f'<a href="../../f/fern-1.0.tar.gz#sha256={D}" data-requires-python="&gt;=3.9">x</a>'
        '<a href="https://other/fern-2.0-py3-none-any.whl" data-yanked="bad">x</a><a href="fern_else-1.0.zip">x</a>'
    )
    first, second = files_of("fern", page(broken_index, "fern", text), Network({}))
    assert (first.file, first.version, first.requires_python) == ("fern-1.0.tar.gz", "1.0", ">=3.9")
    assert first.url == f"{broken_index.url}/f/fern-1.0.tar.gz"
    assert first.digest is not None
    assert first.digest.hex == D
    assert (second.url, second.yanked) == ("https://other/fern-2.0-py3-none-any.whl", True)


def test_json_says_the_same_and_when(tmp_path: Path) -> None:
    from stillrun_envs.simple_index import _of_json

    files = [
        {"filename": "fern-1.0.tar.gz", "url": "/f/fern-1.0.tar.gz", "hashes": {"sha256": D}, "size": 7,
         "upload-time": "2026-05-01T10:00:00.123456789Z", "yanked": False},
    ]  # fmt: skip
    (one,) = _of_json(json.dumps({"files": files}).encode(), "https://index/simple/fern/")
    assert (one.url, one.size, str(one.uploaded)) == ("https://index/f/fern-1.0.tar.gz", 7, "2026-05-01 10:00:00+00:00")
    with pytest.raises(FetchError, match="is not a package index's"):
        list(_of_json(b"[]", "https://ada:secret@index/"))


def test_folders_count_and_what_no_index_knows_is_nothing(broken_index: Site, wheelhouse: Path) -> None:
    indexes = Indexes((f"{broken_index.url}/simple", wheelhouse.parent.as_uri()), (str(wheelhouse),))
    found = files_of("alpha", indexes, Network({}))
    assert [one.file for one in found] == ["alpha-1.0-py3-none-any.whl", "alpha-2.0-py3-none-any.whl"]
    assert all(one.url.startswith("file://") for one in found)
    assert files_of("no-such-thing", indexes, Network({})) == []


def test_an_index_that_wants_credentials_says_so(broken_index: Site) -> None:
    broken_index.protected = True
    with pytest.raises(FetchError, match="HTTP 401"):
        files_of("alpha", Indexes((f"{broken_index.url}/simple",)), Network({}))


def test_the_newest_source_that_fits_is_taken(broken_index: Site) -> None:
    text = "".join(
        f'<a href="fern-{version}.tar.gz"{extra}>x</a>'
        for version, extra in (
            ("1.0", ""), ("2.0", ""), ("2.5", ' data-requires-python="&gt;=3.99"'), ("3.0rc1", ""), ("2.9", " data-yanked"),
        )
    )  # fmt: skip
    files = files_of("fern", page(broken_index, "fern", text), Network({}))

    def chosen(wanted: str, *, prereleases: bool = False, before: str | None = None) -> str | None:
        one = newest_sdist(files, SpecifierSet(wanted), "3.11.7", before=before, prereleases=prereleases)
        return None if one is None else one.version

    assert chosen("") == "2.0"
    assert chosen("<2") == "1.0"
    assert chosen("", prereleases=True) == "3.0rc1"
    assert chosen("==2.9") == "2.9"  # withdrawn, and asked for exactly
    assert chosen(">=4") is None
    assert chosen("", before="2026-01-01T00:00:00Z") is None  # this index does not say when
