"""Claims about the conditional append: what must not have happened has not happened, whoever writes meanwhile."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import psycopg
import pytest

from tamma.core.event import TaskCreated, WorkerStateChanged
from tamma.core.ids import WorkerId
from tamma.ports.store import Condition
from tests.adapters.postgres.store_world import World, draft, together
from tests.benchmarks.deciders import Decided, violations
from tests.support.project import wait_until
from tests.support.sample import IS_WHOLE

TYPE = WorkerStateChanged.TYPE
WRITERS, EACH, TAGS = 8, 1250 if IS_WHOLE else 60, 12


def fact(reason: str = "") -> WorkerStateChanged:
    return WorkerStateChanged(worker=WorkerId("w"), state="online", reason=reason)


def test_an_append_whose_condition_is_met_writes_nothing(world: World) -> None:
    """Type, all tags and position must match; the versions of the stream stay dense."""
    events = world.store.events
    unless = Condition(types=(TYPE,), tags=("a", "b"))
    first = events.append(fact(), stream="s", tags=("a", "b", "c"), unless=unless)
    assert first is not None
    assert (first.version, first.stream, first.tags, first.fact) == (1, "s", ("a", "b", "c"), fact())
    assert events.append(fact(), stream="s", tags=("a",), unless=unless) is None
    later = Condition(types=(TYPE,), tags=("a", "b"), after=first.position)
    for other in (
        Condition(types=("OTHER",), tags=("a", "b")),
        Condition(types=(TYPE,), tags=("a", "z")),
        later,
    ):
        assert events.append(fact(), stream="s", tags=("x",), unless=other) is not None
    assert [event.version for event in events.stream("s")] == [1, 2, 3, 4]
    assert events.stream("s")[0] == first


def test_who_decides_waits_for_another_that_is_not_done(world: World) -> None:
    """On an overlapping tag: the condition is looked at once the other is in the log, and is met."""
    asked = Condition(types=(TYPE,), tags=("a",))
    append = "SELECT told_position FROM tamma_append('s1', %s, ARRAY['a', 'b'], NULL, '{}', ARRAY[%s], ARRAY['a'], 0)"
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'advisory'"
    with psycopg.connect(world.url) as other, ThreadPoolExecutor(1) as thread:
        assert other.execute(append, [TYPE, TYPE]).fetchone()
        late = thread.submit(world.store.events.append, fact(), stream="s2", tags=("a", "c"), unless=asked)
        wait_until(lambda: late.done() or other.execute(waiting).fetchone() == (1,), what="its wait")
        other.commit()
        assert late.result(timeout=30) is None


def test_no_decision_rests_on_a_past_that_is_over(world: World) -> None:
    """Eight writers with random overlapping tags: every appended event's condition held at its place in the log."""

    def write(seed: int) -> list[Decided]:
        chance = random.Random(seed)
        done: list[Decided] = []
        for _ in range(EACH):
            tags = tuple(f"t{n}" for n in sorted(chance.sample(range(TAGS), 3)))
            asked = tuple(sorted(chance.sample(tags, 2)))
            seen = [e for e in world.store.events.tagged(asked[0]) if set(asked) <= set(e.tags)]
            unless = Condition(types=(TYPE,), tags=asked, after=seen[-1].position if seen else 0)
            event = world.store.events.append(fact(), stream=f"s{seed}", tags=tags, unless=unless)
            if event is not None:
                done.append(Decided(event.position, unless.after, list(asked)))
        return done

    decided = [one for part in together(*[partial(write, seed) for seed in range(WRITERS)]) for one in part]
    assert 0 < len(decided) < WRITERS * EACH, "some decisions must have come too late, or nothing was tried"
    assert violations(world.url, decided) == 0
    late = [Decided(one.position, 0, one.asked) for one in decided[-WRITERS:]]
    assert violations(world.url, late) > 0, "a decision that had seen nothing would have been against the log"


def test_a_task_is_not_made_on_what_was_read_before_another_was_made(world: World) -> None:
    """Generation 3 answers a reader who saw the second; who saw only the first is too late, and learns so."""
    from tamma.core.errors import NotClaimable

    for generation in (1, 2):
        made = world.store.tasks.create(draft(1, generation=generation))
        world.store.tasks.cancel(made.id, by="ann", reason="r")
    with pytest.raises(NotClaimable):
        world.store.tasks.create(draft(1, generation=4))
    assert world.store.tasks.create(draft(1, generation=3)).generation == 3
    assert len(world.store.events.tagged("issue:local/demo#1")) == 5


def test_many_deciders_make_one_task(world: World) -> None:
    """Sixteen at once over four issues; each is answered with the one task there is."""

    def decide(number: int) -> str:
        return world.store.tasks.create(draft(number)).id

    made = together(*[partial(decide, n % 4) for n in range(16)])
    assert len(set(made)) == 4
    assert sum(isinstance(event.fact, TaskCreated) for event in world.store.events.all()) == 4
