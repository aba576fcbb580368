"""state == fold(events): reads the tables without their volatile columns, and compares them with what the log tells."""

from __future__ import annotations

from tamma.adapters.postgres.connect import connect_raw
from tamma.adapters.postgres.connections import connections_for
from tamma.adapters.postgres.events import PostgresEvents
from tamma.adapters.postgres.pool import Pool
from tamma.adapters.postgres.verify import read_tables
from tamma.core.event import Event
from tamma.core.fold import Tables


def tables_of(url: str) -> Tables:
    """What the tables hold now, read in one snapshot."""
    with connect_raw(url, application_name="fold check") as connection, connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        return read_tables(connection)


def events_of(url: str) -> list[Event]:
    """The whole log."""
    pool = Pool(connections_for(url, application_name="fold check", connections_max=1))
    try:
        return list(PostgresEvents(pool).all())
    finally:
        pool.close()


def fold_of(url: str) -> Tables:
    """What the log comes to, from where its archives end."""
    pool = Pool(connections_for(url, application_name="fold check", connections_max=1))
    try:
        return PostgresEvents(pool).fold()
    finally:
        pool.close()


def assert_fold_equals_tables(url: str) -> Tables:
    """The log tells exactly what the tables hold. Call it when nobody writes."""
    told, held = fold_of(url), tables_of(url)
    assert_same(told, held)
    return held


def assert_same(told: Tables, held: Tables) -> None:
    """Equal, table by table, so that a failure names the row."""
    for name in ("tasks", "effects", "workers", "versions"):
        ours, theirs = getattr(told, name), getattr(held, name)
        differing = {key for key in {*ours, *theirs} if ours.get(key) != theirs.get(key)}
        shown = [f"{key}:\n  log   {ours.get(key)}\n  table {theirs.get(key)}" for key in sorted(differing)[:5]]
        assert not differing, f"{name} differ from the fold of the log:\n" + "\n".join(shown)
