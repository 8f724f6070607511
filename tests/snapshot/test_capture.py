from __future__ import annotations

import io
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillrun_snapshot.capture import Captured, CaptureLimits, _read_within, capture_code, capture_tree
from stillrun_snapshot.digest import digest_of
from stillrun_snapshot.errors import CaptureError, StoreError
from stillrun_snapshot.secret_scan import SecretFound
from stillrun_snapshot.statcache import StatCache
from stillrun_snapshot.store import Store
from stillrun_snapshot.tree import FileEntry, LinkEntry, tree_files

RunGit = Callable[..., str]


def write(root: Path, files: dict[str, str | bytes]) -> Path:
    for path, content in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content if isinstance(content, bytes) else content.encode())
    return root


def content(store: Store, captured: Captured) -> dict[str, bytes | str]:
    return {
        path: entry.target if isinstance(entry, LinkEntry) else store.get(entry.digest)
        for path, entry in tree_files(store, captured.tree)
    }


def paths(store: Store, captured: Captured) -> list[str]:
    return [path for path, _ in tree_files(store, captured.tree)]


def reasons(captured: Captured) -> dict[str, str]:
    return {item.path: item.reason for item in captured.left_out}


@pytest.fixture
def repository(tmp_path: Path, git: RunGit) -> Path:
    top = write(
        tmp_path / "work", {"flows/flow.py": "print(1)\n", "lib/a.py": "a", ".gitignore": "*.log\nignored.py\n"}
    )
    git(top, "init", "-b", "main")
    git(top, "add", ".")
    git(top, "commit", "-m", "first")
    return top


# -- in git ------------------------------------------------------------------------------------------------------


def test_a_clean_work_tree_is_its_commit(store: Store, repository: Path, git: RunGit) -> None:
    captured = capture_code(store, repository / "flows/flow.py")
    assert content(store, captured) == {
        ".gitignore": b"*.log\nignored.py\n",
        "flows/flow.py": b"print(1)\n",
        "lib/a.py": b"a",
    }
    assert (captured.root, captured.files, captured.bytes, captured.left_out) == (repository, 3, 27, ())
    record = store.get_record(captured.code, "code")
    assert record["flow_file"] == "flows/flow.py" and record["origin"] == "git" and record["tree"] == captured.tree
    commit = git(repository, "rev-parse", "HEAD")
    assert record["git"] == {"commit": commit, "branch": "main", "dirty": False, "diff": None, "remotes": {}}


def test_files_are_taken_as_they_are_now(store: Store, repository: Path, git: RunGit) -> None:
    write(repository, {"flows/flow.py": "print(2)\n", "new/ünï cödé\n.py": "n", "debug.log": "no", "lib/bin": b"\0\1"})
    git(repository, "add", "lib/bin")
    (repository / "lib/a.py").unlink()
    captured = capture_code(store, repository / "flows/flow.py")
    assert paths(store, captured) == [".gitignore", "flows/flow.py", "lib/bin", "new/ünï cödé\n.py"]
    record = store.get_record(captured.code, "code")
    assert record["git"]["dirty"] is True
    diff = store.get(record["git"]["diff"])
    assert b"-print(1)\n+print(2)" in diff and b"deleted file" in diff and b"GIT binary patch" in diff


def test_the_diff_turns_the_commit_into_the_capture(
    store: Store, repository: Path, git: RunGit, tmp_path: Path
) -> None:
    write(repository, {"flows/flow.py": "print(2)\n", "lib/bin": bytes(range(256))})
    git(repository, "add", "-N", "lib/bin")
    captured = capture_code(store, repository / "flows/flow.py")
    (tmp_path / "patch").write_bytes(store.get(store.get_record(captured.code, "code")["git"]["diff"]))
    git(tmp_path, "clone", str(repository), "clone")
    git(tmp_path / "clone", "apply", str(tmp_path / "patch"))
    assert capture_code(store, tmp_path / "clone/flows/flow.py").tree == captured.tree


def test_an_untracked_file_makes_a_work_tree_dirty(store: Store, repository: Path) -> None:
    write(repository, {"new.py": "n"})
    record = store.get_record(capture_code(store, repository / "flows/flow.py").code, "code")
    assert record["git"]["dirty"] is True and record["git"]["diff"] is None


def test_secrets_are_not_kept_even_when_tracked_or_deleted(store: Store, repository: Path, git: RunGit) -> None:
    token = "hunter2-" + "x" * 30
    write(repository, {".env": token, "gone.pem": token, "conf/.env.example": "A=", ".aws/credentials": token})
    git(repository, "add", "-f", ".")
    git(repository, "commit", "-m", "oops")
    (repository / "gone.pem").unlink()
    write(repository, {".env": token + "2", "flows/flow.py": "print(3)\n", "key.key": token})
    captured = capture_code(store, repository / "flows/flow.py")
    assert reasons(captured) == {".env": "secret", ".aws/credentials": "secret", "key.key": "secret"}
    assert "conf/.env.example" in paths(store, captured)
    assert not any(token.encode() in store.get(digest) for digest in store.digests())


def test_no_commit_yet_a_detached_head_and_a_linked_work_tree(
    store: Store, tmp_path: Path, repository: Path, git: RunGit
) -> None:
    young = write(tmp_path / "young", {"flow.py": "x"})
    git(young, "init", "-b", "trunk")
    facts = store.get_record(capture_code(store, young / "flow.py").code, "code")["git"]
    assert facts == {"commit": None, "branch": "trunk", "dirty": True, "diff": None, "remotes": {}}
    git(repository, "remote", "add", "origin", "git@example.org:a/b.git")
    git(repository, "worktree", "add", "--detach", str(tmp_path / "linked"))
    captured = capture_code(store, tmp_path / "linked/flows/flow.py")
    facts = store.get_record(captured.code, "code")["git"]
    assert facts["branch"] is None and facts["commit"] == git(repository, "rev-parse", "HEAD")
    assert captured.root == tmp_path / "linked" and facts["remotes"] == {"origin": "git@example.org:a/b.git"}


@pytest.mark.parametrize(
    ("address", "kept"),
    [
        ("https://user:t0ken@example.org/a/b.git?private_token=t0ken#t0ken", "https://example.org/a/b.git"),
        ("https://t0ken@example.org:8443/a.git", "https://example.org:8443/a.git"),
        ("https://user:t0/ken@example.org/a.git", "https://example.org/a.git"),
        ("https://example.org/@scope/a.git", "https://example.org/@scope/a.git"),
        ("ssh://git:t0ken@example.org:22/a.git", "ssh://git@example.org:22/a.git"),
        ("git@example.org:a/b.git", "git@example.org:a/b.git"),
        ("../other", "../other"),
    ],
)
def test_remotes_are_kept_without_credentials(
    store: Store, repository: Path, git: RunGit, address: str, kept: str
) -> None:
    git(repository, "remote", "add", "origin", address)
    for _ in range(2):
        record = store.get_record(capture_code(store, repository / "flows/flow.py").code, "code")
        assert record["git"]["remotes"] == {"origin": kept}
    git(repository, "remote", "rename", "origin", "fork/é")
    record = store.get_record(capture_code(store, repository / "flows/flow.py").code, "code")
    assert record["git"]["remotes"] == {"fork/é": kept}
    soft = b"".join(path.read_bytes() for path in (store.root / "cache").rglob("*.json"))
    assert b"t0ken" not in soft


def test_submodules_and_nested_repositories_are_named(
    store: Store, tmp_path: Path, repository: Path, git: RunGit
) -> None:
    other = write(tmp_path / "other", {"x.py": "x"})
    git(other, "init")
    git(other, "add", ".")
    git(other, "commit", "-m", "x")
    git(repository, "submodule", "add", str(other), "module")
    git(repository, "clone", str(other), "nested")
    captured = capture_code(store, repository / "flows/flow.py")
    assert reasons(captured) == {"module": "submodule", "nested": "nested repository"}
    assert not [path for path in paths(store, captured) if path.startswith(("module", "nested"))]
    inner = capture_code(store, repository / "module/x.py")
    assert inner.root == repository / "module" and paths(store, inner) == ["x.py"]


def test_a_flow_that_git_ignores_is_taken_and_told(store: Store, repository: Path) -> None:
    write(repository, {"ignored.py": "flow", "other.log": "x"})
    captured = capture_code(store, repository / "ignored.py")
    assert "ignored.py" in paths(store, captured) and "other.log" not in paths(store, captured)
    assert len(captured.notes) == 1 and "ignored.py is taken" in captured.notes[0]


def test_nothing_that_a_repository_configures_is_run(
    store: Store, repository: Path, git: RunGit, tmp_path: Path
) -> None:
    script = tmp_path / "evil"
    script.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    script.chmod(0o755)
    for name in ("core.fsmonitor", "diff.external", "core.pager"):
        git(repository, "config", name, str(script))
    git(repository, "config", "core.hooksPath", str(tmp_path))
    (tmp_path / "post-index-change").write_text(script.read_text())
    (tmp_path / "post-index-change").chmod(0o755)
    write(repository, {"flows/flow.py": "print(2)\n"})
    assert capture_code(store, repository / "flows/flow.py").files == 3
    assert not (tmp_path / "ran").exists()


def test_the_variables_of_a_git_hook_do_not_mislead(
    store: Store, repository: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "index"))
    assert capture_code(store, repository / "flows/flow.py").files == 3


def test_a_tracked_file_that_became_a_folder(store: Store, repository: Path) -> None:
    (repository / "lib/a.py").unlink()
    write(repository, {"lib/a.py/inner.py": "i"})
    captured = capture_code(store, repository / "flows/flow.py")
    assert paths(store, captured) == [".gitignore", "flows/flow.py", "lib/a.py/inner.py"] and captured.left_out == ()


def test_git_that_fails_is_told_with_its_words(store: Store, repository: Path) -> None:
    (repository / ".git/index").write_bytes(b"garbage")
    with pytest.raises(CaptureError, match=r"git failed with status \d+ .*index"):
        capture_code(store, repository / "flows/flow.py")


def test_a_store_in_the_work_tree_is_no_code(repository: Path) -> None:
    with Store.open(repository / "runs") as inside:
        for _ in range(2):
            captured = capture_code(inside, repository / "flows/flow.py")
            assert captured.files == 3
            assert inside.get_record(captured.code, "code")["git"]["dirty"] is False


# -- outside git -------------------------------------------------------------------------------------------------


def test_a_folder_is_taken_by_its_rules(store: Store, tmp_path: Path) -> None:
    root = write(
        tmp_path / "project",
        {
            "flow.py": "f",
            "lib/a.py": "a",
            "lib/__pycache__/a.pyc": "x",
            "old.pyc": "x",
            ".hidden/a": "x",
            ".env": "TOKEN=1",
            "node_modules/a.js": "x",
            "venv/pyvenv.cfg": "x",
            "venv/lib/a.py": "x",
            "conda/conda-meta/history": "x",
            "p.egg-info/PKG-INFO": "x",
            ".stillrunignore": "*.csv\n/out/\n",
            "big.csv": "x",
            "out/a.txt": "x",
            "lib/out/b.txt": "b",
        },
    )
    with Store.open(root / "kept") as inside:
        captured = capture_code(inside, root / "flow.py")
        assert paths(inside, captured) == [".stillrunignore", "flow.py", "lib/a.py", "lib/out/b.txt"]
        assert reasons(captured) == {".env": "secret"}
        record = inside.get_record(captured.code, "code")
        assert record["origin"] == "folder" and record["git"] is None
        assert record["left_out"] == [{"path": ".env", "size": 7, "reason": "secret"}]


def test_large_data_is_left_out_and_named_and_source_is_not(store: Store, tmp_path: Path) -> None:
    root = write(
        tmp_path / "p", {"flow.py": "f", "data.bin": bytes(101), "model.bin": bytes(100), "long.py": bytes(500)}
    )
    captured = capture_code(store, root / "flow.py", limits=CaptureLimits(data_file=100, source_file=500))
    assert paths(store, captured) == ["flow.py", "long.py", "model.bin"]
    assert [(item.path, item.size, item.reason) for item in captured.left_out] == [
        ("data.bin", 101, "larger than 100 bytes")
    ]


def test_too_much_is_refused_with_a_cure(store: Store, tmp_path: Path) -> None:
    root = write(tmp_path / "p", {"flow.py": "f", **{f"d/{index}": b"x" * 10 for index in range(20)}})
    with pytest.raises(CaptureError, match=r"more than 10 files.*\.stillrunignore"):
        capture_code(store, root / "flow.py", limits=CaptureLimits(files=10))
    with pytest.raises(CaptureError, match=r"201 bytes, more than the 100 allowed.*\.stillrunignore"):
        capture_code(store, root / "flow.py", limits=CaptureLimits(total=100))
    write(root, {".stillrunignore": "d\n"})
    assert capture_code(store, root / "flow.py", limits=CaptureLimits(files=10, total=100)).files == 2


def test_a_flow_in_the_home_folder_takes_only_its_python_files(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = write(tmp_path / "home", {"flow.py": "f", "b.py": "b", "letter.txt": "private", "photos/a.py": "x"})
    monkeypatch.setenv("HOME", str(home))
    captured = capture_code(store, home / "flow.py")
    assert paths(store, captured) == ["b.py", "flow.py"]
    assert "Python files" in reasons(captured)["."]


def test_links_stay_inside_or_are_left_out(store: Store, tmp_path: Path) -> None:
    root = write(tmp_path / "p", {"flow.py": "f", "a/b/c.py": "c"})
    inside = {"link.py": "a/b/c.py", "a/up": "../flow.py", "dir": "a/b", "dangling": "nowhere"}
    outside = {
        "abs": "/etc/passwd",
        "out": "../x",
        "a/far": "../../x",
        "trick": "dir/../../x",
        "own": str(root / "flow.py"),
    }
    for path, target in {**inside, **outside}.items():
        (root / path).symlink_to(target)
    captured = capture_code(store, root / "flow.py")
    assert content(store, captured) == {"flow.py": b"f", "a/b/c.py": b"c", **inside}
    assert reasons(captured) == dict.fromkeys(outside, "a link that leads out of the folder")


def test_special_files_and_unreadable_names_are_left_out(store: Store, tmp_path: Path) -> None:
    root = write(tmp_path / "p", {"flow.py": "f"})
    os.mkfifo(root / "pipe")
    (Path(os.fsdecode(os.fsencode(root) + b"/\xff.py"))).write_bytes(b"x")
    with socket.socket(socket.AF_UNIX) as server:
        os.chdir(root) if len(str(root)) > 80 else None
        server.bind("s" if len(str(root)) > 80 else str(root / "s"))
        captured = capture_code(store, root / "flow.py")
    assert paths(store, captured) == ["flow.py"]
    assert reasons(captured) == {
        "pipe": "neither a file nor a link",
        "s": "neither a file nor a link",
        "\\xff.py": "its name is not UTF-8",
    }


def test_a_flow_that_is_a_link_is_captured_where_it_stands(store: Store, tmp_path: Path) -> None:
    root = write(tmp_path / "p", {"flow.py": "f", "lib.py": "l"})
    (tmp_path / "elsewhere.py").symlink_to(root / "flow.py")
    captured = capture_code(store, tmp_path / "elsewhere.py")
    assert captured.root == root and paths(store, captured) == ["flow.py", "lib.py"]


def test_no_flow_no_capture(store: Store, tmp_path: Path) -> None:
    for path in (tmp_path / "absent.py", tmp_path):
        with pytest.raises(CaptureError, match="no such file"):
            capture_code(store, path)


# -- determinism and the stat cache ------------------------------------------------------------------------------


def test_only_the_executable_bit_of_the_mode_counts(store: Store, tmp_path: Path) -> None:
    root = write(tmp_path / "p", {"flow.py": "f"})
    trees = []
    for mode in (0o600, 0o644, 0o664, 0o755, 0o700):
        (root / "flow.py").chmod(mode)
        trees.append(capture_code(store, root / "flow.py").tree)
    assert len(set(trees[:3])) == 1 and len(set(trees[3:])) == 1 and trees[0] != trees[3]


def test_an_edit_is_seen_at_once(store: Store, tmp_path: Path) -> None:
    root = write(tmp_path / "p", {"flow.py": "0" * 10})
    for number in range(20):
        before = (root / "flow.py").stat()
        write(root, {"flow.py": f"{number:010d}"})
        os.utime(root / "flow.py", ns=(before.st_atime_ns, before.st_mtime_ns))
        assert content(store, capture_code(store, root / "flow.py"))["flow.py"] == b"%010d" % number


def test_an_unchanged_file_is_not_read_again(store: Store, tmp_path: Path) -> None:
    root = write(tmp_path / "p", {"flow.py": "f", "lib.py": "as on disk"})
    status = (root / "lib.py").stat()
    planted = store.put(b"as remembered")
    cache = StatCache.load(store.root / "cache" / "stat", root)
    cache.add("lib.py", status, planted, status.st_ctime_ns + 10**12)
    cache.save()
    assert content(store, capture_code(store, root / "flow.py"))["lib.py"] == b"as remembered"


def test_a_remembered_object_that_is_gone_is_kept_again(store: Store, tmp_path: Path) -> None:
    root = write(tmp_path / "p", {"flow.py": "f"})
    cache = StatCache.load(store.root / "cache" / "stat", root)
    status = (root / "flow.py").stat()
    cache.add("flow.py", status, digest_of(b"never kept"), status.st_ctime_ns + 10**12)
    cache.save()
    assert content(store, capture_code(store, root / "flow.py")) == {"flow.py": b"f"}


names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1, max_size=6).filter(
    lambda name: name not in (".", "..") and name.lower() != ".git" and len(name.encode()) < 200
)
folders = st.dictionaries(
    names,
    st.recursive(
        st.tuples(st.binary(max_size=30), st.booleans()),
        lambda inner: st.dictionaries(names, inner, max_size=3),
        max_leaves=6,
    ),
    min_size=1,
    max_size=4,
)


def lay_out(root: Path, folder: dict[str, object], prefix: str = "") -> list[str]:
    laid = []
    for name, item in folder.items():
        path = prefix + name
        if isinstance(item, dict):
            laid += lay_out(root, item, path + "/")
        elif isinstance(item, tuple):
            write(root, {path: item[0]})
            (root / path).chmod(0o755 if item[1] else 0o644)
            laid.append(path)
    return laid


@settings(max_examples=25, deadline=None)
@given(folder=folders, data=st.data())
def test_a_tree_depends_on_its_files_alone(folder: dict[str, object], data: st.DataObject) -> None:
    """tree(files) is the same in any folder and order, and another after any change."""
    with tempfile.TemporaryDirectory() as name, Store.open(Path(name) / "s") as store:
        one, two = Path(name) / "one", Path(name) / "two"
        one.mkdir()
        laid = lay_out(one, folder)
        shutil.copytree(one, two)
        tree = capture_tree(store, one, laid)
        assert capture_tree(store, two, reversed(laid)) == tree
        assert dict(tree_files(store, tree)).keys() == set(laid)
        if laid:
            changed = two / data.draw(st.sampled_from(laid))
            match data.draw(st.sampled_from(["bytes", "mode", "name", "gone"])):
                case "bytes":
                    changed.write_bytes(changed.read_bytes() + b"!")
                case "mode":
                    changed.chmod(changed.stat().st_mode ^ 0o111)
                case "name":
                    changed.rename(changed.with_name(changed.name + "x"))
                case "gone":
                    changed.unlink()
            left = [path.relative_to(two).as_posix() for path in two.rglob("*") if path.is_file()]
            assert capture_tree(store, two, left) != tree


def test_capture_tree_takes_what_it_is_told_or_refuses(store: Store, tmp_path: Path) -> None:
    root = write(tmp_path / "p", {".env": "x", "a.key": "y"})
    tree = capture_tree(store, root, [".env", Path("a.key")])
    assert dict(tree_files(store, tree)) == {
        ".env": FileEntry(digest_of(b"x"), 1),
        "a.key": FileEntry(digest_of(b"y"), 1),
    }
    (root / "out").symlink_to("/etc")
    (root / "folder").mkdir()
    for path, reason in (("out", "leads out"), ("folder", "a folder"), ("absent", "no such file")):
        with pytest.raises(CaptureError, match=reason):
            capture_tree(store, root, [".env", path])


def test_git_is_asked_twice_for_an_unchanged_flow(
    store: Store, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    capture_code(store, repository / "flows/flow.py")
    started = []
    original = subprocess.Popen.__init__

    def counting(self: object, arguments: list[str], *others: object, **named: object) -> None:
        started.append(arguments)
        original(self, arguments, *others, **named)  # type: ignore[call-overload]

    monkeypatch.setattr(subprocess.Popen, "__init__", counting)
    capture_code(store, repository / "flows/flow.py")
    assert len(started) == 2


def test_a_file_that_grows_while_it_is_read_is_read_whole_or_refused() -> None:
    assert _read_within(io.BytesIO(b"four"), 8, 2, "a.py") == b"four"
    with pytest.raises(StoreError, match=r"a\.py grew beyond the 3 bytes"):
        _read_within(io.BytesIO(b"four"), 3, 2, "a.py")


def test_limits_far_beyond_memory_cost_nothing(tmp_path: Path) -> None:
    (tmp_path / "flow.py").write_text("x = 1\n")
    limits = CaptureLimits(source_file=1 << 40, data_file=1 << 40)
    with Store.open(tmp_path / "store") as store:
        assert capture_code(store, tmp_path / "flow.py", limits=limits).files == 1


def test_an_unchanged_tree_is_known_and_kept_again_when_its_records_are_gone(tmp_path: Path, store: Store) -> None:
    folder = tmp_path / "code"
    (folder / "sub").mkdir(parents=True)
    for name in ("flow.py", "sub/a.py", "sub/b.py"):
        (folder / name).write_text(name)
        os.utime(folder / name, (1, 1))
    time.sleep(0.2)  # a file that was made this moment is read again
    first = capture_code(store, folder / "flow.py")
    assert capture_code(store, folder / "flow.py") == first
    (folder / "sub/link").symlink_to("a.py")
    linked = capture_code(store, folder / "flow.py")
    assert dict(tree_files(store, linked.tree)) == {
        **dict(tree_files(store, first.tree)),
        "sub/link": LinkEntry("a.py"),
    }
    (folder / "sub/link").unlink()
    assert capture_code(store, folder / "flow.py").tree == first.tree
    with Store.open(tmp_path / "other") as other:
        shutil.copytree(store.root / "cache", other.root / "cache", dirs_exist_ok=True)
        again = capture_code(other, folder / "flow.py")
        assert again.tree == first.tree and dict(tree_files(other, again.tree)) == dict(tree_files(store, first.tree))


def test_a_tree_is_not_that_of_before_when_files_between_were_refused(tmp_path: Path, store: Store) -> None:
    flow, other = tmp_path / "code/flow.py", tmp_path / "code/other.py"
    flow.parent.mkdir()
    flow.write_text("x = 1\n")
    other.write_text("y = 1\n")
    time.sleep(0.2)
    first = capture_code(store, flow)
    other.write_text("aws_access_key_id = 'AKIAIOSFODNN7EXAMPLF'\n")
    time.sleep(0.2)
    with pytest.raises(SecretFound):
        capture_code(store, flow)
    other.unlink()
    alone = capture_code(store, flow)
    assert alone.tree != first.tree and [path for path, _ in tree_files(store, alone.tree)] == ["flow.py"]
