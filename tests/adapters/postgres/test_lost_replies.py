"""Claims about a wire that breaks: what was done is not done again, what was not done is, and nobody is told of an error."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

import pytest
from loguru import logger

from tamma.core.attempt import Outcome, Phase
from tamma.core.effect import EffectKind, EffectState, effect_key
from tamma.core.errors import ExitCode, LeaseLost, NotClaimable, TransientError
from tamma.core.event import AgentSpoke, task_stream
from tamma.core.ids import BlobId, TaskId, blob_id
from tamma.core.task import TaskState
from tamma.ports.store import Claim, Store, WorkerRole
from tests.adapters.postgres.store_world import ANN, BOB, MINUTE, ORC, World, decided, open_store
from tests.support.wire import Wire, a_wire


@dataclass(frozen=True, slots=True, kw_only=True)
class Wired:
    """A world seen directly, and a store at the end of a wire."""

    world: World
    wire: Wire
    store: Store

    def types(self, task: TaskId) -> list[str]:
        """What the log has of a task."""
        return [event.type for event in self.world.store.events.stream(task_stream(task))]


@pytest.fixture
def wired(world: World) -> Iterator[Wired]:
    """Its store has been connected once."""
    with a_wire(world.url) as wire, closing(open_store(wire.url, connections_max=2)) as store:
        store.ping()
        yield Wired(world=world, wire=wire, store=store)


def test_a_claim_whose_reply_was_lost_is_ours(wired: Wired) -> None:
    """Reread by the worker's id: one claim in the log, and a lease that can be renewed."""
    task = wired.world.task(1)
    wired.wire.cut_reply_to(b"TASK.CLAIM.SUCCEEDED")
    claim = wired.store.claims.claim(task.id, worker=ANN, duration=MINUTE)
    assert (wired.wire.cuts, claim.task.epoch, claim.lease.epoch) == (1, 1, 1)
    assert wired.types(task.id) == ["TASK.CREATE.SUCCEEDED", "TASK.CLAIM.SUCCEEDED"]
    assert wired.store.claims.renew(claim.lease, duration=MINUTE).lease.expires_at >= claim.lease.expires_at


def test_a_claim_of_the_next_task_whose_reply_was_lost_takes_no_second_one(wired: Wired) -> None:
    """The task that it took is found again before another is looked for."""
    first, second = wired.world.task(1), wired.world.task(2)
    wired.wire.cut_reply_to(b"TASK.CLAIM.SUCCEEDED")
    claim = wired.store.claims.claim_next(worker=ANN, capabilities=(), duration=MINUTE)
    assert claim is not None
    assert claim.task.id == first.id
    assert wired.world.store.tasks.get(second.id).state is TaskState.QUEUED


def test_a_claim_that_another_won_is_not_taken_for_ours(wired: Wired) -> None:
    """The reread asks for our own id."""
    claim = wired.world.claimed(1, worker=BOB)
    wired.wire.cut_reply_to(b"TASK.CLAIM.SUCCEEDED")
    with pytest.raises(NotClaimable, match="is running"):
        wired.store.claims.claim(claim.task.id, worker=ANN, duration=MINUTE)
    assert wired.wire.cuts == 1


def test_an_attempt_whose_settling_was_not_confirmed_is_settled_once(wired: Wired) -> None:
    """The log says that this epoch ended by our hand."""
    claim = wired.world.claimed(1)
    wired.wire.cut_reply_to(b"TASK.SETTLE.SUCCEEDED")
    task = wired.store.claims.settle(claim, decided(Outcome.DELIVERED), reason="done")
    assert (wired.wire.cuts, task.state, task.outcome) == (1, TaskState.SUCCEEDED, Outcome.DELIVERED)
    assert wired.types(task.id).count("TASK.SETTLE.SUCCEEDED") == 1


@pytest.mark.parametrize(
    ("outcome", "then", "state"),
    [
        (Outcome.CRASHED, lambda s, t: s.tasks.cancel(t, by="ann", reason="no", notice=None), TaskState.CANCELLED),
        (Outcome.BLOCKED, lambda s, t: s.tasks.unblock(t, by="ann"), TaskState.QUEUED),
    ],
    ids=["cancelled", "approved"],
)
def test_what_happened_since_an_unconfirmed_settling_is_seen(
    wired: Wired, outcome: Outcome, then: Callable[[Store, TaskId], object], state: TaskState
) -> None:
    """People were faster than the second try: the task is told as it is now, not as the attempt left it."""
    claim = wired.world.claimed(1)
    wired.wire.cut_reply_to(b"TASK.SETTLE.SUCCEEDED", after=lambda: then(wired.world.store, claim.task.id))
    task = wired.store.claims.settle(claim, decided(outcome), reason="done")
    assert (wired.wire.cuts, task.state, task.notice) == (1, state, None)
    assert task == wired.world.store.tasks.get(task.id)


def test_a_settling_that_came_too_late_is_not_taken_for_done(wired: Wired) -> None:
    """Somebody reaped the attempt: the lost reply said so, and so does the reread. Another task's first attempt was settled."""
    wired.world.ended(wired.world.claimed("another", worker=BOB), Outcome.DELIVERED)
    claim = wired.world.claimed(1)
    wired.world.store.claims.reap(
        claim.task.id, epoch=1, decision=decided(Outcome.CRASHED), by=ORC, reason="dead", dead=ANN
    )
    wired.wire.cut_reply_to(b"TASK.SETTLE.SUCCEEDED")
    with pytest.raises(LeaseLost):
        wired.store.claims.settle(claim, decided(Outcome.DELIVERED), reason="done")
    assert wired.wire.cuts == 1


def test_a_reaping_whose_reply_was_lost_was_ours(wired: Wired) -> None:
    """And so the one who reaped it tells of it."""
    claim = wired.world.claimed(1)
    wired.wire.cut_reply_to(b"TASK.REAP.SUCCEEDED")
    task = wired.store.claims.reap(
        claim.task.id, epoch=1, decision=decided(Outcome.CRASHED), by=ORC, reason="dead", dead=ANN
    )
    assert task is not None
    assert (wired.wire.cuts, wired.types(task.id).count("TASK.REAP.SUCCEEDED")) == (1, 1)


WRITES: dict[str, tuple[bytes, Callable[[Store, Claim], object], str]] = {
    "enter": (b"ATTEMPT.PHASE", lambda s, c: s.claims.enter(c.lease, Phase.PREPARE), "ATTEMPT.PHASE.ENTERED"),
    "record": (
        b"AGENT.OUTPUT",
        lambda s, c: s.claims.record(c.lease, AgentSpoke(epoch=1, turn=0, text="a word")),
        "AGENT.OUTPUT.RECEIVED",
    ),
    "intend": (
        b"COMMIT",
        lambda s, c: s.effects.intend(
            c.lease, key=effect_key(c.task.id, EffectKind.PUSH), kind=EffectKind.PUSH, intent={"oid": "a"}
        ),
        "EFFECT.INTEND.SUCCEEDED",
    ),
}


@pytest.mark.parametrize("name", WRITES)
def test_what_an_attempt_writes_is_in_the_log_once(wired: Wired, name: str) -> None:
    """Done and not confirmed: looked up. Not done: done. A second one that is meant stays a second one."""
    needle, write, type_ = WRITES[name]
    claim = wired.world.claimed(1)
    wired.wire.cut_reply_to(needle)
    write(wired.store, claim)
    assert (wired.wire.cuts, wired.types(claim.task.id).count(type_)) == (1, 1)
    other = wired.world.claimed(2)
    assert wired.wire.cut() > 0
    write(wired.store, other)
    assert wired.types(other.task.id).count(type_) == 1


def test_an_effect_that_was_recorded_without_a_reply_is_done_once(wired: Wired) -> None:
    """Under a lease and without."""
    claim = wired.world.claimed(1)
    key, comment = (effect_key(claim.task.id, kind) for kind in (EffectKind.PUSH, EffectKind.COMMENT))
    effects = wired.store.effects
    effects.intend(claim.lease, key=key, kind=EffectKind.PUSH, intent={"oid": "a"})
    wired.wire.cut_reply_to(b"COMMIT")
    assert effects.record(claim.lease, key=key, result={"url": "u"}).state is EffectState.DONE
    wired.wire.cut_reply_to(b"COMMIT")
    intended = effects.intend_unleased(
        claim.task.id, key=comment, kind=EffectKind.COMMENT, intent={}, by=ORC, hold=MINUTE
    )
    assert intended is not None
    wired.wire.cut_reply_to(b"COMMIT")
    assert effects.record_unleased(claim.task.id, key=comment, result={}, by=ORC).state is EffectState.DONE
    assert wired.wire.cuts == 3
    types = wired.types(claim.task.id)
    assert (types.count("EFFECT.INTEND.SUCCEEDED"), types.count("EFFECT.RECORD.SUCCEEDED")) == (2, 2)


READS: dict[str, Callable[[Store], object]] = {
    "one": lambda s: s.ping(),
    "all": lambda s: s.tasks.list(),
    "tail": lambda s: s.events.tail(0),
    "blob": lambda s: s.blobs.put(b"text"),
    "baseline": lambda s: s.baselines.put("key", b"value"),
    "beat": lambda s: s.workers.beat(ANN),
    "register": lambda s: s.workers.register(
        ANN, host="h", pid=1, role=WorkerRole.WORKER, release="1", capabilities=()
    ),
}


@pytest.mark.parametrize("name", READS)
def test_what_may_be_repeated_is_repeated(wired: Wired, name: str) -> None:
    """A connection that died in the pool, and one that dies within the reply, are nobody's error."""
    assert wired.wire.cut() > 0
    READS[name](wired.store)
    wired.wire.truncate(3)
    READS[name](wired.store)
    assert wired.wire.cuts == 1


def test_a_blob_is_kept_although_the_reply_was_lost(wired: Wired) -> None:
    """Its name is its content."""
    wired.wire.cut_reply_to(b"INSERT INTO blob")
    assert wired.store.blobs.put(b"text") == BlobId(blob_id(b"text"))
    assert wired.store.blobs.get(blob_id(b"text")) == b"text"


def test_who_never_reached_the_database_is_told_at_once(world: World) -> None:
    """And a database that stays away is a temporary error after a while, not a wait without end."""
    with a_wire(world.url) as wire, closing(open_store(wire.url)) as store:
        wire.refuse()
        with pytest.raises(TransientError):
            store.ping()
        wire.mend()
        store.ping()
        wire.refuse()
        wire.cut()
        with pytest.raises(TransientError) as caught:
            store.ping()
    assert caught.value.exit_code is ExitCode.TEMPORARY


def test_what_the_agent_says_is_not_waited_for(wired: Wired) -> None:
    """Its caller reads the agent, and must not be held: one more try, while every other write waits for the database."""
    claim = wired.world.claimed(1)
    with warnings_logged() as told:
        wired.wire.refuse()
        wired.wire.cut()
        with pytest.raises(TransientError):
            wired.store.claims.record(claim.lease, AgentSpoke(epoch=1, turn=1, text="hello"))
        assert told == []
        with pytest.raises(TransientError):
            wired.store.claims.enter(claim.lease, Phase.PREPARE)
        assert len(told) == 1, "this one was tried for long enough to be told of"


@contextmanager
def warnings_logged() -> Iterator[list[str]]:
    """What is warned of meanwhile."""
    told: list[str] = []
    sink = logger.add(told.append, level="WARNING", format="{message}")
    try:
        yield told
    finally:
        logger.remove(sink)


def test_a_lost_lease_that_cannot_be_looked_up_is_temporary(wired: Wired) -> None:
    """The guarded write found nothing, and the reread of why broke down: nobody says that the lease is lost."""
    claim = wired.world.claimed(1)
    wired.world.store.tasks.cancel(claim.task.id, by="human", reason="no")
    wired.wire.cut_reply_to(b"SELECT state, epoch, worker", for_good=True)
    with pytest.raises(TransientError):
        wired.store.claims.enter(claim.lease, Phase.PREPARE)
