"""The queue: claim and settle at several numbers of workers, a claim beside a long history, and pickup."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from statistics import median
from typing import Final

from tamma.adapters.postgres.connections import connections_for
from tamma.adapters.postgres.store import PostgresStore
from tamma.core.ids import BlobId, IssueRef, WorkerId
from tamma.ports.store import TaskDraft
from tests.benchmarks.hand import LEASE
from tests.benchmarks.hands import Hand, go, hands
from tests.benchmarks.measure import Benchmark, Figure, in_turn, less_is_better, more_is_better
from tests.benchmarks.place import Place
from tests.benchmarks.rows import PeerQueue, fill, vacuum

_JOBS: Final = {1: 500, 4: 1_000, 16: 1_000}
_HISTORY: Final = 1_000_000
_CLAIMS: Final = 200
_PICKUPS: Final = 20
_PERCENTILE: Final = 0.99


def claim_and_settle(place: Place, rounds: int, *, workers: int) -> Iterator[Figure]:
    """Jobs a second of the same queue length on as many processes: ours, the bare statements, procrastinate."""
    jobs, label = _JOBS[workers], f"claim-settle-{workers}"
    ours_url = place.database(label)
    peer_url = place.database(f"{label}-peer", with_schema=False)
    with (
        closing(PeerQueue(peer_url)) as peer,
        hands("ours", ours_url, number=workers) as ours,
        hands("raw", ours_url, number=workers) as raw,
        hands("procrastinate", peer_url, number=workers) as theirs,
    ):

        def side(crew: tuple[Hand, ...], load: Callable[[int], None], number: int = jobs) -> float:
            load(number)
            return go(crew, expected=number)

        mine = partial(fill, ours_url)
        sides = {
            "ours": partial(side, tuple(ours), mine),
            "raw": partial(side, tuple(raw), mine),
            "theirs": partial(side, tuple(theirs), peer.fill),
        }
        for warm in sides.values():
            warm(number=workers * 20)
        vacuum(ours_url)
        vacuum(peer_url)
        found = in_turn(rounds, sides)
    yield more_is_better(f"{label}-raw", found["ours"], found["raw"], peer="raw prepared SQL", unit="tasks/s")
    yield more_is_better(
        f"{label}-procrastinate", found["ours"], found["theirs"], peer="procrastinate no-op jobs", unit="tasks/s"
    )


def claim_with_history(place: Place, rounds: int) -> Iterator[Figure]:
    """The median claim beside a million finished rows, against one in a table without any."""
    old, new = place.database("history"), place.database("no-history")
    fill(old, _HISTORY, state="succeeded")
    vacuum(old)
    me = WorkerId("bench:1:0")
    with closing(_store(old)) as mine, closing(_store(new)) as theirs:

        def side(store: PostgresStore, url: str) -> float:
            fill(url, _CLAIMS)
            found = []
            for _ in range(_CLAIMS):
                begun = time.perf_counter()
                claim = store.claims.claim_next(worker=me, capabilities=(), duration=LEASE)
                found.append(time.perf_counter() - begun)
                assert claim is not None
            return median(found) * 1_000

        sides = {"ours": partial(side, mine, old), "theirs": partial(side, theirs, new)}
        for warm in sides.values():
            warm()
        found = in_turn(rounds, sides)
    yield less_is_better("claim-1m-finished", found["ours"], found["theirs"], peer="no finished rows", unit="ms")


def pickup(place: Place, rounds: int) -> Iterator[Figure]:
    """From the call that enqueues until the waiting process has the work, both ends included."""
    ours_url, peer_url = place.database("pickup"), place.database("pickup-peer", with_schema=False)
    with (
        closing(PeerQueue(peer_url)) as peer,
        closing(_store(ours_url)) as store,
        hands("pick-up", ours_url) as ours,
        hands("procrastinate-pick-up", peer_url) as theirs,
    ):
        numbers = iter(range(1_000_000))

        def side(hand: Hand, enqueue: Callable[[], object]) -> float:
            time.sleep(random.uniform(0.03, 0.08))
            begun = time.monotonic()
            enqueue()
            at: float = hand.hear()["at"]
            return (at - begun) * 1_000

        sides = {
            "ours": partial(side, ours[0], lambda: store.tasks.create(_draft(next(numbers)))),
            "theirs": partial(side, theirs[0], peer.defer),
        }
        in_turn(10, sides)
        found = in_turn(rounds * _PICKUPS, sides)
    yield less_is_better("pickup-p50", found["ours"], found["theirs"], peer="procrastinate", unit="ms")
    mine, other = (_high(found[name]) for name in ("ours", "theirs"))
    yield Figure(
        name="pickup-p99",
        ours=mine,
        theirs=other,
        peer="procrastinate",
        unit="ms",
        ratio=other / mine,
        rounds=rounds * _PICKUPS,
    )


def _high(values: list[float]) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * _PERCENTILE))]


def _store(url: str) -> PostgresStore:
    return PostgresStore(connections_for(url, application_name="bench"))


def _draft(number: int) -> TaskDraft:
    ref = IssueRef(forge="local", repository="demo", number=str(number))
    return TaskDraft(ref=ref, title="A title", digest="digest", snapshot=BlobId("snapshot"), asked_by="label")


BENCHMARKS: Final = (
    *(
        Benchmark(
            name=f"claim-settle-{workers}",
            gives=(f"claim-settle-{workers}-raw", f"claim-settle-{workers}-procrastinate"),
            run=partial(claim_and_settle, workers=workers),
        )
        for workers in _JOBS
    ),
    Benchmark(name="claim-1m-finished", gives=("claim-1m-finished",), run=claim_with_history),
    Benchmark(name="pickup", gives=("pickup-p50", "pickup-p99"), run=pickup),
)
