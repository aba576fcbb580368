"""Mirrors do not grow for ever, and what they keep for a task is found and released."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

from tamma.adapters.git.leftovers import mirror_lock
from tamma.adapters.proc.locks import take_now
from tamma.core.ids import TaskId
from tests.adapters.git.conftest import World, git
from tests.adapters.git.test_mirror import mirror_of

PACKS = 51


def test_a_mirror_whose_rebuilding_was_killed_gives_back_what_it_kept(world: World) -> None:
    """Between the old one's leaving and the new one's coming there is none: the old one is taken up again."""
    ws = world.open()
    (ws.folder / "new.txt").write_text("new")
    kept = ws.capture(message="m").commit
    world.workspaces.keep(world.remote, kept, name="one")
    mirror = mirror_of(world)
    mirror.rename(mirror.with_suffix(".broken"))
    world.workspaces.fetch_base(world.remote)
    assert world.workspaces.read_file(world.remote, kept, "new.txt") == b"new"


def many_packs(mirror: Path) -> list[str]:
    """One object each, that nothing names."""
    oids = []
    for _ in range(PACKS):
        oid = git("hash-object", "-w", "--stdin", cwd=mirror, stdin=os.urandom(20))
        git("pack-objects", "-q", "objects/pack/pack", cwd=mirror, stdin=f"{oid}\n".encode())
        (mirror / "objects" / oid[:2] / oid[2:]).unlink()
        oids.append(oid)
    return oids


def test_many_packs_become_few_with_the_next_fetch(world: World) -> None:
    """Nothing is lost to an attempt that lives meanwhile: it may borrow what nothing names any more."""
    ws = world.open()
    oids = many_packs(mirror_of(world))
    commit = world.commit({"x": b"news"})
    assert world.workspaces.fetch_base(world.remote).commit == commit
    assert len(list(mirror_of(world).glob("objects/pack/*.pack"))) == 1
    for oid in oids:
        git("cat-file", "-e", oid, cwd=mirror_of(world))
    assert ws.capture(message="m").is_empty


def test_what_nothing_names_goes_when_it_is_old_and_nobody_borrows_it(world: World) -> None:
    """Two weeks, by the time of its pack."""
    world.workspaces.fetch_base(world.remote)
    oids = many_packs(mirror_of(world))
    for place in mirror_of(world).glob("objects/pack/*"):
        os.utime(place, (0, 0))
    world.commit({"x": b"news"})
    base = world.workspaces.fetch_base(world.remote)
    assert not [
        oid for oid in oids if oid in git("cat-file", "--batch-all-objects", "--batch-check", cwd=mirror_of(world))
    ]
    with world.workspaces.open(world.remote, base, task_id=world.task, epoch=1) as ws:
        assert ws.capture(message="m").is_empty


def test_nothing_is_released_while_another_works_on_the_mirror(world: World) -> None:
    """Two writers of one mirror's refs would lose each other's; the commit is a leftover still, and goes the next time."""
    other = TaskId(str(uuid.UUID(int=8)))
    ws = world.open()
    world.workspaces.keep(world.remote, ws.base.commit, name=other)
    with mirror_lock(mirror_of(world)) as lock:
        assert take_now(lock)
        world.workspaces.discard(other)
        assert world.workspaces.leftovers() == (world.task, other)
    world.workspaces.discard(other)
    assert world.workspaces.leftovers() == (world.task,)


def test_a_task_s_leftovers_are_found_and_discarded_and_a_living_attempt_s_are_not(world: World) -> None:
    """A dead checkout and a kept commit; of other tasks, and in what lives, nothing is touched."""
    other = TaskId(str(uuid.UUID(int=8)))
    ws = world.open(epoch=2)
    world.workspaces.keep(world.remote, ws.base.commit, name=world.task)
    world.workspaces.keep(world.remote, ws.base.commit, name=other)
    dead = world.tmp / "state" / "workspaces" / world.task / "1"
    dead.mkdir()
    assert world.workspaces.leftovers() == (world.task, other)
    world.workspaces.discard(world.task)
    assert not dead.exists()
    assert ws.capture(message="m").is_empty
    refs = git("for-each-ref", "--format=%(refname)", "refs/tamma/keep/", cwd=mirror_of(world))
    assert refs == f"refs/tamma/keep/{other}"
