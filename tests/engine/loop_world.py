"""A loop for tests: real store and real children, a forge in memory, and short waits."""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path

from tamma.adapters.dispatch.local import LocalDispatcher
from tamma.adapters.postgres.store import PostgresStore
from tamma.adapters.system import NoFailPoints, SystemChance, SystemClock, Unsupervised
from tamma.core.ids import WorkerId
from tamma.core.policy import LeasePolicy, Limits
from tamma.engine.intake import Intake
from tamma.engine.notices import Herald
from tamma.engine.observer import Observer
from tamma.engine.orchestrator import Orchestrator
from tamma.engine.plan import Identity, Interruption, Policies
from tests.contracts.memory_forge import MemoryForge

FAILING = "raise SystemExit(3)"


def a_loop(
    store: PostgresStore,
    forge: MemoryForge,
    tmp_path: Path,
    *,
    worker: str = FAILING,
    workers_max: int = 2,
    limits: Limits = Limits(),  # noqa: B008 — frozen
    beat: timedelta = timedelta(seconds=15),
) -> Orchestrator:
    """A loop whose workers run the Python text ``worker`` instead of Tamma."""
    policies = Policies(leases=LeasePolicy(reservation=timedelta(milliseconds=200), beat=beat), limits=limits)
    intake = Intake(store=store, forge=forge, limits=policies.limits, selection=policies.selection)
    me = Identity(id=WorkerId("here:1:boot"), host="here", pid=1, release="test")
    return Orchestrator(
        identity=me, store=store, intake=intake, policies=policies, clock=SystemClock(), chance=SystemChance(),
        observer=Observer(store=store, forge=forge, intake=intake, policies=policies),
        herald=Herald(store=store, forge=forge, fail_points=NoFailPoints(), by=me.id, leases=policies.leases, trigger="tamma"),
        dispatcher=LocalDispatcher(
            argv=[sys.executable, "-c", worker], env={}, cwd=tmp_path, workers_max=workers_max, logs=tmp_path / "logs", host=me.host,
        ),
        interruption=Interruption(),
        supervisor=Unsupervised(),
        tick_interval=timedelta(milliseconds=100), report=lambda _line: None,
    )  # fmt: skip
