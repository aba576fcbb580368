"""Alembic's entry: migrates the connection it is handed, or the database of ``-x url=`` or DATABASE_URL."""

from __future__ import annotations

import os

import sqlalchemy
from alembic import context

from tamma.adapters.postgres.connect import PATIENT
from tamma.adapters.postgres.migrate import engine_for
from tamma.core.errors import ConfigError


def _url() -> str:
    url = context.get_x_argument(as_dictionary=True).get("url") or os.environ.get("DATABASE_URL")  # noqa: TID251 — Alembic's own command line knows no configuration of ours
    if not url:
        raise ConfigError("no database", why="neither -x url= nor DATABASE_URL is given", fix="set DATABASE_URL")
    return url


def _migrate() -> None:
    with context.begin_transaction():
        context.run_migrations()


def _run() -> None:
    given = context.config.attributes.get("connection")
    if isinstance(given, sqlalchemy.Connection):
        context.configure(connection=given)
        _migrate()
        return
    # Only the developer's command line compares: whoever just upgrades need not load the tables.
    from tamma.adapters.postgres.tables import metadata

    if context.is_offline_mode():
        context.configure(dialect_name="postgresql", target_metadata=metadata, literal_binds=True)
        _migrate()
        return
    engine = engine_for(_url(), application_name="alembic", timeouts=PATIENT)
    with engine.connect() as connection:
        context.configure(connection=connection, target_metadata=metadata, compare_server_default=True)
        _migrate()
    engine.dispose()


_run()
