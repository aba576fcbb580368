"""What a human decided holds until he decides anew."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from tamma.adapters.postgres.store import PostgresStore
from tamma.core.attempt import Outcome, judge
from tamma.core.errors import NoSuchTask, NotClaimable, RefusedByPolicy
from tamma.core.event import AgentFinished, AgentSpoke, ApprovalAsked
from tamma.core.ids import Oid, TaskId, WorkerId
from tamma.core.policy import RetryPolicy
from tamma.core.task import Task
from tamma.engine.operations import Operations
from tamma.ports.agent import AgentStatus
from tests.contracts.memory_forge import MemoryForge
from tests.engine.loop_world import a_loop

COMMIT, OTHER = Oid("c" * 40), Oid("d" * 40)


def attempt(
    store: PostgresStore,
    task_id: TaskId,
    outcome: Outcome,
    *,
    asks: Oid | None = None,
    agent: AgentStatus | None = None,
) -> Task:
    """One that comes to an end after which a human must look."""
    claim = store.claims.claim(task_id, worker=WorkerId("here:1:boot"), duration=timedelta(minutes=1))
    facts: list[AgentFinished | ApprovalAsked] = []
    if agent is not None:
        facts.append(
            AgentFinished(
                epoch=claim.lease.epoch, turn=1, status=agent, detail="Which one?", exit_code=0, duration_ms=1, output=None,
                output_bytes=0, files=0, lines=0,
            )
        )  # fmt: skip
    if asks is not None:
        facts.append(ApprovalAsked(epoch=claim.lease.epoch, commit=asks))
    for fact in facts:
        store.claims.record(claim.lease, fact)
    decision = judge(outcome, claim.task.counters, RetryPolicy(infra_max=1, interruptions_max=1), chance=0)
    return store.claims.settle(claim, decision, reason="why")


def a_task(store: PostgresStore, tmp_path: Path) -> tuple[Operations, Task]:
    """The commands, and a task."""
    forge = MemoryForge(name="local")
    operations = Operations(store=store, forge=forge, intake=a_loop(store, forge, tmp_path).intake, by="ann")
    return operations, operations.add(forge.add_issue())


def test_a_retry_that_is_refused_leaves_the_task_as_it_is(store: PostgresStore, tmp_path: Path) -> None:
    """The issue has grown beyond what may be pinned: its blocked task still waits for people."""
    operations, task = a_task(store, tmp_path)
    blocked = attempt(store, task.id, Outcome.BLOCKED)
    limits = replace(operations.intake.limits, issue_bytes_max=1)
    strict = replace(operations, intake=replace(operations.intake, limits=limits))
    with pytest.raises(RefusedByPolicy):
        strict.retry(task.id)
    assert store.tasks.get(task.id) == blocked
    assert operations.retry(task.id).generation == 2


def test_an_approval_outlives_outages(store: PostgresStore, tmp_path: Path) -> None:
    """At the cap the task is blocked again, and letting it go on still means the approved commit, until another is asked for."""
    operations, task = a_task(store, tmp_path)
    attempt(store, task.id, Outcome.BLOCKED)
    assert operations.approve(task.id).task.approved is None
    attempt(store, task.id, Outcome.BLOCKED, asks=COMMIT)
    assert operations.approve(task.id).task.approved == COMMIT
    for outcome in (Outcome.UNAVAILABLE, Outcome.INTERRUPTED):
        attempt(store, task.id, outcome)
        assert operations.approve(task.id).task.approved == COMMIT
    attempt(store, task.id, Outcome.BLOCKED, asks=OTHER)
    assert operations.approve(task.id).task.approved == OTHER


def test_only_an_agent_that_asked_can_be_left_without_an_answer(store: PostgresStore, tmp_path: Path) -> None:
    """A task that its set-up blocked has asked nothing, also where the agent asked in an attempt before."""
    operations, task = a_task(store, tmp_path)
    attempt(store, task.id, Outcome.BLOCKED, agent=AgentStatus.BLOCKED)
    assert operations.approve(task.id).is_unanswered
    attempt(store, task.id, Outcome.BLOCKED)
    assert not operations.approve(task.id).is_unanswered
    attempt(store, task.id, Outcome.BLOCKED, agent=AgentStatus.FINISHED)
    assert not operations.approve(task.id).is_unanswered
    attempt(store, task.id, Outcome.BLOCKED, agent=AgentStatus.BLOCKED)
    approval = operations.approve(task.id, answer="the higher one")
    assert not approval.is_unanswered
    assert approval.answer == "ann answered:\nthe higher one"


def test_an_answer_is_refused_where_none_is_asked_for(store: PostgresStore, tmp_path: Path) -> None:
    """Nobody would read it: what waits is published as it is."""
    operations, task = a_task(store, tmp_path)
    attempt(store, task.id, Outcome.BLOCKED, asks=COMMIT)
    with pytest.raises(NotClaimable, match="asks nothing"):
        operations.approve(task.id, answer="the higher one")
    assert operations.approve(task.id).task.approved == COMMIT


def test_what_the_agent_printed_is_shown_run_by_run(store: PostgresStore, tmp_path: Path) -> None:
    """Of the newest attempt in which one ran: what was kept of it, or as far as it was heard where nobody saw its end. Where no gate
    was asked, that is where to look."""
    operations, task = a_task(store, tmp_path)
    with pytest.raises(NoSuchTask, match="no agent has run"):
        operations.agent_output(task.id)
    attempt(store, task.id, Outcome.BLOCKED, agent=AgentStatus.BLOCKED)
    operations.approve(task.id)
    lease = store.claims.claim(task.id, worker=WorkerId("here:1:boot"), duration=timedelta(minutes=1)).lease
    whole = store.blobs.put(b"all of it")
    first = AgentFinished(
        epoch=lease.epoch, turn=0, status="failed", detail="", exit_code=1, duration_ms=1, output=whole, output_bytes=9, files=0, lines=0
    )  # fmt: skip
    for fact in (
        AgentSpoke(epoch=lease.epoch, turn=0, text="all"),
        first,
        AgentSpoke(epoch=lease.epoch, turn=1, text="on"),
    ):
        store.claims.record(lease, fact)
    runs = operations.agent_output(task.id)
    assert [(run.turn, run.status, run.text) for run in runs] == [(0, "failed", "all of it"), (1, "", "on")]
    with pytest.raises(NoSuchTask) as refused:
        operations.output(task.id)
    assert f"tamma task output {task.id} agent" in refused.value.fix
