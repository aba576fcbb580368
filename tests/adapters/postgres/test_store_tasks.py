"""Claims about creation, looking, reservations and what a human decides."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from functools import partial

import psycopg
import pytest

from tamma.core.attempt import Outcome
from tamma.core.errors import NoSuchTask, NotClaimable
from tamma.core.event import (
    ChangeDelivered,
    TaskCancelled,
    TaskCreated,
    TaskDispatched,
    TaskUnblocked,
    encode,
    task_stream,
)
from tamma.core.ids import IssueRef, Oid, TaskId, correlation_id, task_id
from tamma.core.policy import RetryPolicy
from tamma.core.task import Notice, Task, TaskKind, TaskState
from tamma.core.worker import WorkerState
from tamma.ports.store import Scope, WorkerRole
from tests.adapters.postgres.store_world import ANN, BOB, MINUTE, ORC, World, draft, together

NOBODY = TaskId("11111111-1111-5111-8111-111111111111")
SCOPE = Scope(forge="local", repositories=frozenset({"demo"}), workable=frozenset({"demo"}))


def reserve(world: World, task: Task, *, total: int = 9, each: int = 9) -> bool:
    return world.store.tasks.reserve(
        task.id, by=ORC, duration=MINUTE, running_max=total, running_per_repository_max=each
    )  # fmt: skip


def test_a_new_task_is_its_draft_and_its_first_event(world: World) -> None:
    """Creation writes the row and TaskCreated, tagged by task, issue and repository."""
    task = world.task(7, priority=3)
    (event,) = world.store.events.stream(task_stream(task.id))
    assert task == world.store.tasks.get(task.id)
    assert task.id == task_id(task.ref, kind=TaskKind.RESOLVE, generation=1)
    assert (task.state, task.version, task.epoch, task.priority) == (TaskState.QUEUED, 1, 0, 3)
    assert event.at == task.created_at
    assert event.correlation == task.correlation == correlation_id(task.ref)
    assert event.tags == (f"task:{task.id}", "issue:local/demo#7", "repo:local/demo")
    assert isinstance(event.fact, TaskCreated)


def test_creation_is_idempotent(world: World) -> None:
    """Eight creators of one task get the same task, and the log tells of one creation."""
    tasks = together(*[lambda: world.task(1)] * 8)
    assert len(set(tasks)) == 1
    assert len(world.store.events.stream(task_stream(tasks[0].id))) == 1


def test_an_issue_has_one_live_task(world: World) -> None:
    """Another generation has to wait until the live one has ended."""
    first = world.task(1)
    with pytest.raises(NotClaimable, match="live task"):
        world.task(1, generation=2)
    world.store.tasks.cancel(first.id, by="ann", reason="over")
    second = world.task(1, generation=2)
    assert world.store.tasks.newest([first.ref], TaskKind.RESOLVE) == {first.ref: second}


def test_newest_answers_only_for_issues_with_a_task(world: World) -> None:
    """One query for many issues; those without a task are not in the answer."""
    task = world.task(1)
    nothing = IssueRef(forge="local", repository="demo", number="2")
    assert world.store.tasks.newest([task.ref, nothing], TaskKind.RESOLVE) == {task.ref: task}
    assert world.store.tasks.newest([], TaskKind.RESOLVE) == {}


def test_text_that_postgres_cannot_hold_is_cleaned(world: World) -> None:
    """NULs and unpaired surrogates never make a write fail; row and event hold the same text."""
    task = world.store.tasks.create(draft(1, title="a\0b\ud800c ✓"))
    (event,) = world.store.events.stream(task_stream(task.id))
    assert task.title == "ab?c ✓"
    assert encode(event.fact)["title"] == task.title
    assert world.store.tasks.cancel(task.id, by="\0", reason="x\0\udfff").reason == "x?"


def test_an_unknown_task_is_named(world: World) -> None:
    """NoSuchTask, whatever is asked of it."""
    tasks, claims = world.store.tasks, world.store.claims
    for call in (
        lambda: tasks.get(NOBODY),
        lambda: tasks.cancel(NOBODY, by="ann", reason=""),
        lambda: tasks.unblock(NOBODY, by="ann"),
        lambda: claims.claim(NOBODY, worker=ANN, duration=MINUTE),
    ):
        with pytest.raises(NoSuchTask, match=NOBODY):
            call()
    assert tasks.lease(NOBODY) is None


def test_counts_and_lists(world: World) -> None:
    """Zeros are counted; a list is newest first, and may be narrowed to states."""
    old, new = world.task(1), world.task(2)
    world.store.tasks.cancel(old.id, by="ann", reason="over")
    counts = world.store.tasks.counts()
    assert set(counts) == set(TaskState)
    assert (counts[TaskState.QUEUED], counts[TaskState.CANCELLED], counts[TaskState.RUNNING]) == (1, 1, 0)
    assert [task.id for task in world.store.tasks.list()] == [new.id, old.id]
    assert [task.id for task in world.store.tasks.list(states=[TaskState.CANCELLED])] == [old.id]
    assert [task.id for task in world.store.tasks.list(limit=1)] == [new.id]
    newer = world.task(3)
    assert [task.id for task in world.store.tasks.list(states=[TaskState.QUEUED])] == [newer.id, new.id]


def test_what_may_yet_open_a_change_is_counted(world: World) -> None:
    """Queued, running and to be tried again; not what is blocked, over, or has its change, nor another repository's."""
    world.task(1)
    opened = world.claimed(2)
    world.ended(world.claimed(3), Outcome.AGENT_FAILED)
    world.ended(world.claimed(4), Outcome.BLOCKED)
    world.ended(world.claimed(5), Outcome.DELIVERED)
    world.task(1, repository="other")
    world.store.tasks.create(draft(1, forge="other"))
    assert world.store.tasks.under_way(forge="local", repository="demo") == 3
    world.store.claims.record(
        opened.lease, ChangeDelivered(epoch=1, change="7", url="u", branch="tamma/2", commit=Oid("a" * 40))
    )
    assert world.store.tasks.under_way(forge="local", repository="demo") == 2


def test_a_reservation_takes_a_slot_until_the_claim(world: World) -> None:
    """A reserved task is not ready and holds a slot; the claim by id takes it over."""
    task = world.task(1)
    assert reserve(world, task)
    assert not reserve(world, task)
    survey = world.store.tasks.survey(SCOPE, limit=10, beat=MINUTE, missed_beats_max=3)
    assert (survey.ready, survey.occupied) == ((), {("local", "demo"): 1})
    assert world.store.claims.claim_next(worker=ANN, capabilities=(), duration=MINUTE) is None
    assert world.store.claims.claim(task.id, worker=ANN, duration=MINUTE).task.state is TaskState.RUNNING
    assert isinstance(world.store.events.stream(task_stream(task.id))[1].fact, TaskDispatched)


def test_limits_hold_over_all_orchestrators(world: World) -> None:
    """Of eight reservers at once exactly as many succeed as there are slots, in all and for one repository."""
    tasks = [world.task(n, repository=f"r{n % 2}") for n in range(8)]
    assert sum(together(*[partial(reserve, world, t, total=3) for t in tasks])) == 3
    for task in tasks:
        world.store.tasks.unreserve(task.id, by=ORC)
    assert sum(together(*[partial(reserve, world, t, total=8, each=2) for t in tasks])) == 4
    namesake = world.store.tasks.create(draft("namesake", forge="other", repository="r0"))
    assert reserve(world, namesake, each=1), "a repository of that name on another forge is another one"


def test_running_tasks_take_slots_too(world: World) -> None:
    """A slot is free again only after the attempt's end."""
    claim, task = world.claimed(1), world.task(2)
    assert not reserve(world, task, total=1)
    world.ended(claim, Outcome.DELIVERED)
    assert reserve(world, task, total=1)


def test_only_the_holder_or_time_frees_a_reservation(world: World) -> None:
    """Ours by name, anybody's once it is overdue; an overdue one holds no slot."""
    task, other = world.task(1), world.task(2)
    assert reserve(world, task)
    assert not world.store.tasks.unreserve(task.id, by=BOB)
    assert not world.store.tasks.unreserve(task.id)
    with world.later(by=2 * MINUTE) as later:
        survey = later.tasks.survey(SCOPE, limit=10, beat=MINUTE, missed_beats_max=3)
        assert [(r.task_id, r.by) for r in survey.overdue] == [(task.id, ORC)]
        assert [ready.id for ready in survey.ready] == [task.id, other.id]
        assert later.tasks.reserve(
            other.id, by=BOB, duration=MINUTE, running_max=1, running_per_repository_max=1
        )  # fmt: skip
        assert later.tasks.unreserve(task.id)
    assert world.store.tasks.unreserve(other.id, by=BOB)


def test_a_task_that_is_not_due_cannot_be_reserved(world: World) -> None:
    """Nor one that runs, waits for people or is over."""
    task = world.ended(world.claimed(1), Outcome.AGENT_FAILED)
    for number, outcome in ((3, Outcome.BLOCKED), (4, Outcome.DELIVERED)):
        assert not reserve(world, world.ended(world.claimed(number), outcome))
    assert not reserve(world, task)
    assert not reserve(world, world.claimed(2).task)
    with world.later(by=timedelta(hours=1)) as later:
        assert later.tasks.reserve(
            task.id, by=ORC, duration=MINUTE, running_max=9, running_per_repository_max=9
        )  # fmt: skip


@pytest.mark.parametrize("state", sorted(set(TaskState) - {TaskState.SUCCEEDED, TaskState.FAILED}))
def test_cancel_ends_every_live_task(world: World, state: TaskState) -> None:
    """From any live state; what is over stays as it is."""
    task = in_state(world, state)
    ended = world.store.tasks.cancel(task.id, by="ann", reason="enough", notice=Notice.CANCELLED)
    assert ended.state is TaskState.CANCELLED
    assert (ended.worker, ended.run_after, ended.reason) == (None, None, "enough")
    assert (ended.notice, ended.outcome) == (Notice.CANCELLED, Outcome.CANCELLED)
    again = world.store.tasks.cancel(task.id, by="bob", reason="more", notice=None)
    assert again == ended
    assert isinstance(world.store.events.stream(task_stream(task.id))[-1].fact, TaskCancelled)
    delivered = world.ended(world.claimed("delivered"), Outcome.DELIVERED)
    assert world.store.tasks.cancel(delivered.id, by="ann", reason="too late") == delivered


def test_cancel_of_a_given_epoch_spares_an_attempt_that_began_since(world: World) -> None:
    """Who decided on what he saw does not end what he did not see."""
    seen = world.task(1)
    running = world.store.claims.claim(seen.id, worker=ANN, duration=MINUTE).task
    with pytest.raises(NotClaimable, match="claimed meanwhile"):
        world.store.tasks.cancel(seen.id, by="bob", reason="retried", epoch=seen.epoch)
    assert world.store.tasks.get(seen.id) == running
    ended = world.store.tasks.cancel(seen.id, by="bob", reason="enough", epoch=running.epoch)
    assert ended.state is TaskState.CANCELLED


def in_state(world: World, state: TaskState) -> Task:
    match state:
        case TaskState.QUEUED | TaskState.CANCELLED:
            return world.task(1)
        case TaskState.RUNNING:
            return world.claimed(1).task
        case TaskState.RETRYABLE:
            return world.ended(world.claimed(1), Outcome.AGENT_FAILED)
        case TaskState.BLOCKED:
            return world.ended(world.claimed(1), Outcome.BLOCKED)
        case _:
            raise AssertionError(state)


def test_only_a_blocked_task_is_unblocked(world: World) -> None:
    """It queues again, with the approval and without the question that is answered."""
    blocked = in_state(world, TaskState.BLOCKED)
    assert blocked.notice is Notice.ASKED
    task = world.store.tasks.unblock(blocked.id, by="ann", approved=Oid("c0ffee"))
    assert (task.state, task.approved, task.notice) == (TaskState.QUEUED, "c0ffee", None)
    assert world.store.events.stream(task_stream(task.id))[-1].fact == TaskUnblocked(by="ann", approved=Oid("c0ffee"))
    with pytest.raises(NotClaimable, match="does not wait"):
        world.store.tasks.unblock(task.id, by="ann")


def test_a_notice_is_settled_once(world: World) -> None:
    """Of several that told the issue, one is the first; another notice, or that of another attempt, is not touched."""
    task = world.ended(world.claimed(1), Outcome.GATES_FAILED)
    tasks = world.store.tasks
    assert not tasks.settle_notice(task.id, Notice.DELIVERED, epoch=1, by=ANN)
    assert not tasks.settle_notice(task.id, Notice.ESCALATED, epoch=0, by=ANN), "an older attempt's news"
    said = together(*[lambda: tasks.settle_notice(task.id, Notice.ESCALATED, epoch=1, by=ANN)] * 4)
    assert sorted(said) == [False, False, False, True]
    assert tasks.get(task.id).notice is None


def test_the_survey_tells_what_a_tick_needs(world: World) -> None:
    """Running, expired, ready, waiting, untold and silent, as of one moment."""
    store = world.store
    store.workers.register(ANN, host="h", pid=1, role=WorkerRole.WORKER, release="1", capabilities=())
    untold = world.ended(world.claimed(1), Outcome.DELIVERED)
    waiting = world.ended(world.claimed(2), Outcome.UNAVAILABLE)
    running, ready = world.claimed(3).task, world.task(4)
    now = store.tasks.survey(SCOPE, limit=10, beat=MINUTE, missed_beats_max=3)
    assert (now.ready, now.running, now.expired) == ((ready,), (running,), ())
    assert (now.notices, now.silent_workers, now.is_moving) == ((untold,), (), True)
    with world.later(by=2 * MINUTE) as soon:
        assert soon.tasks.survey(SCOPE, limit=10, beat=MINUTE, missed_beats_max=3).silent_workers == ()
    assert {task.id for task in now.live} == {waiting.id, running.id, ready.id}
    assert now.first_due == waiting.run_after
    with world.later(by=timedelta(hours=1)) as later:
        then = later.tasks.survey(SCOPE, limit=1, beat=MINUTE, missed_beats_max=3)
    assert then.now > now.now
    assert (then.expired, then.silent_workers, then.first_due) == ((running,), (ANN,), None)
    assert len(then.ready) == 1, "at most the limit"


def test_the_queues_of_others_hide_no_task(world: World) -> None:
    """Neither repositories of others, nor those that cannot be worked on, nor the long queue of one of ours take places."""
    store = world.store
    for n in range(4):
        for repository in ("foreign", "unfit", "demo"):
            world.task(n, repository=repository)
    last = world.task("last", repository="young")
    able = store.tasks.create(draft("able", repository="young", capabilities=("gpu",)))
    scope = replace(SCOPE, repositories=frozenset({"demo", "unfit", "young"}), workable=frozenset({"demo", "young"}))
    found = store.tasks.survey(scope, limit=2, beat=MINUTE, missed_beats_max=3)
    assert [task.ref.repository for task in found.ready] == ["demo", "demo", "young"]
    assert (found.ready[-1], found.is_moving) == (last, True)
    strong = store.tasks.survey(
        replace(scope, capabilities=frozenset({"gpu"})), limit=2, beat=MINUTE, missed_beats_max=3
    )
    assert able in strong.ready


def test_page_by_page_every_live_task_and_notice_comes(world: World) -> None:
    """In an order that no write changes; those of other repositories take no places."""
    store = world.store
    live = {world.task(n).id for n in range(5)}
    untold = {world.ended(world.claimed(n), Outcome.DELIVERED).id for n in range(10, 13)}
    world.task(1, repository="foreign")
    seen_live, seen_untold = set[str](), set[str]()
    live_after = notices_after = None
    for _ in range(3):
        page = store.tasks.survey(
            SCOPE, limit=2, beat=MINUTE, missed_beats_max=3, live_after=live_after, notices_after=notices_after
        )
        seen_live.update(task.id for task in page.live)
        seen_untold.update(task.id for task in page.notices)
        live_after = page.live[-1].id if page.live else live_after
        notices_after = page.notices[-1].id if page.notices else notices_after
    assert (seen_live, seen_untold) == (live, untold)


def test_the_log_refuses_to_be_rewritten(world: World) -> None:
    """UPDATE, DELETE and TRUNCATE of events are errors, even for the owner."""
    world.task(1)
    with psycopg.connect(world.url, autocommit=True) as connection:
        for statement in ("UPDATE event SET version = 9", "DELETE FROM event", "TRUNCATE event"):
            with pytest.raises(psycopg.errors.RaiseException, match="append-only"):
                connection.execute(statement)


def test_the_infra_cap_blocks_and_a_human_lets_go_on(world: World) -> None:
    """Who unblocks a task has looked at what was away: outages are counted afresh, or the next one would block it again."""
    policy = RetryPolicy(infra_max=2)
    claim = world.claimed(1)
    world.ended(claim, Outcome.UNAVAILABLE, policy=policy)
    again = world.store.claims.claim(claim.task.id, worker=ANN, duration=MINUTE)
    blocked = world.ended(again, Outcome.UNAVAILABLE, policy=policy)
    assert (blocked.state, blocked.counters.infra) == (TaskState.BLOCKED, 2)
    world.store.tasks.unblock(blocked.id, by="ann")
    third = world.store.claims.claim(blocked.id, worker=ANN, duration=MINUTE)
    assert third.task.counters.infra == 0
    assert world.ended(third, Outcome.UNAVAILABLE, policy=policy).state is TaskState.RETRYABLE


def test_workers_are_listed_newest_first(world: World) -> None:
    """Registration is idempotent, and capabilities are sorted."""
    workers = world.store.workers
    for worker in (ANN, BOB, ANN):
        workers.register(worker, host="h", pid=1, role=WorkerRole.WORKER, release="1", capabilities=["b", "a"])
    assert [(w.id, w.state, w.capabilities) for w in workers.list()] == [
        (BOB, WorkerState.ONLINE, ("a", "b")),
        (ANN, WorkerState.ONLINE, ("a", "b")),
    ]
    workers.change_state(BOB, WorkerState.GONE, reason="ended")
    assert [w.id for w in workers.list(states=[WorkerState.ONLINE], limit=1)] == [ANN], "those gone take no places"


def test_a_row_that_somebody_holds_is_not_waited_for_by_those_that_reserve(world: World) -> None:
    """They stand in one line, so all would wait; the task gets its slot at a later tick."""
    held, free = world.task(1), world.task(2)

    def slot(task: Task) -> bool:
        return world.store.tasks.reserve(task.id, by=ORC, duration=MINUTE, running_max=9, running_per_repository_max=9)

    with psycopg.connect(world.url) as other:
        other.execute("SELECT FROM task WHERE id = %s FOR UPDATE", [held.id])
        assert (slot(held), slot(free)) == (False, True)
    assert slot(held)
