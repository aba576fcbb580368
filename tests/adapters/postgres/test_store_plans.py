"""The claim stays fast however long the past is; the declared tables are the migrated ones."""

from __future__ import annotations

import re
from typing import Any

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from tamma.adapters.postgres import claims, survey, tables
from tamma.adapters.postgres.migrate import engine_for

FINISHED = """INSERT INTO task (id, forge, repository, issue, kind, generation, state, title, digest, snapshot, correlation,
        created_at, asked_by, finished_at)
    SELECT 'old' || n, 'local', 'demo', n::text, 'resolve', 1, 'succeeded', '', '', '', '', now(), '', now()
    FROM generate_series(1, 100000) AS n"""
QUEUED = """INSERT INTO task (id, forge, repository, issue, kind, generation, state, title, digest, snapshot, correlation,
        created_at, asked_by)
    SELECT 'new' || n, 'local', 'demo', 'q' || n, 'resolve', 1, 'queued', '', '', '', '', now(), ''
    FROM generate_series(1, 500) AS n"""
LONG_QUEUE = """INSERT INTO task (id, forge, repository, issue, kind, generation, state, title, digest, snapshot,
        correlation, created_at, asked_by)
    SELECT 'new' || n, 'local', CASE WHEN n % 100 = 0 THEN 'other' ELSE 'demo' END, 'q' || n, 'resolve', 1, 'queued', '', '',
        '', '', now(), '' FROM generate_series(1, 20000) AS n"""
LATER = """UPDATE task SET state = 'retryable', run_after = now() + interval '1 hour', outcome = 'unavailable',
        notice = 'escalated'"""
TYPES = {"worker": ("text", "'w'"), "capabilities": ("text[]", "'{}'"), "duration": ("interval", "'60s'")}


def test_a_claim_reads_the_queue_and_not_the_past(database_url: str) -> None:
    """With 100,000 finished tasks the prepared claim walks the partial index, and sorts nothing."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        for statement in (FINISHED, QUEUED, "ANALYZE task", "SET plan_cache_mode = force_generic_plan"):
            connection.execute(statement)
        names: list[str] = []
        numbered = re.sub(r"%\((\w+)\)s", lambda match: _numbered(match[1], names), claims.CLAIM_NEXT)
        types, values = ", ".join(TYPES[n][0] for n in names), ", ".join(TYPES[n][1] for n in names)
        connection.execute(f"PREPARE claim_next ({types}) AS {numbered}")
        row = connection.execute(f"EXPLAIN (FORMAT json) EXECUTE claim_next ({values})").fetchone()
    assert row is not None
    nodes = list(_nodes(row[0][0]["Plan"]))
    assert "task_claim" in {node.get("Index Name") for node in nodes}
    assert {"Seq Scan", "Sort", "Bitmap Heap Scan"}.isdisjoint(node["Node Type"] for node in nodes)


def test_a_tick_reads_of_a_long_queue_what_it_can_use(database_url: str) -> None:
    """Of 20,000 queued tasks in two repositories, a hundred of each."""
    asked = {"forge": "local", "workable": ["demo", "other"], "capabilities": [], "now": "now", "limit": 100}
    with psycopg.connect(database_url, autocommit=True) as connection:
        for statement in (LONG_QUEUE, "ANALYZE task"):
            connection.execute(statement)
        row = connection.execute(f"EXPLAIN (ANALYZE, FORMAT json) {survey.READY}", asked).fetchone()
    assert row is not None
    scans = [node for node in _nodes(row[0][0]["Plan"]) if node.get("Relation Name") == "task"]
    assert [node.get("Index Name") for node in scans] == ["task_ready"]
    assert _read(scans) == 200


@pytest.mark.parametrize(
    ("statement", "index", "read"),
    [
        pytest.param(survey.LIVE, "task_pages", 200, id="live"),
        pytest.param(survey.NOTICES, "task_notices", 200, id="notices"),
        pytest.param(survey.WAITING, "task_ready", 1, id="waiting"),
        pytest.param(survey.FIRST_DUE, "task_due", 2, id="first-due"),
    ],
)
def test_a_tick_reads_pages_and_first_rows_only(database_url: str, statement: str, index: str, read: int) -> None:
    """Of 20,000 tasks in two repositories at most a page of each, or the one row that answers."""
    asked: dict[str, Any] = {
        "forge": "local",
        "workable": ["demo", "other"],
        "repositories": ["demo", "other"],
        "capabilities": [],
    }
    asked |= {"now": "now", "limit": 100, "live_after": "", "notices_after": ""}
    with psycopg.connect(database_url, autocommit=True) as connection:
        for prepare in (LONG_QUEUE, LATER, "ANALYZE task"):
            connection.execute(prepare)
        row = connection.execute(f"EXPLAIN (ANALYZE, FORMAT json) {statement}", asked).fetchone()
    assert row is not None
    scans = [node for node in _nodes(row[0][0]["Plan"]) if node.get("Relation Name") == "task"]
    assert [node.get("Index Name") for node in scans] == [index]
    assert _read(scans) == read


def test_the_migrations_make_the_declared_tables(database_url: str) -> None:
    """Alembic finds no difference, and the constraints and indexes have the same names."""
    engine = engine_for(database_url, application_name="test")
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_server_default": True})
        assert compare_metadata(context, tables.metadata) == []
        listed = connection.exec_driver_sql("SELECT conname FROM pg_constraint WHERE contype IN ('c', 'u', 'p', 'f')")
        found = {name for (name,) in listed}
    engine.dispose()
    declared = {c.name for table in tables.metadata.tables.values() for c in table.constraints}
    declared |= {fk.name for table in tables.metadata.tables.values() for fk in table.foreign_keys}
    assert {name for name in declared if name is not None} <= found


def _numbered(name: str, names: list[str]) -> str:
    if name not in names:
        names.append(name)
    return f"${names.index(name) + 1}"


def _read(scans: list[dict[str, Any]]) -> int:
    return sum(node["Actual Loops"] * (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) for node in scans)


def _nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(node for child in plan.get("Plans", ()) for node in _nodes(child))]
