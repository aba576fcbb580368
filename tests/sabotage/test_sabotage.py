"""Claims about the tests: for every guard there is one that fails when the guard is gone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.support.sample import sample

TOP: Final = Path(__file__).parents[2]
COPIED: Final = ("tamma", "tests", "alembic", "alembic.ini", "pyproject.toml")
SQL: Final = "tamma/adapters/postgres/sql.py"
STORE: Final = "tests/adapters/postgres"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sabotage:
    """What is taken out of which file, what stands there instead, and the tests that must notice."""

    file: str
    guard: str
    instead: str
    noticed_by: str


SABOTAGES: Final = {
    "fence: the epoch is compared": Sabotage(
        file=SQL, guard=" AND epoch = %(epoch)s AND worker = %(worker)s", instead="",
        noticed_by=f"{STORE}/test_store_claims.py",
    ),
    "fence: a lease that is over writes nothing": Sabotage(
        file=SQL, guard=" AND lease_expires_at > tamma_now()", instead="", noticed_by=f"{STORE}/test_store_claims.py"
    ),
    "reap: only a lease that is over, or a dead worker's": Sabotage(
        file="tamma/adapters/postgres/claims.py", guard="(lease_expires_at <= tamma_now() OR worker = %(dead)s)",
        instead="true", noticed_by=f"{STORE}/test_store_claims.py",
    ),
    "claim: one worker gets it": Sabotage(
        file="tamma/adapters/postgres/claims.py", guard='locked(f"id = %(task_id)s AND {IS_CLAIMABLE}")',
        instead='locked("id = %(task_id)s")', noticed_by=f"{STORE}/test_store_claims.py",
    ),
    "one live task for an issue: the unique index": Sabotage(
        file="alembic/versions/0001_first.py", guard="CREATE UNIQUE INDEX task_live", instead="CREATE INDEX task_live",
        noticed_by=f"{STORE}/test_migrate.py",
    ),
    "conditional append: the condition": Sabotage(
        file="alembic/versions/0002_chain.py", guard="IF EXISTS (SELECT FROM event", instead="IF false AND EXISTS (SELECT FROM event",
        noticed_by=f"{STORE}/test_append.py",
    ),
    "conditional append: the locks before it": Sabotage(
        file="alembic/versions/0002_chain.py", guard="PERFORM pg_advisory_xact_lock(key);", instead="NULL;",
        noticed_by=f"{STORE}/test_append.py",
    ),
    "reservation: one holder of a slot": Sabotage(
        file=SQL, guard='"(dispatch_until IS NULL OR dispatch_until <= {now})"', instead='"true"',
        noticed_by=f"{STORE}/test_store_tasks.py",
    ),
    "reservation: limits over all loops": Sabotage(
        file="tamma/adapters/postgres/dispatch.py", guard="SELECT pg_advisory_xact_lock({_RESERVERS})", instead="SELECT {_RESERVERS}",
        noticed_by=f"{STORE}/test_store_tasks.py",
    ),
    "dedupe key: what is done is not begun again": Sabotage(
        file="tamma/adapters/postgres/effects.py",
        guard="if known is not None and (known.state is EffectState.DONE or _is_same(known, intent, lease.epoch)):",
        instead="if False:", noticed_by=f"{STORE}/test_store_effects.py",
    ),
    "hold: one teller at a time": Sabotage(
        file="tamma/adapters/postgres/effects.py", guard="if elsewhere is not None and elsewhere[0]:", instead="if False:",
        noticed_by=f"{STORE}/test_store_effects.py",
    ),
    "push: only from where the branch was": Sabotage(
        file="tamma/adapters/git/push.py", guard="--force-with-lease={ref}:{expected or ''}", instead="--force",
        noticed_by="tests/adapters/git/test_push.py",
    ),
    "comment: a marker counts by our own user only": Sabotage(
        file="tamma/adapters/forges/local.py", guard="if c.author == self.user and marker in c.body", instead="if marker in c.body",
        noticed_by="tests/contracts/test_local_forge.py",
    ),
    "comment: the marker is looked for": Sabotage(
        file="tamma/adapters/forges/local.py", guard="if c.author == self.user and marker in c.body", instead="if False",
        noticed_by="tests/contracts/test_local_forge.py",
    ),
    "worker: the lease is proven before each effect": Sabotage(
        file="tamma/engine/attempt.py",
        guard="self.deps.store.claims.renew(self.lease, duration=self.deps.policies.leases.duration).check()", instead="pass",
        noticed_by="tests/engine/test_attempt.py",
    ),
    "worker: stops before its lease is over": Sabotage(
        file="tamma/engine/heartbeat.py", guard="return self._clock.monotonic() - self._renewed_at >=",
        instead="return False and self._clock.monotonic() - self._renewed_at >=", noticed_by="tests/engine/test_heartbeat.py",
    ),
    "worker: a beat's reply calls the task off": Sabotage(
        file="tamma/core/lease.py", guard="if self.cancel:", instead="if False:", noticed_by="tests/engine/test_heartbeat.py",
    ),
    "worker: a beat's reply drains it": Sabotage(
        file="tamma/engine/heartbeat.py", guard="if reply.drain:", instead="if False:", noticed_by="tests/engine/test_heartbeat.py",
    ),
    "loop: signs of life while it drains": Sabotage(
        file="tamma/engine/orchestrator.py", guard="with Pulse(self.store.workers, worker=me.id, beat=self.policies.leases.beat):",
        instead="if True:", noticed_by="tests/engine/test_orchestrator.py",
    ),
    "pause: asked before each effect": Sabotage(
        file="tamma/engine/pipeline.py", guard="if self.attempt.wait_while_paused() and", instead="if False and",
        noticed_by="tests/faults/test_pause.py",
    ),
    "chain: an edited event is found": Sabotage(
        file="tamma/adapters/postgres/verify.py", guard="WHEN hash <> tamma_chain(", instead="WHEN NULL <> tamma_chain(",
        noticed_by=f"{STORE}/test_verify.py",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", sample(list(SABOTAGES), one_in=8))
def test_a_guard_that_is_gone_is_noticed(name: str, tmp_path: Path, postgres_server: str) -> None:
    """By a test that fails, not by code that does not load."""
    sabotage = SABOTAGES[name]
    for entry in COPIED:
        _copy(TOP / entry, tmp_path / entry)
    file = tmp_path / sabotage.file
    text = file.read_text()
    assert sabotage.guard in text, "the guard has moved: look where it is now"
    file.write_text(text.replace(sabotage.guard, sabotage.instead))
    argv = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", sabotage.noticed_by]
    env = {
        **os.environ,
        "PYTHONPATH": str(tmp_path),
        "TAMMA_TEST_DATABASE_URL": postgres_server,
        "TAMMA_TEST_WHOLE": "",
    }
    done = subprocess.run(argv, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 1, f"nobody noticed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
    assert "1 failed" in done.stdout, done.stdout[-2000:]


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(source, target)
