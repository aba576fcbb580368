"""Removal stays below its root, whatever the agent left; and nothing of a living attempt is removed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from functools import partial
from itertools import chain, repeat
from pathlib import Path

import pytest

from tamma.adapters.git.cleanup import make_private
from tamma.adapters.proc.removal import remove_tree
from tamma.core.errors import ConfigError, PermanentError, TransientError
from tests.adapters.git.conftest import World


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root to remove below."""
    folder = tmp_path / "root"
    folder.mkdir()
    return folder


@pytest.fixture
def precious(tmp_path: Path) -> Path:
    """Something outside the root."""
    folder = tmp_path / "precious"
    folder.mkdir()
    (folder / "file").write_text("precious")
    return folder


def test_links_are_removed_as_links(root: Path, precious: Path) -> None:
    """Links to /, to a home folder, to files and to nowhere, at any depth."""
    target = root / "x"
    (target / "deep").mkdir(parents=True)
    (target / "slash").symlink_to("/")
    (target / "deep/home").symlink_to(precious)
    (target / "deep/file").symlink_to(precious / "file")
    (target / "deep/gone").symlink_to("nowhere")
    assert remove_tree(target, root=root)
    assert (precious / "file").read_text() == "precious"
    (root / "link").symlink_to(precious)
    assert remove_tree(root / "link", root=root)
    assert (precious / "file").read_text() == "precious"


def test_folders_without_permissions_are_removed(root: Path) -> None:
    """Mode 0000 on folders and files inside."""
    target = root / "x/a/b"
    target.mkdir(parents=True)
    (target / "file").write_text("x")
    (target / "file").chmod(0)
    for folder in (target, target.parent, target.parent.parent):
        folder.chmod(0)
    assert remove_tree(root / "x", root=root)


def test_special_files_and_odd_names_are_removed(root: Path) -> None:
    """Pipes, names that are not UTF-8, read-only files."""
    (root / "x").mkdir()
    os.mkfifo(root / "x/pipe")
    Path(os.fsdecode(os.fsencode(root / "x") + b"/a\xff\nb")).write_text("x")
    assert remove_tree(root / "x", root=root)


def test_very_deep_folders_are_removed(root: Path) -> None:
    """Deeper than any recursion, path length or descriptor limit."""
    (root / "x").mkdir()
    fd = os.open(root / "x", os.O_RDONLY)
    for _ in range(2_500):
        os.mkdir("dddd", dir_fd=fd)
        deeper = os.open("dddd", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = deeper
    os.close(fd)
    assert remove_tree(root / "x", root=root)


def test_nothing_outside_the_root_is_touched(root: Path, precious: Path) -> None:
    """Neither by a path that leads out, nor by a link on the way, nor the root itself."""
    (root / "way").symlink_to(precious.parent)
    for target in (precious, root / "../precious", root / "way/precious", root / "..", root):
        with pytest.raises(ValueError, match="is not below"):
            remove_tree(target, root=root)
    assert (precious / "file").read_text() == "precious"


def test_removing_what_is_not_there_is_fine(root: Path) -> None:
    """Gone is gone."""
    assert remove_tree(root / "never", root=root)


def test_private_folder_is_no_link(root: Path, precious: Path) -> None:
    """A link in the place of our folder is refused."""
    (root / "state").symlink_to(precious)
    with pytest.raises(ConfigError):
        make_private(root / "state")


def test_workspace_with_traps_is_removed(world: World) -> None:
    """An attempt that left links to / and locked folders leaves nothing behind, and the host is whole."""
    base = world.workspaces.fetch_base(world.remote)
    with world.workspaces.open(world.remote, base, task_id=world.task, epoch=1) as ws:
        (ws.folder / "slash").symlink_to("/")
        (ws.folder / "src/home").symlink_to(world.author)
        (ws.folder / "locked").mkdir()
        (ws.folder / "locked/file").write_text("x")
        (ws.folder / "locked").chmod(0)
        (ws.scratch / "slash").symlink_to("/")
        home = ws.folder.parent
    assert not home.exists()
    assert (world.author / "README.md").exists()


SCRIPT = """
import os, sys
from pathlib import Path
from tamma.adapters.git import GitWorkspaces
from tamma.ports.workspace import Remote
workspaces = GitWorkspaces(state=Path(sys.argv[1]))
remote = Remote(name="demo", url=sys.argv[2])
with workspaces.open(remote, workspaces.fetch_base(remote), task_id=sys.argv[3], epoch=int(sys.argv[4])) as ws:
    (ws.folder / "README.md").write_text("half done\\n")
    print(ws.folder, flush=True)
    sys.stdin.read()
"""


def start_attempt(world: World, epoch: int) -> tuple[subprocess.Popen[bytes], Path]:
    """An attempt in another process, at work."""
    argv = [sys.executable, "-c", SCRIPT, str(world.tmp / "state"), world.remote.url, world.task, str(epoch)]
    child = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout is not None
    return child, Path(child.stdout.readline().decode().strip())


def test_work_of_a_killed_attempt_is_salvaged_then_removed(world: World) -> None:
    """Its uncommitted work comes back as a patch; the next attempt starts clean."""
    child, folder = start_attempt(world, 1)
    with child:
        child.send_signal(signal.SIGKILL)
    assert folder.is_dir()
    (found,) = world.workspaces.salvage(world.remote, task_id=world.task, epoch=2)
    assert b"+half done" in found.patch
    assert world.workspaces.salvage(world.remote, task_id=world.task, epoch=2) == (found,)
    assert world.workspaces.salvage(world.remote, task_id=world.task, epoch=1) == ()
    ws = world.open(epoch=2)
    assert not folder.exists()
    assert (ws.folder / "README.md").read_text() == "read me\n"
    assert world.workspaces.salvage(world.remote, task_id=world.task, epoch=2) == ()


def test_work_that_could_not_be_salvaged_now_is_salvaged_later(world: World) -> None:
    """Who is stopped meanwhile says so, and removes nothing: this is the only copy."""
    child, folder = start_attempt(world, 1)
    with child:
        child.send_signal(signal.SIGKILL)
    stops = 0
    for polls in range(100):
        answers = chain(repeat(False, polls), repeat(True))
        world.workspaces.heed(partial(next, answers))
        try:
            (found,) = world.workspaces.salvage(world.remote, task_id=world.task, epoch=2)
        except TransientError:
            stops += 1
            assert folder.is_dir()
        else:
            break
    assert stops > 3, "it is asked before each of git's steps"
    assert b"+half done" in found.patch


@pytest.mark.parametrize("note", ["[" * 9_000, "[]", '{"branch": 1, "commit": 2, "tree": []}'])
def test_a_note_that_is_none_hides_the_work_but_stops_nobody(world: World, note: str) -> None:
    """An agent that reached it cannot make the next attempts fail."""
    child, folder = start_attempt(world, 1)
    with child:
        child.send_signal(signal.SIGKILL)
    (folder.parent / "base.json").write_text(note)
    assert world.workspaces.salvage(world.remote, task_id=world.task, epoch=2) == ()


def test_living_attempt_is_left_alone(world: World) -> None:
    """A zombie that lost its lease but still runs keeps its folder until it leaves by itself."""
    child, folder = start_attempt(world, 1)
    with child:
        assert world.workspaces.salvage(world.remote, task_id=world.task, epoch=2) == ()
        world.open(epoch=2)
        assert (folder / "README.md").read_text() == "half done\n"
        assert child.stdin is not None
        child.stdin.close()
        child.wait()
    assert not folder.exists()


def test_same_attempt_is_not_opened_twice(world: World) -> None:
    """Two attempts never share a folder."""
    ws = world.open(epoch=1)
    with (
        pytest.raises(PermanentError, match="open already"),
        world.workspaces.open(world.remote, ws.base, task_id=world.task, epoch=1),
    ):
        pass
    assert ws.capture(message="m").is_empty


def test_garbage_left_behind_is_no_obstacle(world: World) -> None:
    """A leftover that cannot be read is removed all the same."""
    task = world.tmp / "state/workspaces" / world.task
    world.workspaces.fetch_base(world.remote)
    (task / "1/tree").mkdir(parents=True)
    (task / "1/base.json").write_text("{")
    (task / "2").mkdir()
    (task / "notes").write_text("x")
    assert world.workspaces.salvage(world.remote, task_id=world.task, epoch=3) == ()
    world.open(epoch=3)
    assert sorted(p.name for p in task.iterdir()) == ["3", "notes"]
