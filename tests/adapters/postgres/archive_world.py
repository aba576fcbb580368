"""A database with a long past, its archives, and what both together hold."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import psycopg

from tamma.adapters.postgres.archive import Run, archive
from tamma.adapters.postgres.verify import Report, verify
from tamma.core.attempt import Outcome
from tamma.core.effect import EffectKind, effect_key
from tamma.core.errors import TammaError
from tamma.core.task import Notice
from tamma.ports.store import WorkerRole, WorkerState
from tests.adapters.postgres.store_world import ANN, BOB, World
from tests.adapters.postgres.test_store_fold import WORKERS, History, delivered

DAY = timedelta(days=1)
Mark = tuple[str, int, str]


@dataclass(slots=True, kw_only=True)
class Past:
    """Histories that lie months apart in one database, archived to ``folder``."""

    world: World
    folder: Path
    history: History
    now: datetime
    gone: set[Mark] = field(default_factory=set)

    def live(self, steps: int, *, days: int = 0) -> None:
        """So many random operations, after so many days; most of what ended is told."""
        self.now += days * DAY
        with self.world.at(self.now) as store:
            self.history.store = store
            for _ in range(steps):
                self.history.step()
            for task in store.tasks.list(limit=500):
                for notice in Notice if task.notice and task.ref.number != "5" else ():
                    with suppress(TammaError):
                        store.tasks.settle_notice(task.id, notice, epoch=task.epoch, by=WORKERS[0])

    def archive(self, *, days: int = 30, files_max: int = 100, reach: Callable[[str], None] = lambda _: None) -> Run:
        """What the command does."""
        url = self.world.url_at(self.now)
        return archive(url, self.folder, older_than=days * DAY, files_max=files_max, reach=reach)

    def verify(self) -> Report:
        """With the files."""
        return verify(self.world.url, archive=self.folder)

    def written(self) -> list[str]:
        """The files that the log names, in order."""
        with psycopg.connect(self.world.url) as connection:
            found = connection.execute("SELECT data ->> 'file' FROM event WHERE stream = 'archive' ORDER BY version")
            return [row[0] for row in found]


def past(world: World, folder: Path, *, seed: int, steps: int = 50) -> Past:
    """Three months of life, the last day of it only just over; ``steps`` random operations in each of three days."""
    found = Past(world=world, folder=folder, history=History(world.store, seed), now=world.store.ping())
    _certain(world)
    for days in (0, 50, 40):
        found.live(steps, days=days)
    return found


def _certain(world: World) -> None:
    """What chance need not bring about: an issue asked for twice, one that was delivered, a worker that left, another that did not."""
    for generation in (1, 2):
        world.store.tasks.cancel(world.task("twice", generation=generation).id, by="ann", reason="r")
    for number in ("once", "pushed"):
        _pushed(world, number)
    world.store.tasks.cancel(world.task("pushed", generation=2).id, by="ann", reason="r")
    for worker in (ANN, BOB):
        world.store.workers.register(worker, host="h", pid=1, role=WorkerRole.WORKER, release="1", capabilities=("a",))
    world.store.workers.change_state(ANN, WorkerState.GONE, reason="r")


def in_database(url: str) -> list[Mark]:
    """Stream, version and hash of every event but those that tell of archives."""
    with psycopg.connect(url) as connection:
        found = connection.execute(
            "SELECT stream, version, encode(hash, 'hex') FROM event WHERE stream <> 'archive' ORDER BY position"
        )
        return [(row[0], row[1], row[2]) for row in found]


def in_files(folder: Path, names: Iterable[str]) -> list[Mark]:
    """The same, of what the files hold."""
    found: list[Mark] = []
    for name in names:
        with gzip.open(folder / name, "rt", encoding="utf-8") as source:
            told = [json.loads(line) for line in source]
        found += [(line["stream"], line["version"], line["hash"]) for line in told]
    return found


def _pushed(world: World, number: str) -> None:
    claim = world.claimed(number)
    key = effect_key(claim.task.id, EffectKind.PUSH)
    world.store.effects.intend(claim.lease, key=key, kind=EffectKind.PUSH, intent={"commit": "c"})
    world.store.effects.record(claim.lease, key=key, result={"n": "1.10"})
    world.store.claims.record(claim.lease, delivered(claim.lease))
    notice = world.ended(claim, Outcome.DELIVERED).notice
    assert notice is not None
    world.store.tasks.settle_notice(claim.task.id, notice, epoch=1, by=ANN)
