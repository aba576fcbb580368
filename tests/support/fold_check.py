"""state == fold(events): reads the tables without their volatile columns, and compares them with what the log tells."""

from __future__ import annotations

import psycopg

from tamma.adapters.postgres import rows
from tamma.adapters.postgres.connect import connect_raw, engine_for
from tamma.adapters.postgres.events import PostgresEvents
from tamma.adapters.postgres.pool import Pool
from tamma.adapters.postgres.sql import EFFECT_COLUMNS, TASK_COLUMNS, WORKER_COLUMNS
from tamma.core.event import Event, task_stream, worker_stream
from tamma.core.fold import VOLATILE, Tables, fold


def tables_of(url: str) -> Tables:
    """What the tables hold now, read in one snapshot."""
    with connect_raw(url, application_name="fold check") as connection:
        return read_tables(connection)


def read_tables(connection: psycopg.Connection[rows.Row]) -> Tables:
    """The same, over a connection of the caller's."""
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        tasks = [rows.task_of(row) for row in connection.execute(f"SELECT {TASK_COLUMNS} FROM task")]
        effects = [rows.effect_of(row) for row in connection.execute(f"SELECT {EFFECT_COLUMNS} FROM effect")]
        listed = connection.execute(f"SELECT {_quiet(WORKER_COLUMNS)}, version FROM worker").fetchall()
    workers = {row[0]: rows.worker_of(row[:-1]) for row in listed}
    versions = {task_stream(task.id): task.version for task in tasks}
    versions |= {worker_stream(row[0]): row[-1] for row in listed}
    return Tables(
        tasks={task.id: task for task in tasks},
        effects={effect.key: effect for effect in effects},
        workers=workers,
        versions=versions,
    )


def events_of(url: str) -> list[Event]:
    """The whole log."""
    pool = Pool(engine_for(url, application_name="fold check", connections_max=1))
    try:
        return list(PostgresEvents(pool).all())
    finally:
        pool.close()


def assert_fold_equals_tables(url: str) -> Tables:
    """The log tells exactly what the tables hold. Call it when nobody writes."""
    told, held = fold(events_of(url)), tables_of(url)
    assert_same(told, held)
    return held


def assert_same(told: Tables, held: Tables) -> None:
    """Equal, table by table, so that a failure names the row."""
    for name in ("tasks", "effects", "workers", "versions"):
        ours, theirs = getattr(told, name), getattr(held, name)
        differing = {key for key in {*ours, *theirs} if ours.get(key) != theirs.get(key)}
        shown = [f"{key}:\n  log   {ours.get(key)}\n  table {theirs.get(key)}" for key in sorted(differing)[:5]]
        assert not differing, f"{name} differ from the fold of the log:\n" + "\n".join(shown)


def _quiet(columns: str) -> str:
    """The columns with NULL for the volatile ones."""
    volatile = set().union(*VOLATILE.values())
    return ", ".join(f"NULL AS {name}" if name in volatile else name for name in columns.split(", "))
