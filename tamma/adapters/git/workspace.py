"""One attempt's checkout and the trusted git-dir behind it."""

from __future__ import annotations

import contextlib
import itertools
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from tamma.adapters.git.capture import Author, Capture, describe
from tamma.adapters.git.command import Git, GitFailed
from tamma.adapters.git.difference import index_lines, list_tree
from tamma.adapters.git.gitdir import drop_traps, is_folder, is_regular, seal, write_disposable, write_trusted
from tamma.adapters.git.mirror import Mirror
from tamma.adapters.git.push import push_commit
from tamma.adapters.git.trouble import disk_error, local_error
from tamma.adapters.proc.removal import remove_tree
from tamma.core.errors import PermanentError
from tamma.core.ids import Oid
from tamma.core.policy import ChangePolicy
from tamma.ports.workspace import Base, Candidate, PushResult, WorkspaceRemoved

_CHECKOUT_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,60}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What every workspace of one installation shares."""

    policy: ChangePolicy
    author: Author
    excludes: tuple[str, ...]
    entries_max: int


class GitWorkspace:
    """``ports.workspace.Workspace``. ``home`` holds ``tree`` (the agent's), ``scratch``, ``git`` (trusted) and ``desk``."""

    def __init__(self, home: Path, *, mirror: Mirror, base: Base, settings: Settings) -> None:
        self._home = home
        self._mirror = mirror
        self._base = base
        self._settings = settings
        self._numbers = itertools.count(1)

    @property
    def folder(self) -> Path:
        """The checkout."""
        return self._home / "tree"

    @property
    def scratch(self) -> Path:
        """A private folder beside it."""
        return self._home / "scratch"

    @property
    def base(self) -> Base:
        """What it was made from; after ``restore`` the parent of the restored commit."""
        return self._base

    @property
    def git_dir(self) -> Path:
        """The trusted git-dir, outside the checkout."""
        return self._home / "git"

    def prepare(self, *, with_tree: bool = True) -> None:
        """Make the folders and fill them; once. Raises GitFailed where the mirror lacks something."""
        for name in ("scratch", "desk", "out"):
            (self._home / name).mkdir(mode=0o700, exist_ok=True)
        write_trusted(self.git_dir, objects=self._mirror.objects, oid=self._base.commit)
        if with_tree:
            self._fill(self._base.tree)
        else:
            self._git.run("read-tree", self._base.tree)

    def capture(self, *, message: str) -> Candidate:
        """See the port."""
        with self._local("reading the workspace"):
            return Capture(
                git=self._git,
                folder=self.folder,
                desk=self._home / "desk",
                index=self._index,
                base=self._base,
                policy=self._settings.policy,
                author=self._settings.author,
                excludes=self._settings.excludes,
                entries_max=self._settings.entries_max,
            ).run(message=message)

    def restore(self, commit: Oid) -> Candidate:
        """See the port. The workspace's base becomes the commit's parent: a candidate is the difference to that."""
        try:
            self._seal()
            told = self._git.text("show", "-s", "--no-show-signature", "--format=%T %P", f"{commit}^{{commit}}").split()
            parent_tree = self._git.text("rev-parse", "--verify", f"{told[1]}^{{tree}}") if len(told) == 2 else ""
        except GitFailed as e:
            raise PermanentError(
                f"commit {commit} is gone",
                why="it was captured on another machine, or its mirror was rebuilt",
                fix="`tamma task retry` resolves the issue from the start",
            ) from e
        if not parent_tree:
            raise PermanentError(
                f"commit {commit} is not one of ours", why="it does not stand on exactly one base commit"
            )
        with self._local("restoring an earlier candidate"):
            self._base = replace(self._base, commit=Oid(told[1]), tree=Oid(parent_tree))
            remove_tree(self.folder, root=self._home)
            self._git.run("read-tree", self._base.tree)
            self._fill(Oid(told[0]), index=self._home / "desk" / "restore.index")
            return describe(self._git, commit=commit, tree=Oid(told[0]), base=self._base, policy=self._settings.policy)

    @contextlib.contextmanager
    def checkout(self, tree: Oid, *, name: str) -> Iterator[Path]:
        """See the port."""
        if not _CHECKOUT_NAME.fullmatch(name) or ".." in name:
            raise ValueError(f"{name!r} cannot name a checkout")
        number = next(self._numbers)
        folder = self._home / "out" / f"{name}-{number}"
        index = self._home / "desk" / f"out-{number}.index"
        try:
            with self._local(f"checking out a tree for {name}"):
                self._require("out")
                self._write_out(tree, folder, index=index)
            yield folder
        finally:
            index.unlink(missing_ok=True)
            if is_folder(self._home / "out"):  # else it leads elsewhere, or nowhere
                remove_tree(folder, root=self._home)

    def overlay(self, candidate: Candidate, *, paths: Sequence[str]) -> Oid:
        """See the port."""
        with self._local("laying files over the base"):
            theirs = list_tree(self._git, candidate.tree)
            chosen = [
                (p, theirs.get(p)) for p in sorted(path.encode("utf-8", "surrogateescape") for path in set(paths))
            ]
            index = self._home / "desk" / "overlay.index"
            shutil.copyfile(self._index, index)
            git = self._git.at(self.git_dir, index=index)
            lines = index_lines(chosen, zero="0" * len(self._base.commit))
            if lines:
                git.run("update-index", "--add", "--replace", "-z", "--index-info", stdin=lines)
            return Oid(git.text("write-tree"))

    def push(self, commit: Oid, *, branch: str, expected: Oid | None) -> PushResult:
        """See the port."""
        with self._local("preparing to push"):
            pass
        git = self._git.reaching(self._mirror.transport)
        return push_commit(
            git, self._mirror.remote.url, commit, branch=branch, expected=expected,
            find_head=lambda: self.branch_head(branch),
        )  # fmt: skip

    def branch_head(self, branch: str) -> Oid | None:
        """See the port."""
        return self._mirror.branch_head(branch)

    def has(self, commit: Oid) -> bool:
        """Whether a commit can be read here."""
        with self._local("looking for a commit"):
            return self._git.run("cat-file", "-e", f"{commit}^{{commit}}", ok=(0, 1, 128)).code == 0

    @property
    def _index(self) -> Path:
        return self.git_dir / "index"

    @property
    def _git(self) -> Git:
        return self._mirror.git.at(self.git_dir, index=self._index)

    @contextlib.contextmanager
    def _local(self, doing: str) -> Iterator[None]:
        """Work on our own folders, sealed first: agents and gates may have reached them since."""
        try:
            self._require("tree", "git", "desk")
            self._seal()
            yield
        except (GitFailed, OSError) as e:
            self._require("git", "desk", "out")
            raise (local_error(e, doing=doing) if isinstance(e, GitFailed) else disk_error(e, doing=doing)) from e

    def _require(self, *names: str) -> None:
        gone = [name for name in names if not is_folder(self._home / name)]
        if gone:
            raise WorkspaceRemoved(
                "the attempt's own folders are gone",
                why=f"{', '.join(gone)} below {self._home} was removed or replaced while the attempt ran",
                fix="look at what the agent did, then `tamma task retry`",
            )

    def _seal(self) -> None:
        seal(self.git_dir, objects=self._mirror.objects, oid=self._base.commit)
        drop_traps(self._home / "desk")
        if not is_regular(self._index):
            self._git.run("read-tree", self._base.tree)

    def _fill(self, tree: Oid, *, index: Path | None = None) -> None:
        """Write a tree into the checkout and give it a ``.git`` for the agent, whose index is as fresh as the files."""
        index = index or self._index
        self._write_out(tree, self.folder, index=index)
        write_disposable(
            self.folder / ".git",
            objects=self._mirror.objects,
            base=self._base,
            index=index,
            excludes=self._settings.excludes,
        )

    def _write_out(self, tree: Oid, folder: Path, *, index: Path) -> None:
        folder.mkdir(mode=0o700)
        git = self._mirror.git.at(self.git_dir, work_tree=folder, index=index)
        git.run("read-tree", tree)
        git.run("checkout-index", "-a", "-q", "-u")
