"""Claims about looking back: what the log says of a moment is what was to be seen then."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from tamma.core.worker import WorkerRecord
from tamma.engine.history import Standing, standing
from tamma.ports.store import Store
from tests.adapters.postgres.store_world import World
from tests.adapters.postgres.test_store_fold import History

STEPS, MOMENTS, LIMIT = 1_000, 100, 1_000


def without_beats(workers: Sequence[WorkerRecord]) -> list[WorkerRecord]:
    """Beats are no events."""
    return sorted((replace(worker, last_beat_at=None) for worker in workers), key=lambda worker: worker.id)


def seen(store: Store) -> Standing:
    """What ``tamma status`` shows, by the tables."""
    workers = [worker for worker in store.workers.list(limit=LIMIT) if worker.state != "gone"]
    return Standing(counts=store.tasks.counts(), tasks=store.tasks.list(limit=LIMIT), workers=without_beats(workers))


def test_a_hundred_moments_are_shown_as_they_were(world: World) -> None:
    """Between any two of a thousand random operations."""
    store, chance = world.store, random.Random(7)
    history = History(store, 7)
    looked_at = set(chance.sample(range(STEPS), MOMENTS))
    snapshots: list[tuple[datetime, Standing]] = []
    for number in range(STEPS):
        history.step()
        if number in looked_at:
            snapshots.append((store.ping(), seen(store)))
    assert len({str(then) for _, then in snapshots}) > MOMENTS // 2, "moments that are all alike prove nothing"
    for at, then in snapshots:
        told = standing(store.events, at=at, limit=LIMIT)
        assert replace(told, workers=without_beats(told.workers)) == then
