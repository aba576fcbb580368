"""A look at the schema's revision that costs one query: Alembic is only loaded when something is not as it should be."""

from __future__ import annotations

from tamma.adapters.postgres.connect import connect_raw, translate_errors
from tamma.adapters.postgres.revision import HEAD


def require_current(url: str) -> None:
    """Raise ConfigError unless the schema is exactly the one this Tamma was written for."""
    if _revision(url) != HEAD:
        from tamma.adapters.postgres import migrate

        migrate.require_current(url)


def upgrade_quickly(url: str) -> None:
    """Bring the schema to HEAD if it is not there."""
    if _revision(url) != HEAD:
        from tamma.adapters.postgres import migrate

        migrate.upgrade(url)


def _revision(url: str) -> str | None:
    with translate_errors(), connect_raw(url, application_name="tamma schema") as connection:
        found = connection.execute("SELECT to_regclass('alembic_version')").fetchone()
        if found is None or found[0] is None:
            return None
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        return str(row[0]) if row else None
