"""The one place that runs git: environment from scratch, argument lists, bounded output, a deadline, own process group.

Hardening a repository that an agent wrote by ``git -c`` is not enough (SECURITY finding 1). So GIT_DIR always names a
repository of ours, no configuration file but that repository's own is read, and what must hold is given through
GIT_CONFIG_COUNT, which beats every file.
"""

from __future__ import annotations

import contextlib
import os
import re
import selectors
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Final

from tamma.adapters.proc.locks import never
from tamma.core.errors import ConfigError, PermanentError, TransientError

LOCAL_SECONDS: Final = 300.0
REMOTE_SECONDS: Final = 1_800.0
OUTPUT_BYTES_MAX: Final = 256 * 1024 * 1024
STDERR_BYTES_MAX: Final = 65_536
_ASK_SECONDS: Final = 0.2
PROTOCOLS: Final = ("file", "https", "ssh")
VERSION_MIN: Final = (2, 31)

# Old and honest repositories trip over these; whatever can hurt a checkout (.git in a tree, .gitmodules tricks) stays fatal.
_FSCK_FORGIVEN: Final = (
    "zeroPaddedFilemode", "missingSpaceBeforeDate", "missingSpaceBeforeEmail", "missingNameBeforeEmail", "missingEmail",
    "badEmail", "badName", "badDate", "badDateOverflow", "badTimezone", "zeroPaddedDate", "multipleAuthors",
    "nulInCommit", "badFilemode", "missingTaggerEntry",
)  # fmt: skip
_CONFIG: Final = (
    ("core.hooksPath", "/dev/null"),
    ("core.fsmonitor", "false"),
    ("core.autocrlf", "false"),
    ("core.safecrlf", "false"),
    ("core.symlinks", "true"),
    ("core.fileMode", "true"),
    ("core.ignoreCase", "false"),
    ("core.precomposeUnicode", "false"),
    ("core.protectHFS", "true"),
    ("core.protectNTFS", "true"),
    ("core.excludesFile", "/dev/null"),
    ("core.attributesFile", "/dev/null"),
    ("core.splitIndex", "false"),
    ("core.untrackedCache", "false"),
    ("core.commitGraph", "false"),
    ("credential.helper", ""),
    ("core.askPass", ""),
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
    ("fetch.recurseSubmodules", "false"),
    ("push.recurseSubmodules", "no"),
    ("submodule.recurse", "false"),
    ("push.gpgSign", "false"),
    ("push.followTags", "false"),
    ("http.followRedirects", "false"),
    ("transfer.fsckObjects", "true"),
    *((f"fetch.fsck.{name}", "ignore") for name in _FSCK_FORGIVEN),
    ("protocol.allow", "never"),
)
_SSH: Final = "ssh -oBatchMode=yes -oConnectTimeout=20 -oServerAliveInterval=15 -oServerAliveCountMax=4"


@dataclass(frozen=True, slots=True, kw_only=True)
class Transport:
    """What one remote needs to be reached; given to fetch, ls-remote and push only, never to a command on files.

    ``config`` pairs travel through the environment (a bearer header belongs there). ``secrets`` are taken out of errors.
    """

    env: Mapping[str, str] = field(default_factory=dict)
    config: Sequence[tuple[str, str]] = ()
    secrets: Sequence[str] = ()


class GitFailed(Exception):
    """A git command ended with something else than it should; callers turn it into an error of core."""

    def __init__(self, argv: Sequence[str], *, code: int, stderr: str) -> None:
        super().__init__(f"git {argv[0]} ended with {code}: {stderr.strip()}")
        self.verb = argv[0]
        self.code = code
        self.stderr = stderr


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """What a git command said."""

    code: int
    stdout: bytes
    stderr: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Git:
    """Runs git in one git-dir of ours; ``at`` gives another one."""

    program: str
    home: Path
    protocols: tuple[str, ...] = PROTOCOLS
    git_dir: Path | None = None
    work_tree: Path | None = None
    index: Path | None = None
    transport: Transport | None = None
    remote_seconds: float = REMOTE_SECONDS
    hold: tuple[
        int, ...
    ] = ()  # descriptors a child keeps: a flock then lasts as long as the child, even if we are killed
    should_stop: Callable[[], bool] = never

    @classmethod
    def find(
        cls,
        *,
        home: Path,
        search_path: str | None = None,
        protocols: tuple[str, ...] = PROTOCOLS,
        remote_seconds: float = REMOTE_SECONDS,
        should_stop: Callable[[], bool] = never,
    ) -> Git:
        """The installed git. Raises ConfigError where there is none, or one that does not work or is too old for
        GIT_CONFIG_COUNT."""
        program = shutil.which("git", path=search_path)
        if program is None:
            raise ConfigError(
                "git is not installed",
                why="no program named git on the search path",
                fix="install git 2.31 or later (Debian: apt-get install git; macOS: xcode-select --install)",
            )
        git = cls(
            program=program, home=home, protocols=protocols, remote_seconds=remote_seconds, should_stop=should_stop
        )
        try:
            text = git.run("version").stdout.decode(errors="replace")
        except GitFailed as e:
            raise ConfigError(f"{program} does not work", why=str(e), fix="run it by hand; install git anew") from e
        found = re.search(r"(\d+)\.(\d+)", text)
        if found is None or (int(found[1]), int(found[2])) < VERSION_MIN:
            raise ConfigError(f"git is too old: {text.strip()}", why="Tamma needs 2.31", fix="install a later git")
        return git

    def at(self, git_dir: Path, *, work_tree: Path | None = None, index: Path | None = None) -> Git:
        """The same git in another place, with no remote to reach."""
        return replace(self, git_dir=git_dir, work_tree=work_tree, index=index, transport=None, hold=())

    def reaching(self, transport: Transport, *, hold: tuple[int, ...] = ()) -> Git:
        """The same git, able to reach a remote."""
        return replace(self, transport=transport, hold=hold)

    def run(
        self,
        *argv: str,
        stdin: bytes = b"",
        ok: Sequence[int] = (0,),
        env: Mapping[str, str] | None = None,
        output_bytes_max: int = OUTPUT_BYTES_MAX,
    ) -> Output:
        """Run one command to its end. Raises GitFailed for an exit code not in ``ok``, TransientError past the deadline or
        once ``should_stop()`` is true, PermanentError past ``output_bytes_max``. Secrets of the transport never appear in
        what comes back on stderr."""
        deadline = time.monotonic() + (LOCAL_SECONDS if self.transport is None else self.remote_seconds)
        child = _start([self.program, *argv], cwd=self._cwd(), env={**self._env(), **(env or {})}, hold=self.hold)
        try:
            watch = _Watch(deadline=deadline, should_stop=self.should_stop, verb=argv[0])
            stdout, stderr = _talk(child, stdin, watch=watch, output_bytes_max=output_bytes_max)
        finally:
            _end(child)
        text = self._redact(stderr.decode(errors="replace"))
        if child.returncode not in ok:
            raise GitFailed(argv, code=child.returncode, stderr=text)
        return Output(code=child.returncode, stdout=stdout, stderr=text)

    def text(self, *argv: str, stdin: bytes = b"", env: Mapping[str, str] | None = None) -> str:
        """The output of a command that answers one line."""
        return self.run(*argv, stdin=stdin, env=env).stdout.decode(errors="surrogateescape").strip()

    def _cwd(self) -> Path:
        return self.work_tree or self.git_dir or self.home

    def _env(self) -> dict[str, str]:
        """From scratch: no variable of ours reaches git, so no GIT_* of the parent, and no secret of it."""
        folder = str(Path(self.program).parent)
        env = {
            "PATH": os.pathsep.join(dict.fromkeys([folder, *os.defpath.split(os.pathsep)])),
            "HOME": str(self.home),
            "LANG": "C",
            "LC_ALL": "C",
            "TZ": "UTC",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_SYSTEM": os.devnull,
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_ATTR_NOSYSTEM": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_NO_REPLACE_OBJECTS": "1",
            "GIT_OPTIONAL_LOCKS": "0",
            "GIT_LITERAL_PATHSPECS": "1",
            "GIT_NO_LAZY_FETCH": "1",
            "GIT_ALLOW_PROTOCOL": ":".join(self.protocols),
            "GIT_SSH_COMMAND": _SSH,
            "GIT_HTTP_LOW_SPEED_LIMIT": "1000",
            "GIT_HTTP_LOW_SPEED_TIME": "60",
            "GIT_EDITOR": "false",
            "GIT_PAGER": "cat",
        }
        for name, place in (
            ("GIT_DIR", self.git_dir),
            ("GIT_WORK_TREE", self.work_tree),
            ("GIT_INDEX_FILE", self.index),
        ):
            if place is not None:
                env[name] = str(place)
        allowed = tuple((f"protocol.{name}.allow", "always") for name in self.protocols)
        extra = tuple(self.transport.config) if self.transport else ()
        env.update(self.transport.env if self.transport else {})
        env.update(_config_env((*_CONFIG, *allowed, *extra)))
        return env

    def _redact(self, text: str) -> str:
        for secret in self.transport.secrets if self.transport else ():
            text = text.replace(secret, "[secret]") if secret else text
        return text


def _config_env(pairs: Sequence[tuple[str, str]]) -> dict[str, str]:
    env = {"GIT_CONFIG_COUNT": str(len(pairs))}
    for n, (key, value) in enumerate(pairs):
        env[f"GIT_CONFIG_KEY_{n}"] = key
        env[f"GIT_CONFIG_VALUE_{n}"] = value
    return env


Child = subprocess.Popen[bytes]  # noqa: TID251 — a type


def _start(argv: list[str], *, cwd: Path, env: dict[str, str], hold: tuple[int, ...]) -> Child:
    try:
        return subprocess.Popen(  # noqa: TID251 — git's output is binary and big; bounded, timed and grouped right here
            argv,
            cwd=cwd,
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            pass_fds=hold,
        )
    except FileNotFoundError as e:
        raise ConfigError(f"{e.filename} is gone", why=str(e), fix="install git, and keep Tamma's state folder") from e
    except OSError as e:
        raise TransientError(f"git cannot be started: {e}", fix="free processes, memory or descriptors") from e


@dataclass(frozen=True, slots=True, kw_only=True)
class _Watch:
    """How long a command may go on."""

    deadline: float
    should_stop: Callable[[], bool]
    verb: str

    def seconds(self) -> float:
        """How long to wait until looking again. Raises TransientError when the command must end."""
        if self.should_stop():
            raise TransientError(f"git {self.verb} was stopped", why="the attempt is being stopped")
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TransientError(f"git {self.verb} took too long and was stopped", fix="try again; look at the remote")
        return min(left, _ASK_SECONDS)


def _talk(child: Child, stdin: bytes, *, watch: _Watch, output_bytes_max: int) -> tuple[bytes, bytes]:
    assert child.stdin is not None
    assert child.stdout is not None
    assert child.stderr is not None
    feeder = threading.Thread(target=_feed, args=(child.stdin, stdin), daemon=True)
    feeder.start()
    out, err = bytearray(), bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(child.stdout, selectors.EVENT_READ, out)
        selector.register(child.stderr, selectors.EVENT_READ, err)
        while selector.get_map():
            for key, _ in selector.select(watch.seconds()):
                chunk = os.read(key.fd, 1 << 16)
                if not chunk:
                    selector.unregister(key.fileobj)
                key.data.extend(chunk)
            del err[:-STDERR_BYTES_MAX]
            if len(out) > output_bytes_max:
                raise PermanentError(
                    f"git {watch.verb} said more than {output_bytes_max} bytes", why="a limit of Tamma"
                )
    while child.poll() is None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(watch.seconds())
    feeder.join(5)
    return bytes(out), bytes(err)


def _feed(pipe: IO[bytes], content: bytes) -> None:
    with contextlib.suppress(OSError), pipe:  # a child that stops reading says why with its exit code
        pipe.write(content)


def _end(child: Child) -> None:
    """Nothing of the group outlives the call; TERM first, so that git removes its lock files."""
    if child.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(2)
    if child.returncode != 0:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    for pipe in (child.stdout, child.stderr):
        if pipe is not None:
            pipe.close()
