"""One tick of the loop, over a long past and many issues against a short past and a few pages."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from statistics import median
from typing import Final

from tamma.adapters.forges.folder import SETTLED_SECONDS
from tamma.adapters.postgres.connections import connections_for
from tamma.adapters.postgres.store import PostgresStore
from tamma.core.policy import Limits
from tamma.engine.orchestrator import Orchestrator
from tests.benchmarks.measure import Benchmark, Figure, in_turn, less_is_better, seconds_of
from tests.benchmarks.place import Place
from tests.support.crowd import a_loop_over, fill_database, fill_forge, give_back

_MANY: Final = (100_000, 10_000)
# Enough issues for whole pages of issues and of live tasks: whatever is bounded by a page is there in both.
_FEW: Final = (1_000, 1_000)
_TICKS: Final = 5


def tick(place: Place, rounds: int) -> Iterator[Figure]:
    """The median tick of a round; each goes on with the next page."""

    def world(tasks: int, issues: int) -> tuple[PostgresStore, Orchestrator]:
        url = place.database(f"tick-{tasks}")
        fill_database(url, finished=tasks, issues=issues)
        store = PostgresStore(connections_for(url, application_name="bench"))
        forge = fill_forge(place.fresh_folder(f"tick-{tasks}"), issues=issues)
        return store, a_loop_over(store, forge, limits=Limits(open_changes_per_repository=10_000))

    def side(loop: Orchestrator) -> float:
        found = []
        for _ in range(_TICKS):
            found.append(seconds_of(loop.tick))
            give_back(loop)
        return median(found) * 1_000

    our_store, our_loop = world(*_MANY)
    their_store, their_loop = world(*_FEW)
    with closing(our_store), closing(their_store):
        sides = {"ours": partial(side, our_loop), "theirs": partial(side, their_loop)}
        time.sleep(SETTLED_SECONDS)  # files as young as this are read at every look
        for warm in sides.values():
            warm()
        found = in_turn(rounds, sides)
    yield less_is_better("tick-100k", found["ours"], found["theirs"], peer="1,000 tasks and 1,000 issues", unit="ms")


BENCHMARKS: Final = (Benchmark(name="tick-100k", gives=("tick-100k",), run=tick),)
