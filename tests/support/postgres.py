"""One embedded Postgres for all workers of a test run, and a database of its own for each test.

The server lives in a temporary folder that the controller makes and holds by a lock. If a run is killed, the next one
finds the folder without its lock, ends the server in it, and removes it. TAMMA_TEST_DATABASE_URL names another server, and
TAMMA_TEST_TEMPLATE a migrated database on it that is the caller's.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from tamma.adapters.postgres import server
from tamma.adapters.postgres.embedded import EmbeddedPostgres
from tamma.adapters.postgres.migrate import upgrade

_PREFIX = f"tamma-test-postgres-{os.geteuid()}-"
TEMPLATE_VARIABLE: Final = "TAMMA_TEST_TEMPLATE"
_root = pytest.StashKey[Path]()
_lock = pytest.StashKey[int]()


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput"):
        config.stash[_root] = Path(config.workerinput["tamma_postgres_root"])
        return
    _sweep()
    scratch = Path(tempfile.mkdtemp(prefix=f"new-{_PREFIX}"))
    lock = server.try_lock(scratch / "run.lock")
    assert lock is not None
    scratch.chmod(0o711)  # so that, as root, the server's own user reaches its programs
    # Only a locked folder gets the name that the sweep of another run looks for.
    config.stash[_root] = scratch.rename(scratch.with_name(scratch.name.removeprefix("new-")))
    config.stash[_lock] = lock


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: object) -> None:
    node.workerinput["tamma_postgres_root"] = str(node.config.stash[_root])  # type: ignore[attr-defined]  # xdist has no types


def pytest_unconfigure(config: pytest.Config) -> None:
    if _lock in config.stash:
        given = os.environ.get("TAMMA_TEST_DATABASE_URL")
        if given and TEMPLATE_VARIABLE not in os.environ:
            with psycopg.connect(given, autocommit=True) as connection:
                connection.execute(sql.SQL("drop database if exists {}").format(sql.Identifier(_template(config))))
        _remove(config.stash[_root])
        os.close(config.stash[_lock])


@pytest.fixture(scope="session")
def postgres_server(request: pytest.FixtureRequest) -> str:
    """URL of a database on the server of this run, to make others from."""
    if given := os.environ.get("TAMMA_TEST_DATABASE_URL"):
        return given
    embedded = EmbeddedPostgres(request.config.stash[_root] / "server")
    url = embedded.start()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("alter system set fsync = off")  # a test's rows need not outlive the machine
        connection.execute("select pg_reload_conf()")
    return url


@pytest.fixture(scope="session")
def database_template(postgres_server: str, request: pytest.FixtureRequest) -> str:
    """Name of a migrated database that nobody uses, made once for all workers."""
    if given := os.environ.get(TEMPLATE_VARIABLE):
        return given
    name = _template(request.config)
    with psycopg.connect(postgres_server) as connection:
        connection.autocommit = True
        connection.execute("select pg_advisory_lock(hashtext(%s))", [name])
        if not connection.execute("select 1 from pg_database where datname = %s", [name]).fetchone():
            scratch = f"{name}_{uuid4().hex[:8]}"
            connection.execute(sql.SQL("create database {}").format(sql.Identifier(scratch)))
            upgrade(other(postgres_server, scratch))
            connection.execute(
                sql.SQL("alter database {} rename to {}").format(sql.Identifier(scratch), sql.Identifier(name))
            )
    return name


@pytest.fixture
def database_url(postgres_server: str, database_template: str) -> Iterator[str]:
    """A fresh database with the current schema."""
    yield from _fresh(postgres_server, database_template)


@pytest.fixture
def empty_database_url(postgres_server: str) -> Iterator[str]:
    """A fresh database without a schema."""
    yield from _fresh(postgres_server, "template1")


def _fresh(server_url: str, template: str) -> Iterator[str]:
    name = f"test_{uuid4().hex}"
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(
            sql.SQL("create database {} template {}").format(sql.Identifier(name), sql.Identifier(template))
        )
    yield other(server_url, name)
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


def _template(config: pytest.Config) -> str:
    return f"template_{config.stash[_root].name.removeprefix(_PREFIX).lower()}"


def other(url: str, database: str) -> str:
    """The URL of another database on the same server."""
    parts = urlsplit(url)
    # Not urlunsplit: it drops the "//" of an empty host.
    return f"{parts.scheme}://{parts.netloc}/{database}" + (f"?{parts.query}" if parts.query else "")


def _sweep() -> None:
    for left in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        if left.stat().st_uid == os.geteuid() and (lock := server.try_lock(left / "run.lock")) is not None:
            _remove(left)
            os.close(lock)


def _remove(root: Path) -> None:
    EmbeddedPostgres(root / "server").stop("immediate")
    shutil.rmtree(root, ignore_errors=True)
