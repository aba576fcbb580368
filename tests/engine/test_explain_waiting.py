"""Why a task waits, as `tamma explain` tells it: the reason that the tick goes by."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from tamma.adapters.postgres.store import PostgresStore
from tamma.core.attempt import Outcome, judge
from tamma.core.ids import BlobId, IssueRef, WorkerId
from tamma.core.policy import Limits, RetryPolicy
from tamma.core.task import Task
from tamma.engine.explain import Explainer
from tamma.ports.store import TaskDraft, WorkerRole, WorkerState
from tests.contracts.memory_forge import MemoryForge
from tests.engine.loop_world import a_loop

ME = WorkerId("here:1:boot")
MINUTE = timedelta(minutes=1)
ONE_EACH = Limits(running=2, running_per_repository=1)


def test_a_reserved_slot_is_a_taken_one(store: PostgresStore, tmp_path: Path) -> None:
    """A worker that starts takes its repository's slot as one that runs does; and all slots together may be taken."""
    explainer, first = a_task(store, tmp_path)
    other = store.tasks.create(draft(number="2"))
    assert "a slot is free" in explainer.task(other.id).status
    reserve(store, first)
    assert "1 task runs or starts in demo" in explainer.task(other.id).status
    reserve(store, store.tasks.create(draft(number="1", forge="elsewhere")))
    assert "all 2 slots are taken" in explainer.task(other.id).status


def test_a_namesake_on_another_forge_takes_no_slot_here(store: PostgresStore, tmp_path: Path) -> None:
    """Limits of a repository are those of this forge's."""
    explainer, task = a_task(store, tmp_path)
    reserve(store, store.tasks.create(draft(number="1", forge="elsewhere")))
    assert "a slot is free" in explainer.task(task.id).status


def test_a_retry_that_is_due_waits_for_what_holds_it_and_not_for_the_past(store: PostgresStore, tmp_path: Path) -> None:
    """Before its time it waits for that; then for a slot like any other."""
    explainer, task = a_task(store, tmp_path)
    fail(store, task, RetryPolicy(backoff_base=timedelta(hours=1)))
    assert "it is tried again after 2" in explainer.task(task.id).status
    other = store.tasks.create(draft(number="2"))
    fail(store, other, RetryPolicy(backoff_base=timedelta(0)))
    told = explainer.task(other.id).status
    assert told == "waiting: no orchestrator is running; a slot is free; it is to be tried again, since why"


def test_whoever_waits_is_told_whether_an_orchestrator_runs(store: PostgresStore, tmp_path: Path) -> None:
    """By the registry: one that is there takes no more than it may; a worker is none, nor is one that left, or gave no sign of life."""
    explainer, task = a_task(store, tmp_path)

    def told() -> str:
        return explainer.task(task.id).status

    for worker, role in ((WorkerId("here:2:boot"), WorkerRole.WORKER), (ME, WorkerRole.ORCHESTRATOR)):
        assert told().startswith("waiting: no orchestrator is running")
        store.workers.register(worker, host="here", pid=1, role=role, release="test", capabilities=())
    assert "limits.workers" in told()
    assert "no orchestrator" not in told()
    hasty = replace(explainer.policies, leases=replace(explainer.policies.leases, beat=timedelta(0)))
    assert "no orchestrator is running" in replace(explainer, policies=hasty).task(task.id).status
    store.workers.change_state(ME, WorkerState.GONE, reason="finished")
    assert "no orchestrator is running" in told()


def a_task(store: PostgresStore, tmp_path: Path) -> tuple[Explainer, Task]:
    """A queued task, and who explains it."""
    forge = MemoryForge(name="local")
    loop = a_loop(store, forge, tmp_path, limits=ONE_EACH)
    explainer = Explainer(store=store, forge=forge, intake=loop.intake, policies=loop.policies)
    return explainer, loop.intake.find_or_create(forge.add_issue(), asked_by="label")


def draft(*, number: str, forge: str = "local") -> TaskDraft:
    """Of an issue in demo."""
    ref = IssueRef(forge=forge, repository="demo", number=number)
    return TaskDraft(ref=ref, title="t", digest="d", snapshot=BlobId("b"), asked_by="label")


def reserve(store: PostgresStore, task: Task) -> None:
    """A slot between an orchestrator's decision and the worker's claim."""
    assert store.tasks.reserve(task.id, by=ME, duration=MINUTE, running_max=9, running_per_repository_max=9)


def fail(store: PostgresStore, task: Task, policy: RetryPolicy) -> None:
    """An attempt that comes to nothing, and is to be made again."""
    claim = store.claims.claim(task.id, worker=ME, duration=MINUTE)
    store.claims.settle(claim, judge(Outcome.AGENT_FAILED, claim.task.counters, policy, chance=0), reason="why")
