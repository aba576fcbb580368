"""Environments in a folder of ours, shared by every process of this user on this machine.

Layout: ``<root>/<key>/<random>/`` is where an environment is built and where it stays: a Python venv holds its own path in
each of its scripts, so it must never move. What is put in place at once, by a rename, is the link ``<root>/<key>/current``.
A folder that ``current`` does not name is garbage: of a builder that died, or found changed (``stamp``) while others still
used it. Whoever comes next and is alone with the key removes it.

Locks (flock, in ``<root>/locks``): ``<key>.build`` is held alone by the one builder; ``<key>.use`` is held together by
readers and alone by eviction, which never waits.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
import shlex
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Final

from tamma.adapters.environments.away import reason_away
from tamma.adapters.environments.locks import exclusive, exclusive_now, shared, stopped
from tamma.adapters.environments.stamp import is_sound, seal
from tamma.adapters.environments.toolchain import Toolchain
from tamma.adapters.proc.removal import remove_tree
from tamma.core.errors import PASSING, PermanentError, remedy
from tamma.core.redact import clean
from tamma.ports.environment import Environment, EnvironmentSpec, SetupFailed, SetupUnavailable
from tamma.ports.sandbox import Box, Sandbox
from tamma.ports.system import ProcessLimits, Stop

_KEY_LENGTH: Final = 32  # the key is in each script's first line, which kernels cut (at 127 or 255 bytes)
_CURRENT: Final = "current"
_SIZE: Final = "size"
_USED: Final = "used"
_TRASH: Final = "trash-"
_OUTPUT_BYTES_MAX: Final = 262_144
_NAME_CHARS_MAX: Final = 60
_WORDS_LINES_MAX: Final = 8
_WORDS_LINE_CHARS_MAX: Final = 160
# What package managers print below the error.
_NOISE: Final = re.compile(r"\s*(\[notice\]|npm (ERR!|error) A complete log of this run)")


class CachedEnvironments:
    """Prepares environments in boxes of ``sandbox``; ``search_path`` is the PATH that those boxes have."""

    def __init__(self, root: Path, sandbox: Sandbox, *, size_bytes_max: int, search_path: str) -> None:
        self._root = root.absolute()
        self._sandbox = sandbox
        self._size_bytes_max = size_bytes_max
        self._toolchain = Toolchain(sandbox, search_path=search_path)

    @contextmanager
    def prepare(
        self,
        spec: EnvironmentSpec,
        *,
        read_input: Callable[[str], bytes | None],
        checkout: Callable[[], AbstractContextManager[Path]],
        tag: str,
        should_stop: Callable[[], bool] | None = None,
    ) -> Iterator[Environment | None]:
        """See ``ports.environment.Environments``. A stopped preparation raises SetupUnavailable."""
        if not spec.setup:
            yield None
            return
        asked = should_stop or (lambda: False)
        begun = time.monotonic()
        with contextlib.ExitStack() as held:
            with _disk_may_be_full():
                self._open_root()
                key = self.key(spec, read_input=read_input, tag=tag)
                self._remove_garbage(key)
                held.enter_context(shared(self._lock(key, "use"), asked))
                folder = self._sound(key)
                is_cached = folder is not None
                if folder is None:
                    folder, is_cached = self._build_once(key, spec, checkout=checkout, tag=tag, should_stop=asked)
                self._touch(key)
                self._evict()
            yield Environment(
                folder=folder, key=key, is_cached=is_cached, duration=timedelta(seconds=time.monotonic() - begun)
            )

    def sizes(self) -> Sequence[tuple[str, int]]:
        """See ``ports.environment.Environments``."""
        entries = []
        for folder in self._root.iterdir() if self._root.is_dir() else ():
            if (folder / _CURRENT).is_symlink():
                with contextlib.suppress(OSError, ValueError):
                    entries.append(
                        ((folder / _USED).stat().st_mtime_ns, folder.name, int((folder / _SIZE).read_text()))
                    )
        return [(key, size) for _, key, size in sorted(entries)]

    def key(self, spec: EnvironmentSpec, *, read_input: Callable[[str], bytes | None], tag: str) -> str:
        """Definition, content of the inputs (a missing one differs from an empty one) and toolchain, hashed."""
        content = [(path, read_input(path)) for path in sorted(set(spec.inputs))]
        hashed = [[path, "missing" if raw is None else hashlib.sha256(raw).hexdigest()] for path, raw in content]
        identity = self._toolchain.identity([argv[0] for argv in spec.setup], tag=tag)
        digest = hashlib.sha256(json.dumps(["1", spec.setup, hashed, identity]).encode()).hexdigest()
        return digest[:_KEY_LENGTH]

    # Building

    def _build_once(
        self,
        key: str,
        spec: EnvironmentSpec,
        *,
        checkout: Callable[[], AbstractContextManager[Path]],
        tag: str,
        should_stop: Callable[[], bool],
    ) -> tuple[Path, bool]:
        with exclusive(self._lock(key, "build"), should_stop):
            built = self._sound(key)
            if built is not None:
                return built, True
            folder = self._root / key / secrets.token_hex(4)
            folder.mkdir(mode=0o700, parents=True)
            try:
                self._set_up(spec, folder, checkout=checkout, tag=tag, should_stop=should_stop)
                self._put_in_place(key, folder)
            except BaseException:
                self._remove(folder)
                raise
            return folder, False

    def _set_up(
        self,
        spec: EnvironmentSpec,
        folder: Path,
        *,
        checkout: Callable[[], AbstractContextManager[Path]],
        tag: str,
        should_stop: Callable[[], bool],
    ) -> None:
        deadline = time.monotonic() + spec.timeout.total_seconds()
        with checkout() as place:
            box = self._sandbox.box(place, tag=tag, readable=(folder,), should_stop=should_stop)
            for argv in spec.setup:
                _tell_begun(argv)
                self._run(box, argv, folder, left=deadline - time.monotonic())

    def _run(self, box: Box, argv: Sequence[str], folder: Path, *, left: float) -> None:
        """Raises unless the command said yes."""
        told = f"the set-up command {_named(argv)}"
        command = [text.replace("{environment}", str(folder)) for text in argv]
        limits = ProcessLimits(wall_clock=timedelta(seconds=max(0.0, left)), output_bytes_max=_OUTPUT_BYTES_MAX)
        try:
            done = box.spawn(command, env={"TAMMA_ENVIRONMENT": str(folder)}, limits=limits)
        except PermanentError as e:
            raise SetupFailed(f"{told} cannot be started", why=str(e)) from e
        if done.is_ok:
            return
        if done.stop is Stop.ASKED:
            raise stopped()
        if done.stop is not Stop.EXITED:
            raise SetupFailed(f"{told} took too long", why=f"{last_words(done.output)} [{done.stop}]")
        reason = reason_away(command[0], exit_code=done.exit_code, output=done.output)
        if reason is not None:
            raise SetupUnavailable(f"{told} could not reach what it needs", why=reason)
        raise SetupFailed(f"{told} ended with {done.exit_code}", why=last_words(done.output))

    def _put_in_place(self, key: str, folder: Path) -> None:
        seal(folder, self._stamp(folder))
        (self._root / key / _SIZE).write_text(str(_size_bytes(folder)))
        self._touch(key)
        link = self._root / key / f"{folder.name}.link"
        link.symlink_to(folder.name)
        link.replace(self._root / key / _CURRENT)

    # Finding and removing

    def _open_root(self) -> None:
        (self._root / "locks").mkdir(mode=0o700, parents=True, exist_ok=True)

    def _lock(self, key: str, kind: str) -> Path:
        return self._root / "locks" / f"{key}.{kind}"

    def _current(self, key: str) -> Path | None:
        try:
            name = (self._root / key / _CURRENT).readlink()
        except OSError:
            return None
        folder = self._root / key / name.name
        return folder if name.name == str(name) and folder.is_dir() and not folder.is_symlink() else None

    def _sound(self, key: str) -> Path | None:
        """The current one, unless it is not any more what was built."""
        folder = self._current(key)
        return folder if folder is not None and is_sound(folder, self._stamp(folder)) else None

    def _stamp(self, folder: Path) -> Path:
        return folder.with_name(f"{folder.name}.stamp")

    def _touch(self, key: str) -> None:
        (self._root / key / _USED).touch()

    def _remove_garbage(self, key: str) -> None:
        """Nobody is disturbed: this needs the key alone, which users and builders hold together."""
        place = self._root / key
        with exclusive_now(self._lock(key, "use")) as is_ours:
            if not is_ours or not place.is_dir():
                return
            current = self._current(key)
            kept = {_CURRENT, _SIZE, _USED} | ({current.name, self._stamp(current).name} if current else set())
            for entry in place.iterdir():
                if entry.name not in kept:
                    self._remove(entry)

    def _evict(self) -> None:
        for trash in self._root.glob(f"{_TRASH}*"):
            self._remove(trash)
        sizes = self.sizes()
        total = sum(size for _, size in sizes)
        for key, size in sizes:
            if total <= self._size_bytes_max:
                return
            with exclusive_now(self._lock(key, "use")) as is_ours:
                if is_ours:
                    if (self._root / key).is_dir():  # else another process evicted it since we looked
                        trash = self._root / f"{_TRASH}{secrets.token_hex(8)}"
                        (self._root / key).rename(trash)
                        self._remove(trash)
                    total -= size

    def _remove(self, path: Path) -> None:
        """What resists stays as garbage."""
        remove_tree(path, root=self._root)


@contextmanager
def _disk_may_be_full() -> Iterator[None]:
    try:
        yield
    except OSError as e:
        if e.errno not in PASSING:
            raise
        raise SetupUnavailable("the environment could not be stored", why=str(e), fix=remedy(e.errno)) from e


def _tell_begun(argv: Sequence[str]) -> None:
    """Minutes may pass before there is another line."""
    from loguru import logger

    logger.info("building the environment: {}", shlex.join(argv))


def _named(argv: Sequence[str]) -> str:
    line = " ".join(shlex.join(argv).split())
    return line if len(line) <= _NAME_CHARS_MAX else line[: _NAME_CHARS_MAX - 1] + "…"


def last_words(output: str) -> str:
    """The last line that says something, then the few before it, on one line: where only its head is shown, that is the error."""
    lines = [line for line in map(clean, output.splitlines()) if line.strip() and not _NOISE.match(line)]
    *before, last = map(_shortened, lines[-_WORDS_LINES_MAX:] or ["it printed nothing"])
    return f"{last} (before that: {' | '.join(before)})" if before else last


def _shortened(line: str) -> str:
    """Cut between words: half a secret would get past who masks whole ones."""
    return textwrap.shorten(
        line[:4_000], _WORDS_LINE_CHARS_MAX, placeholder=" …", break_on_hyphens=False, break_long_words=False
    )


def _size_bytes(folder: Path) -> int:
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(f"{place}/{name}").st_blocks * 512
    return total
