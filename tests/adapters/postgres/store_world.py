"""Builders with defaults for tests of the store: drafts, decisions, and a second store that lives in the future."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from threading import Barrier
from typing import TypeVar
from urllib.parse import quote

from tamma.adapters.postgres.connections import connections_for
from tamma.adapters.postgres.store import PostgresStore
from tamma.core.attempt import Decision, Outcome, judge
from tamma.core.ids import BlobId, IssueRef, WorkerId
from tamma.core.policy import RetryPolicy
from tamma.core.task import Counters, Task
from tamma.ports.store import Claim, Store, TaskDraft

MINUTE = timedelta(minutes=1)
ANN, BOB, ORC = WorkerId("host:1:ann"), WorkerId("host:2:bob"), WorkerId("host:3:orc")
POLICY = RetryPolicy()
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """A database with a store on it."""

    url: str
    store: Store

    def at(self, moment: datetime) -> closing[PostgresStore]:
        """A store on the same database whose sessions read ``moment`` as the time."""
        return closing(open_store(self.url_at(moment)))

    def url_at(self, moment: datetime) -> str:
        """The same database for sessions that read ``moment`` as the time."""
        return f"{self.url}{'&' if '?' in self.url else '?'}options={quote(_fake(moment))}"

    def later(self, *, by: timedelta) -> closing[PostgresStore]:
        """A store that lives in the future."""
        return self.at(self.store.ping() + by)

    def task(self, number: int | str = 1, *, repository: str = "demo", generation: int = 1, priority: int = 0) -> Task:
        """A queued task."""
        return self.store.tasks.create(
            draft(number, repository=repository, generation=generation, priority=priority)
        )  # fmt: skip

    def claimed(self, number: int | str = 1, *, worker: WorkerId = ANN, duration: timedelta = MINUTE) -> Claim:
        """A task that runs."""
        return self.store.claims.claim(self.task(number).id, worker=worker, duration=duration)

    def ended(self, claim: Claim, outcome: Outcome, *, policy: RetryPolicy = POLICY) -> Task:
        """The task after its attempt came to ``outcome``."""
        decision = decided(outcome, claim.task.counters, policy=policy)
        return self.store.claims.settle(claim, decision, reason=f"because {outcome}")


def open_store(url: str, *, listen_url: str | None = None, connections_max: int = 20) -> PostgresStore:
    """A store with connections for many threads."""
    return PostgresStore(
        connections_for(url, application_name="test", connections_max=connections_max), listen_url=listen_url
    )


def draft(
    number: int | str = 1,
    *,
    forge: str = "local",
    repository: str = "demo",
    generation: int = 1,
    priority: int = 0,
    capabilities: tuple[str, ...] = (),
    title: str = "A title",
) -> TaskDraft:
    """A draft for an issue, of the local forge unless told otherwise."""
    return TaskDraft(
        ref=IssueRef(forge=forge, repository=repository, number=str(number)),
        title=title,
        digest="digest",
        snapshot=BlobId("snapshot"),
        asked_by="label",
        generation=generation,
        priority=priority,
        capabilities=capabilities,
    )


def decided(outcome: Outcome, counters: Counters | None = None, *, policy: RetryPolicy = POLICY) -> Decision:
    """What the core decides, with the smallest delay."""
    return judge(outcome, counters or Counters(), policy, chance=0)


def together(*calls: Callable[[], T]) -> Sequence[T]:
    """The results of calls that all start at the same time, each in a thread of its own."""
    barrier = Barrier(len(calls))

    def start(call: Callable[[], T]) -> T:
        barrier.wait(timeout=30)
        return call()

    with ThreadPoolExecutor(len(calls)) as threads:
        return list(threads.map(start, calls))


def _fake(moment: datetime) -> str:
    return f"-c tamma.fake_now={moment.isoformat()}"
