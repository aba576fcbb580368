"""Signs of life from a thread and a connection of its own: of an attempt's lease, and of a process that is busy or waits."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from datetime import timedelta
from types import TracebackType
from typing import Final, Self

from tamma.core.errors import LeaseLost, TaskCancelled, TransientError
from tamma.core.ids import WorkerId
from tamma.core.lease import Lease
from tamma.core.policy import LeasePolicy
from tamma.ports.store import Store, Workers
from tamma.ports.system import Clock

_AGAIN: Final = 4  # a beat that failed is tried again after such a part of its time


class _Beating(AbstractContextManager[object]):
    """A thread that beats until it is left, and keeps no process from ending."""

    def __init__(self, beat_until_left: Callable[[], None], *, name: str) -> None:
        self._left = threading.Event()
        self._thread = threading.Thread(target=beat_until_left, name=name, daemon=True)

    def __enter__(self) -> Self:
        """Start beating."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop beating; returns soon even if the database does not answer."""
        self._left.set()
        self._thread.join(timeout=2)


class Heartbeat(_Beating):
    """Renews until left, also while a stopped attempt is being settled. The moment of the last success is taken *before*
    the request (at first the claim's, ``asked_at``), on the monotonic clock, so that a worker that was stopped or cut off
    stops before its lease is over, without asking anybody (self-fencing). Each reply may call the task off, and then the
    attempt is over; or ask the worker to drain, and then ``drain`` is called."""

    def __init__(
        self,
        *,
        open_store: Callable[[], Store],
        lease: Lease,
        policy: LeasePolicy,
        clock: Clock,
        asked_at: float,
        drain: Callable[[], object],
    ) -> None:
        super().__init__(self._beat_until_left, name="heartbeat")
        self._open_store = open_store
        self._lease = lease
        self._policy = policy
        self._clock = clock
        self._drain = drain
        self._lost: LeaseLost | TaskCancelled | None = None
        self._renewed_at = asked_at

    @property
    def is_over(self) -> bool:
        """Whether the attempt must stop: the lease is lost, or soon over by our own clock."""
        return self._lost is not None or self._is_past()

    def check(self) -> None:
        """Raises LeaseLost (or TaskCancelled) if the lease is gone, or soon over by our own clock."""
        if self._lost is not None:
            raise self._lost
        if self._is_past():
            raise LeaseLost(
                "the lease is given up", why="it could not be renewed in time (stopped, or the database was away)"
            )

    def _is_past(self) -> bool:
        return self._clock.monotonic() - self._renewed_at >= self._policy.fence.total_seconds()

    def _beat_until_left(self) -> None:
        try:
            self._renew_until_left()
        except (LeaseLost, TaskCancelled) as error:
            self._lost = error
        except Exception as error:  # noqa: BLE001 — a heart that stopped for whatever reason must be seen, not mourned
            self._lost = LeaseLost(
                "the lease can no longer be renewed",
                why=str(error) or type(error).__name__,
                fix=getattr(error, "fix", ""),
            )

    def _renew_until_left(self) -> None:
        beat = self._policy.beat.total_seconds()
        store: Store | None = None
        try:
            pause = beat
            while not self._left.wait(pause):
                asked_at = self._clock.monotonic()
                try:
                    store = store or self._open_store()
                    reply = store.claims.renew(self._lease, duration=self._policy.duration)
                    reply.check()
                    self._renewed_at, pause = asked_at, beat
                    if reply.drain:
                        self._drain()
                    store.workers.beat(self._lease.worker)
                except TransientError:
                    pause = beat / _AGAIN
        finally:
            if store is not None:
                store.close()


class Pulse(_Beating):
    """Beats for a registered process until left, however long what it does takes; a beat that fails is the next one's."""

    def __init__(self, workers: Workers, *, worker: WorkerId, beat: timedelta) -> None:
        super().__init__(self._beat_until_left, name="pulse")
        self._workers = workers
        self._worker = worker
        self._beat = beat

    def _beat_until_left(self) -> None:
        while not self._left.wait(self._beat.total_seconds()):
            with suppress(Exception):  # whatever it is, the process is alive
                self._workers.beat(self._worker)
