"""Claims about effects: intent before, record after, one holder at a time."""

from __future__ import annotations

from functools import partial

import pytest

from tamma.core.attempt import Outcome
from tamma.core.effect import Effect, EffectKind, EffectState, effect_key
from tamma.core.errors import LeaseLost, PermanentError
from tamma.core.event import EffectIntended, EffectRecorded, task_stream
from tamma.core.ids import TaskId, WorkerId
from tests.adapters.postgres.store_world import ANN, BOB, MINUTE, World, together


def tell(world: World, task_id: TaskId, *, by: WorkerId) -> Effect | None:
    return world.store.effects.intend_unleased(
        task_id, key=effect_key(task_id, EffectKind.COMMENT), kind=EffectKind.COMMENT, intent={}, by=by, hold=MINUTE
    )


def test_an_effect_goes_from_intent_to_done(world: World) -> None:
    """Row and events agree; what is done is never intended or recorded again."""
    claim = world.claimed(1)
    key, effects = effect_key(claim.task.id, EffectKind.PUSH), world.store.effects
    intended = effects.intend(claim.lease, key=key, kind=EffectKind.PUSH, intent={"oid": "a\0b"})
    assert intended == Effect(key=key, task_id=claim.task.id, kind=EffectKind.PUSH, epoch=1, intent={"oid": "ab"})
    done = effects.record(claim.lease, key=key, result={"url": "u"})
    assert (done.state, done.result) == (EffectState.DONE, {"url": "u"})
    assert effects.intend(claim.lease, key=key, kind=EffectKind.PUSH, intent={"oid": "other"}) == done
    assert effects.record(claim.lease, key=key, result={"url": "other"}) == done
    assert effects.of_task(claim.task.id) == [done]
    facts = [event.fact for event in world.store.events.stream(task_stream(claim.task.id))][2:]
    assert facts == [
        EffectIntended(key=key, kind="push", epoch=1, intent={"oid": "ab"}),
        EffectRecorded(key=key, state="done", epoch=1, result={"url": "u"}),
    ]


def test_the_next_attempt_intends_anew(world: World) -> None:
    """An intent that nobody recorded, or that was abandoned, is replaced under the next epoch."""
    claim = world.claimed(1)
    key, effects = effect_key(claim.task.id, EffectKind.PUSH), world.store.effects
    effects.intend(claim.lease, key=key, kind=EffectKind.PUSH, intent={"oid": "a"})
    abandoned = effects.abandon(claim.lease, key=key, result={"why": "refused"})
    assert (abandoned.state, abandoned.result) == (EffectState.ABANDONED, {"why": "refused"})
    world.ended(claim, Outcome.INTERRUPTED)
    again = world.store.claims.claim(claim.task.id, worker=BOB, duration=MINUTE)
    effect = effects.intend(again.lease, key=key, kind=EffectKind.PUSH, intent={"oid": "b"})
    assert (effect.state, effect.epoch, effect.intent, effect.result) == (EffectState.INTENDED, 2, {"oid": "b"}, {})


def test_nothing_is_recorded_that_was_not_intended(world: World) -> None:
    """A record without an intent is a bug, and leaves no trace."""
    claim = world.claimed(1)
    with pytest.raises(PermanentError, match="never intended"):
        world.store.effects.record(claim.lease, key="k", result={})
    with pytest.raises(PermanentError, match="never intended"):
        world.store.effects.record_unleased(claim.task.id, key="k", result={}, by=ANN)
    assert len(world.store.events.stream(task_stream(claim.task.id))) == 2


def test_what_an_attempt_intended_is_nobody_elses_to_record(world: World) -> None:
    """It has a lease, and no holder."""
    claim = world.claimed(1)
    key = effect_key(claim.task.id, EffectKind.PUSH)
    world.store.effects.intend(claim.lease, key=key, kind=EffectKind.PUSH, intent={})
    with pytest.raises(LeaseLost, match="nobody holds it"):
        world.store.effects.record_unleased(claim.task.id, key=key, result={}, by=BOB)


def test_one_holder_at_a_time(world: World) -> None:
    """Of four that want to tell an issue, one may; its record ends the matter for all."""
    task = world.ended(world.claimed(1), Outcome.DELIVERED)
    workers = [WorkerId(f"o{n}") for n in range(4)]
    got = dict(zip(workers, together(*[partial(tell, world, task.id, by=w) for w in workers]), strict=True))
    (holder,) = (worker for worker, effect in got.items() if effect is not None)
    key = effect_key(task.id, EffectKind.COMMENT)
    done = world.store.effects.record_unleased(task.id, key=key, result={"id": "1"}, by=holder)
    assert done.state is EffectState.DONE
    assert tell(world, task.id, by=BOB) == done
    assert world.store.effects.record_unleased(task.id, key=key, result={"id": "2"}, by=BOB) == done


def test_a_hold_that_ran_out_may_be_taken_over(world: World) -> None:
    """Then the former holder can no longer record; while nobody took it, it still can."""
    task = world.ended(world.claimed(1), Outcome.DELIVERED)
    key = effect_key(task.id, EffectKind.COMMENT)
    assert tell(world, task.id, by=ANN) is not None
    assert tell(world, task.id, by=BOB) is None
    with world.later(by=2 * MINUTE) as later:
        taken = later.effects.intend_unleased(
            task.id, key=key, kind=EffectKind.COMMENT, intent={"n": "2"}, by=BOB, hold=MINUTE
        )  # fmt: skip
        assert taken is not None
        with pytest.raises(LeaseLost, match=BOB):
            later.effects.record_unleased(task.id, key=key, result={}, by=ANN)
    with world.later(by=9 * MINUTE) as much_later:
        assert much_later.effects.record_unleased(task.id, key=key, result={}, by=BOB).state is EffectState.DONE
