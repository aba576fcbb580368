"""Connections: which URLs are understood, what limits a session has, and who should act when one fails."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import psycopg
import pytest
import sqlalchemy
from sqlalchemy import text

from tamma.adapters.postgres.connect import (
    ConnectionBroken,
    Timeouts,
    connect_raw,
    masked,
    parse,
    translate_errors,
)
from tamma.adapters.postgres.connections import connections_for
from tamma.adapters.postgres.migrate import engine_for, require_current
from tamma.adapters.postgres.store import PostgresStore
from tamma.core.errors import ConfigError, ExitCode, TransientError

TOP = Path(__file__).parents[3]
TIMEOUTS = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
SOON = Timeouts(connect=timedelta(seconds=2))


@pytest.fixture
def engine(empty_database_url: str) -> Iterator[sqlalchemy.Engine]:
    made = engine_for(empty_database_url, application_name="tamma test", timeouts=SOON)
    yield made
    made.dispose()


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("postgres://u:p@db:5433/name", "db"),
        ("postgresql://u:p@db:5433/name?sslmode=require", "db"),
        ("postgresql+psycopg://u:p@db:5433/name", "db"),
        ("postgresql://u:p%40%2F@/name?host=%2Fvar%2Frun%2Fa%20b&port=5433", "/var/run/a b"),
    ],
)
def test_the_usual_spellings_of_a_url_are_understood(url: str, host: str) -> None:
    """Also SQLAlchemy's and the one of a Unix socket."""
    parameters = parse(url)
    assert (parameters["host"], parameters["user"], parameters["dbname"]) == (host, "u", "name")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "mysql://u:hunter2@db/name",
        "host=db password=hunter2",
        "postgresql+asyncpg://u:hunter2@db/name",
        "postgresql://u:hunter2@db:port/name",
        "postgresql://u:hunter2@db:99999/name",
        "postgresql://u:%zz/hunter2@db/name",
        "postgresql://u:hunter2@db/name?nosuch=1",
        "postgresql://u@db/name?password=hunter2&nosuch=1",
    ],
)
def test_a_wrong_url_is_the_operators_business_and_its_password_is_not_shown(url: str) -> None:
    """Exit code 2, how to write it, and no secret in the message."""
    with pytest.raises(ConfigError) as caught:
        engine_for(url, application_name="tamma test")
    assert caught.value.exit_code is ExitCode.USAGE
    assert "postgresql://" in caught.value.fix
    assert "hunter2" not in f"{caught.value} {caught.value.__cause__} {caught.value.fix}"


@pytest.mark.parametrize(
    "secret",
    [
        "cannot reach postgresql://u:hunter2@db/x",
        "postgres://u:hunter2@1@db failed",
        "host=db password=hunter2 user=u",
        "password = 'hunter2 \\' hunter2' user=u",
    ],
)
def test_passwords_are_masked_in_every_spelling(secret: str) -> None:
    """What stays tells where, not how."""
    assert "hunter2" not in masked(secret)
    assert "***" in masked(secret)


@pytest.mark.parametrize("password", ["p@ss", "p@ss/w#rd"])
def test_a_password_that_is_not_encoded_is_told_as_that(password: str) -> None:
    """Cut at its own @, a piece of it would be taken for the host, and shown."""
    with pytest.raises(ConfigError, match="more than one @") as caught:
        parse(f"postgresql://u:{password}@127.0.0.1:1/x")
    assert password not in str(caught.value)


def test_a_session_has_its_name_and_its_limits(engine: sqlalchemy.Engine) -> None:
    """No statement, lock or idle transaction may take for ever."""
    with engine.connect() as connection:
        for name, wanted in {
            "statement_timeout": "30s",
            "lock_timeout": "10s",
            "idle_in_transaction_session_timeout": "1min",
            "application_name": "tamma test",
        }.items():
            assert connection.execute(text(f"show {name}")).scalar() == wanted


def test_what_a_url_sets_itself_wins_and_our_other_limits_stay(empty_database_url: str) -> None:
    """``options`` in DATABASE_URL are combined with ours, one by one."""
    url = f"{empty_database_url}&options={quote('-c lock_timeout=7s -c work_mem=5MB')}"
    with connect_raw(url, application_name="tamma test") as connection:
        for name, wanted in {"lock_timeout": "7s", "work_mem": "5MB", "statement_timeout": "30s"}.items():
            assert connection.execute(f"show {name}").fetchone() == (wanted,), name


def test_a_raw_connection_hears_notifications(empty_database_url: str) -> None:
    """It is in autocommit, so LISTEN takes effect at once."""
    with (
        connect_raw(empty_database_url, application_name="tamma test") as ear,
        connect_raw(empty_database_url, application_name="tamma test") as mouth,
    ):
        ear.execute("listen work")
        mouth.execute("notify work, 'now'")
        heard = next(ear.notifies(timeout=10))
    assert (heard.channel, heard.payload) == ("work", "now")


def test_nobody_there_is_temporary(tmp_path: Path) -> None:
    """A server that is down may come back."""
    with pytest.raises(TransientError, match="the database is away") as caught:
        connect_raw(f"postgresql://u:hunter2@/x?host={tmp_path}", application_name="t", timeouts=SOON)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(("old", "new"), [("/test_", "/absent_"), ("tamma@", "stranger@")])
def test_a_server_that_does_not_let_us_in_is_the_operators_business(
    empty_database_url: str, old: str, new: str
) -> None:
    """Repeating does not help against an unknown database or user."""
    with pytest.raises(ConfigError, match="does not let us in"):
        connect_raw(empty_database_url.replace(old, new), application_name="t")


@pytest.fixture
def stranger(database_url: str) -> Iterator[str]:
    """A role without rights: its URL."""
    name = f"stranger_{uuid4().hex[:8]}"
    with connect_raw(database_url, application_name="t") as connection:
        connection.execute(f"create role {name}")
        yield f"{database_url}&options={quote(f'-c role={name}')}"
        connection.execute(f"drop role {name}")


def test_a_role_without_rights_is_the_operators_business(stranger: str) -> None:
    """Exit code 2 with what, why and fix; for reading, for writing, and where a schema should be looked at."""
    with closing(PostgresStore(connections_for(stranger, application_name="t"))) as store:
        for call in (store.tasks.counts, lambda: store.blobs.put(b"text")):
            with pytest.raises(ConfigError, match="forbids it: permission denied for table") as caught:
                call()
            assert caught.value.exit_code is ExitCode.USAGE
            assert "grant" in caught.value.fix
    with pytest.raises(ConfigError):
        require_current(stranger)


@pytest.mark.parametrize(
    ("state", "error"),
    [
        ("08006", ConnectionBroken),
        ("28P01", ConfigError),
        ("28000", ConfigError),
        ("3D000", ConfigError),
        ("3F000", ConfigError),
        ("40001", ConnectionBroken),
        ("42501", ConfigError),
        ("53100", TransientError),
        ("53300", TransientError),
        ("57014", TransientError),
        ("57P01", ConnectionBroken),
        ("57P04", ConfigError),
        ("58030", TransientError),
        ("25006", TransientError),
    ],
)
def test_each_sqlstate_names_who_should_act(engine: sqlalchemy.Engine, state: str, error: type[Exception]) -> None:
    """The table, through the driver and through SQLAlchemy; only what may go through elsewhere counts as broken."""
    raising = f"do 'begin raise sqlstate ''{state}''; end'"
    with pytest.raises(error) as first, translate_errors(), engine.connect() as connection:
        connection.exec_driver_sql(raising)
    with pytest.raises(error) as second, translate_errors(), closing(engine.raw_connection()) as pooled:
        pooled.cursor().execute(raising)
    assert {type(first.value), type(second.value)} == {error}


def test_a_lost_connection_is_temporary_and_the_next_one_works(engine: sqlalchemy.Engine) -> None:
    """The pool throws the broken connection away."""
    with pytest.raises(TransientError), translate_errors(), engine.connect() as connection:
        connection.execute(text("select pg_terminate_backend(pg_backend_pid())"))
    with translate_errors(), engine.connect() as connection:
        assert connection.execute(text("select 1")).scalar() == 1


@pytest.mark.parametrize(
    "statement",
    [
        "set statement_timeout = 1; select pg_sleep(10)",
        "do 'begin raise sqlstate ''40001''; end'",
        "do 'begin raise sqlstate ''40P01''; end'",
        "do 'begin raise sqlstate ''55P03''; end'",
        "do 'begin raise sqlstate ''25006''; end'",
        "do 'begin raise sqlstate ''57P01''; end'",
    ],
)
def test_timeouts_deadlocks_serialization_and_standbys_are_temporary(engine: sqlalchemy.Engine, statement: str) -> None:
    """Through the driver as through SQLAlchemy."""
    with pytest.raises(TransientError), translate_errors(), engine.connect() as connection:
        connection.exec_driver_sql(statement)
    pooled = engine.raw_connection()
    try:
        with pytest.raises(TransientError), translate_errors():
            pooled.cursor().execute(statement)
    finally:
        pooled.close()


@pytest.mark.parametrize(
    ("name", "value"), [("PGDATESTYLE", "German"), ("PGCLIENTENCODING", "LATIN1"), ("PGCLIENTENCODING", "SQL_ASCII")]
)
def test_values_come_as_we_read_them(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    """Whatever the environment, the database or the role prefer."""
    monkeypatch.setenv(name, value)
    with connect_raw(empty_database_url, application_name="tamma test") as connection:
        database = connection.info.dbname
        for setting in ("DateStyle = 'SQL, DMY'", "client_encoding = 'LATIN1'"):
            connection.execute(f'ALTER DATABASE "{database}" SET {setting}')
    with connect_raw(empty_database_url, application_name="tamma test") as connection:
        assert connection.execute("SHOW DateStyle").fetchone() == ("ISO, MDY",)
        told = connection.execute("SELECT now(), %s::text", ["ü \N{SNOWMAN}"]).fetchone()
        assert told is not None
        moment, text = told
        assert (type(moment), text) == (datetime, "ü \N{SNOWMAN}")


@pytest.mark.parametrize(
    "odd", ["connect_timeout=abc", "options=-c%20statement_timeout%3Dabc", "options=-c%20nosuch%3D1", "service=nope"]
)
def test_a_url_that_can_never_work_is_the_operators_business(empty_database_url: str, odd: str) -> None:
    """Exit code 2, not a time to wait for."""
    url = f"{empty_database_url}{'&' if '?' in empty_database_url else '?'}{odd}"
    with pytest.raises(ConfigError), connect_raw(url, application_name="tamma test"):
        pass


def test_other_errors_pass_as_they_are(engine: sqlalchemy.Engine) -> None:
    """A broken constraint or wrong SQL is nobody's outage."""
    with pytest.raises(sqlalchemy.exc.ProgrammingError), translate_errors(), engine.connect() as connection:
        connection.execute(text("select nothing from nowhere"))
    with pytest.raises(psycopg.errors.UniqueViolation), translate_errors():
        raise psycopg.errors.UniqueViolation


REFUSALS = ("unsupported startup parameter: options", "unsupported startup parameter in options: statement_timeout")


@pytest.mark.parametrize("refusal", REFUSALS, ids=["before 1.20", "since 1.20"])
def test_a_pooler_that_knows_no_options_is_understood(empty_database_url: str, tmp_path: Path, refusal: str) -> None:
    """pgbouncer refuses session options: we do without, and prepare nothing in a session that is not ours."""
    with Pooler(empty_database_url, tmp_path / ".s.PGSQL.5432", refusal=refusal) as pooler:
        url = f"postgresql://tamma@/{parse(empty_database_url)['dbname']}?host={tmp_path}"
        with connect_raw(url, application_name="tamma test") as connection:
            assert connection.execute("show statement_timeout").fetchone() == ("0",)
            assert connection.prepare_threshold is None
    assert pooler.refused == 1


def test_behind_a_pooler_the_timeouts_are_those_of_the_role(empty_database_url: str, tmp_path: Path) -> None:
    """Once the operator gave them to it, as docs/operations.md has it: the same as we would have asked for."""
    name = parse(empty_database_url)["dbname"]
    [recipe] = re.findall(r"```sql\n(ALTER ROLE.*?)```", (TOP / "docs" / "operations.md").read_text(), re.DOTALL)
    with connect_raw(empty_database_url, application_name="tamma test") as owner:
        owner.execute(recipe.replace("tamma_app IN DATABASE tamma", f"tamma IN DATABASE {name}"))
        asked = [owner.execute(f"show {timeout}").fetchone() for timeout in TIMEOUTS]
    with Pooler(empty_database_url, tmp_path / ".s.PGSQL.5432"):
        url = f"postgresql://tamma@/{name}?host={tmp_path}"
        with connect_raw(url, application_name="tamma test") as connection:
            assert [connection.execute(f"show {timeout}").fetchone() for timeout in TIMEOUTS] == asked
    assert ("0",) not in asked


def test_a_pooler_that_drops_options_is_noticed(empty_database_url: str, tmp_path: Path) -> None:
    """pgbouncer with ``ignore_startup_parameters = options``: a statement prepared there would be another client's next time."""
    with Dropper(empty_database_url, tmp_path / ".s.PGSQL.5432"):
        url = f"postgresql://tamma@/{parse(empty_database_url)['dbname']}?host={tmp_path}"
        with connect_raw(url, application_name="tamma test") as connection:
            assert connection.prepare_threshold is None
    with connect_raw(empty_database_url, application_name="tamma test") as connection:
        assert connection.prepare_threshold is not None


class Pooler:
    """Between a client and the server, as far as pgbouncer's refusal of ``options`` goes."""

    def __init__(self, url: str, path: Path, *, refusal: str = REFUSALS[0]) -> None:
        self._refusal = refusal.encode()
        parameters = parse(url)
        self._upstream = f"{parameters['host']}/.s.PGSQL.5432"
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self.refused = 0

    def __enter__(self) -> Pooler:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join(timeout=20)
        self._listener.close()

    def _serve(self) -> None:
        first, _ = self._listener.accept()
        assert b"options" in first.recv(65_536)
        message = b"SFATAL\0C08P01\0M" + self._refusal + b"\0\0"
        first.sendall(b"E" + (len(message) + 4).to_bytes(4) + message)
        first.close()
        self.refused += 1
        second, _ = self._listener.accept()
        with second, socket.socket(socket.AF_UNIX) as upstream:
            upstream.connect(self._upstream)
            back = threading.Thread(target=_copy, args=(upstream, second), daemon=True)
            back.start()
            _copy(second, upstream)
            back.join()


class Dropper(Pooler):
    """Lets everything through but the ``options`` of a start."""

    def _serve(self) -> None:
        client, _ = self._listener.accept()
        with client, socket.socket(socket.AF_UNIX) as upstream:
            upstream.connect(self._upstream)
            start = client.recv(65_536)
            words = start[8:-1].split(b"\0")[:-1]
            kept = [word for n in range(0, len(words), 2) if words[n] != b"options" for word in words[n : n + 2]]
            body = start[4:8] + b"".join(word + b"\0" for word in kept) + b"\0"
            upstream.sendall((len(body) + 4).to_bytes(4) + body)
            back = threading.Thread(target=_copy, args=(upstream, client), daemon=True)
            back.start()
            _copy(client, upstream)
            back.join()


def _copy(source: Any, target: Any) -> None:
    while data := source.recv(65_536):
        target.sendall(data)
    target.shutdown(socket.SHUT_WR)
