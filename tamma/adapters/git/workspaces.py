"""Opens, salvages and removes the workspaces of one state folder."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Final

from tamma.adapters.git.capture import Author
from tamma.adapters.git.cleanup import make_private
from tamma.adapters.git.command import PROTOCOLS, REMOTE_SECONDS, Git, GitFailed, Transport
from tamma.adapters.git.leftovers import release, tasks_with_commits, tasks_with_folders
from tamma.adapters.git.mirror import Mirror
from tamma.adapters.git.trouble import disk_error, is_damage, local_error
from tamma.adapters.git.walk import DEFAULT_EXCLUDES
from tamma.adapters.git.workspace import GitWorkspace, Settings
from tamma.adapters.proc.locks import never, take_now
from tamma.adapters.proc.regular import read_regular
from tamma.adapters.proc.removal import remove_tree
from tamma.core.errors import PermanentError, TammaError, TransientError
from tamma.core.ids import Oid, TaskId, parse_task_id
from tamma.core.policy import ChangePolicy
from tamma.ports.workspace import Base, Candidate, Remote

_FILE_BYTES_MAX: Final = 16 * 1024 * 1024
_MAKE_TRIES: Final = 10
_NOTE_BYTES_MAX: Final = 4_096
_SALVAGE_MESSAGE: Final = "Work left by an attempt that ended early"


def _no_transport(_: Remote) -> Transport:
    return Transport()


class GitWorkspaces:
    """``ports.workspace.Workspaces``. Everything lies in ``state``: ``mirrors``, ``workspaces/<task>/<epoch>``, ``git-home``.

    ``policies`` are the size caps of single repositories by name, where they differ from ``policy``. ``transport`` says what a remote needs to be reached (credentials); it is asked anew for every operation.
    """

    def __init__(
        self,
        *,
        state: Path,
        policy: ChangePolicy | None = None,
        policies: Mapping[str, ChangePolicy] | None = None,
        author: Author | None = None,
        transport: Callable[[Remote], Transport] = _no_transport,
        protocols: tuple[str, ...] = PROTOCOLS,
        excludes: tuple[str, ...] = DEFAULT_EXCLUDES,
        entries_max: int = 200_000,
        search_path: str | None = None,
        remote_timeout: timedelta = timedelta(seconds=REMOTE_SECONDS),
    ) -> None:
        self._state = state.absolute()
        self._settings = Settings(
            policy=policy or ChangePolicy(), author=author or Author(), excludes=excludes, entries_max=entries_max
        )
        self._policies = dict(policies or {})
        self._transport = transport
        self._protocols = protocols
        self._search_path = search_path
        self._remote_timeout = remote_timeout
        self._found: Git | None = None
        self._open: dict[Path, GitWorkspace] = {}
        self._should_stop: Callable[[], bool] = never

    def heed(self, should_stop: Callable[[], bool]) -> None:
        """See the port."""
        self._should_stop = should_stop

    def fetch_base(self, remote: Remote) -> Base:
        """See the port."""
        return self._mirror(remote).fetch_base()

    @contextlib.contextmanager
    def open(self, remote: Remote, base: Base, *, task_id: TaskId, epoch: int) -> Iterator[GitWorkspace]:
        """See the port. A folder whose attempt still lives (it holds a lock) is left to that attempt."""
        mirror = self._mirror(remote)
        for left in self._left(task_id, epoch=epoch + 1):
            self._remove(left)
        home = self._make_home(task_id, epoch)
        with _flock(home) as is_ours:
            assert is_ours, home
            try:
                workspace = self._prepare(home, mirror, base)
                self._open[home] = workspace
                yield workspace
            finally:
                self._open.pop(home, None)
                self._remove_now(home)

    def salvage(self, remote: Remote, *, task_id: TaskId, epoch: int) -> tuple[Candidate, ...]:
        """See the port."""
        found = []
        for left in self._left(task_id, epoch=epoch):
            with _flock(left) as is_ours:
                candidate = self._salvage(left, self._mirror(remote)) if is_ours else None
            if candidate is not None and not candidate.is_empty:
                found.append(candidate)
        return tuple(found)

    def read_file(self, remote: Remote, commit: Oid, path: str) -> bytes | None:
        """See the port."""
        return self._mirror(remote).read_file(commit, path, bytes_max=_FILE_BYTES_MAX)

    def keep(self, remote: Remote, commit: Oid, *, name: str) -> None:
        """See the port."""
        mirror = self._mirror(remote)
        for workspace in self._open.values():
            if workspace.has(commit):
                mirror.keep(workspace.git_dir, commit, name=name)
                return
        raise PermanentError(f"commit {commit} cannot be kept", why="no open workspace holds it")

    def leftovers(self) -> tuple[TaskId, ...]:
        """See the port."""
        kept = tasks_with_commits(self._git, self._state / "mirrors")
        return tuple(sorted(kept | tasks_with_folders(self._state / "workspaces")))

    def discard(self, task_id: TaskId) -> None:
        """See the port."""
        for left in self._left(task_id, epoch=sys.maxsize):
            self._remove(left)
        release(self._git, self._state / "mirrors", task_id)

    @property
    def _git(self) -> Git:
        if self._found is None:
            home = make_private(self._state / "git-home")
            self._found = Git.find(
                home=home,
                search_path=self._search_path,
                protocols=self._protocols,
                remote_seconds=self._remote_timeout.total_seconds(),
                should_stop=lambda: self._should_stop(),
            )
        return self._found

    def _mirror(self, remote: Remote) -> Mirror:
        root = make_private(self._state / "mirrors")
        return Mirror(root=root, remote=remote, git=self._git, transport=self._transport(remote))

    def _task_folder(self, task_id: TaskId) -> Path:
        return make_private(self._state / "workspaces") / parse_task_id(task_id or "none")

    def _left(self, task_id: TaskId, *, epoch: int) -> list[Path]:
        """Folders of attempts before ``epoch``, oldest first."""
        task = self._task_folder(task_id)
        if not task.is_dir():
            return []
        numbers = sorted(int(p.name) for p in task.iterdir() if p.name.isdecimal())
        return [task / str(number) for number in numbers if number < epoch]

    def _make_home(self, task_id: TaskId, epoch: int) -> Path:
        for _ in range(_MAKE_TRIES):
            home = make_private(self._task_folder(task_id)) / str(epoch)
            try:
                home.mkdir(mode=0o700)
            except FileExistsError as e:
                raise PermanentError(
                    f"attempt {epoch} of task {task_id} is open already", why=f"{home} is in use"
                ) from e
            except FileNotFoundError:  # another attempt, leaving, has just removed the task's folder as empty
                continue
            return home
        raise PermanentError(f"no folder can be made for task {task_id}", why="it keeps vanishing")

    def _prepare(self, home: Path, mirror: Mirror, base: Base) -> GitWorkspace:
        """Once more with a rebuilt mirror, should the first try find it broken: not for a full disk, or a git that was killed."""
        note = {"branch": base.branch, "commit": base.commit, "tree": base.tree}
        (home / "base.json").write_text(json.dumps(note))
        workspace = GitWorkspace(home, mirror=mirror, base=base, settings=self._settings_for(mirror.remote))
        try:
            workspace.prepare()
        except GitFailed as e:
            if not is_damage(e):
                raise local_error(e, doing=f"checking out {base.commit}") from e
            for name in ("tree", "git"):
                remove_tree(home / name, root=home)
            mirror.rebuild(base.branch, base.commit)
            try:
                workspace.prepare()
            except GitFailed as again:
                raise local_error(again, doing=f"checking out {base.commit}") from again
        except OSError as e:
            raise disk_error(e, doing=f"checking out {base.commit}") from e
        return workspace

    def _settings_for(self, remote: Remote) -> Settings:
        return replace(self._settings, policy=self._policies.get(remote.name, self._settings.policy))

    def _salvage(self, left: Path, mirror: Mirror) -> Candidate | None:
        """Capture what lies there with a new trusted git-dir; None where there is nothing to read."""
        try:
            note = json.loads(read_regular(left / "base.json", bytes_max=_NOTE_BYTES_MAX, follow=False))
            base = Base(branch=str(note["branch"]), commit=Oid(note["commit"]), tree=Oid(note["tree"]))
            remove_tree(left / "git", root=left)
            workspace = GitWorkspace(left, mirror=mirror, base=base, settings=self._settings_for(mirror.remote))
            workspace.prepare(with_tree=False)
            return workspace.capture(message=_SALVAGE_MESSAGE)
        except TransientError:  # we were stopped, or the disk is full: another look finds it still there
            raise
        except (OSError, ValueError, KeyError, TypeError, RecursionError, GitFailed, TammaError):
            return None

    def _remove(self, home: Path) -> None:
        """Remove what a dead attempt left."""
        with _flock(home) as is_ours:
            if is_ours:
                self._remove_now(home)

    def _remove_now(self, home: Path) -> None:
        remove_tree(home, root=self._state / "workspaces")
        with contextlib.suppress(OSError):
            home.parent.rmdir()


@contextlib.contextmanager
def _flock(folder: Path) -> Iterator[bool]:
    """Hold a folder by a lock that dies with the process; False where a living attempt holds it."""
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        yield False
        return
    try:
        yield take_now(fd)
    finally:
        os.close(fd)
