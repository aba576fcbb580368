"""Git is stopped when the attempt is, tried again when a connection broke, and blamed for a broken mirror only on evidence."""

from __future__ import annotations

import fcntl
import itertools
import os
import shutil
import stat
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tamma.adapters.git import GitWorkspaces, Transport
from tamma.core.errors import TransientError
from tamma.ports.workspace import Remote
from tests.adapters.git.conftest import IDENTITY, World, git
from tests.adapters.git.test_mirror import mirror_of

SECONDS_MAX = 10.0


def script(path: Path, text: str) -> Path:
    """A program."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def a_git_that(world: World, does: str, on: str) -> GitWorkspaces:
    """Workspaces whose git does something else for one verb; only while the file ``armed`` is there."""
    real = shutil.which("git")
    body = f'[ -e {world.tmp}/armed ] && [ "$1" = {on} ] && {{ {does}; }}\nexec {real} "$@"'
    wrapped = script(world.tmp / "bin" / "git", body)
    return GitWorkspaces(state=world.tmp / "state", search_path=f"{wrapped.parent}:{os.defpath}")


def an_ssh_that(world: World, does: str) -> GitWorkspaces:
    """Workspaces that reach the remote by a program which counts its calls in ``calls`` and does something else first."""
    count = f"echo x >> {world.tmp}/calls; n=$(wc -l < {world.tmp}/calls); for last; do :; done"
    program = script(world.tmp / "bin" / "ssh", f'{count}\n{does}\nexec sh -c "$last"')
    env = {"GIT_SSH_COMMAND": str(program), "GIT_SSH_VARIANT": "simple"}
    return GitWorkspaces(state=world.tmp / "state", transport=lambda _: Transport(env=env))


def by_ssh(world: World) -> Remote:
    """The same repository, at the end of a connection."""
    return Remote(name="demo", url=f"ssh://example.org{world.origin}")


def test_a_base_that_is_rewritten_between_question_and_fetch_is_the_new_one(world: World) -> None:
    """A force-push in that moment: the mirror was cloned anew for a commit that is nowhere, and a human asked to remove it."""
    new = git(*IDENTITY, "commit-tree", "-m", "rewritten", "main^{tree}", cwd=world.origin)
    workspaces = a_git_that(world, f"git --git-dir {world.origin} update-ref refs/heads/main {new}", on="fetch")
    (world.tmp / "armed").touch()
    base = workspaces.fetch_base(world.remote)
    assert (base.commit, workspaces.fetch_base(world.remote).commit) == (new, new)


@pytest.mark.parametrize("verb", ["read-tree", "fetch", "ls-remote"])
def test_a_stopped_attempt_waits_for_no_git(world: World, verb: str) -> None:
    """SIGTERM was heeded after up to 300 s where git worked on our own files, and up to 1800 s at the remote."""
    workspaces = a_git_that(world, f"touch {world.tmp}/hangs; exec sleep 600", on=verb)
    (world.tmp / "armed").touch()
    workspaces.heed((world.tmp / "hangs").exists)
    begun = time.monotonic()
    with pytest.raises(TransientError, match=f"git {verb} was stopped"):
        world.stack.enter_context(
            workspaces.open(world.remote, workspaces.fetch_base(world.remote), task_id=world.task, epoch=1)
        )
    assert time.monotonic() - begun < SECONDS_MAX


def test_a_stopped_attempt_waits_for_no_lock(world: World) -> None:
    """Another process may hold the mirror for half an hour."""
    world.workspaces.fetch_base(world.remote)
    world.commit({"x": b"1"})
    looks = itertools.count()
    world.workspaces.heed(lambda: next(looks) > 20)
    with mirror_of(world).with_suffix(".lock").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(TransientError, match="mirror of demo is locked: the attempt is being stopped"):
            world.workspaces.fetch_base(world.remote)


def test_a_connection_that_broke_once_is_tried_again(world: World) -> None:
    """It costs a second, not an attempt; what stays away is given up after three tries."""
    reset = "echo 'ssh: Connection reset by peer' >&2; exit 255"
    workspaces = an_ssh_that(world, f"[ $n = 1 ] && {{ {reset}; }}")
    assert workspaces.fetch_base(by_ssh(world)).commit == world.heads()["refs/heads/main"]
    (world.tmp / "calls").unlink()
    away = an_ssh_that(world, reset)
    with pytest.raises(TransientError, match="Connection reset"):
        away.fetch_base(by_ssh(world))
    assert (world.tmp / "calls").read_text() == "x\n" * 3


def breaks_off(world: World) -> GitWorkspaces:
    """The connection of the second fetch breaks in the middle of the pack."""
    return an_ssh_that(world, "[ $n = 4 ] && { echo 'fatal: pack is corrupted (inflate)' >&2; exit 128; }")


def has_no_room(world: World) -> GitWorkspaces:
    """The disk is full when the tree is to be read."""
    return a_git_that(world, "echo 'fatal: Out of diskspace' >&2; exit 128", on="read-tree")


@pytest.mark.parametrize("made", [breaks_off, has_no_room])
def test_what_is_no_damage_rebuilds_no_mirror(world: World, made: Callable[[World], GitWorkspaces]) -> None:
    """A large repository takes an hour to fetch anew; only a mirror that git itself finds broken is replaced."""
    workspaces = made(world)
    remote = by_ssh(world) if made is breaks_off else world.remote
    workspaces.fetch_base(remote)
    before = mirror_of(world).stat().st_ino
    commit = world.commit({"x": b"news"})
    (world.tmp / "armed").touch()
    base = workspaces.fetch_base(remote)
    assert base.commit == commit
    if made is has_no_room:
        with (
            pytest.raises(TransientError, match="diskspace"),
            workspaces.open(remote, base, task_id=world.task, epoch=1),
        ):
            pass
    assert mirror_of(world).stat().st_ino == before
