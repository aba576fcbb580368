"""The schema's version: up and down with data, one upgrader at a time, no drift, no run on another version."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from tamma.adapters.postgres import migrate
from tamma.adapters.postgres.migrate import engine_for
from tamma.adapters.postgres.tables import metadata
from tamma.core.errors import ConfigError, ExitCode

NEXT = '''
"""A revision of a later Tamma."""
from alembic import op
revision, down_revision, branch_labels, depends_on = "next", "{head}", None, None
def upgrade() -> None:
    op.execute("alter table blob add column extra integer not null default 7")
{fail}
def downgrade() -> None:
    op.execute("alter table blob drop column extra")
'''


def head() -> str:
    found = ScriptDirectory.from_config(migrate.configuration()).get_current_head()
    assert found is not None
    return found


@pytest.fixture
def later(tmp_path: Path) -> Path:
    """The scripts of a Tamma that is one revision ahead."""
    folder = tmp_path / "migrations"
    shutil.copytree(migrate.scripts(), folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "versions" / "9999_next.py").write_text(NEXT.format(head=head(), fail=""))
    return folder


def keep_a_blob(url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("insert into blob (id, content) values ('kept', 'bytes')")


def blobs(url: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute("select id, content from blob").fetchall()


def test_an_empty_database_is_behind_and_an_upgraded_one_is_current(empty_database_url: str) -> None:
    """The refusal says the command; the upgrade is idempotent."""
    with pytest.raises(ConfigError, match="schema is empty") as caught:
        migrate.require_current(empty_database_url)
    assert caught.value.exit_code is ExitCode.USAGE
    assert caught.value.fix == "run: tamma db upgrade"
    assert migrate.upgrade(empty_database_url).is_current
    assert migrate.upgrade(empty_database_url).is_current
    migrate.require_current(empty_database_url)


def test_asking_for_the_status_writes_nothing(empty_database_url: str) -> None:
    """Not even Alembic's own table."""
    found = migrate.status(empty_database_url)
    assert (found.current, found.head, found.is_behind, found.is_ahead) == (None, head(), True, False)
    with psycopg.connect(empty_database_url) as connection:
        assert connection.execute("select from pg_tables where schemaname = 'public'").fetchall() == []


def test_every_revision_goes_up_down_and_up_again(empty_database_url: str) -> None:
    """A downgrade leaves nothing behind that a new upgrade stumbles over."""
    migrate.upgrade(empty_database_url)
    revisions = list(ScriptDirectory.from_config(migrate.configuration()).walk_revisions())
    for script in revisions:
        below = script.down_revision
        migrate.downgrade(empty_database_url, below if isinstance(below, str) else "base")
        migrate.upgrade(empty_database_url)
        migrate.downgrade(empty_database_url, below if isinstance(below, str) else "base")
    with psycopg.connect(empty_database_url) as connection:
        left = "select proname from pg_proc where pronamespace = 'public'::regnamespace"
        assert connection.execute(left).fetchall() == []
        tables = connection.execute("select tablename from pg_tables where schemaname = 'public'").fetchall()
        assert tables == [("alembic_version",)]
    assert migrate.upgrade(empty_database_url).is_current


def test_data_survives_up_and_down(database_url: str, later: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is in columns that both revisions have is there after each step."""
    keep_a_blob(database_url)
    monkeypatch.setattr(migrate, "scripts", lambda: later)
    assert migrate.upgrade(database_url).current == "next"
    assert blobs(database_url) == [("kept", b"bytes")]
    assert migrate.downgrade(database_url, "-1").is_behind
    assert blobs(database_url) == [("kept", b"bytes")]


def test_an_upgrade_that_fails_changes_nothing(database_url: str, later: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All revisions are one transaction with the version that is written down."""
    script = NEXT.format(head=head(), fail='    op.execute("select nothing from nowhere")')
    (later / "versions" / "9999_next.py").write_text(script)
    before = migrate.status(database_url).current
    with monkeypatch.context() as patch:
        patch.setattr(migrate, "scripts", lambda: later)
        with pytest.raises(Exception, match="nowhere"):
            migrate.upgrade(database_url)
        assert migrate.status(database_url).current == before
    keep_a_blob(database_url)
    assert len(blobs(database_url)) == 1


def test_a_database_of_a_later_tamma_is_refused(
    database_url: str, later: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This code cannot know what the newer schema means; neither running, up- nor downgrading touches it."""
    with monkeypatch.context() as patch:
        patch.setattr(migrate, "scripts", lambda: later)
        migrate.upgrade(database_url)
    assert migrate.status(database_url).is_ahead
    for act in (migrate.require_current, migrate.upgrade, lambda url: migrate.downgrade(url, "base")):
        with pytest.raises(ConfigError, match="the database is ahead") as caught:
            act(database_url)
        assert "pip install --upgrade tamma" in caught.value.fix
        assert caught.value.exit_code is ExitCode.USAGE


def test_upgraders_at_once_wait_for_each_other(empty_database_url: str) -> None:
    """Each of them finds the schema current in the end, and none fails."""
    code = "import sys; from tamma.adapters.postgres.migrate import upgrade; print(upgrade(sys.argv[1]).is_current)"
    children = [
        subprocess.Popen([sys.executable, "-c", code, empty_database_url], stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    assert [child.communicate(timeout=60)[0].strip() for child in children] == ["True"] * 4


@pytest.mark.filterwarnings("ignore:Did not recognize type 'xid8'")  # SQLAlchemy has no such type
def test_tables_and_migrations_agree(database_url: str) -> None:
    """What the code believes about the schema is what the scripts made."""
    engine = engine_for(database_url, application_name="tamma test")
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, metadata) == []
    engine.dispose()


def test_alembics_own_command_line_works(database_url: str) -> None:
    """``alembic check`` in a checkout, with the database on the command line."""
    top = migrate.scripts().parent
    if not (top / "alembic.ini").exists():
        pytest.skip("not a checkout")
    argv = [sys.executable, "-m", "alembic", "-x", f"url={database_url}", "check"]
    done = subprocess.run(argv, cwd=top, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "No new upgrade operations detected" in done.stdout + done.stderr


def test_the_wheel_carries_the_migrations(tmp_path: Path, empty_database_url: str) -> None:
    """An installed package upgrades a database with nothing of the checkout in reach."""
    top = migrate.scripts().parent
    if not (top / "pyproject.toml").exists():
        pytest.skip("not a checkout")
    build = "import sys, hatchling.build as b; print(b.build_wheel(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", build, tmp_path], cwd=top, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    scripts = {path.name for path in (top / "alembic" / "versions").glob("*.py")}
    assert {path.name for path in (site / "tamma" / "migrations" / "versions").iterdir()} == scripts
    assert not (site / "alembic").exists()
    code = "import sys; from tamma.adapters.postgres import migrate as m; "
    code += "print(m.scripts(), m.upgrade(sys.argv[1]).is_current)"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(site)!r}); {code}", empty_database_url],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == [str(site / "tamma" / "migrations"), "True"], done.stderr
