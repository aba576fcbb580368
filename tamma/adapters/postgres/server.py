"""The processes of an embedded Postgres: initdb, a detached postmaster, and what is left of a killed one.

A server that runs holds the *life lock*: a flock on a descriptor that the postmaster inherits and hands to each of its
children. The kernel drops it when the last of them is gone, however it went, so a free lock proves that nothing runs on
the data folder: no stale pid file, reused pid, zombie or orphan backend can be mistaken for a server.
"""

from __future__ import annotations

import errno
import os
import pwd
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tamma.adapters.postgres.install import Binaries
from tamma.adapters.proc.locks import take_now
from tamma.core.errors import PASSING, ConfigError, TransientError, remedy

ROLE: Final = "tamma"
SOCKET: Final = ".s.PGSQL.5432"
HAS_PROC: Final = Path("/proc/self/fd").is_dir()
# Between the ranges that systemd hands out, and under 65536 so that rootless containers can map it.
_PRIVATE_UID: Final = 60_706
_NOBODY_UID: Final = 65_534
_APPEND: Final = os.O_WRONLY | os.O_APPEND | os.O_CREAT
_INITDB_SECONDS: Final = 120
# A new cluster, its first WAL segments and our database take 58 MB of disk, measured; on a disk without room initdb dies in ways of its own (SIGBUS among them).
_ROOM_BYTES: Final = 64_000_000
_ENV: Final[Mapping[str, str]] = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}
_SETTINGS: Final[Mapping[str, str]] = {
    "max_connections": "200",
    "shared_buffers": "64MB",
    "max_wal_size": "256MB",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "dynamic_shared_memory_type": "mmap",  # /dev/shm is tiny in containers, and not our folder
    "io_method": "sync",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_min_messages": "log",
    "log_min_error_statement": "panic",  # statements carry the text of issues
    "log_checkpoints": "off",
    "idle_in_transaction_session_timeout": "5min",
    "client_connection_check_interval": "5s",
}


@dataclass(frozen=True, slots=True)
class Owner:
    """The user that owns the data folder and runs the server."""

    uid: int
    gid: int

    @staticmethod
    def of(folder: Path) -> Owner:
        """Whoever owns ``folder``; in root's place a private number, since Postgres refuses to be root."""
        info = folder.stat()
        return Owner(info.st_uid, info.st_gid) if info.st_uid else Owner(_PRIVATE_UID, _PRIVATE_UID)

    @property
    def credentials(self) -> dict[str, Any]:
        """Arguments of subprocess that make the child this user."""
        return {"user": self.uid, "group": self.gid, "extra_groups": []} if os.geteuid() == 0 else {}

    def adopt(self, path: Path) -> None:
        """Make ``path`` and all below it belong to this user."""
        if os.geteuid() != 0:
            return
        for each in (path, *path.rglob("*")):
            os.chown(each, self.uid, self.gid, follow_symlinks=False)


def initialise(binaries: Binaries, *, data: Path, owner: Owner) -> None:
    """Make a cluster in ``data``, all or nothing: until the last step it has another name. Raises ConfigError, and
    TransientError where the disk is full."""
    scratch = data.with_name(f"{data.name}.new")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(mode=0o700)
    maker = _initdb_user(owner)
    try:
        maker.adopt(scratch)
        with _folder_argument(scratch) as (argument, fds):
            _initdb(binaries, argument, fds, maker, place=scratch.parent)
        (scratch / "pg_hba.conf").write_text(f"local all {ROLE} trust\n", encoding="ascii")
        owner.adopt(scratch)
    except OSError as error:
        if error.errno in PASSING:
            raise TransientError(
                "the embedded Postgres cannot be set up", why=str(error), fix=f"{remedy(error.errno)}, then try again"
            ) from error
        raise ConfigError(
            "the embedded Postgres cannot be set up",
            why=f"{error.strerror} ({scratch})",
            fix="run tamma as a normal user with a writable state folder, or set DATABASE_URL",
        ) from error
    os.sync()  # once, instead of one fsync for each of a thousand files
    scratch.rename(data)
    parent = os.open(data.parent, os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(parent)
    os.close(parent)


def launch(binaries: Binaries, *, data: Path, owner: Owner, log: Path, life: int) -> None:
    """Start a postmaster that outlives us and holds nothing of ours but the life lock; returns before it is ready."""
    with _folder_argument(data) as (argument, fds), os.fdopen(private_file(log, _APPEND), "ab") as output:
        argv = [str(binaries.program("postgres")), "-D", argument]
        for name, value in {
            "listen_addresses": "",
            "unix_socket_directories": ".",  # relative: a path of any length, and the folder may be moved
            "unix_socket_permissions": "0700",
            "port": "5432",
            "cluster_name": cluster_name(data),
        }.items():
            argv += ["-c", f"{name}={value}"]
        # The shell leaves at once, so that the server is nobody's child and nobody has to reap it.
        subprocess.run(  # noqa: TID251 — a daemon, which the gate for bounded children cannot start
            ["/bin/sh", "-c", '"$@" &', "sh", *argv],
            check=False,  # whether it lives is seen by the life lock
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd="/",
            env=_ENV,
            pass_fds=(*fds, life),
            start_new_session=True,
            umask=0o077,
            **owner.credentials,
        )


def try_lock(path: Path) -> int | None:
    """A descriptor that holds the lock, or None while another process holds it. Closing it lets go."""
    descriptor = private_file(path, os.O_RDWR | os.O_CREAT)
    if take_now(descriptor):
        return descriptor
    os.close(descriptor)
    return None


def private_file(path: Path, flags: int) -> int:
    """Open a file that belongs to the owner of its folder, also when root makes it; never through a symlink."""
    descriptor = os.open(path, flags | os.O_NOFOLLOW, 0o600)
    if os.geteuid() == 0:
        folder = path.parent.stat()
        os.fchown(descriptor, folder.st_uid, folder.st_gid)
    return descriptor


def cluster_name(data: Path) -> str:
    """Marks our processes in their command lines; the same after a move of the folder, another for a copy of it."""
    info = data.stat()
    return f"tamma-{info.st_dev:x}-{info.st_ino:x}"


def postmaster(data: Path) -> int | None:
    """The pid of the living postmaster of this folder."""
    pid = _status(data)[0]
    if pid is None or (HAS_PROC and cluster_name(data) not in _command_line(pid)):
        return None
    return pid


def kill_orphans(data: Path) -> None:
    """End the backends of a postmaster that is gone: their shared memory is lost, nothing they do can be kept."""
    if not HAS_PROC or postmaster(data) is not None:
        return
    title = f"postgres: {cluster_name(data)}:"
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and _command_line(int(entry.name)).startswith(title):
            with suppress(ProcessLookupError):
                os.kill(int(entry.name), signal.SIGKILL)


def is_ready(data: Path) -> bool:
    """Whether the pid file says that the server takes connections (it says so even after a kill -9)."""
    return _status(data)[1] == "ready"


def remove_leftovers(data: Path) -> None:
    """What a killed postmaster leaves behind. Only for the holder of the life lock."""
    for name in ("postmaster.pid", SOCKET, f"{SOCKET}.lock"):
        (data / name).unlink(missing_ok=True)


def wait_until(condition: Callable[[], bool], *, seconds: float) -> bool:
    """Poll, since neither flock nor a pid file can be waited for with a timeout."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.003)
    return True


@contextmanager
def _folder_argument(folder: Path) -> Iterator[tuple[str, tuple[int, ...]]]:
    """A name for ``folder`` that a child of another user can follow although the folders above are closed to it."""
    if not HAS_PROC:
        yield str(folder), ()
        return
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}", (descriptor,)
    finally:
        os.close(descriptor)


def _initdb(binaries: Binaries, folder: str, fds: Sequence[int], maker: Owner, *, place: Path) -> None:
    argv = [str(binaries.program("initdb")), "-D", folder, "-U", ROLE, "--no-sync", "--no-instructions"]
    argv += ["--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    for name, value in _SETTINGS.items():
        argv += ["-c", f"{name}={value}"]
    done = subprocess.run(  # noqa: TID251 — needs an inherited descriptor and another user
        argv,
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=_INITDB_SECONDS,
        cwd="/",
        env=_ENV,
        pass_fds=fds,
        umask=0o077,
        **maker.credentials,
    )
    if done.returncode != 0:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
        free = shutil.disk_usage(place).free
        if free < _ROOM_BYTES:
            raise TransientError(
                "the embedded Postgres cannot be set up",
                why=f"{place} has room for {free // 1_000_000} MB, and a new one needs {_ROOM_BYTES // 1_000_000}",
                fix=f"{remedy(errno.ENOSPC)}, then try again",
            )
        raise ConfigError(
            "the embedded Postgres cannot be set up",
            why=next(
                (line for line in lines if "error" in line.lower()),
                lines[-1] if lines else f"initdb ended with {done.returncode}",
            ),
            fix="run tamma as a user with an entry in /etc/passwd and a writable state folder, or set DATABASE_URL",
        )


def _initdb_user(owner: Owner) -> Owner:
    """initdb, unlike the server, refuses a user without an entry in the passwd file."""
    if os.geteuid() != 0:
        return owner
    for uid in (owner.uid, _NOBODY_UID):
        with suppress(KeyError):
            return Owner(uid, pwd.getpwuid(uid).pw_gid)
    named = [entry for entry in pwd.getpwall() if entry.pw_uid]
    if not named:
        raise ConfigError(
            "the embedded Postgres cannot be set up",
            why="it must not be root, and /etc/passwd has no other user",
            fix="add a user, or set DATABASE_URL",
        )
    return Owner(named[-1].pw_uid, named[-1].pw_gid)


def _status(data: Path) -> tuple[int | None, str]:
    """Process id and state out of postmaster.pid, which the postmaster writes line by line."""
    try:
        lines = (data / "postmaster.pid").read_text(encoding="utf-8", errors="replace").splitlines()
        return int(lines[0]), lines[7].strip() if len(lines) > 7 else "starting"
    except (FileNotFoundError, IndexError, ValueError):
        return None, ""


def _command_line(pid: int) -> str:
    """Empty for a process that is gone, and for a zombie."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
    except OSError:
        return ""
