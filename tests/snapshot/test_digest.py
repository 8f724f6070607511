from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillrun_snapshot.digest import Digest, digest_of, digest_of_file
from stillrun_snapshot.errors import StoreError


@given(st.binary(max_size=300))
def test_digest_is_the_sha256_that_other_tools_print(data: bytes) -> None:
    assert digest_of(data) == "sha256:" + hashlib.sha256(data).hexdigest()
    assert digest_of(memoryview(data)) == digest_of(data)


@given(st.binary(max_size=100))
def test_parse_gives_back_what_was_named(data: bytes) -> None:
    """parse(str(d)) == d, and of_raw(d.raw) == d."""
    digest = digest_of(data)
    assert Digest.parse(str(digest)) == digest
    assert Digest.of_raw(digest.raw) == digest
    assert len(digest.hex) == 64


@pytest.mark.parametrize(
    "text", ["", "sha256:", "sha256:" + "A" * 64, "md5:" + "0" * 64, "sha256:" + "0" * 65, None, 3]
)
def test_parse_refuses_what_is_no_digest(text: object) -> None:
    with pytest.raises(StoreError, match="not a digest"):
        Digest.parse(text)
    with pytest.raises(StoreError, match="not a digest"):
        Digest(text)  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [0, 1, 1 << 20, (1 << 20) + 1, 3 << 20])
def test_a_file_has_the_digest_of_its_bytes(tmp_path: Path, size: int) -> None:
    data = bytes(index % 251 for index in range(1000)) * (size // 1000 + 1)
    (tmp_path / "file").write_bytes(data[:size])
    assert digest_of_file(tmp_path / "file") == (digest_of(data[:size]), size)
