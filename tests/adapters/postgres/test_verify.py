"""Claims about ``tamma db verify``: it is content with any honest history, and names whatever was tampered with."""

from __future__ import annotations

import hashlib
import json
import struct
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from tamma.adapters.postgres.verify import RULES, Head, Report, heads, verify
from tamma.core.attempt import Outcome
from tamma.core.effect import EffectKind
from tests.adapters.postgres.store_world import ANN, World
from tests.adapters.postgres.test_store_fold import History

TASK = "(SELECT 'task:' || id FROM task WHERE issue = '1')"
OTHER = "(SELECT 'task:' || id FROM task WHERE issue = '2')"


@pytest.fixture
def told(world: World) -> World:
    """Two tasks with four events each, and a worker."""
    for number in (1, 2):
        claim = world.claimed(number)
        world.store.effects.intend(claim.lease, key=f"k{number}", kind=EffectKind.PUSH, intent={"a": "b"})
        world.ended(claim, Outcome.AGENT_FAILED)
    return world


def tamper(world: World, *statements: str) -> None:
    """As the owner of the database could, past the trigger."""
    with psycopg.connect(world.url) as connection:
        connection.execute("SET session_replication_role = replica")
        if any(" position = " in statement for statement in statements):
            connection.execute("ALTER TABLE event ALTER position DROP IDENTITY IF EXISTS")
        connection.execute("ALTER TABLE event DROP CONSTRAINT IF EXISTS event_stream_version")
        connection.execute("ALTER TABLE event DROP CONSTRAINT IF EXISTS event_pkey")
        for statement in statements:
            assert connection.execute(statement).rowcount > 0, statement


def named(report: Report) -> set[str]:
    return {problem.where for problem in report.problems}


@pytest.mark.parametrize("seed", range(3))
def test_an_honest_history_is_whole(world: World, seed: int) -> None:
    """Any of our own operations, legal or refused, in any order."""
    history = History(world.store, seed)
    for _ in range(300):
        history.step()
    report = verify(world.url, heads=heads(world.url))
    assert report.problems == ()
    assert report.events > 50


def test_the_chain_can_be_checked_without_us(told: World) -> None:
    """SHA-256 over the hash before, the time in microseconds since 2000, and what happened as Postgres writes JSON."""
    before: dict[str, bytes] = {}
    begin = datetime(2000, 1, 1, tzinfo=UTC)
    facts = "SELECT stream, at, hash, jsonb_build_array(stream, version, position, type, tags, correlation, data)::text"
    with psycopg.connect(told.url) as connection:
        rows = connection.execute(f"{facts} FROM event ORDER BY stream, version").fetchall()
    assert len(rows) == 8
    for stream, at, found, text in rows:
        moment = struct.pack(">q", (at - begin) // timedelta(microseconds=1))
        before[stream] = hashlib.sha256(before.get(stream, b"") + moment + text.encode()).digest()
        assert bytes(found) == before[stream]
        assert json.loads(text)[0] == stream


@pytest.mark.parametrize(
    "edit",
    [
        'data = data || \'{"worker": "somebody"}\'',
        "at = at + interval '1 microsecond'",
        "type = 'TASK.DISPATCH.SUCCEEDED'",
        "tags = tags || '{x}'",
        "tags = tags[2:]",
        "correlation = NULL",
        "hash = sha256('')",
        "stream = 'task:elsewhere'",
        "version = 9",
        "position = 10000",
    ],
)
def test_an_edited_event_is_named(told: World, edit: str) -> None:
    """Whatever of it was changed."""
    stream, position = one(told, f"SELECT stream, position FROM event WHERE stream = {TASK} AND version = 2")
    tamper(told, f"UPDATE event SET {edit} WHERE position = {position}")
    assert any(where.startswith(stream) for where in named(verify(told.url)))


@pytest.mark.parametrize("version", [1, 2, 3, 4])
def test_a_deleted_event_is_named(told: World, version: int) -> None:
    """The first, one between, and the last, which only the row's head can tell."""
    (stream,) = one(told, f"SELECT {TASK}")
    tamper(told, f"DELETE FROM event WHERE stream = '{stream}' AND version = {version}")
    assert {where.split()[0] for where in named(verify(told.url))} == {stream}


def test_reordered_events_are_named(told: World) -> None:
    """Two of one stream."""
    (stream,) = one(told, f"SELECT {TASK}")
    swap = "UPDATE event SET {0} = CASE {0} WHEN {1} THEN {2} ELSE {1} END WHERE {0} IN ({1}, {2})"
    tamper(told, swap.format("version", 2, 3) + f" AND stream = '{stream}'")
    assert {where.split()[0] for where in named(verify(told.url))} == {stream}


def test_events_moved_in_the_log_are_named(told: World) -> None:
    """Across streams no version tells, but the position is hashed."""
    first = one(told, f"SELECT stream, position FROM event WHERE stream = {TASK} ORDER BY position DESC")
    second = one(told, f"SELECT stream, position FROM event WHERE stream = {OTHER} ORDER BY position")
    moved = "UPDATE event SET position = {} WHERE stream = '{}' AND position = {}"
    tamper(told, moved.format(second[1], *first), moved.format(first[1], *second))
    assert {where.split()[0] for where in named(verify(told.url))} == {first[0], second[0]}


def test_a_history_written_anew_needs_exported_heads_to_be_found(told: World) -> None:
    """Whoever owns the database can forge a stream that is whole in itself; not one that ends in the hash we kept."""
    kept = heads(told.url)
    (stream,) = one(told, f"SELECT {TASK}")
    tamper(
        told,
        f"DELETE FROM effect WHERE task_id = substr('{stream}', 6)",
        f"DELETE FROM event WHERE stream = '{stream}'",
        f"DELETE FROM task WHERE 'task:' || id = '{stream}'",
    )
    assert verify(told.url).problems == ()
    assert named(verify(told.url, heads=kept)) == {stream}
    told.task(1)
    assert named(verify(told.url, heads=kept)) == {stream}
    other = next(head for head in kept if head.stream != stream)
    forged = Head(stream=other.stream, version=other.version, hash="00")
    assert named(verify(told.url, heads=[forged, other])) == {f"{other.stream} version {other.version}"}


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ("UPDATE task SET priority = 7 WHERE issue = '1'", "task:"),
        ("UPDATE effect SET state = 'done' WHERE key = 'k1'", "task:"),
        ("UPDATE worker SET host = 'elsewhere'", "worker:"),
        ("DELETE FROM worker", "worker:"),
        ("UPDATE task SET version = 3, head = '' WHERE issue = '1'", "task:"),
    ],
)
def test_a_row_that_the_log_does_not_explain_is_named(told: World, change: str, where: str) -> None:
    """The tables must be what the events come to."""
    from tamma.ports.store import WorkerRole

    told.store.workers.register(ANN, host="h", pid=1, role=WorkerRole.WORKER, release="1", capabilities=())
    assert verify(told.url).problems == ()
    tamper(told, change)
    report = verify(told.url)
    assert report.problems
    assert all(problem.where.startswith(where) for problem in report.problems)


def test_the_trigger_refuses_even_the_owner(told: World) -> None:
    """A slip of whoever administers the database."""
    for statement in ("UPDATE event SET version = 1", "DELETE FROM event", "TRUNCATE event"):
        with psycopg.connect(told.url) as connection, pytest.raises(psycopg.errors.RaiseException, match="append-only"):
            connection.execute(statement)


def one(world: World, statement: str) -> tuple[str, ...]:
    with psycopg.connect(world.url) as connection:
        row = connection.execute(statement).fetchone()
    assert row is not None
    return row


_EVENT = (
    "INSERT INTO event (stream, version, type, tags, at, data, hash) "
    "SELECT 'task:' || id, 99, '{}', '{{}}', now(), '{}', '' FROM task WHERE issue = '1'"
)
_AGAINST = {
    "one live task for an issue": (
        "ALTER TABLE task DISABLE TRIGGER task_sound",
        "DROP INDEX task_live",
        "UPDATE task SET issue = '1', state = 'queued', run_after = NULL, generation = CASE issue WHEN '1' THEN 1 ELSE 2 END",
    ),
    "a running task has a worker and a lease, no other has": (
        "ALTER TABLE task DISABLE TRIGGER task_sound",
        "UPDATE task SET worker = 'w' WHERE issue = '1'",
    ),
    "a delivered task names its change": ("UPDATE task SET outcome = 'delivered' WHERE issue = '1'",),
    "one finished effect of a kind for a task and attempt": (
        "UPDATE effect SET state = 'done', task_id = (SELECT id FROM task WHERE issue = '1')",
    ),
    "an effect was intended before it was recorded": (_EVENT.format("EFFECT.RECORD.SUCCEEDED", '{"key": "new"}'),),
    "no attempt writes after a later one began": (_EVENT.format("ATTEMPT.PHASE.ENTERED", '{"epoch": 0}'),),
    "each claim is of the next attempt": (_EVENT.format("TASK.CLAIM.SUCCEEDED", '{"epoch": 7}'),),
}


@pytest.mark.parametrize("rule", RULES)
def test_each_rule_finds_what_is_against_it(told: World, rule: str) -> None:
    """By itself: a rule that finds nothing would prove nothing."""
    with psycopg.connect(told.url) as connection:
        assert connection.execute(RULES[rule]).fetchall() == []
        for statement in _AGAINST[rule]:
            connection.execute(statement)
        assert connection.execute(RULES[rule]).fetchall() != []
        connection.rollback()
