"""What an attempt may ask of its checkout."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from tamma.adapters.git import GitWorkspaces
from tamma.core.errors import ConfigError, PermanentError
from tamma.core.ids import Oid, TaskId
from tamma.ports.workspace import Candidate, PushResult, Workspace, Workspaces
from tests.adapters.git.conftest import World, git


def statuses(candidate: Candidate) -> dict[str, str]:
    """Path to letter."""
    return {change.path: change.status for change in candidate.changes}


def test_checkout_holds_the_base_byte_for_byte(world: World) -> None:
    """Line ends and attributes of the repository change nothing in what is checked out."""
    world.commit({".gitattributes": b"* text=auto eol=crlf\n*.md ident filter=x working-tree-encoding=UTF-16\n"})
    folder = world.open().folder
    assert (folder / "src/crlf.txt").read_bytes() == b"one\r\ntwo\r\n"
    assert (folder / "README.md").read_bytes() == b"read me\n"


def test_untouched_tree_is_an_empty_candidate(world: World) -> None:
    """Nothing changed, nothing to deliver, whatever attributes say."""
    world.commit({".gitattributes": b"* text=auto eol=crlf\n"})
    ws = world.open()
    candidate = ws.capture(message="nothing")
    assert candidate.is_empty
    assert candidate.tree == ws.base.tree
    assert candidate.patch == b""


def test_agent_has_a_working_git(world: World) -> None:
    """``git status``, ``diff``, ``log`` and ``commit`` work in the checkout, and reach neither mirror nor remote."""
    ws = world.open()
    assert git("status", "--porcelain", cwd=ws.folder) == ""
    assert git("log", "--format=%s", cwd=ws.folder) == "a commit"
    (ws.folder / "README.md").write_text("changed\n")
    (ws.folder / "__pycache__").mkdir()
    (ws.folder / "__pycache__/x.pyc").write_bytes(b"0")
    assert "README.md" in git("diff", "--stat", cwd=ws.folder)
    assert git("status", "--porcelain", cwd=ws.folder) == "M README.md"
    mirror = world.tmp / "state" / "mirrors"
    before = sorted(p for p in mirror.rglob("*") if p.is_file())
    git("commit", "--quiet", "-a", "-m", "by the agent", cwd=ws.folder)
    assert sorted(p for p in mirror.rglob("*") if p.is_file()) == before
    assert statuses(ws.capture(message="m")) == {"README.md": "M"}


def test_capture_tells_every_kind_of_change(world: World) -> None:
    """Added, modified, deleted, moved, mode, type and binary changes, each with its numbers."""
    world.commit({"script": b"run\n", "old/name.txt": b"moved\n", "kind": b"a file\n"})
    ws = world.open()
    (ws.folder / "README.md").write_text("read\nme\n")
    (ws.folder / "src/app.py").unlink()
    (ws.folder / "script").chmod(0o755)
    (ws.folder / "new").mkdir()
    (ws.folder / "old/name.txt").rename(ws.folder / "new/name.txt")
    (ws.folder / "kind").unlink()
    (ws.folder / "kind").symlink_to("README.md")
    (ws.folder / "picture.bin").write_bytes(bytes(range(256)))
    candidate = ws.capture(message="all of it")
    assert candidate.refusals == ()
    assert statuses(candidate) == {
        "README.md": "M", "kind": "T", "new/name.txt": "A", "old/name.txt": "D", "picture.bin": "A", "script": "M",
        "src/app.py": "D",
    }  # fmt: skip
    by_path = {change.path: change for change in candidate.changes}
    assert (by_path["README.md"].lines_added, by_path["README.md"].lines_removed) == (2, 1)
    assert (by_path["script"].old_mode, by_path["script"].new_mode) == ("100644", "100755")
    assert by_path["src/app.py"].new_mode == "000000"
    assert by_path["picture.bin"].is_binary
    assert by_path["picture.bin"].bytes == 256
    assert by_path["kind"].new_mode == "120000"


def test_patch_rebuilds_the_candidate(world: World, tmp_path: Path) -> None:
    """``git apply`` of the patch on the base gives exactly the captured tree, binaries included."""
    ws = world.open()
    (ws.folder / "picture.bin").write_bytes(os.urandom(3_000))
    (ws.folder / "README.md").write_text("no newline at the end")
    (ws.folder / "src/app.py").unlink()
    candidate = ws.capture(message="m")
    other = tmp_path / "other"
    git("clone", "--quiet", world.origin, other, cwd=tmp_path)
    git("apply", "--index", "-", cwd=other, stdin=candidate.patch)
    assert git("write-tree", cwd=other) == candidate.tree


def test_same_work_gives_the_same_commit(world: World) -> None:
    """Tree, message and base decide the commit; file times, attempt and machine do not."""
    base = world.workspaces.fetch_base(world.remote)
    commits = set()
    for epoch in (1, 2):
        with world.workspaces.open(world.remote, base, task_id=world.task, epoch=epoch) as ws:
            (ws.folder / "README.md").write_text("same\n")
            os.utime(ws.folder / "README.md", (epoch, epoch))
            commits.add(ws.capture(message="m").commit)
            commits.add(ws.capture(message="m").commit)
    assert len(commits) == 1


def test_change_hidden_by_size_and_time_is_seen(world: World) -> None:
    """Content is compared, not what stat says about it."""
    ws = world.open()
    place = ws.folder / "README.md"
    times = place.stat()
    place.write_bytes(b"READ ME\n")
    os.utime(place, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert statuses(ws.capture(message="m")) == {"README.md": "M"}


def test_a_folder_in_place_of_the_rules_is_taken_as_it_is(world: World) -> None:
    """An agent's mess is no trouble of the state folder, and the rest of its work is not lost."""
    ws = world.open()
    (ws.folder / ".gitignore").unlink()
    (ws.folder / ".gitignore").mkdir()
    (ws.folder / ".gitignore" / "x").write_text("x")
    (ws.folder / "README.md").write_text("changed\n")
    assert statuses(ws.capture(message="m"))["README.md"] == "M"


def test_ignored_files_stay_out_by_the_rules_of_the_base(world: World) -> None:
    """Rules come from the base commit; the agent's own .gitignore hides nothing."""
    ws = world.open()
    for path in (
        "build/out.o",
        "a.log",
        "src/deep/b.log",
        "keep.log",
        "src/secret.py",
        "src/build/x",
        ":(top)odd.log",
        "a\nb.log",
    ):
        (ws.folder / path).parent.mkdir(parents=True, exist_ok=True)
        (ws.folder / path).write_text("x")
    (ws.folder / "src/.gitignore").write_text("secret.py\n")
    assert statuses(ws.capture(message="m")) == {"keep.log": "A", "src/secret.py": "A", "src/.gitignore": "A"}


def test_caches_and_bytecode_stay_out(world: World) -> None:
    """What tools leave behind is no part of a change, with or without a rule for it."""
    ws = world.open()
    for path in (
        "__pycache__/a.pyc",
        "src/__pycache__/b.pyc",
        ".pytest_cache/v",
        "node_modules/x/y.js",
        ".venv/z",
        "a.egg-info/P",
    ):
        (ws.folder / path).parent.mkdir(parents=True, exist_ok=True)
        (ws.folder / path).write_text("x")
    assert ws.capture(message="m").is_empty


def test_tracked_files_stay_in_though_ignored(world: World) -> None:
    """A path that the base tracks is part of the change, whatever rules and built-in excludes say."""
    world.commit({"build/tracked.o": b"1\n", "node_modules/pinned.js": b"1\n", "x.log": b"1\n"})
    ws = world.open()
    for path in ("build/tracked.o", "node_modules/pinned.js", "x.log"):
        (ws.folder / path).write_text("2\n")
    (ws.folder / "node_modules/other").mkdir()
    (ws.folder / "node_modules/other/new.pyc").write_text("2\n")
    assert statuses(ws.capture(message="m")) == {"build/tracked.o": "M", "node_modules/pinned.js": "M", "x.log": "M"}


def test_file_and_folder_may_change_places(world: World) -> None:
    """A file becomes a folder and a folder a file."""
    ws = world.open()
    (ws.folder / "README.md").unlink()
    (ws.folder / "README.md").mkdir()
    (ws.folder / "README.md/inside").write_text("x\n")
    for path in ("src/app.py", "src/crlf.txt"):
        (ws.folder / path).unlink()
    (ws.folder / "src").rmdir()
    (ws.folder / "src").write_text("x\n")
    candidate = ws.capture(message="m")
    assert candidate.refusals == ()
    assert statuses(candidate) == {
        "README.md": "D", "README.md/inside": "A", "src": "A", "src/app.py": "D", "src/crlf.txt": "D",
    }  # fmt: skip


def test_gates_get_exactly_the_tree(world: World) -> None:
    """A fresh folder, no .git, removed afterwards; two at once do not meet."""
    ws = world.open()
    (ws.folder / "README.md").write_text("changed\n")
    (ws.folder / "a.log").write_text("ignored\n")
    tree = ws.capture(message="m").tree
    with ws.checkout(tree, name="gate") as first, ws.checkout(ws.base.tree, name="gate") as second:
        assert not (first / ".git").exists()
        assert not (first / "a.log").exists()
        assert (first / "README.md").read_text() == "changed\n"
        assert (second / "README.md").read_text() == "read me\n"
        (first / "locked").mkdir(mode=0o000)
    assert not first.exists()
    assert not second.exists()


def test_overlay_takes_only_the_named_paths(world: World) -> None:
    """The base with the candidate's tests on it, deletions included."""
    ws = world.open()
    (ws.folder / "tests").mkdir()
    (ws.folder / "tests/test_a.py").write_text("assert True\n")
    (ws.folder / "src/app.py").write_text("changed\n")
    (ws.folder / "README.md").unlink()
    candidate = ws.capture(message="m")
    tree = ws.overlay(candidate, paths=["tests/test_a.py", "README.md", "never/was"])
    with ws.checkout(tree, name="overlay") as folder:
        assert (folder / "tests/test_a.py").exists()
        assert not (folder / "README.md").exists()
        assert (folder / "src/app.py").read_text() == "print('hello')\n"
    assert ws.overlay(candidate, paths=[]) == ws.base.tree
    assert ws.overlay(candidate, paths=[c.path for c in candidate.changes]) == candidate.tree


def test_kept_commit_is_restored_by_a_later_attempt(world: World) -> None:
    """What was approved is delivered as it was, though the base has moved on meanwhile."""
    base = world.workspaces.fetch_base(world.remote)
    with world.workspaces.open(world.remote, base, task_id=world.task, epoch=1) as ws:
        (ws.folder / "README.md").write_text("approved\n")
        kept = ws.capture(message="m")
        world.workspaces.keep(world.remote, kept.commit, name="task-1")
    world.commit({"src/app.py": b"moved on\n"})
    again = GitWorkspaces(state=world.tmp / "state")
    with again.open(world.remote, again.fetch_base(world.remote), task_id=world.task, epoch=2) as ws:
        assert ws.restore(kept.commit) == kept
        assert ws.base.commit == base.commit
        assert (ws.folder / "README.md").read_text() == "approved\n"
        assert git("status", "--porcelain", cwd=ws.folder) == "M  README.md"
        assert ws.capture(message="m") == kept
        assert ws.push(kept.commit, branch="tamma/1", expected=None) is PushResult.MOVED


def test_lost_commit_says_so(world: World) -> None:
    """A commit that nobody kept is a PermanentError with a way out, not a stack of git."""
    with pytest.raises(PermanentError, match="is gone"):
        world.open().restore(Oid("1" * 40))


def test_keep_needs_an_open_workspace(world: World) -> None:
    """A commit that no open workspace holds cannot be kept."""
    world.workspaces.fetch_base(world.remote)
    with pytest.raises(PermanentError, match="cannot be kept"):
        world.workspaces.keep(world.remote, Oid("1" * 40), name="x")


def test_read_file_reads_regular_files_of_a_commit(world: World) -> None:
    """Bytes of a file; None for what is absent, a folder or a link."""
    (world.author / "link").symlink_to("README.md")
    commit = world.commit({"README.md": b"second\n", "a[b]": b"odd\n"})
    world.workspaces.fetch_base(world.remote)
    read = world.workspaces.read_file
    assert read(world.remote, commit, "README.md") == b"second\n"
    assert read(world.remote, commit, "a[b]") == b"odd\n"
    assert [read(world.remote, commit, p) for p in ("absent", "src", "link", "../README.md", "*")] == [None] * 5


def test_workspace_is_private_and_gone_afterwards(world: World) -> None:
    """Mode 0700 above everything, nothing left when the attempt is over, not even after an exception."""
    base = world.workspaces.fetch_base(world.remote)
    opened = world.workspaces.open(world.remote, base, task_id=world.task, epoch=3)
    ws = opened.__enter__()
    assert stat.S_IMODE(ws.folder.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE((world.tmp / "state/workspaces").stat().st_mode) == 0o700
    assert not ws.git_dir.is_relative_to(ws.folder)
    assert not opened.__exit__(ZeroDivisionError, ZeroDivisionError(), None)
    assert list((world.tmp / "state/workspaces").iterdir()) == []


def test_adapter_satisfies_the_port(world: World) -> None:
    """mypy checks the shape; this line gives it something to check."""
    workspaces: Workspaces = world.workspaces
    workspace: Workspace = world.open()
    assert workspaces is world.workspaces
    assert workspace.scratch.is_dir()


def test_missing_git_tells_the_operator(world: World, tmp_path: Path) -> None:
    """No git program is a configuration error with a fix."""
    workspaces = GitWorkspaces(state=tmp_path / "other", search_path=str(tmp_path))
    with pytest.raises(ConfigError, match="git is not installed") as caught:
        workspaces.fetch_base(world.remote)
    assert "install git" in caught.value.fix


def test_a_git_that_does_not_work_tells_the_operator(world: World, tmp_path: Path) -> None:
    """As a broken installation, no bug of ours."""
    program = tmp_path / "git"
    program.write_text("#!/bin/sh\necho 'no such library' >&2; exit 127\n")
    program.chmod(0o755)
    workspaces = GitWorkspaces(state=tmp_path / "other", search_path=str(tmp_path))
    with pytest.raises(ConfigError, match="does not work") as caught:
        workspaces.fetch_base(world.remote)
    assert "no such library" in caught.value.why


def test_task_ids_and_names_are_checked_before_they_become_folders(world: World) -> None:
    """Nothing but a UUID names a workspace, nothing but a plain word a mirror or a checkout."""
    ws = world.open()
    for bad in ("../../x", "/abs", "a\0b", ""):
        with pytest.raises(ConfigError):
            world.stack.enter_context(world.workspaces.open(world.remote, ws.base, task_id=TaskId(bad), epoch=1))
        with pytest.raises(ValueError, match="cannot name"):
            world.stack.enter_context(ws.checkout(ws.base.tree, name=bad))


def test_submodule_of_the_base_is_left_alone(world: World) -> None:
    """A gitlink that the base holds is neither followed, nor deleted, nor blamed."""
    git("update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},vendor/lib", cwd=world.author)
    world.publish()
    ws = world.open()
    assert ws.capture(message="m").is_empty
    (ws.folder / "vendor/lib").rmdir()
    (ws.folder / "README.md").write_text("x\n")
    assert statuses(ws.capture(message="m")) == {"README.md": "M"}
    (ws.folder / "vendor/lib").mkdir()
    (ws.folder / "vendor/lib/f").write_text("lost\n")
    assert "submodule" in ws.capture(message="m").refusals[0]


def test_sha256_repositories_work(make_world: Callable[..., World], tmp_path: Path) -> None:
    """The newer object format goes the whole way."""
    world = make_world()
    for folder in ("origin.git", "author"):
        git("init", "--quiet", "--object-format=sha256", *(["--bare"] if "." in folder else []), "-b", "main",
            tmp_path / f"256-{folder}", cwd=tmp_path)  # fmt: skip
    world.origin, world.author = tmp_path / "256-origin.git", tmp_path / "256-author"
    world.remote = type(world.remote)(name="demo", url=str(world.origin))
    world.commit({"a": b"1\n"})
    ws = world.open()
    (ws.folder / "a").write_text("2\n")
    candidate = ws.capture(message="m")
    assert len(candidate.commit) == 64
    assert statuses(candidate) == {"a": "M"}
    assert ws.push(candidate.commit, branch="tamma/1", expected=None) is PushResult.MOVED
