"""Ways into the database: what its URL says, what limits a session has, and one translation of its failures."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum, auto
from functools import partial
from typing import Any, Final

import psycopg
from psycopg.conninfo import conninfo_to_dict

from tamma.core.errors import ConfigError, TammaError, TransientError

_SCHEMES: Final = ("postgres", "postgresql", "postgresql+psycopg")
_PORT_MAX: Final = 65_535
_FIX_URL: Final = "write DATABASE_URL as postgresql://user:password@host:5432/database"
_PASSWORDS: Final = (
    (re.compile(r"(://[^:/?#\s]*:)\S*@"), r"\1***@"),
    (re.compile(r"(password\s*=\s*)('(?:\\.|[^'])*'|[^\s&]+)"), r"\1***"),
)
# The server answers these before there is a session, so psycopg knows no SQLSTATE for them.
_OPERATOR_MUST_ACT: Final = re.compile(
    r"authentication failed|no pg_hba\.conf entry|no password supplied|(database|role|user) \"[^\"]*\" does not exist"
    r"|permission denied for database|certificate|does not support SSL"
    r"|invalid value for parameter|unrecognized configuration parameter|definition of service"
)
# A peer that vanished without a word is noticed within a minute, also by a connection that only listens; who waits for an
# answer to what it sent notices sooner, so that a beat can be made on another connection before the lease is over.
_KEEPALIVES: Final = {
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}
_FIX_AWAY: Final = "try again; if it stays away, run: tamma doctor"
_FIX_LET_IN: Final = "correct DATABASE_URL, then run: tamma doctor"
_FIX_RIGHTS: Final = (
    "let the schema's owner grant this role USAGE on the schema, and on its tables and sequences what the message names; "
    "then run: tamma doctor"
)
_NO_OPTIONS: Final = re.compile(r"unsupported startup parameter")
# Whether the session is ours, with the options that we gave; then values come as we read them, whatever role, database or the
# environment prefer. No row through a pooler that drops options.
_MARK: Final = "-c tamma.session=on"
_OURS: Final = "SELECT set_config('DateStyle', 'ISO, MDY', false) WHERE current_setting('tamma.session', true) = 'on'"


class Act(Enum):
    """What to do about a failure of the database."""

    AGAIN = auto()  # on another connection; what was under way may have been done or not
    LATER = auto()  # it answered, and the statement was not done
    OPERATOR = auto()  # it answers, but not to us: repeating does not help


# By SQLSTATE or its class; the longer key decides. What is not here (a constraint, wrong SQL) is a bug and passes as it is.
ACTS: Final[Mapping[str, Act]] = {
    "08": Act.AGAIN,  # connection exception
    "25006": Act.LATER,  # read-only: a standby that is to become the primary
    "25P03": Act.AGAIN,  # idle in a transaction for too long: the session was ended
    "25P04": Act.LATER,  # the transaction took too long
    "26": Act.AGAIN,  # the prepared statement is another session's: a pooler changed it under us
    "28": Act.OPERATOR,  # authentication
    "3D": Act.OPERATOR,  # no such database
    "3F": Act.OPERATOR,  # no such schema, or none that we may use
    "40": Act.AGAIN,  # deadlock, serialization; 40003: nobody knows whether it was done
    "42501": Act.OPERATOR,  # insufficient privilege
    "42P05": Act.AGAIN,  # as 26
    "53": Act.LATER,  # full: disk, memory, connections
    "55": Act.LATER,  # lock not available, object in use
    "57": Act.LATER,  # cancelled, statement timeout
    "57P01": Act.AGAIN,  # the server shuts down, or an administrator ended the session
    "57P02": Act.AGAIN,  # the server crashed
    "57P03": Act.AGAIN,  # the server starts up
    "57P04": Act.OPERATOR,  # the database was dropped
    "57P05": Act.AGAIN,  # the session was idle for too long
    "58": Act.LATER,  # the server's own system failed
}


class ConnectionBroken(TransientError):
    """What was under way is unknown, and may go through on another connection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """How long the database may take; zero means for ever."""

    connect: timedelta = timedelta(seconds=10)
    statement: timedelta = timedelta(seconds=30)
    lock: timedelta = timedelta(seconds=10)
    idle_in_transaction: timedelta = timedelta(seconds=60)

    @property
    def options(self) -> str:
        """The session's part, as libpq wants it."""
        named = {
            "statement_timeout": self.statement,
            "lock_timeout": self.lock,
            "idle_in_transaction_session_timeout": self.idle_in_transaction,
        }
        return " ".join(f"-c {name}={value // timedelta(milliseconds=1)}" for name, value in named.items())


PATIENT: Final = Timeouts(statement=timedelta(), lock=timedelta(), idle_in_transaction=timedelta())


def connector(
    url: str, *, application_name: str, timeouts: Timeouts, autocommit: bool
) -> Callable[[], psycopg.Connection[Any]]:
    """What connects when called. Raises ConfigError, at once, for a URL that cannot be right."""
    return partial(_connect, parse(url), application_name, timeouts, autocommit=autocommit)


def connect_raw(url: str, *, application_name: str, timeouts: Timeouts | None = None) -> psycopg.Connection[Any]:
    """One connection of one's own in autocommit, for LISTEN, heartbeats and administration; the caller closes it."""
    connect = connector(url, application_name=application_name, timeouts=timeouts or Timeouts(), autocommit=True)
    with translate_errors():
        return connect()


def parse(url: str) -> dict[str, Any]:
    """The parameters in a ``postgres://`` (or ``postgresql://``, ``postgresql+psycopg://``) URL. Raises ConfigError."""
    scheme, separator, rest = url.strip().partition("://")
    if not separator or scheme not in _SCHEMES:
        shown = scheme if separator else "something that is no URL"
        raise ConfigError("the database URL is wrong", why=f"it starts with {shown!r}, not postgresql://", fix=_FIX_URL)
    if rest.partition("?")[0].count("@") > 1:
        raise ConfigError(
            "the database URL is wrong",
            why="it has more than one @; in a user's name or a password @, / and # are written as %40, %2F and %23",
            fix=_FIX_URL,
        )
    try:
        found = {name: value for name, value in conninfo_to_dict(f"postgresql://{rest}").items() if value is not None}
    except psycopg.Error as error:
        # With a badly quoted password libpq cuts the URL at the wrong place and cites a piece of it.
        why = re.sub(r'"[^"]*"', '"…"', str(error).strip()) if "@" in rest else str(error).strip()
        raise ConfigError("the database URL is wrong", why=why, fix=_FIX_URL) from None
    for port in str(found.get("port", "")).split(","):
        if port and not (re.fullmatch("0*[0-9]{1,5}", port) and 0 < int(port) <= _PORT_MAX):
            raise ConfigError(
                "the database URL is wrong", why=f"its port is no number from 1 to {_PORT_MAX}", fix=_FIX_URL
            )
    return found


def with_database(url: str, name: str) -> str:
    """The same server and user, another database."""
    scheme, _, rest = url.strip().partition("://")
    place, _, query = rest.partition("?")
    kept = "&".join(part for part in query.split("&") if part and not part.startswith("dbname="))
    return f"{scheme}://{place.partition('/')[0]}/{name}" + (f"?{kept}" if kept else "")


def masked(text: str) -> str:
    """The text with every password in a URL or a connection string blotted out."""
    for pattern, replacement in _PASSWORDS:
        text = pattern.sub(replacement, text)
    return text


@contextmanager
def translate_errors() -> Iterator[None]:
    """Turn "the database is away, busy or closed to us" into errors that say who should act, by the table ``ACTS``.

    ConnectionBroken: lost, refused, shut down, deadlock, serialization. TransientError: timeout, full, standby. ConfigError: it
    answers, but not to us. Anything else (a constraint, wrong SQL) passes as it is. The driver's error counts also where
    SQLAlchemy, which is not imported for this, has wrapped it.
    """
    try:
        yield
    except Exception as error:
        if (told := translated(error)) is not None:
            raise told from error
        raise


def translated(error: Exception) -> TammaError | None:
    """What ``translate_errors`` raises for it; None for what passes as it is."""
    return _told(getattr(error, "orig", error), is_broken=getattr(error, "connection_invalidated", False))


def _told(error: BaseException | None, *, is_broken: bool = False) -> TammaError | None:
    why = masked(" ".join(str(error).split()))
    match _act(error, why, is_broken=is_broken):
        case None:
            return None
        case Act.OPERATOR if isinstance(error, psycopg.errors.InsufficientPrivilege):
            return ConfigError("the database forbids it", why=why, fix=_FIX_RIGHTS)
        case Act.OPERATOR:
            return ConfigError("the database does not let us in", why=why, fix=_FIX_LET_IN)
        case Act.AGAIN:
            return ConnectionBroken("the database is away", why=why, fix=_FIX_AWAY)
        case Act.LATER:
            return TransientError("the database is away", why=why, fix=_FIX_AWAY)


def _act(error: BaseException | None, why: str, *, is_broken: bool) -> Act | None:
    state = error.sqlstate if isinstance(error, psycopg.Error) else None
    if state is not None:
        return ACTS.get(state, ACTS.get(state[:2], Act.AGAIN if is_broken else None))
    if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return Act.OPERATOR if _OPERATOR_MUST_ACT.search(why) else Act.AGAIN
    return Act.AGAIN if is_broken else None


def _connect(
    parameters: dict[str, Any], application_name: str, timeouts: Timeouts, *, autocommit: bool
) -> psycopg.Connection[Any]:
    chosen: dict[str, Any] = {
        "application_name": application_name,
        "connect_timeout": max(2, round(timeouts.connect.total_seconds())),
        **_KEEPALIVES,
        **parameters,
        "client_encoding": "utf8",
        # The server takes the last word: what the URL sets itself wins, and nothing else of ours is lost.
        "options": f"{timeouts.options} {parameters.get('options', '')} {_MARK}",
    }
    try:
        connection = psycopg.connect(**chosen, autocommit=True)
    except psycopg.ProgrammingError as error:  # what only the driver finds wrong
        raise ConfigError("the database URL is wrong", why=masked(str(error)), fix=_FIX_URL) from error
    except psycopg.OperationalError as error:
        if not _NO_OPTIONS.search(str(error)):
            raise
        chosen.pop("options")
        connection = psycopg.connect(**chosen, autocommit=True)
    try:
        if connection.execute(_OURS, prepare=False).fetchone() is None:
            # pgbouncer: sessions are shared, so neither options nor statements prepared in a session can be ours; a SET would be
            # somebody else's. The timeouts are then those of the role (docs/operations.md).
            connection.prepare_threshold = None
        connection.autocommit = autocommit
    except BaseException:
        connection.close()
        raise
    return connection
