"""Rights: what the role that Tamma runs as needs, and what one who only looks needs. Neither may rewrite the log.

The owner of the schema (who ran ``tamma db upgrade``) keeps every right; run the loop and the workers as another role.
"""

from __future__ import annotations

from enum import StrEnum, unique
from typing import Any, Final

import psycopg
from psycopg import sql

from tamma.adapters.postgres.connect import connect_raw, translate_errors
from tamma.core.errors import ConfigError
from tamma.core.redact import clean


@unique
class Rights(StrEnum):
    """``app`` works: it adds to the log and reads it. ``reader`` looks."""

    APP = "app"
    READER = "reader"


_TABLES: Final = ("task", "event", "anchor", "effect", "worker", "blob", "baseline", "alembic_version")
_GRANTS: Final = {
    Rights.APP: (
        "GRANT USAGE ON SCHEMA {schema} TO {role}",
        "GRANT SELECT, INSERT ON event, blob TO {role}",
        "GRANT SELECT, INSERT, UPDATE ON task, effect, worker TO {role}",
        "GRANT SELECT, INSERT, UPDATE, DELETE ON baseline TO {role}",
        "GRANT SELECT ON anchor, alembic_version TO {role}",
        "GRANT SELECT, USAGE ON SEQUENCE event_position_seq TO {role}",
    ),
    Rights.READER: (
        "GRANT USAGE ON SCHEMA {schema} TO {role}",
        f"GRANT SELECT ON {', '.join(_TABLES)} TO {{role}}",
        "GRANT SELECT ON SEQUENCE event_position_seq TO {role}",
    ),
}
_NONE: Final = (
    f"REVOKE ALL ON {', '.join(_TABLES)} FROM {{role}}",
    "REVOKE ALL ON SEQUENCE event_position_seq FROM {role}",
)

# Nobody can be called that: Postgres keeps the words for itself.
_NO_NAMES: Final = frozenset({"", "public", "none"})
# To grant what one does not own is no error in Postgres, only a warning.
_OURS: Final = "SELECT current_schema(), pg_has_role(relowner, 'MEMBER') FROM pg_class WHERE oid = 'event'::regclass"
_ROLE: Final = """SELECT role.rolsuper, role.oid = relowner, pg_has_role(role.oid, relowner, 'MEMBER')
    FROM pg_roles AS role, pg_class WHERE role.rolname = %(role)s AND pg_class.oid = 'event'::regclass"""


def grant(url: str, role: str, rights: Rights) -> None:
    """Give an existing role exactly these rights on Tamma's tables, in one transaction.

    Raises ConfigError if there is no such role, or its rights cannot be limited, or ``url`` is not the owner's;
    TransientError when the database is away.
    """
    with translate_errors(), connect_raw(url, application_name="tamma db grant") as connection:
        try:
            with connection.transaction():
                row = connection.execute(_OURS).fetchone()
                assert row is not None
                schema, is_ours = row
                if not is_ours:
                    raise _not_ours(f"{schema}.event belongs to another role")
                _require_limited(connection, role)
                names = {"role": sql.Identifier(role), "schema": sql.Identifier(schema)}
                for statement in (*_NONE, *_GRANTS[rights]):
                    connection.execute(sql.SQL(statement).format(**names))
        except psycopg.errors.InsufficientPrivilege as error:
            raise _not_ours(" ".join(str(error).split())) from None


def is_owner(connection: psycopg.Connection[Any]) -> bool:
    """Whether this session's role owns the log, or belongs to the role that does."""
    row = connection.execute(_OURS).fetchone()
    return row is not None and bool(row[1])


def _require_limited(connection: psycopg.Connection[Any], role: str) -> None:
    """The role is there, and is bound by what it is given. Postgres reads "public", even quoted, as everybody."""
    # A role's name holds no NUL and no half character; asking for one would be an error of ours.
    is_name = clean(role) == role
    row = connection.execute(_ROLE, {"role": role}).fetchone() if is_name else None
    if row is None:
        raise ConfigError(
            f"there is no role {role!r}",
            why="Postgres does not know it",
            fix=f"CREATE ROLE {_quoted(role)} LOGIN PASSWORD …" if is_name and role not in _NO_NAMES else "name a role",
        )
    is_super, owns, is_member = row
    if is_super or is_member:
        raise ConfigError(
            f"the rights of {role!r} cannot be limited",
            why="it owns the tables" if owns else "it is a superuser" if is_super else "it is a member of their owner",
            fix="make another role for it: CREATE ROLE … LOGIN PASSWORD …",
        )


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _not_ours(why: str) -> ConfigError:
    return ConfigError(
        "the rights cannot be given",
        why=why,
        fix="run it as the role that owns the tables: the one that ran `tamma db upgrade`",
    )
