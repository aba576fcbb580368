"""A repository with many issues and a long past, made in bulk, and one loop over it that starts nobody."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import psycopg

from tamma.adapters.forges.document import Value, new
from tamma.adapters.forges.local import LocalForge, LocalRepository
from tamma.adapters.postgres.store import PostgresStore
from tamma.adapters.system import NoFailPoints, SystemChance, SystemClock, Unsupervised
from tamma.core.ids import IssueRef, TaskId, WorkerId, branch_name
from tamma.core.policy import Limits, SelectionPolicy
from tamma.engine.intake import Intake
from tamma.engine.notices import Herald
from tamma.engine.observer import Observer
from tamma.engine.orchestrator import Orchestrator
from tamma.engine.plan import Identity, Interruption, Policies
from tamma.ports.dispatch import Ended
from tamma.ports.forge import Forge
from tests.support.issue_files import issue_document

# Of ten issues three have a live task, one is not wanted, and of six a human closed the change: none is eligible.
_WITH_TASK: Final = (0, 1, 2)
_UNWANTED: Final = 3
_BEGIN: Final = datetime(2026, 1, 1, tzinfo=UTC)
_ROWS: Final = """INSERT INTO task (id, forge, repository, issue, kind, generation, state, title, digest, snapshot, correlation,
        created_at, asked_by, epoch, attempts, run_after, finished_at, outcome)
    SELECT {id}, 'local', 'demo', {issue}, 'resolve', 1, {state}, 'A title', 'digest', 'snapshot', 'correlation',
        clock_timestamp(), 'label', 1, 1, CASE {state} WHEN 'retryable' THEN clock_timestamp() + interval '1 day' END,
        CASE {state} WHEN 'succeeded' THEN clock_timestamp() END, CASE {state} WHEN 'succeeded' THEN 'delivered' END
    FROM generate_series(1, %(number)s) AS n {where}"""
_FINISHED: Final = _ROWS.format(id="'old' || n", issue="'x' || n", state="'succeeded'", where="")
_LIVE: Final = _ROWS.format(
    id="gen_random_uuid()::text",
    issue="n::text",
    state="(ARRAY['queued', 'retryable', 'blocked'])[n %% 10 + 1]",
    where="WHERE n %% 10 < 3",
)


def fill_database(url: str, *, finished: int, issues: int) -> None:
    """So many finished tasks of issues that are gone, and the live ones of ``fill_forge``; settled, as autovacuum does."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(_FINISHED, {"number": finished})
        connection.execute(_LIVE, {"number": issues})
        connection.execute("VACUUM ANALYZE")


def fill_forge(root: Path, *, issues: int) -> LocalForge:
    """So many open issues with the label, none of them eligible, and the changes that humans closed."""
    here = LocalRepository(name="demo", git_url="demo.git", issues=root / "issues", changes=root / "changes")
    forge = LocalForge(name="local", user="tamma", repositories=[here])
    for folder in (here.issues, here.changes):
        folder.mkdir(parents=True)
    for number in range(1, issues + 1):
        ref = IssueRef(forge="local", repository="demo", number=str(number))
        labels = ["tamma", "wontfix"] if number % 10 == _UNWANTED else ["tamma"]
        document = issue_document(
            title=f"Issue {number}", body="A body\n", labels=labels, created_at=_BEGIN + timedelta(minutes=number)
        )
        (here.issues / f"{number}.md").write_bytes(document.raw)
        if number % 10 not in (*_WITH_TASK, _UNWANTED):
            values: dict[str, Value] = {
                "title": "A change", "head": branch_name(ref), "base": "main", "author": "tamma", "state": "closed",
                "issue": str(ref),
            }  # fmt: skip
            (here.changes / f"{number}.md").write_bytes(new(values, "A body\n").raw)
    return forge


@dataclass(slots=True)
class Idlers:
    """A dispatcher whose workers never come: what was reserved for them is in ``started``."""

    slots: int = 1
    has_ended: bool = False
    started: list[TaskId] = field(default_factory=list)

    def start(self, task_id: TaskId) -> int:
        self.started.append(task_id)
        return 1

    def ended(self) -> Sequence[Ended]:
        return ()

    def running(self) -> Sequence[TaskId]:
        return ()

    def drain(self) -> None:
        """Nobody is there."""

    def kill(self) -> None:
        """Nobody is there."""

    def wait(self, timeout: timedelta) -> bool:
        return True


def a_loop_over(
    store: PostgresStore,
    forge: Forge,
    *,
    limits: Limits = Limits(),  # noqa: B008 — frozen
    selection: SelectionPolicy = SelectionPolicy(),  # noqa: B008 — frozen
) -> Orchestrator:
    """A loop with one slot, whose worker never comes."""
    policies = Policies(limits=limits, selection=selection)
    intake = Intake(store=store, forge=forge, limits=limits, selection=policies.selection)
    me = Identity(id=WorkerId("here:1:boot"), host="here", pid=1, release="test")
    return Orchestrator(
        identity=me, store=store, intake=intake, policies=policies, clock=SystemClock(), chance=SystemChance(),
        observer=Observer(store=store, forge=forge, intake=intake, policies=policies),
        herald=Herald(store=store, forge=forge, fail_points=NoFailPoints(), by=me.id, leases=policies.leases, trigger="tamma"),
        dispatcher=Idlers(), interruption=Interruption(), supervisor=Unsupervised(), report=lambda _line: None,
    )  # fmt: skip


def give_back(loop: Orchestrator) -> None:
    """What the last tick reserved waits again."""
    assert isinstance(loop.dispatcher, Idlers)
    while loop.dispatcher.started:
        loop.store.tasks.unreserve(loop.dispatcher.started.pop())
