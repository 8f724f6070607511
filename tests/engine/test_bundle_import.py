"""What a bundle may be, and that nothing is taken from one that is anything else."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # it ships no types
from tests.carrying import Members, canonical, forged, members_of, name_of, with_contents, with_sums
from tests.conftest import Commands

from stillrun_engine.archive import open_run
from stillrun_engine.bundle import BundleRefused
from stillrun_engine.bundle_export import write_bundle
from stillrun_engine.bundle_import import import_bundle
from stillrun_engine.errors import EngineError
from stillrun_engine.pathspec import parse_pathspec
from stillrun_engine.signing import keys_of, signatures_of
from stillrun_snapshot.digest import Digest, digest_of
from stillrun_snapshot.ed25519 import PublicKey
from stillrun_snapshot.keys import revoked
from stillrun_snapshot.logtree import LogTree
from stillrun_snapshot.refs import RefChange
from stillrun_snapshot.store import Store

SCHEMAS = Path(__file__).parents[2] / "docs" / "spec" / "schemas"
FLOW = """
from stillrun import FlowSpec, Parameter, step

class Tiny(FlowSpec):
    size = Parameter("size", default=3)
    @step
    def start(self):
        self.items = list(range(self.size))
        self.next(self.work, foreach="items")
    @step
    def work(self):
        self.big = bytes([self.input]) * 100_000
        print("worked")
        self.next(self.join)
    @step
    def join(self, inputs):
        self.total = sum(len(task.big) for task in inputs)
        self.next(self.end)
    @step
    def end(self):
        pass
"""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory, interpreter_store: Path) -> Path:
    """One run, tagged, without its packages."""
    folder = tmp_path_factory.mktemp("made")
    made = Commands(folder, shutil.copytree(interpreter_store, folder / "store"))
    made.write("lib/deep/helper.py", "X = 1\n")
    made.write("tiny.py", FLOW)
    run = made.run("tiny.py")
    assert made("tag", "add", run, "good").code == 0
    done = made("export", run, "-o", "tiny.bundle", "--without", "packages", "--json")
    assert done.code == 0, done.err
    assert [one["kind"] for one in done.json["left_out"]] == ["package"]
    return folder / "tiny.bundle"


@pytest.fixture
def members(bundle: Path) -> Members:
    return members_of(bundle)


@pytest.fixture
def here(tmp_path: Path) -> Store:
    """A store that has something of its own."""
    store = Store.open(tmp_path / "here")
    store.refs.set([RefChange("runs/Own/1", store.put_record({"schema": "stillrun/run/1"}))])
    return store


def state(store: Store) -> tuple[set[Digest], dict[str, Digest], list[str]]:
    """All that a store holds and says, and what lies about in it."""
    left = [path.name for name in ("tmp", "locks") for path in (store.root / name).iterdir()]
    left = [name for name in left if name != "gate" and not name.startswith("writer-")]
    return set(store.digests()), dict(store.refs.names()), left


def refused(store: Store, path: Path, *says: str) -> None:
    """The file is refused in one sentence, and the store is as it was."""
    before = state(store)
    with pytest.raises(BundleRefused) as caught:
        import_bundle(store, path)
    for word in (*says, str(path), "Nothing was taken from it."):
        assert word in str(caught.value)
    assert state(store) == before


def replaced(members: Members, index: int, data: bytes) -> Members:
    """``members`` with other bytes under the same name."""
    return [*members[:index], (members[index][0], data), *members[index + 1 :]]


def records_of(members: Members, schema: str) -> list[tuple[int, dict[str, Any]]]:
    """Where records of a schema stand."""
    found = [(index, data) for index, (_, data) in enumerate(members) if data[:1] == b"{"]
    parsed = [(index, json.loads(data)) for index, data in found[1:]]
    return [(index, record) for index, record in parsed if record.get("schema") == schema]


def test_a_bundle_is_what_its_page_says(bundle: Path, members: Members) -> None:
    assert with_contents(members)[-1][1] in bundle.read_bytes()
    contents = json.loads(members[0][1])
    for name, record in (
        ("bundle", contents),
        *(("log-excerpt", r) for _, r in records_of(members, "stillrun/log-excerpt/1")),
    ):
        Draft202012Validator(json.loads((SCHEMAS / f"{name}-1.json").read_text())).validate(record)
    assert [name for name, _ in members[1:]] == sorted({name_of(data) for _, data in members[1:]})
    assert {name.split("/")[0] for name in contents["refs"]} == {"runs", "tasks", "evidence", "tags"}


def test_a_bundle_put_together_again_is_the_same_file(bundle: Path, members: Members, tmp_path: Path) -> None:
    assert forged(tmp_path / "again", with_contents(members)).read_bytes() == bundle.read_bytes()


def test_what_was_taken_in_is_there_and_gives_the_same_bundle(bundle: Path, here: Store, tmp_path: Path) -> None:
    carried = import_bundle(here, bundle)
    assert (carried.added, carried.new) == (True, carried.objects)
    run = open_run(here, parse_pathspec(carried.runs[0]))
    assert (run.status, len(run.tasks())) == ("ok", 6)
    assert here.get_record(here.refs.get(f"tags/{run.pathspec}") or digest_of(b""), "tags")["tags"] == ["good"]
    for digest in here.digests():
        here.verify(digest)
    again = import_bundle(here, bundle)
    assert (again.added, again.new) == (False, 0)
    with open(tmp_path / "again", "wb") as out:
        write_bundle(here, [run], out, without=["package"])
    assert (tmp_path / "again").read_bytes() == bundle.read_bytes()


def test_what_only_part_of_is_here_is_made_whole(bundle: Path, members: Members, here: Store) -> None:
    for _, data in members[1::2]:
        here.put(data)
    carried = import_bundle(here, bundle)
    assert carried.new == len(members[2::2])
    assert import_bundle(here, bundle, check_only=True).objects == len(members) - 1


def test_checking_alone_takes_nothing_in(bundle: Path, here: Store) -> None:
    before = state(here)
    assert import_bundle(here, bundle, check_only=True).objects > 20
    assert state(here) == before


@pytest.mark.parametrize("part", [0, 1, 511, 512, 5_000, -1, -1024, -1025, -200_000])
def test_a_file_that_was_cut_off_is_refused(bundle: Path, here: Store, tmp_path: Path, part: int) -> None:
    cut = tmp_path / "cut"
    cut.write_bytes(bundle.read_bytes()[:part])
    refused(here, cut)


def test_any_changed_byte_is_found(bundle: Path, here: Store, tmp_path: Path) -> None:
    data, chance = bytearray(bundle.read_bytes()), random.Random(5)
    places = [
        *range(0, 512, 37),
        *(chance.randrange(len(data)) for _ in range(60)),
        *range(len(data) - 1024, len(data), 300),
    ]
    for place in places:
        data[place] ^= 1 << chance.randrange(8)
        (tmp_path / "bad").write_bytes(data)
        with pytest.raises(BundleRefused):
            import_bundle(here, tmp_path / "bad")
        data[:] = bundle.read_bytes()
    assert dict(here.refs.names()).keys() == {"runs/Own/1"}


@pytest.mark.parametrize("tail", [b"\0", b"x", bytes(512), bytes(9216)])
def test_what_follows_the_end_is_refused(bundle: Path, here: Store, tmp_path: Path, tail: bytes) -> None:
    (tmp_path / "bad").write_bytes(bundle.read_bytes() + tail)
    refused(here, tmp_path / "bad", "does not end where it should")


@pytest.mark.parametrize(
    "header",
    [
        {"type": b"2", "linkname": "/etc/passwd"},
        {"type": b"1", "linkname": "stillrun-bundle.json"},
        {"name": "/etc/cron.d/x"},
        {"name": "objects/../../x"},
        {"name": "../x"},
        {"mode": 0o4755},
        {"size": 8**12},
        {"size": 2**70},
    ],
    ids=str,
)
def test_other_members_are_refused(members: Members, here: Store, tmp_path: Path, header: dict[str, Any]) -> None:
    refused(here, forged(tmp_path / "bad", with_contents(members), **header))


def test_a_file_of_another_kind_is_refused(here: Store, tmp_path: Path) -> None:
    for number, data in enumerate((b"", b"PK\3\4" * 400, bytes(20_000), b'{"schema":"stillrun/bundle/1"}')):
        (tmp_path / f"bad{number}").write_bytes(data)
        refused(here, tmp_path / f"bad{number}")
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(EngineError, match="there is no bundle at"):
            import_bundle(here, path)


def first_is_twice(members: Members) -> Members:
    return with_sums([*members[:2], *members[1:]])


def out_of_order(members: Members) -> Members:
    return with_sums([members[0], members[2], members[1], *members[3:]])


def one_is_missing(members: Members) -> Members:
    return with_contents(members[:-1])


def one_more(members: Members) -> Members:
    return with_contents([*members, (name_of(b"stray"), b"stray")])


def other_bytes(members: Members) -> Members:
    return with_contents(replaced(members, 3, members[3][1] + b" "))


def other_sums(members: Members) -> Members:
    made = with_contents(members)
    return [*made[:-1], ("SHA256SUMS", made[-1][1].replace(b"a", b"b", 1))]


def stray_member(members: Members) -> Members:
    return with_sums([*members, ("zz", b"hello")])


def no_contents(members: Members) -> Members:
    return with_sums(members[1:])


@pytest.mark.parametrize(
    ("forge", "says"),
    [
        (first_is_twice, "twice or out of order"),
        (out_of_order, "twice or out of order"),
        (one_is_missing, "not in it"),
        (one_more, "needed for nothing"),
        (other_bytes, "another name"),
        (other_sums, "SHA256SUMS does not list"),
        (stray_member, "'zz' does not belong"),
        (no_contents, "does not begin with stillrun-bundle.json"),
    ],
)
def test_other_objects_are_refused(
    members: Members, here: Store, tmp_path: Path, forge: Callable[[Members], Members], says: str
) -> None:
    refused(here, forged(tmp_path / "bad", forge(members)), says)


def run_of(contents: dict[str, Any]) -> str:
    return str(contents["runs"][0])


CHANGES: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "newer": (lambda c: c.update(schema="stillrun/bundle/3"), "stillrun/bundle/3"),
    "older": (lambda c: c.update(schema="stillrun/bundle/2"), "in the one form"),
    "unknown key": (lambda c: c.update(more=1), "in the one form"),
    "more objects": (lambda c: c.update(objects=c["objects"] + 1), "says that it has"),
    "fewer objects": (lambda c: c.update(objects=3), "more objects than it says"),
    "fewer bytes": (lambda c: c.update(bytes=3), "more objects than it says"),
    "text for a number": (lambda c: c.update(objects="9"), "amounts"),
    "no runs": (lambda c: c.update(runs=[]), "runs"),
    "runs of another shape": (lambda c: c.update(runs=[["a", "b"]]), "not what the format says"),
    "an unknown run": (lambda c: c.update(runs=["Other/1"]), "runs/Other/1"),
    "a path for a run": (lambda c: c.update(runs=["../.."]), "runs/../.."),
    "a ref of another run": (lambda c: c["refs"].update({"runs/Any/1": c["refs"][f"runs/{run_of(c)}"]}), "runs/Any/1"),
    "a ref of another kind": (lambda c: c["refs"].update(log=c["refs"][f"runs/{run_of(c)}"]), "'log'"),
    "a task less": (lambda c: c["refs"].pop(f"tasks/{run_of(c)}/end/0"), "something else"),
    "a task for a task": (
        lambda c: c["refs"].update({f"tasks/{run_of(c)}/end/0": c["refs"][f"tasks/{run_of(c)}/join/0"]}),
        "something else",
    ),
    "a run that leads nowhere": (lambda c: c["refs"].update({f"runs/{run_of(c)}": digest_of(b"?")}), "not in it"),
    "no evidence": (lambda c: c["refs"].pop(f"evidence/{run_of(c)}"), "evidence"),
    "no digest": (lambda c: c["refs"].update({f"runs/{run_of(c)}": "../../etc"}), "not a digest"),
    "a lock's hints": (
        lambda c: c["refs"].update({"locks/" + "0" * 64: c["refs"][f"evidence/{run_of(c)}"]}),
        "lock-hints",
    ),
    "left out and here": (
        lambda c: c["left_out"].append({**c["left_out"][0], "digest": c["refs"][f"runs/{run_of(c)}"]}),
        "",
    ),
    "left out and not needed": (lambda c: c["left_out"][0].update(digest=digest_of(b"?")), "needed"),
    "left out of no kind": (lambda c: c["left_out"][0].update(kind="record"), "left out"),
    "nothing left out": (lambda c: c.update(left_out=[]), "is needed and not in it"),
}


@pytest.mark.parametrize("name", sorted(CHANGES))
def test_contents_that_say_something_else_are_refused(members: Members, here: Store, tmp_path: Path, name: str) -> None:
    change, says = CHANGES[name]
    refused(here, forged(tmp_path / "bad", with_contents(members, change)), says)


def with_record(members: Members, schema: str, change: Callable[[dict[str, Any]], Any]) -> Members:
    """Another record of a schema, and everything that its name stands in changed too: a bundle that fits together."""
    index, record = records_of(members, schema)[-1]
    change(record)
    return with_contents(renamed(members, index, canonical(record)))


def renamed(members: Members, index: int, data: bytes) -> Members:
    """``members`` with other bytes at one place, and their new name put wherever the old one stands, and so on."""
    old, new = (
        members[index][0].replace("objects/", "").replace("/", ""),
        name_of(data).replace("objects/", "").replace("/", ""),
    )
    found = [*members[:index], (name_of(data), data), *members[index + 1 :]]
    for place in range(len(found)):
        content = found[place][1]
        if place != index and old.encode() in content:
            changed = content.replace(old.encode(), new.encode())
            found = replaced(found, place, changed) if place == 0 else renamed(found, place, changed)
    return found


RECORDS: dict[str, tuple[str, Callable[[dict[str, Any]], Any], str]] = {
    "run of another name": ("run", lambda r: r.update(run="20200101-000000-000aa"), "something else"),
    "run without steps": ("run", lambda r: r.pop("steps"), "not what they should be"),
    "run whose tasks are text": ("run", lambda r: r.update(tasks="none"), "not what they should be"),
    "task of another step": ("task", lambda r: r.update(step="other"), "something else"),
    "task without artifacts": ("task", lambda r: r.pop("artifacts"), "not what they should be"),
    "task whose files are numbers": ("task", lambda r: r.update(files=[1]), "not what they should be"),
    "artifact without parts": ("artifact", lambda r: r.pop("parts"), "not what they should be"),
    "tree that leads out": ("tree", lambda r: r["entries"][0].update(name=".."), "not sound"),
    "evidence with a gap": ("log-excerpt", lambda r: r["events"].pop(0), "log"),
    "evidence cut off": ("log-excerpt", lambda r: r["events"].pop(), "log"),
    "evidence of another time": ("log-excerpt", lambda r: r["events"][0].update(time="2020-01-01T00:00:00.000Z"), "not continue"),
    "evidence of another ref": ("log-excerpt", lambda r: r["events"][0].update(ref="runs/Own/1"), "log"),
    "evidence of another run": ("log-excerpt", lambda r: r.update(run="Own/1"), "no excerpt"),
    "tags of another run": ("tags", lambda r: r.update(run="Own/1"), "something else"),
    "tags without tags": ("tags", lambda r: r.pop("tags"), "it has no 'tags'"),
    "a machine of no system": ("run", lambda r: r["machine"].pop("system"), "it.machine has no 'system'"),
    "a step on no line": ("description", lambda r: r["steps"][1].pop("line"), "it.steps[1] has no 'line'"),
    "code of another file": ("code", lambda r: r.update(flow_file="/etc/passwd"), "has no such file"),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(RECORDS))
def test_records_that_are_not_what_they_claim_are_refused(
    members: Members, here: Store, tmp_path: Path, name: str
) -> None:
    schema, change, says = RECORDS[name]
    refused(here, forged(tmp_path / "bad", with_record(members, f"stillrun/{schema}/1", change)), says)


def test_records_nested_deeper_than_any_are_refused(members: Members, here: Store, tmp_path: Path) -> None:
    deep = b'{"schema":"stillrun/bundle/1","runs":' + b"[" * 100_000
    refused(here, forged(tmp_path / "bad", with_sums([(members[0][0], deep), *members[1:]])))


def test_a_run_of_the_same_name_and_another_record_is_refused(bundle: Path, members: Members, here: Store) -> None:
    name = json.loads(members[0][1])["runs"][0]
    here.refs.set([RefChange(f"runs/{name}", here.put_record({"schema": "stillrun/run/1", "flow": "another"}))])
    before = state(here)
    with pytest.raises(EngineError, match=f"has another {name}"):
        import_bundle(here, bundle)
    assert state(here) == before


def test_tags_that_are_here_stay(bundle: Path, here: Store) -> None:
    carried = import_bundle(here, bundle)
    ref = f"tags/{carried.runs[0]}"
    other = here.put_record({"schema": "stillrun/tags/1", "run": carried.runs[0], "tags": ["mine"]})
    here.refs.set([RefChange(ref, other)])
    import_bundle(here, bundle)
    assert here.refs.get(ref) == other
    here.refs.set([RefChange(ref, None)])
    import_bundle(here, bundle)
    assert here.refs.get(ref) is None


def test_a_damaged_object_is_named_and_no_file_is_written(bundle: Path, here: Store, tmp_path: Path) -> None:
    import_bundle(here, bundle)
    name = json.loads(members_of(bundle)[0][1])["runs"][0]
    loose = next(path for path in (here.root / "objects").glob("*/*"))
    loose.chmod(0o644)
    loose.write_bytes(loose.read_bytes()[:-1] + b"?")
    with open(tmp_path / "out", "wb") as out, pytest.raises(Exception, match=loose.name):
        write_bundle(here, [open_run(here, parse_pathspec(name))], out, without=["package"])


def test_a_bundle_of_version_2_brings_signatures(here: Store) -> None:
    golden = Path(__file__).parents[2] / "fixtures" / "formats" / "bundle" / "v2"
    schema = json.loads((SCHEMAS / "bundle-2.json").read_text())
    Draft202012Validator.check_schema(schema)
    Draft202012Validator(schema).validate(json.loads(members_of(golden / "signed.bundle")[0][1]))
    import_bundle(here, golden / "signed.bundle")
    key = PublicKey.of_pem((golden / "key.pem").read_text())
    (found,) = signatures_of(open_run(here, parse_pathspec("Tiny/latest")), keys_of(here, [key]), LogTree(here.root))
    assert (found.standing, found.told) == (
        "sound",
        f"its key was revoked later, at {revoked(here)[key.keyid].time} (a new laptop).",
    )


def test_a_bundle_of_version_1_is_read(here: Store) -> None:
    golden = Path(__file__).parents[2] / "fixtures" / "formats" / "bundle" / "v1" / "tiny.bundle"
    carried = import_bundle(here, golden)
    run = open_run(here, parse_pathspec("Tiny/latest"))
    assert carried.runs == (run.pathspec,) == ("Tiny/20261126-074635-019j8",)
    assert (carried.objects, [one.kind for one in carried.left_out]) == (18, ["package"])
    start, end = run.tasks()
    assert here.get(Digest(start["logs"]["stdout"])) == b"hello\n"
    assert run.artifact(end, "y")[1]["preview"] == "2"


def test_nobody_learns_by_a_bundle_what_is_here_or_gets_at_it(
    bundle: Path, members: Members, here: Store, tmp_path: Path
) -> None:
    """What a run needs comes with it or is refused, in the same words whether or not it is here; no file is shared."""
    probe, told = forged(tmp_path / "probe.bundle", with_contents(members[:-1])), []
    for _ in range(2):
        with pytest.raises(BundleRefused) as caught:
            import_bundle(here, probe)
        told.append(str(caught.value))
        here.put(members[-1][1])
    assert told[0] == told[1] and "not in it" in told[0]
    import_bundle(here, bundle)
    shared = [path for path in here.root.rglob("*") if path.is_file() and path.stat().st_nlink > 1]
    assert shared == []
