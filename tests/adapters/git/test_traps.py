"""An agent without a sandbox reaches Tamma's own git folders: what it plants there holds nobody, and no verdict blames Tamma."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tamma.adapters.git.gitdir import traps
from tamma.ports.workspace import WorkspaceRemoved
from tests.adapters.git.conftest import World

pytestmark = pytest.mark.timeout(60)


def trap(path: Path) -> None:
    """A FIFO in place of a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    os.mkfifo(path)


@pytest.mark.parametrize(
    "name", ["HEAD", "config", "packed-refs", "info/attributes", "refs/tamma/base/main", "shallow"]
)
def test_a_mirror_with_a_fifo_is_rebuilt(world: World, name: str) -> None:
    """The next base is fetched at once, and a kept commit is still there."""
    ws = world.open()
    (ws.folder / "new.txt").write_text("new")
    kept = ws.capture(message="m").commit
    world.workspaces.keep(world.remote, kept, name="one")
    (mirror,) = (world.tmp / "state/mirrors").glob("*.git")
    trap(mirror / name)
    commit = world.commit({"more": b"1"})
    assert world.workspaces.fetch_base(world.remote).commit == commit
    assert world.workspaces.read_file(world.remote, kept, "new.txt") == b"new"


def test_a_mirror_with_a_fifo_can_be_read(world: World) -> None:
    """Within the attempt that planted it, before any fetch could rebuild the mirror."""
    base = world.workspaces.fetch_base(world.remote)
    (mirror,) = (world.tmp / "state/mirrors").glob("*.git")
    trap(mirror / "shallow")
    assert world.workspaces.read_file(world.remote, base.commit, "README.md") == b"read me\n"


@pytest.mark.parametrize(
    "name",
    ["git/HEAD", "git/config", "git/index", "git/packed-refs", "git/info/attributes", "git/shallow",
     "git/objects/info/alternates", "desk/overlay.index", "desk/capture.index"],
)  # fmt: skip
def test_a_trusted_folder_with_a_fifo_is_mended(world: World, name: str) -> None:
    """The candidate is what the agent did, no more and no less, and can be checked out and laid over."""
    ws = world.open()
    (ws.folder / "new.txt").write_text("new")
    trap(ws.git_dir.parent / name)
    candidate = ws.capture(message="m")
    assert [change.path for change in candidate.changes] == ["new.txt"]
    trap(ws.git_dir.parent / name)
    with ws.checkout(candidate.tree, name="gate") as folder:
        assert (folder / "new.txt").read_text() == "new"
    trap(ws.git_dir.parent / name)
    assert ws.overlay(candidate, paths=["new.txt"]) == candidate.tree


def test_a_folder_that_goes_while_it_is_looked_through_holds_no_trap(tmp_path: Path) -> None:
    """Another worker keeps or releases a commit in the same mirror."""
    trap(tmp_path / "fifo")
    (tmp_path / "refs").mkdir()
    found = traps(tmp_path)
    assert next(found) == tmp_path / "fifo"
    (tmp_path / "refs").rmdir()
    assert list(found) == []


@pytest.mark.parametrize("is_link", [True, False])
def test_where_trees_are_checked_out_is_not_led_elsewhere(world: World, tmp_path: Path, is_link: bool) -> None:
    """By a gate or an agent without a sandbox: it removed its workspace, and nothing is written beyond it."""
    ws = world.open()
    out = ws.git_dir.parent / "out"
    shutil.rmtree(out)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    if is_link:
        out.symlink_to(elsewhere)
    with pytest.raises(WorkspaceRemoved, match="gone"), ws.checkout(ws.base.tree, name="gate"):
        pass
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize("name", [".", "tree", "git"])
def test_a_removed_workspace_is_the_agent_s_doing(world: World, name: str) -> None:
    """Not trouble of Tamma's state folder that a human must look at."""
    ws = world.open()
    shutil.rmtree(ws.git_dir.parent / name)
    with pytest.raises(WorkspaceRemoved, match="gone"):
        ws.capture(message="m")
