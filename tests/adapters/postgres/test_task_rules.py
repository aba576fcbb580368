"""What the database itself refuses to hold as a task, whoever writes it."""

from __future__ import annotations

from collections.abc import Iterable

import psycopg
import pytest

from tamma.core.attempt import Phase
from tamma.core.task import CLAIMABLE, TERMINAL, Notice, TaskKind, TaskState
from tests.adapters.postgres.store_world import World

# Of a task that is queued.
BREAKS = {
    "task_kind": "kind = 'guess'",
    "task_state": "state = 'lost'",
    "task_notice": "notice = 'whispered'",
    "task_phase": "state = 'running', worker = 'w', lease_expires_at = now(), phase = 'dream'",
    "task_generation": "generation = 0",
    "task_epoch": "epoch = -1",
    "task_version": "version = 0",
    "task_counters": "crashes = -1",
    "task_worker": "state = 'running', lease_expires_at = now()",
    "task_lease": "state = 'running', worker = 'w'",
    "task_phase_runs": "phase = 'gates'",
    "task_due": "run_after = now()",
    "task_finished": "finished_at = now()",
    "task_reservation": "dispatched_by = 'loop'",
    "task_reserved_waits": "state = 'blocked', dispatched_by = 'loop', dispatch_until = now()",
}


@pytest.mark.parametrize("rule", BREAKS)
def test_a_row_against_a_rule_is_refused_by_its_name(world: World, rule: str) -> None:
    """And stays as it was."""
    task = world.task(1)
    with psycopg.connect(world.url) as connection, pytest.raises(psycopg.errors.CheckViolation) as caught:
        connection.execute(f"UPDATE task SET {BREAKS[rule]}")
    assert (caught.value.diag.constraint_name, caught.value.diag.table_name) == (rule, "task")
    assert rule in str(caught.value)
    assert world.store.tasks.get(task.id) == task


def test_the_words_are_those_of_the_core(world: World) -> None:
    """A word that is added there needs a revision here."""

    def one_of(column: str, words: Iterable[str]) -> str:
        return f"NEW.{column} IN ({', '.join(repr(str(word)) for word in words)})"

    with psycopg.connect(world.url) as connection:
        row = connection.execute("SELECT prosrc FROM pg_proc WHERE proname = 'task_is_sound'").fetchone()
    assert row is not None
    for rule in (
        one_of("kind", TaskKind),
        one_of("state", TaskState),
        one_of("notice", Notice),
        one_of("phase", Phase),
        one_of("state", (state for state in TaskState if state in TERMINAL)),
        one_of("state", (state for state in TaskState if state in CLAIMABLE)),
    ):
        assert rule in row[0]
