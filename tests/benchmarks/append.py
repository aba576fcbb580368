"""Conditional appends of eight processes, against the DCB recorder of the package ``eventsourcing``."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import count
from typing import Final

from tests.benchmarks.deciders import Decided, violations
from tests.benchmarks.hands import LEAD_SECONDS, Hand, hands
from tests.benchmarks.measure import Benchmark, Figure, in_turn, more_is_better
from tests.benchmarks.place import Place

_WRITERS: Final = 8
_EACH: Final = 250


def append(place: Place, rounds: int) -> Iterator[Figure]:
    """Decisions a second; every one of ours that went through is then held against the log. Raises RuntimeError if one lies."""
    ours_url, peer_url = place.database("append"), place.database("append-peer", with_schema=False)
    seeds = count(1)
    decided: list[Decided] = []
    with (
        hands("append", ours_url, number=_WRITERS) as ours,
        hands("eventsourcing-append", peer_url, number=_WRITERS) as theirs,
    ):

        def side(crew: Sequence[Hand], kept: list[Decided], number: int = _EACH) -> float:
            at = time.monotonic() + LEAD_SECONDS
            for hand in crew:
                hand.tell(at=at, seed=next(seeds), number=number)
            answers = [hand.hear() for hand in crew]
            kept.extend(Decided(*one) for answer in answers for one in answer["decided"])
            span = max(answer["last"] for answer in answers) - min(answer["first"] for answer in answers)
            return float(sum(answer["done"] for answer in answers) / span)

        sides = {"ours": partial(side, ours, decided), "theirs": partial(side, theirs, [])}
        for warm in sides.values():
            warm(number=20)
        found = in_turn(rounds, sides)
    if (wrong := violations(ours_url, decided)) > 0:
        raise RuntimeError(f"{wrong} events came between a decision and its append")
    yield more_is_better(
        "append", found["ours"], found["theirs"], peer="eventsourcing's DCB recorder", unit="decisions/s"
    )


BENCHMARKS: Final = (Benchmark(name="append", gives=("append",), run=append),)
