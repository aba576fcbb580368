"""A PostgreSQL of our own in a folder of our own, for those who have none: same engine, same SQL, nothing to install."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Final, Literal
from urllib.parse import quote

import psycopg

from tamma.adapters.postgres import server
from tamma.adapters.postgres.install import MAJOR, SHARED_PLACES, Binaries, find_binaries, open_copy, open_to_all
from tamma.core.errors import PASSING, ConfigError, TransientError, remedy

DATABASE: Final = "tamma"
_SOCKET_PATH_BYTES_MAX: Final = 107 if server.HAS_PROC else 103
_START_SECONDS: Final = 60
_STOP_SECONDS: Final = 60
_ORPHANS_SECONDS: Final = 2
_ANSWER_SECONDS: Final = 5
_SSL_REQUEST: Final = (8).to_bytes(4) + (80_877_103).to_bytes(4)  # the one question anybody may ask a PostgreSQL
_LOG_BYTES_MAX: Final = 1_000_000
_SIGNALS: Final = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}

# One descriptor per data folder for the life of the process, for folders whose path is no socket path.
_folders: dict[tuple[int, int], int] = {}


class EmbeddedPostgres:
    """The server in ``data_root``, a folder that belongs to it alone.

    Any number of processes may hold one each; the first ``start`` starts, the others attach. The server outlives them
    all until ``stop``. Commits are durable. Works as root (the server runs as another user) and as a normal user.
    """

    def __init__(self, data_root: Path, *, shared_places: tuple[Path, ...] = SHARED_PLACES) -> None:
        self._root = data_root.absolute()
        self._data = self._root / "data"
        self._log = self._root / "server.log"
        self._made = self._root / "database.made"
        self._shared_places = shared_places

    def start(self, *, may_create: bool = True) -> str:
        """Make the cluster if there is none, start it if nobody did, and return ``url()``. Idempotent, safe to race.

        Raises ConfigError if it can never work here, or there is none and none may be made; TransientError if it did not come
        up in time.
        """
        with self._access():
            if not may_create and not self.exists():
                raise ConfigError(
                    "the embedded database is gone",
                    why=f"there is none in {self._root} any more",
                    fix="put that folder back; or stop, `tamma db restore` a backup, and start again",
                )
            if self._made.exists() and self._answers():
                return self.url()
            if not self._root.exists():
                self._root.mkdir(parents=True, exist_ok=True)
                self._root.chmod(0o711)  # the server's own user passes, whatever the umask says, and sees nothing
            with self._exclusive():
                self._ensure_cluster()
                self._ensure_server()
                self._ensure_database()
                return self.url()

    def stop(self, mode: Literal["smart", "fast", "immediate"] = "fast") -> bool:
        """End the server and wait until it is gone; False if none was running. ``fast`` ends the sessions, cleanly."""
        if not self.exists():
            return False
        with self._access(), self._exclusive():
            if self._is_free():
                return False
            if (pid := server.postmaster(self._data)) is None:
                server.kill_orphans(self._data)
            else:
                with suppress(ProcessLookupError):  # it died by itself
                    os.kill(pid, _SIGNALS[mode])
            if not server.wait_until(self._is_free, seconds=_STOP_SECONDS):
                raise TransientError(
                    "the embedded Postgres does not stop",
                    why=f"process {pid} still runs",
                    fix="try again: tamma db stop",
                )
            return True

    def exists(self) -> bool:
        """Whether a cluster has been made here."""
        with self._access():
            return (self._data / "PG_VERSION").is_file()

    def is_running(self) -> bool:
        """Whether the server takes connections now."""
        with self._access():
            return self._answers()

    def url(self, database: str = DATABASE) -> str:
        """Where the server is, running or not, for psycopg and SQLAlchemy.

        If the path of the folder is too long for a socket the URL goes through a descriptor of this process and is good
        only in it; other processes make their own, or take ``shared_url``.
        """
        return _url(database, self._socket_folder())

    def shared_url(self) -> str:
        """The same for any process of this user, as long as the server that runs now does."""
        folder, pid = self._socket_folder(), server.postmaster(self._data)
        return _url(DATABASE, folder if folder == str(self._data) or pid is None else f"/proc/{pid}/cwd")

    def _ensure_cluster(self) -> None:
        if not self.exists():
            server.initialise(self._binaries(), data=self._data, owner=self._owner())
        found = (self._data / "PG_VERSION").read_text(encoding="ascii").strip()
        if found != MAJOR:
            raise ConfigError(
                "the embedded database cannot be opened",
                why=f"it was made by PostgreSQL {found}, and the installed one is {MAJOR}",
                fix="install the version of tamma that made it, dump the data, and load it into the new one",
            )

    def _ensure_server(self) -> None:
        life = self._life_lock()
        if life is None:
            return
        try:
            server.remove_leftovers(self._data)
            self._shorten_log()
            server.launch(self._binaries(), data=self._data, owner=self._owner(), log=self._log, life=life)
        finally:
            os.close(life)
        if not server.wait_until(lambda: self._answers() or self._is_free(), seconds=_START_SECONDS):
            raise self._not_started(f"not ready after {_START_SECONDS} seconds")
        if not self._answers():
            raise self._not_started(self._last_words())

    def _life_lock(self) -> int | None:
        """The lock of a server to start, or None if one answers. Outlasts a stopping server and orphans of a killed one."""
        lock = self._root / "server.lock"
        taken: list[int] = []

        def settled() -> bool:
            if self._answers():
                return True
            if (life := server.try_lock(lock)) is not None:
                taken.append(life)
            return bool(taken)

        if not server.wait_until(settled, seconds=_ORPHANS_SECONDS):
            server.kill_orphans(self._data)
            if not server.wait_until(settled, seconds=_START_SECONDS):
                raise self._not_started("an earlier server is still starting or stopping")
        return taken[0] if taken else None

    def _ensure_database(self) -> None:
        if self._made.exists():
            return
        try:
            with psycopg.connect(self.url("postgres"), autocommit=True, connect_timeout=_START_SECONDS) as connection:
                known = connection.execute("select 1 from pg_database where datname = %s", [DATABASE]).fetchone()
                if known is None:
                    connection.execute(f"create database {DATABASE}")
        except psycopg.OperationalError as error:
            raise self._not_started(str(error).strip()) from error
        os.close(server.private_file(self._made, os.O_WRONLY | os.O_CREAT))

    def _binaries(self) -> Binaries:
        found = find_binaries()
        if os.geteuid() != 0 or open_to_all(found):
            return found
        return open_copy(found, (self._root / "install", *self._shared_places))

    def _owner(self) -> server.Owner:
        return server.Owner.of(self._data if self._data.exists() else self._root)

    def _answers(self) -> bool:
        if not server.is_ready(self._data):
            return False
        with closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as client:
            client.settimeout(_ANSWER_SECONDS)
            try:
                client.connect(f"{self._socket_folder()}/{server.SOCKET}")
                # A connection alone proves little: the socket of a server that is being killed still takes them.
                client.sendall(_SSL_REQUEST)
                return client.recv(1) in (b"N", b"S")
            except OSError:
                return False

    def _is_free(self) -> bool:
        life = server.try_lock(self._root / "server.lock")
        if life is None:
            return False
        os.close(life)
        return True

    def _socket_folder(self) -> str:
        path = str(self._data)
        fits = len(os.fsencode(path)) + len(server.SOCKET) + 1 <= _SOCKET_PATH_BYTES_MAX
        if fits and path.isprintable() and "," not in path:  # libpq splits a host at commas
            return path
        if not server.HAS_PROC:
            raise ConfigError(
                "the embedded Postgres cannot be reached",
                why=f"the path of its socket is longer than {_SOCKET_PATH_BYTES_MAX} bytes or has odd characters: {path}",
                fix="choose a shorter state folder, or set DATABASE_URL",
            )
        if not self._data.exists():
            raise ConfigError("there is no database", why=f"none was made in {self._root}", fix="run: tamma db upgrade")
        info = self._data.stat()
        key = (info.st_dev, info.st_ino)
        if key not in _folders:
            _folders[key] = os.open(self._data, os.O_PATH | os.O_DIRECTORY)
        return f"/proc/self/fd/{_folders[key]}"

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        """One process at a time decides about this server."""
        path = self._root / "start.lock"
        taken: list[int] = []

        def locked() -> bool:
            if (descriptor := server.try_lock(path)) is not None:
                taken.append(descriptor)
            return bool(taken)

        if not server.wait_until(locked, seconds=_START_SECONDS + _STOP_SECONDS):
            raise self._not_started("another process has been starting or stopping it for too long")
        try:
            yield
        finally:
            os.close(taken[0])

    @contextmanager
    def _access(self) -> Iterator[None]:
        try:
            yield
        except subprocess.TimeoutExpired as error:
            raise self._not_started(f"initdb took longer than {error.timeout:.0f} seconds") from error
        except OSError as error:
            if error.errno in PASSING:
                raise self._not_started(f"{error}; {remedy(error.errno)}") from error
            raise ConfigError(
                "the embedded database cannot be opened",
                why=f"{error.strerror}: {error.filename or self._root}",
                fix="run tamma as the user that made it, choose another state folder, or set DATABASE_URL",
            ) from error

    def _shorten_log(self) -> None:
        if self._log.exists() and self._log.stat().st_size > _LOG_BYTES_MAX:
            self._log.replace(self._log.with_suffix(".log.1"))

    def _last_words(self) -> str:
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()[-20:]
        return next(
            (line for line in reversed(lines) if "FATAL" in line or "PANIC" in line), lines[-1] if lines else "no word"
        )

    def _not_started(self, why: str) -> TransientError:
        return TransientError(
            "the embedded Postgres did not start", why=why, fix=f"look into {self._log}, then try again"
        )


def _url(database: str, folder: str) -> str:
    return f"postgresql://{server.ROLE}@/{quote(database, safe='')}?host={quote(folder, safe='')}"
