"""Claims about roles: Tamma can do all its work as ``app``, and neither ``app`` nor ``reader`` can change what was told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from urllib.parse import quote
from uuid import uuid4

import psycopg
import pytest

from tamma.adapters.postgres.grants import Rights, grant
from tamma.adapters.postgres.migrate import require_current
from tamma.adapters.postgres.verify import heads, verify
from tamma.core.errors import ConfigError
from tests.adapters.postgres.store_world import World, open_store
from tests.adapters.postgres.test_store_fold import History

TABLES = ("task", "event", "anchor", "effect", "worker", "blob", "baseline")


@pytest.fixture
def role(world: World) -> Iterator[str]:
    """A role of this test's own, without any rights."""
    name = f"tamma test {uuid4().hex[:8]}"
    with psycopg.connect(world.url, autocommit=True) as connection:
        connection.execute(f'CREATE ROLE "{name}"')
        yield name
        connection.execute(f'DROP OWNED BY "{name}"')
        connection.execute(f'DROP ROLE "{name}"')


def as_role(url: str, role: str) -> str:
    value = role.replace(" ", "\\ ")
    return f"{url}{'&' if '?' in url else '?'}options={quote(f'-c role={value}')}"


def refused(url: str, statement: str) -> bool:
    with psycopg.connect(url) as connection:
        try:
            connection.execute(statement)
        except psycopg.errors.InsufficientPrivilege:
            return True
        finally:
            connection.rollback()
    return False


def test_the_app_role_does_all_the_work(world: World, role: str) -> None:
    """A random history as that role is like any other, and folds to the tables."""
    grant(world.url, role, Rights.APP)
    url = as_role(world.url, role)
    require_current(url)
    with closing(open_store(url)) as store:
        history = History(store, seed=5)
        for _ in range(400):
            history.step()
        store.baselines.put("k", b"v")
        store.blobs.put(b"content")
        assert store.events.head() > 0
        assert not store.events.tail(store.events.head())[0]
    report = verify(url, heads=heads(url))
    assert report.problems == ()
    assert report.events > 30


@pytest.mark.parametrize("rights", Rights)
@pytest.mark.parametrize("statement", ["UPDATE event SET version = 2", "DELETE FROM event", "TRUNCATE event"])
def test_nobody_but_the_owner_can_touch_what_was_told(world: World, role: str, rights: Rights, statement: str) -> None:
    """Refused by right, before any trigger."""
    world.task(1)
    assert not refused(world.url, "SELECT 1 FROM event")
    grant(world.url, role, rights)
    assert refused(as_role(world.url, role), statement)


@pytest.mark.parametrize("table", TABLES)
def test_a_reader_reads_and_writes_nothing(world: World, role: str, table: str) -> None:
    """Whoever was an app before is only a reader afterwards."""
    grant(world.url, role, Rights.APP)
    grant(world.url, role, Rights.READER)
    url = as_role(world.url, role)
    assert not refused(url, f"SELECT 1 FROM {table}")
    for statement in (f"INSERT INTO {table} DEFAULT VALUES", f"DELETE FROM {table}", f"TRUNCATE {table} CASCADE"):
        assert refused(url, statement)
    assert refused(url, "SELECT nextval('event_position_seq')")
    assert refused(url, "ALTER TABLE event DISABLE TRIGGER ALL")


def test_rights_for_nobody_or_by_a_stranger_are_errors_that_say_what_to_do(world: World, role: str) -> None:
    """A role that is not there, and one that owns nothing."""
    with pytest.raises(ConfigError, match="no role 'nobody here'"):
        grant(world.url, "nobody here", Rights.APP)
    grant(world.url, role, Rights.APP)
    with pytest.raises(ConfigError, match="cannot be given"):
        grant(as_role(world.url, role), "pg_monitor", Rights.READER)


@pytest.mark.parametrize("name", ["public", "none", "", "a\x00b", "\udcff"])
def test_what_is_no_role_gets_no_rights(world: World, name: str) -> None:
    """Postgres takes "public" for everybody, and knows no role of the other names."""
    with pytest.raises(ConfigError, match="no role") as told:
        grant(world.url, name, Rights.APP)
    assert "CREATE ROLE" not in told.value.fix
    with psycopg.connect(world.url) as connection:
        given = connection.execute("SELECT relacl::text FROM pg_class WHERE oid = 'event'::regclass").fetchone()
        assert given == (None,)


def test_a_role_that_no_grant_can_limit_is_refused(world: World, role: str) -> None:
    """A superuser, the owner himself and a member of the owner would keep every right; the owner loses none."""
    with psycopg.connect(world.url, autocommit=True) as connection:
        me = str((connection.execute("SELECT current_user").fetchone() or ("",))[0])
        connection.execute(f'ALTER TABLE event OWNER TO "{role}"')
        for name, why in ((me, "superuser"), (role, "owns")):
            with pytest.raises(ConfigError, match=f"cannot be limited.*{why}"):
                grant(world.url, name, Rights.READER)
        member = f"{role} member"
        connection.execute(f'CREATE ROLE "{member}" IN ROLE "{role}"')
        try:
            with pytest.raises(ConfigError, match=r"cannot be limited.*member"):
                grant(world.url, member, Rights.READER)
        finally:
            connection.execute(f'DROP ROLE "{member}"')
            connection.execute(f'ALTER TABLE event OWNER TO "{me}"')


def test_the_statement_that_is_advised_can_be_run(world: World) -> None:
    """A quote in a name is doubled."""
    with pytest.raises(ConfigError) as told:
        grant(world.url, 'a"b', Rights.APP)
    assert 'CREATE ROLE "a""b" LOGIN' in told.value.fix
