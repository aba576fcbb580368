"""The schema's version: Alembic driven from Python, one upgrader at a time, and a refusal to run on another version."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import sqlalchemy
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

import tamma
from tamma.adapters.postgres.connect import PATIENT, Timeouts, connector, translate_errors
from tamma.core.errors import ConfigError

_UPGRADERS: Final = 7_233_161_001  # the advisory lock's key; any number, but always this one


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemaStatus:
    """Where a database stands; ``current`` is None without a schema, ``head`` is what this Tamma needs."""

    current: str | None
    head: str
    is_known: bool

    @property
    def is_current(self) -> bool:
        """Neither behind nor ahead."""
        return self.current == self.head

    @property
    def is_behind(self) -> bool:
        """An upgrade is due."""
        return self.is_known and not self.is_current

    @property
    def is_ahead(self) -> bool:
        """A later Tamma wrote it: this one does not know the revision."""
        return not self.is_known


def upgrade(url: str, revision: str = "head") -> SchemaStatus:
    """Bring the schema to ``revision`` in one transaction. Idempotent; several at once wait for each other.

    Raises ConfigError if a later Tamma wrote the schema, or only a later one knows the revision.
    """

    def step(config: Config, connection: sqlalchemy.Connection) -> None:
        found = _status(connection)
        if found.is_ahead:
            raise _ahead(found)
        if revision not in {"head", found.head} and not _knows(revision):
            raise _ahead(SchemaStatus(current=revision, head=found.head, is_known=False))
        if found.is_behind:
            command.upgrade(config, revision)

    return _alone(url, step)


def downgrade(url: str, revision: str) -> SchemaStatus:
    """Bring the schema back to ``revision`` (``base`` for none) in one transaction."""

    def step(config: Config, connection: sqlalchemy.Connection) -> None:
        found = _status(connection)
        if found.is_ahead:
            raise _ahead(found)
        command.downgrade(config, revision)

    return _alone(url, step)


def status(url: str) -> SchemaStatus:
    """Compare the database with the scripts; writes nothing."""
    engine = engine_for(url, application_name="tamma db")
    try:
        with translate_errors(), engine.connect() as connection:
            return _status(connection)
    finally:
        engine.dispose()


def require_current(url: str) -> None:
    """Raise ConfigError unless the schema is exactly the one this Tamma was written for."""
    found = status(url)
    if found.is_ahead:
        raise _ahead(found)
    if found.is_behind:
        raise ConfigError(
            "the database is behind",
            why=f"its schema is {found.current or 'empty'}, this Tamma needs {found.head}",
            fix="run: tamma db upgrade",
        )


def engine_for(url: str, *, application_name: str, timeouts: Timeouts | None = None) -> sqlalchemy.Engine:
    """Connects when first used. Raises ConfigError for a URL that cannot be right."""
    connect = connector(url, application_name=application_name, timeouts=timeouts or Timeouts(), autocommit=False)
    return sqlalchemy.create_engine("postgresql+psycopg://", creator=connect)


def scripts() -> Path:
    """The folder of the migrations: inside an installed wheel, or at the top of a checkout."""
    package = Path(tamma.__file__).parent
    installed, checkout = package / "migrations", package.parent / "alembic"
    return installed if installed.is_dir() else checkout


def configuration(connection: sqlalchemy.Connection | None = None) -> Config:
    """Alembic's configuration without its file; ``env.py`` works on ``connection``."""
    config = Config()
    config.set_main_option("script_location", str(scripts()).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def _alone(url: str, step: Callable[[Config, sqlalchemy.Connection], None]) -> SchemaStatus:
    engine = engine_for(url, application_name="tamma db", timeouts=PATIENT)
    try:
        with translate_errors(), engine.begin() as connection:
            connection.execute(sqlalchemy.text("select pg_advisory_xact_lock(:key)"), {"key": _UPGRADERS})
            step(configuration(connection), connection)
            return _status(connection)
    finally:
        engine.dispose()


def _status(connection: sqlalchemy.Connection) -> SchemaStatus:
    directory = ScriptDirectory.from_config(configuration())
    head = directory.get_current_head()
    assert head is not None, f"no migrations in {scripts()}"
    heads = MigrationContext.configure(connection).get_current_heads()
    known = {script.revision for script in directory.walk_revisions()}
    return SchemaStatus(current=", ".join(heads) or None, head=head, is_known=known.issuperset(heads))


def _knows(revision: str) -> bool:
    directory = ScriptDirectory.from_config(configuration())
    return revision in {script.revision for script in directory.walk_revisions()}


def _ahead(found: SchemaStatus) -> ConfigError:
    return ConfigError(
        "the database is ahead",
        why=f"its schema {found.current} was written by a later Tamma; this one knows nothing after {found.head}",
        fix="upgrade this installation: pip install --upgrade tamma",
    )
