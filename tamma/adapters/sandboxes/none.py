"""No sandbox: processes run as this user, with a clean environment and folders of their own, and nothing else held back.

What it does promise: an environment from scratch, a HOME and a TMPDIR per box, bounded runs, and no process left behind.
What it does not: an agent can read whatever this user can read. It is called ``none`` and said so everywhere.
"""

from __future__ import annotations

import os
import secrets
import signal
import time
import weakref
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import timedelta
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from tamma.adapters.proc import tree
from tamma.adapters.sandboxes.private import Private, make_private, sweep_private
from tamma.core.errors import PermanentError
from tamma.ports.system import Completed, Processes, ProcessLimits

# Where tools and certificates are: nothing here is a secret, so agents and gates get it too. Configuration extends it.
DEFAULT_ENV_ALLOW: Final = (
    "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TERM", "NO_PROXY", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "GOSUMDB", "GONOSUMDB", "GOFLAGS", "GOPRIVATE",
    "JAVA_HOME", "GRADLE_OPTS", "MAVEN_OPTS", "NVM_DIR", "PYENV_ROOT", "RUSTUP_HOME", "CARGO_HOME", "GOROOT",
    "LD_LIBRARY_PATH",
)  # fmt: skip
# What set-up commands need besides, to reach a package registry the way the operator's own shell does. These names carry
# credentials (an index with a password, a publishing token), so set-up alone gets them: it runs before any agent.
SETUP_ENV_ALLOW: Final = (
    *DEFAULT_ENV_ALLOW, "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy", "PIP_*",
    "UV_*", "NPM_CONFIG_*", "npm_config_*", "GOPROXY", "CARGO_HTTP_*", "CARGO_NET_*", "CARGO_REGISTRIES_*",
)  # fmt: skip
_BASE: Final = ("PATH", "LANG", "LC_ALL", "TZ")
_DEFAULT_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_SWEEP_GRACE: Final = timedelta(seconds=2)
_SWEEP_SECONDS: Final = 20.0


class NoSandbox:
    """Opens boxes that hold nothing back.

    ``env_allow`` are names out of ``environ`` that every box passes on; ``PIP_*`` means every name that begins so. A
    wildcard never matches ``GIT_*``, ``TAMMA_*`` or ``DATABASE_URL``: those must be named in full. ``realm`` names the
    installation: the same forge and issue give the same task id in two of them, and neither may sweep the other's boxes.
    ``boxes`` is where the private folders of boxes lie, so that a sweep finds what a killed worker left.
    """

    def __init__(
        self,
        processes: Processes,
        *,
        env_allow: Collection[str],
        environ: Mapping[str, str],
        realm: str = "",
        boxes: Path | None = None,
    ) -> None:
        self._processes = processes
        self._boxes = boxes
        self._realm = f"{realm}:" if realm else ""
        self._env = {name: environ[name] for name in _BASE if name in environ}
        self._env |= {name: value for name, value in environ.items() if is_allowed(name, env_allow)}
        self._env.setdefault("PATH", _DEFAULT_PATH)
        self._env.setdefault("LANG", "C.UTF-8")

    @property
    def name(self) -> str:
        """``none``."""
        return "none"

    def box(
        self, folder: Path, *, tag: str, readable: Sequence[Path] = (), should_stop: Callable[[], bool] | None = None
    ) -> OpenBox:
        """See ``ports.sandbox.Sandbox``; ``readable`` says nothing here, since everything is readable."""
        return OpenBox(
            self._processes,
            folder.absolute(),
            private=make_private(self._boxes, tag),
            env=self._env,
            tag=self._realm + tag,
            should_stop=should_stop,
        )

    def tidy(self) -> None:
        """See ``ports.sandbox.Sandbox``."""
        sweep_private(self._boxes)

    def sweep(self, tag: str) -> int:
        """See ``ports.sandbox.Sandbox``. SIGTERM first: a warden then ends its own tree, the unmarked included."""
        swept: set[tuple[int, int]] = set()
        begun = time.monotonic()
        while procs := tree.marked(self._realm + tag):
            waited = time.monotonic() - begun
            if waited > _SWEEP_SECONDS:
                raise PermanentError(f"{len(procs)} processes marked {tag} do not die", fix="end them by hand (ps e)")
            fresh = [p for p in procs if (p.pid, p.start) not in swept]
            swept |= {(p.pid, p.start) for p in fresh}
            if waited > _SWEEP_GRACE.total_seconds():
                tree.send_all(procs, signal.SIGKILL, spared_group=os.getpgrp())
            else:
                for proc in fresh:
                    tree.send(proc, signal.SIGTERM)
            time.sleep(0.02)
        sweep_private(self._boxes, tag)
        return len(swept)


class OpenBox:
    """One folder, one private HOME and TMPDIR; both are removed with the box."""

    def __init__(
        self,
        processes: Processes,
        folder: Path,
        *,
        private: Private,
        env: Mapping[str, str],
        tag: str,
        should_stop: Callable[[], bool] | None,
    ) -> None:
        self._processes = processes
        self._folder = folder
        self._tag = tag
        self._should_stop = should_stop
        weakref.finalize(self, private.remove)
        home, tmp = private.folder / "home", private.folder / "tmp"
        for place in (home, tmp):
            place.mkdir(mode=0o700)
        self._env = {**env, "HOME": str(home), "TMPDIR": str(tmp)}

    @property
    def folder(self) -> Path:
        """The real folder: nothing is mounted elsewhere."""
        return self._folder

    def spawn(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        limits: ProcessLimits,
        stdin: bytes = b"",
        cwd: str = ".",
        on_line: Callable[[str], None] | None = None,
    ) -> Completed:
        """See ``ports.sandbox.Box``. The marker is the tag and a number of this run, so that one run's leftovers can be told
        from those of another run of the same attempt."""
        place = (self._folder / cwd).resolve()
        if not place.is_relative_to(self._folder.resolve()):
            raise PermanentError(f"{cwd} is outside of the workspace", fix="use a folder below it")
        marker = {tree.MARKER: f"{self._tag}:{secrets.token_hex(8)}"}
        return self._processes.run(
            argv,
            cwd=place,
            env={**self._env, **env, **marker},
            limits=limits,
            stdin=stdin,
            on_line=on_line,
            should_stop=self._should_stop,
        )


def is_allowed(name: str, allow: Collection[str]) -> bool:
    """Whether the operator's list names this variable, in full or by a wildcard that may match it."""
    if name in allow:
        return True
    if name.startswith(("GIT_", "TAMMA_")) or name == "DATABASE_URL":
        return False
    return any("*" in pattern and fnmatchcase(name, pattern) for pattern in allow)
