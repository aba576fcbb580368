"""The issue's change, as `tamma explain` and `task retry` tell of it: also one that an earlier task left."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from tamma.adapters.postgres.store import PostgresStore
from tamma.core.attempt import Outcome, judge
from tamma.core.change import Change, ChangeDraft, ChangeState, Marker
from tamma.core.errors import PermanentError
from tamma.core.event import ChangeDelivered
from tamma.core.ids import Oid, WorkerId, branch_name
from tamma.core.issue import IssueState
from tamma.core.policy import RetryPolicy
from tamma.core.task import Task
from tamma.engine.explain import Explainer
from tamma.engine.operations import Operations
from tests.contracts.memory_forge import MemoryForge
from tests.engine.loop_world import a_loop

COMMIT = Oid("c" * 40)


class World:
    """An issue whose task delivered a change that is open."""

    def __init__(self, store: PostgresStore, tmp_path: Path) -> None:
        self.store, self.forge = store, MemoryForge(name="local")
        loop = a_loop(store, self.forge, tmp_path)
        self.explainer = Explainer(store=store, forge=self.forge, intake=loop.intake, policies=loop.policies)
        self.operations = Operations(store=store, forge=self.forge, intake=loop.intake, by="ann")
        self.task = self.deliver(self.operations.add(self.forge.add_issue()))

    def deliver(self, task: Task) -> Task:
        """One attempt to the end, as a worker makes it."""
        claim = self.store.claims.claim(task.id, worker=WorkerId("here:1:boot"), duration=timedelta(minutes=1))
        marker, branch = Marker(what="change", task=task.id, head=COMMIT), branch_name(task.ref)
        draft = ChangeDraft(repository="demo", head=branch, base="main", title="t", body=str(marker), issue=task.ref)
        made = self.forge.open_change(draft)
        fact = ChangeDelivered(epoch=claim.lease.epoch, change=made.id, url=made.url, branch=branch, commit=COMMIT)
        self.store.claims.record(claim.lease, fact)
        decision = judge(Outcome.DELIVERED, claim.task.counters, RetryPolicy(), chance=0)
        return self.store.claims.settle(claim, decision, reason="why")


@pytest.fixture
def world(store: PostgresStore, tmp_path: Path) -> World:
    """See ``World``."""
    return World(store, tmp_path)


def test_who_asks_again_is_told_of_the_change_that_is_open(world: World) -> None:
    """When asking, and whenever the new task is explained: what it delivers takes the place of that."""
    made = world.operations.retry(world.task.id)
    change = world.operations.open_change(made.ref)
    assert change is not None
    told = world.explainer.issue(made.ref)
    expected = {"id": change.id, "state": "open", "task": world.task.id, "commit": COMMIT}
    assert (told.change or {}) | expected == told.change
    world.forge.set_change(change.id, state=ChangeState.CLOSED)
    assert world.operations.open_change(made.ref) is None


def test_an_issue_whose_change_was_merged_needs_nothing_more(world: World) -> None:
    """Though it was asked for again meanwhile, and that was called off since the issue is closed."""
    made = world.operations.retry(world.task.id)
    world.forge.set_change("1", state=ChangeState.MERGED)
    world.operations.cancel(made.id, reason="the issue was closed")
    world.forge.set_issue(made.ref, state=IssueState.CLOSED)
    assert world.explainer.issue(made.ref).next == "nothing: the change was merged"
    world.forge.set_issue(made.ref, state=IssueState.OPEN)
    assert "merged" not in world.explainer.issue(made.ref).next


def test_a_change_that_cannot_be_read_is_told_with_its_cure(world: World) -> None:
    """As doctor does: "review the change" would lead to a file that means nothing."""

    def changes(repository: str, *, head: str) -> Sequence[Change]:
        raise PermanentError(f"{repository}/changes/1.md has no state 'mergd'", fix="write merged")

    world.forge.changes = changes  # type: ignore[method-assign]
    told = world.explainer.task(world.task.id)
    assert "mergd" in told.trouble
    assert told.next == "write merged"
    assert (told.change or {})["id"] == "1"
