"""What a human decided holds until he decides anew."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from tamma.adapters.postgres.store import PostgresStore
from tamma.core.attempt import Outcome, judge
from tamma.core.event import ApprovalAsked
from tamma.core.ids import Oid, TaskId, WorkerId
from tamma.core.policy import RetryPolicy
from tamma.core.task import Task
from tamma.engine.operations import Operations
from tests.contracts.memory_forge import MemoryForge
from tests.engine.loop_world import a_loop

COMMIT, OTHER = Oid("c" * 40), Oid("d" * 40)


def attempt(store: PostgresStore, task_id: TaskId, outcome: Outcome, *, asks: Oid | None = None) -> Task:
    """One that comes to an end after which a human must look."""
    claim = store.claims.claim(task_id, worker=WorkerId("here:1:boot"), duration=timedelta(minutes=1))
    if asks is not None:
        store.claims.record(claim.lease, ApprovalAsked(epoch=claim.lease.epoch, commit=asks))
    decision = judge(outcome, claim.task.counters, RetryPolicy(infra_max=1, interruptions_max=1), chance=0)
    return store.claims.settle(claim.lease, decision, reason="why")


def test_an_approval_outlives_outages(store: PostgresStore, tmp_path: Path) -> None:
    """At the cap the task is blocked again, and letting it go on still means the approved commit, until another is asked for."""
    forge = MemoryForge(name="local")
    intake = a_loop(store, forge, tmp_path).intake
    operations = Operations(store=store, forge=forge, intake=intake, by="ann")
    task = operations.add(forge.add_issue())
    attempt(store, task.id, Outcome.BLOCKED)
    assert operations.approve(task.id).task.approved is None
    attempt(store, task.id, Outcome.BLOCKED, asks=COMMIT)
    assert operations.approve(task.id).task.approved == COMMIT
    for outcome in (Outcome.UNAVAILABLE, Outcome.INTERRUPTED):
        attempt(store, task.id, outcome)
        assert operations.approve(task.id).task.approved == COMMIT
    attempt(store, task.id, Outcome.BLOCKED, asks=OTHER)
    assert operations.approve(task.id).task.approved == OTHER
