"""Several processes and threads write the same files: nothing is lost, torn or doubled, even when one is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tamma.adapters.forges.document import Document, parse
from tamma.adapters.forges.folder import SETTLED_SECONDS, locked
from tamma.adapters.forges.local import LocalForge
from tamma.core.errors import ConfigError, NoSuchTask, PermanentError, TransientError
from tests.contracts.forge_contract import a_draft
from tests.contracts.test_local_forge import LocalWorld
from tests.support.project import wait_until

REPOSITORY = Path(__file__).parents[3]
ROUNDS = 10
PROCESSES = 4
WRITER = f"""
import sys
from pathlib import Path
from tests.contracts.forge_contract import a_draft
from tests.contracts.test_local_forge import LocalWorld
world = LocalWorld.__new__(LocalWorld)
root = Path(sys.argv[1]) / "demo"
world.repository, world.issues, world.changes = "demo", root / "issues", root / "changes"
forge, ref, me = world.forge_as("tamma"), world.ref("1"), sys.argv[2]
print("ready", flush=True)
turn = 0
while turn < {ROUNDS} or me == "forever":
    turn += 1
    forge.comment(ref, marker=f"<!-- shared {{turn % 50}} -->", body="x" * 2000 + f"<!-- shared {{turn % 50}} -->")
    if me != "forever":
        forge.comment(ref, marker=f"<!-- {{me}} {{turn}} -->", body=f"<!-- {{me}} {{turn}} -->")
        forge.open_change(a_draft(world, ref, head=f"tamma/{{turn}}"))
    forge.change_labels(ref, add=[f"{{me}}-{{turn % 2}}"], remove=[f"{{me}}-{{(turn + 1) % 2}}"])
"""


def start(tmp_path: Path, name: str) -> subprocess.Popen[str]:
    """Another process at the same files."""
    argv = [sys.executable, "-c", WRITER, str(tmp_path), name]
    env = {"PYTHONPATH": str(REPOSITORY), "PATH": os.defpath}
    return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY, env=env)


def test_an_issue_whose_file_is_being_swapped_is_not_gone(world: LocalWorld) -> None:
    """vim and `git pull` take it away for a moment; work that passed its gates was called off for that."""
    ref = world.create_issue(title="still there")
    file = world.issues / f"{ref.number}.md"
    aside = file.rename(file.with_suffix(".aside"))
    back = threading.Timer(0.01, aside.rename, [file])
    back.start()
    assert world.forge.issue(ref).title == "still there"
    back.join()
    file.unlink()
    with pytest.raises(NoSuchTask):
        world.forge.issue(ref)


def test_processes_at_once_lose_and_double_nothing(world: LocalWorld, tmp_path: Path) -> None:
    """Each one's own comments are all there, each shared comment and change once."""
    ref = world.create_issue(body="the body\r\n")
    children = [start(tmp_path, f"p{n}") for n in range(PROCESSES)]
    for child in children:
        child.communicate(timeout=120)
    assert [child.returncode for child in children] == [0] * PROCESSES
    comments = world.forge.comments(ref)
    assert len(comments) == ROUNDS + PROCESSES * ROUNDS
    assert len({c.id for c in comments}) == len(comments)
    assert world.forge.count_open_changes("demo") == ROUNDS
    assert world.forge.issue(ref).labels == {"tamma", *(f"p{n}-{ROUNDS % 2}" for n in range(PROCESSES))}
    assert world.forge.issue(ref).body == "the body\r\n"


def test_a_killed_writer_leaves_a_whole_file_and_no_lock(world: LocalWorld, tmp_path: Path) -> None:
    """kill -9 in the middle of writing, many times: the file can be read, and the next writer goes on."""
    ref = world.create_issue(body="the body")
    for turn in range(5):
        child = start(tmp_path, "forever")
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        seen = world.file(ref).stat().st_ino
        while world.file(ref).stat().st_ino == seen:
            assert child.poll() is None
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        assert parse(world.file(ref).read_bytes()).text == "the body"
        world.forge.comment(ref, marker=f"<!-- after {turn} -->", body=f"<!-- after {turn} -->")
        assert not list(world.issues.glob(".*"))  # what the dead one left is cleared by the next


def test_a_held_lock_is_waited_for_only_so_long(tmp_path: Path) -> None:
    """Then it is a TransientError, and the lock is free again once its holder left."""
    lock = tmp_path / ".lock"
    with locked(lock), pytest.raises(TransientError), locked(lock, wait_seconds=0):
        pass
    with locked(lock, wait_seconds=0):
        pass


def test_an_editor_saving_in_between_is_not_undone(world: LocalWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """What changed after it was read is read again before it is replaced."""
    ref = world.create_issue(title="old")
    place = world.forge._places["demo"].issues
    real, saves = place.replace, iter([1])

    def saved_before(*args: object, **kwargs: object) -> None:
        if next(saves, None):
            world.edit_issue(ref, title="edited", body="by hand")
        real(*args, **kwargs)  # type: ignore[arg-type] # passed on as they came

    monkeypatch.setattr(place, "replace", saved_before)
    world.forge.comment(ref, marker="<!-- m -->", body="<!-- m -->")
    assert (world.forge.issue(ref).title, len(world.forge.comments(ref))) == ("edited", 1)


def test_a_broken_change_file_stops_no_other_branch_and_is_told(world: LocalWorld) -> None:
    """A slip of a reviewer's hand in one file held up the whole repository."""
    ref = world.create_issue()
    world.forge.open_change(a_draft(world, ref))
    for number, text in {
        "2": "head: [",
        "3": "head: tamma/11\nbase: main\nstate: mergd",
        "4": "head: other/tamma/1\nbase: [",
    }.items():
        (world.changes / f"{number}.md").write_text(f"---\n{text}\n---\n", encoding="utf-8")
    (world.changes / "5.md").symlink_to("1.md")
    assert [change.id for change in world.forge.changes("demo", head="tamma/1")] == ["1"]
    assert world.forge.open_change(a_draft(world, ref)).id == "1"
    told = world.forge.open_issues("demo", label="tamma", limit=10).malformed
    assert [str(bad.ref) for bad in told] == [f"change {n} of demo" for n in (2, 3, 4, 5)]
    assert "3.md: `state` is 'mergd'" in told[1].why


@pytest.mark.parametrize("text", ["haed: tamma/1\nbase: main", "head: tamma/1\nbase: [", 'head: "tamma/1\nbase: main'])
def test_a_broken_change_file_stops_deliveries_from_its_branch_not_the_count(world: LocalWorld, text: str) -> None:
    """It might be the change that is asked for; so it is told, and counted as open."""
    ref = world.create_issue()
    world.forge.open_change(a_draft(world, ref))
    (world.changes / "2.md").write_text(f"---\n{text}\n---\n", encoding="utf-8")
    for call in (
        lambda: world.forge.changes("demo", head="tamma/1"),
        lambda: world.forge.open_change(a_draft(world, ref)),
    ):
        with pytest.raises(PermanentError) as caught:
            call()
        assert "2.md" in caught.value.why
    assert world.forge.count_open_changes("demo") == 2


def test_a_missing_forge_is_away_and_a_missing_folder_is_empty(world: LocalWorld, tmp_path: Path) -> None:
    """An unmounted root must not look like a team without issues."""
    world.issues.rmdir()
    assert world.forge.open_issues("demo", label="tamma", limit=1).issues == ()
    (tmp_path / "demo").rmdir()
    with pytest.raises(TransientError):
        world.forge.open_issues("demo", label="tamma", limit=1)


def test_unknown_repositories_and_unusable_users_are_the_operators_matter(world: LocalWorld) -> None:
    """Who files without an author count as cannot be us."""
    with pytest.raises(ConfigError):
        world.forge.open_issues("other", label="tamma", limit=1)
    with pytest.raises(ConfigError):
        LocalForge(name="local", user="unknown", repositories=[])


def test_thousands_of_files_are_parsed_once(world: LocalWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second look reads only what it returns."""
    for number in range(500):
        (world.issues / f"{number}.md").write_text(f"---\ntitle: t{number}\nlabels: tamma\n---\n", encoding="utf-8")
        os.utime(world.issues / f"{number}.md", (1, 1))
    monkeypatch.setattr("tamma.adapters.forges.folder.SETTLED_SECONDS", -1e9)
    assert len(world.forge.open_issues("demo", label="tamma", limit=3).issues) == 3
    reads: list[bytes] = []

    def counted(raw: bytes) -> Document:
        reads.append(raw)
        return parse(raw)

    monkeypatch.setattr("tamma.adapters.forges.folder.parse", counted)
    assert len(world.forge.open_issues("demo", label="tamma", limit=3).issues) == 3
    assert len(reads) == 3


@pytest.mark.parametrize("left", [b"", b"---\nhead: tam"])
def test_a_change_that_is_just_being_saved_is_not_taken_for_gone(tmp_path: Path, left: bytes) -> None:
    """An editor that writes in place shows nothing, or half of it, for a moment: no second change is opened beside it."""
    world = LocalWorld(tmp_path)
    draft = a_draft(world, world.create_issue())
    change = world.forge.open_change(draft)
    file = world.changes / f"{change.id}.md"
    whole = file.read_bytes()
    file.write_bytes(left)
    with pytest.raises(TransientError, match="being written"):
        world.forge.open_change(draft)
    file.write_bytes(whole)
    assert world.forge.open_change(draft).id == change.id
    assert [path.name for path in world.changes.glob("*.md")] == [file.name]


def test_a_change_that_was_left_broken_stops_nobody_for_long(tmp_path: Path) -> None:
    """Nobody is writing it any more, and it names no branch."""
    world = LocalWorld(tmp_path)
    world.changes.mkdir()
    broken = world.changes / "7.md"
    broken.write_bytes(b"---\n")
    now = broken.stat().st_mtime
    wait_until(lambda: time.time() - now > SETTLED_SECONDS, what="the file to be settled")
    assert world.forge.open_change(a_draft(world, world.create_issue())).id == "8"
