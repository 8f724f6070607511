"""What older Stillruns wrote is read, and what is written now is what the pages in docs/spec say."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # it ships no types

from stillrun_snapshot._block import block_bytes
from stillrun_snapshot._pack import CHUNK, OBJECT, RAW, entry_header
from stillrun_snapshot._pieces import scan_pack
from stillrun_snapshot.capture import CaptureLimits, capture_code
from stillrun_snapshot.digest import Digest, digest_of
from stillrun_snapshot.errors import ObjectMissing
from stillrun_snapshot.record import canonical_bytes
from stillrun_snapshot.store import Store
from stillrun_snapshot.tree import FileEntry, LinkEntry, put_tree, tree_files

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "fixtures" / "formats"
A, B = digest_of(b"a"), digest_of(b"b")


def validator(name: str) -> Draft202012Validator:
    schema = json.loads((ROOT / "docs" / "spec" / "schemas" / f"{name}-1.json").read_text())
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def test_a_pack_of_version_1_is_read(tmp_path: Path) -> None:
    listed = json.loads((GOLDEN / "pack/v1/sample.json").read_text())
    scan = scan_pack(GOLDEN / "pack/v1/sample.pack")
    found = [{"digest": entry.digest, "codec": entry.codec, "size": entry.size} for entry in scan.pieces]
    assert found == listed
    assert len(scan.damaged) == 1 and not scan.whole
    Store.open(tmp_path / "s").close()
    shutil.copy(GOLDEN / "pack/v1/sample.pack", tmp_path / "s/packs/0-0.pack")
    with Store.open(tmp_path / "s") as store:
        assert [store.verify(Digest(item["digest"])) for item in listed] == [item["size"] for item in listed]
        assert store.get(digest_of(b"behind the damage")) == b"behind the damage"
        with pytest.raises(ObjectMissing):
            store.get(digest_of(b"torn"))


def test_a_pack_of_version_2_is_read(tmp_path: Path) -> None:
    listed = json.loads((GOLDEN / "pack/v2/sample.json").read_text())
    scan = scan_pack(GOLDEN / "pack/v2/sample.pack")
    found = [{"digest": entry.digest, "kind": entry.kind, "size": entry.size} for entry in scan.pieces]
    assert found == listed
    assert len(scan.damaged) == 1 and not scan.whole
    Store.open(tmp_path / "s").close()
    shutil.copy(GOLDEN / "pack/v2/sample.pack", tmp_path / "s/packs/0-0.pack")
    with Store.open(tmp_path / "s") as store:
        objects = {Digest(item["digest"]): item["size"] for item in listed if item["kind"] != CHUNK}
        assert {digest: store.verify(digest) for digest in objects} == objects
        assert set(store.digests()) == objects.keys()
        large = b"one " * 20_000 + b"two " * 20_000 + b"one " * 20_000
        assert store.get(digest_of(large)) == large
        assert store.get(digest_of(b"an entry of version 1")) == b"an entry of version 1"
        for lost in (b"lost", b"torn"):
            with pytest.raises(ObjectMissing):
                store.get(digest_of(lost))


def test_the_examples_of_packs_hold() -> None:
    examples = (ROOT / "docs/spec/pack.md").read_text().split("```")
    entry, block = (bytes.fromhex("".join(examples[place].split())) for place in (1, 3))
    assert entry_header(digest_of(b"hello"), 0, 5, 5) + b"hello" == entry
    members = [(digest_of(data), OBJECT, len(data)) for data in (b"hello", b"world")]
    assert block_bytes(members, RAW, 0, 10, b"helloworld") + b"helloworld" == block


def test_a_log_of_version_1_is_read(tmp_path: Path) -> None:
    Store.open(tmp_path / "s").close()
    shutil.copy(GOLDEN / "log/v1/log", tmp_path / "s/log")
    with Store.open(tmp_path / "s") as store:
        events = [(event.seq, event.time, event.name, event.old, event.new) for event in store.refs.events()]
        assert events == [
            (1, "2026-11-23T04:00:01.123Z", "runs/Digits/1", None, A),
            (2, "2026-11-23T04:00:02.123Z", "runs/Digits/1", A, B),
            (3, "2026-11-23T04:00:03.123Z", "tags/grün", None, A),
            (4, "2026-11-23T04:00:04.123Z", "runs/Digits/1", B, None),
        ]
        assert store.refs.check() == 4
        assert dict(store.refs.names()) == {"tags/grün": A}


def test_a_tree_of_version_1_is_read_and_written_the_same(store: Store) -> None:
    data = (GOLDEN / "tree/v1/tree.json").read_bytes()
    store.put((GOLDEN / "tree/v1/lib.json").read_bytes())
    files = dict(tree_files(store, store.put(data)))
    assert files == {
        "flow.py": FileEntry(B, 1, executable=True),
        "latest": LinkEntry("lib/a.py"),
        "lib/a.py": FileEntry(A, 1),
        "ünï": FileEntry(A, 1),
    }
    assert put_tree(store, files) == digest_of(data)
    validator("tree").validate(json.loads(data))


def test_records_of_a_capture_match_their_schemas(store: Store, tmp_path: Path, git: Callable[..., str]) -> None:
    top = tmp_path / "work"
    (top / "lib").mkdir(parents=True)
    for name, text in (("flow.py", "f"), ("lib/a.py", "a"), (".env", "secret"), ("big.bin", "x" * 99)):
        (top / name).write_text(text)
    (top / "link").symlink_to("flow.py")
    limits = CaptureLimits(data_file=50)
    captures = [capture_code(store, top / "flow.py", limits=limits)]
    git(top, "init")
    captures.append(capture_code(store, top / "flow.py", limits=limits))
    git(top, "add", ".")
    git(top, "commit", "-m", "x")
    git(top, "remote", "add", "origin", "https://example.org/x")
    captures.append(capture_code(store, top / "flow.py", limits=limits))
    (top / "flow.py").write_text("changed")
    captures.append(capture_code(store, top / "flow.py", limits=limits))
    for captured in captures:
        code = store.get_record(captured.code, "code")
        validator("code").validate(code)
        assert len(code["left_out"]) == 2
        tree = store.get_record(captured.tree, "tree")
        validator("tree").validate(tree)
        assert store.get(captured.tree) == canonical_bytes(tree)


ARTIFACT: dict[str, Any] = {
    "schema": "stillrun/artifact/1",
    "codec": "pickle5",
    "parts": [{"digest": A, "size": 1}],
    "size": 1,
    "type": "builtins.str",
    "preview": "'a'",
    "canonical": {"scheme": "stillrun-canonical/2", "digest": B},
}


def test_the_schema_of_artifacts_says_what_the_page_says() -> None:
    validator("artifact").validate(ARTIFACT)
    validator("artifact").validate({**ARTIFACT, "canonical": None})
    changes: list[dict[str, Any]] = [{"parts": []}, {"codec": "pickle4"}, {"size": -1}, {"more": 1}, {"canonical": {}}]
    for change in changes:
        assert not validator("artifact").is_valid({**ARTIFACT, **change})


@pytest.mark.parametrize("name", ["README", "store", "pack", "log", "tree", "code", "artifact", "bundle"])
def test_links_between_pages_lead_somewhere(name: str) -> None:
    import re

    page = ROOT / "docs" / "spec" / f"{name}.md"
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_a_store_is_laid_out_as_its_page_says(store: Store) -> None:
    assert (store.root / "stillrun-store.json").read_bytes() == b'{"format":1,"schema":"stillrun/store/1"}\n'
    digest = store.put(bytes(65_536))
    store.put(b"small")
    store.refs.set([])
    store.close()
    assert (store.root / "objects" / digest.hex[:2] / digest.hex[2:]).read_bytes() == bytes(65_536)
    (pack,) = (store.root / "packs").iterdir()
    assert pack.read_bytes()[:16] == b"stillrun-pack/1\n"
    subprocess.run(["git", "init", "-q", "."], cwd=store.root.parent, check=True)
    status = ["git", "status", "--porcelain"]
    assert subprocess.run(status, cwd=store.root.parent, check=True, capture_output=True).stdout == b""
