"""Pushing by compare-and-swap, and the names that may be pushed (SECURITY C4)."""

from __future__ import annotations

import re
import shutil
import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tamma.adapters.git.mirror import is_branch
from tamma.core.errors import PermanentError, RefusedByPolicy, TransientError
from tamma.core.ids import is_safe_branch
from tamma.ports.workspace import PushResult, Remote
from tests.adapters.git.conftest import World, git
from tests.support.small_disk import a_small_disk

BAD_BRANCHES = (
    "", "main", "master", "-x", "--upload-pack=x", "refs/heads/main", "a..b", "tamma/a..b", "tamma/@{", "tamma/../main",
    "tamma/x.lock", "tamma/x.lock/y", "tamma/a" + chr(0) + "b", "tamma/a\nb", "tamma/x\n", "tamma/$(id)",
    "tamma/" + chr(0x202E) + "x", "tamma/" + "a" * 300, "tamma/", "tamma//x", "tamma/x/", "tamma/x.", "tamma/.x",
    "tamma/a/.b", "tamma/a b", "tamma/a:b", "tamma/a~1", "tamma/a^", "tamma/a?", "tamma/*", "tamma/[a]", "tamma/a\\b",
    "TAMMA/x", "tamma/X", " tamma/x", "tamma/x ", "+tamma/x", "tamma/-x", "tamma/" + chr(0x430), "refs/heads/tamma/x",
    "tamma",
)  # fmt: skip


def test_push_moves_then_is_already_there(world: World) -> None:
    """A repeated push of the same commit is no error, whatever was expected."""
    ws = world.open()
    (ws.folder / "README.md").write_text("changed\n")
    commit = ws.capture(message="m").commit
    assert ws.branch_head("tamma/1") is None
    assert ws.push(commit, branch="tamma/1", expected=None) is PushResult.MOVED
    assert ws.push(commit, branch="tamma/1", expected=None) is PushResult.ALREADY_THERE
    assert ws.push(commit, branch="tamma/1", expected=ws.base.commit) is PushResult.ALREADY_THERE
    assert ws.branch_head("tamma/1") == commit


def test_push_replaces_only_what_was_expected(world: World) -> None:
    """A stale lease is rejected and changes nothing: the zombie loses."""
    ws = world.open()
    commits = []
    for text in ("one\n", "two\n", "three\n"):
        (ws.folder / "README.md").write_text(text)
        commits.append(ws.capture(message=text).commit)
    first, second, zombie = commits
    assert ws.push(first, branch="tamma/1", expected=None) is PushResult.MOVED
    assert ws.push(second, branch="tamma/1", expected=first) is PushResult.MOVED
    assert ws.push(zombie, branch="tamma/1", expected=first) is PushResult.REJECTED
    assert ws.push(zombie, branch="tamma/1", expected=None) is PushResult.REJECTED
    assert ws.push(zombie, branch="tamma/2", expected=first) is PushResult.REJECTED
    assert world.heads() == {"refs/heads/main": ws.base.commit, "refs/heads/tamma/1": second}


def test_a_remote_that_cannot_write_its_refs_is_no_race(world: World) -> None:
    """A lock that a killed git left there: nobody moved the branch, so no human is sent to look for a stranger's commits."""
    ws = world.open()
    (ws.folder / "README.md").write_text("one\n")
    commit = ws.capture(message="one").commit
    lock = world.origin / "refs/heads/tamma/1.lock"
    lock.parent.mkdir()
    lock.touch()
    with pytest.raises(TransientError, match="pushing tamma/1 failed"):
        ws.push(commit, branch="tamma/1", expected=None)
    lock.unlink()
    assert ws.push(commit, branch="tamma/1", expected=None) is PushResult.MOVED


def test_a_remote_whose_disk_is_full_is_away_and_not_against_us(world: World) -> None:
    """Nobody is sent to look at hooks and branch protection; once there is room the push goes through."""
    ws = world.open()
    (ws.folder / "README.md").write_text("one\n")
    commit = ws.capture(message="one").commit
    objects = world.origin / "objects"
    whole = objects.rename(world.tmp / "objects")
    with a_small_disk(objects, megabytes=1) as disk:
        shutil.copytree(whole, objects, dirs_exist_ok=True)
        disk.fill()
        with pytest.raises(TransientError, match=r"No space left|unable to") as told:
            ws.push(commit, branch="tamma/1", expected=None)
        assert told.value.fix == "look at the disk of the remote"
        disk.free()
        assert ws.push(commit, branch="tamma/1", expected=None) is PushResult.MOVED


def test_unsafe_branches_are_never_pushed(world: World) -> None:
    """Refused before git is started; the remote stays as it is."""
    ws = world.open()
    before = world.heads()
    for branch in BAD_BRANCHES:
        with pytest.raises(RefusedByPolicy):
            ws.push(ws.base.commit, branch=branch, expected=None)
    assert world.heads() == before


@given(
    st.text(max_size=100)
    | st.text(string.ascii_lowercase + string.digits + "._/-@{", max_size=90).map(lambda text: "tamma/" + text)
)
@example("tamma/x\n")
def test_every_safe_branch_is_a_branch(name: str) -> None:
    """What may be pushed is inert in an argument list and a valid ref name for git's rules too."""
    if is_safe_branch(name):
        assert is_branch(name)
        assert re.fullmatch(r"[a-z0-9._/-]+", name)
        assert not name.startswith("-")


def test_safe_branches_are_valid_for_git(world: World) -> None:
    """git check-ref-format agrees on a sample of accepted names."""
    for name in ("tamma/1", "tamma/a.b-c_d/e", "tamma/0--x", "tamma/a/b/c", "tamma/issue-0123456789abcdef"):
        assert is_safe_branch(name)
        assert git("check-ref-format", "--branch", name, cwd=world.tmp) == name


def test_hook_of_the_remote_that_declines_is_permanent(world: World) -> None:
    """A refusal for good is told with the remote's own words."""
    hook = world.origin / "hooks/pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho 'no pushes on Sundays' >&2\nexit 1\n")
    hook.chmod(0o755)
    ws = world.open()
    with pytest.raises(PermanentError, match="no pushes on Sundays"):
        ws.push(ws.base.commit, branch="tamma/1", expected=None)


@pytest.mark.parametrize("ref", ["refs/heads/tamma", "refs/heads/tamma/1/x"])
@pytest.mark.parametrize("packed", [False, True])
def test_a_ref_in_the_way_of_our_branch_is_named(world: World, ref: str, packed: bool) -> None:
    """Nobody moved our branch, and to try again is no use: a human must rename what is in the way."""
    git("update-ref", ref, world.heads()["refs/heads/main"], cwd=world.origin)
    if packed:
        git("pack-refs", "--all", cwd=world.origin)
    ws = world.open()
    with pytest.raises(PermanentError) as caught:
        ws.push(ws.base.commit, branch="tamma/1", expected=None)
    assert f"{ref} is there" in caught.value.why
    assert f"rename or delete {ref} " in caught.value.fix


def test_remote_that_is_away_is_transient_and_one_that_is_none_permanent(world: World) -> None:
    """A refused connection may pass; a path without a repository will not."""
    away = Remote(name="away", url="https://127.0.0.1:9/x.git")
    with pytest.raises(TransientError):
        world.workspaces.fetch_base(away)
    ws = world.open()
    world.origin.rename(world.tmp / "moved")
    with pytest.raises(PermanentError, match="does not appear to be a git repository") as caught:
        ws.push(ws.base.commit, branch="tamma/1", expected=None)
    assert caught.value.fix
    with pytest.raises(PermanentError):
        ws.branch_head("tamma/1")


def test_ls_remote_does_not_mistake_another_ref(world: World) -> None:
    """A ref that merely ends like ours is not ours."""
    head = world.heads()["refs/heads/main"]
    git("update-ref", "refs/heads/x/refs/heads/tamma/1", head, cwd=world.origin)
    assert world.open().branch_head("tamma/1") is None
