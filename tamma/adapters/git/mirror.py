"""One bare mirror per repository: created once, fetched incrementally under a lock, never pruned, rebuilt when broken."""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlsplit

from tamma.adapters.git.again import again
from tamma.adapters.git.command import Git, GitFailed, Transport
from tamma.adapters.git.gitdir import drop_traps, harden, is_regular, rescuable, traps
from tamma.adapters.git.leftovers import KEPT, mirror_lock, pack
from tamma.adapters.git.trouble import disk_error, is_damage, is_missing, local_error, remote_error
from tamma.adapters.proc.locks import take
from tamma.adapters.proc.removal import remove_tree
from tamma.core.errors import ConfigError, PermanentError, TransientError
from tamma.core.ids import Oid
from tamma.ports.workspace import Base, Remote

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_KEEP: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}(?<!\.lock)(?<!\.)")
_BRANCH: Final = re.compile(r"[^\x00-\x20\x7f~^:?*\[\\-][^\x00-\x20\x7f~^:?*\[\\]{0,200}")
_LOCK_SECONDS: Final = 1_800.0
_CONFIG: Final = "\n[gc]\n\tauto = 0\n[receive]\n\tautogc = false\n[maintenance]\n\tauto = false\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mirror:
    """The mirror of one remote. A changed url gets a mirror of its own, so that attempts on the old one live on."""

    root: Path
    remote: Remote
    git: Git
    transport: Transport

    def __post_init__(self) -> None:
        """Refuses a remote whose name or url could be anything but data."""
        check_remote(self.remote, protocols=self.git.protocols)

    @property
    def folder(self) -> Path:
        """Where it lies, by name and url."""
        mark = hashlib.sha256(self.remote.url.encode()).hexdigest()[:8]
        return self.root / f"{self.remote.name}-{mark}.git"

    @property
    def objects(self) -> Path:
        """What the git-dirs of attempts borrow."""
        return self.folder / "objects"

    @property
    def here(self) -> Git:
        """Git in this mirror."""
        return self.git.at(self.folder)

    def fetch_base(self) -> Base:
        """Ask the remote where the base branch is, and fetch it unless it is here already."""
        branch, commit = self._ask_head()
        ref = _base_ref(branch)
        if self._head(ref) != commit:
            with self._lock() as hold:
                if self._head(ref) != commit:
                    self._fetch(branch, commit, hold=hold)
                    # The branch may have moved since it was asked for; where it was rewritten, what was told is not here.
                    commit = Oid(self._head(ref) or commit)
        return Base(branch=branch, commit=commit, tree=self._tree(commit, branch))

    def rebuild(self, branch: str, commit: Oid) -> None:
        """Build the mirror anew beside the broken one, take the kept commits along, and put it in its place."""
        with self._lock() as hold:
            self._build(branch, commit, hold=hold)

    def branch_head(self, branch: str) -> Oid | None:
        """Where a branch is on the remote."""
        if not is_branch(branch):
            raise PermanentError(f"{branch!r} is not a branch name", why="it would not be inert in an argument list")
        return self._ls_remote(f"refs/heads/{branch}").get(f"refs/heads/{branch}")

    def keep(self, git_dir: Path, commit: Oid, *, name: str) -> None:
        """Copy a commit out of an attempt's git-dir and hold it by a ref."""
        if not _KEEP.fullmatch(name) or ".." in name:
            raise ValueError(f"{name!r} cannot name a kept commit")
        with self._lock() as hold:
            git = self.git.at(git_dir).reaching(Transport(), hold=hold)
            try:
                drop_traps(self.folder)
                git.run("push", "--quiet", "--no-verify", str(self.folder), f"+{commit}:{KEPT}{name}")
            except GitFailed as e:
                raise local_error(e, doing=f"keeping commit {commit}") from e
            except OSError as e:
                raise disk_error(e, doing=f"keeping commit {commit}") from e

    def read_file(self, commit: Oid, path: str, *, bytes_max: int) -> bytes | None:
        """A regular file's bytes."""
        if any(part in {"", ".", ".."} for part in path.split("/")):
            return None
        try:
            drop_traps(self.folder)
            entry = self.here.run("ls-tree", "-z", commit, "--", path).stdout
        except GitFailed as e:
            raise local_error(e, doing=f"reading {path} of {commit}") from e
        except OSError as e:
            raise disk_error(e, doing=f"reading {path} of {commit}") from e
        mode, _, rest = entry.decode(errors="surrogateescape").partition(" ")
        if not mode.startswith("100"):
            return None
        oid = rest.split("\t", 1)[0].split(" ")[1]
        return self.here.run("cat-file", "blob", oid, output_bytes_max=bytes_max).stdout

    def _ask_head(self) -> tuple[str, Oid]:
        wanted = self.remote.base_branch
        if wanted is not None and not is_branch(wanted):
            raise ConfigError(
                f"{wanted!r} is not a branch name", why="git would not take it", fix="correct base_branch"
            )
        refs = self._ls_remote("HEAD", *([f"refs/heads/{wanted}"] if wanted else []))
        branch = wanted or str(refs.get("symref:HEAD", "")).removeprefix("refs/heads/")
        commit = refs.get(f"refs/heads/{branch}") or (refs.get("HEAD") if branch and not wanted else None)
        if commit is not None:
            return branch, commit
        heads = sorted(ref.removeprefix("refs/heads/") for ref in self._ls_remote("refs/heads/*"))
        if not heads:
            raise PermanentError(
                f"repository {self.remote.name} has no commits",
                why="an attempt starts from a commit, and there is none",
                fix="push a first commit to it",
            )
        raise PermanentError(
            f"repository {self.remote.name} has no branch {branch}"
            if branch
            else f"{self.remote.name} names no default branch",
            why=f"it has {', '.join(heads[:10])}",
            fix="set base_branch to one of them",
        )

    def _ls_remote(self, *patterns: str) -> dict[str, Oid]:
        def ask() -> str:
            try:
                said = self.git.reaching(self.transport).run("ls-remote", "--symref", "--", self.remote.url, *patterns)
            except GitFailed as e:
                raise remote_error(e, doing=f"asking repository {self.remote.name} for its branches") from e
            return said.stdout.decode(errors="surrogateescape")

        text = again(ask, should_stop=self.git.should_stop)
        refs: dict[str, Oid] = {}
        for line in text.splitlines():
            value, _, ref = line.partition("\t")
            if value.startswith("ref: "):
                refs[f"symref:{ref}"] = Oid(value.removeprefix("ref: "))
            else:
                refs[ref] = Oid(value)
        return refs

    def _head(self, ref: str) -> str | None:
        if not self._is_sound():
            return None
        found = self.here.run("rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}", ok=(0, 1, 128))
        return found.stdout.decode().strip() if found.code == 0 else None

    def _is_sound(self) -> bool:
        """Whether git can read here without being held: an agent without a sandbox may have planted a FIFO in the mirror."""
        try:
            return all(is_regular(self.folder / name) for name in ("HEAD", "config")) and not any(traps(self.folder))
        except OSError:
            return False

    def _tree(self, commit: Oid, branch: str) -> Oid:
        for is_last in (False, True):
            try:
                return Oid(self.here.text("rev-parse", "--verify", f"{commit}^{{tree}}"))
            except GitFailed as e:
                if is_last or not (is_damage(e) or is_missing(e)):
                    raise local_error(e, doing=f"reading the mirror of {self.remote.name}") from e
                self.rebuild(branch, commit)
        raise AssertionError("unreachable")

    def _fetch(self, branch: str, commit: Oid, *, hold: tuple[int, ...]) -> None:
        """Into the mirror, or into a new one where there is none or it is broken."""
        self._sweep()
        if not self._is_sound():
            self._build(branch, commit, hold=hold)
            return

        try:
            self._fetch_into(self.folder, branch, hold=hold, is_ours=True)
            pack(self.folder, self.here, workspaces=self.root.parent / "workspaces")
        except GitFailed:
            self._build(branch, commit, hold=hold)

    def _is_damaged(self) -> bool:
        """Asked of the mirror alone: a connection that breaks in the middle of a pack looks like a broken pack of ours."""
        try:
            self.here.run("fsck", "--connectivity-only", "--no-dangling", "--no-progress")
        except GitFailed:
            return True
        return False

    def _fetch_into(self, folder: Path, branch: str, *, hold: tuple[int, ...], is_ours: bool = False) -> None:
        """Raises GitFailed where ``folder`` is a mirror of ours (not a new one) and damaged."""
        git = self.git.at(folder).reaching(self.transport, hold=hold)

        def fetch() -> None:
            try:
                git.run(
                    "fetch", "--quiet", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head",
                    "--no-auto-maintenance", "--refmap=", "--", self.remote.url,
                    f"+refs/heads/{branch}:{_base_ref(branch)}",
                )  # fmt: skip
            except GitFailed as e:
                if is_ours and is_damage(e) and self._is_damaged():
                    raise
                raise remote_error(e, doing=f"fetching {branch} of repository {self.remote.name}") from e

        again(fetch, should_stop=self.git.should_stop)

    def _build(self, branch: str, commit: Oid, *, hold: tuple[int, ...]) -> None:
        fresh, broken = self.folder.with_suffix(".new"), self.folder.with_suffix(".broken")
        remove_tree(fresh, root=self.root)
        kind = "sha256" if len(commit) == 64 else "sha1"
        try:
            git = self.git.reaching(Transport())
            git.run("init", "--quiet", "--bare", "--template=", f"--object-format={kind}", "--", str(fresh))
            with (fresh / "config").open("a") as config:
                config.write(_CONFIG)
            harden(fresh)
        except GitFailed as e:
            raise local_error(e, doing=f"making a mirror of {self.remote.name}") from e
        self._fetch_into(fresh, branch, hold=hold)
        if broken.exists() and not self.folder.exists():  # killed between the two renames below
            broken.rename(self.folder)
        if self.folder.exists():
            self._rescue(fresh, oid=commit)
            remove_tree(broken, root=self.root)
            self.folder.rename(broken)
        fresh.rename(self.folder)

    def _rescue(self, fresh: Path, *, oid: str) -> None:
        """Take kept commits out of a broken mirror, as far as it still gives them."""
        git = self.git.at(self.folder).reaching(Transport())
        with contextlib.suppress(GitFailed, TransientError, OSError):
            rescuable(self.folder, oid=oid)
            for ref in git.text("for-each-ref", "--format=%(refname)", KEPT).splitlines():
                git.run("push", "--quiet", "--no-verify", str(fresh), f"{ref}:{ref}", ok=(0, 1, 128))

    def _sweep(self) -> None:
        """Remove what a killed git left. Holding the lock, which a live child of a killed worker would share, we are alone."""
        for pattern in (
            "*.lock",
            "refs/**/*.lock",
            "objects/pack/tmp_*",
            "objects/pack/.tmp-*",
            "objects/incoming-*",
            "objects/tmp_objdir-*",
        ):
            for left in self.folder.glob(pattern):
                remove_tree(left, root=self.root)

    @contextlib.contextmanager
    def _lock(self) -> Iterator[tuple[int, ...]]:
        with mirror_lock(self.folder) as fd:
            if not take(fd, seconds=_LOCK_SECONDS, should_stop=self.git.should_stop):
                is_stopped = self.git.should_stop()
                raise TransientError(
                    f"the mirror of {self.remote.name} is locked",
                    why="the attempt is being stopped"
                    if is_stopped
                    else "another process has been fetching it for too long",
                    fix="" if is_stopped else "look for a hanging git fetch",
                )
            yield (fd,)


def is_branch(name: str) -> bool:
    """Whether a name can be a branch at all and is inert in an argument list and as an ls-remote pattern."""
    if not _BRANCH.fullmatch(name) or ".." in name or "//" in name or "@{" in name or name.endswith(("/", ".")):
        return False
    return not any(part.startswith(".") or part.endswith(".lock") for part in name.split("/"))


def check_remote(remote: Remote, *, protocols: tuple[str, ...]) -> None:
    """Raises ConfigError for a name that is no folder name, or a url that could run a program or carries a password."""
    if not _NAME.fullmatch(remote.name) or ".." in remote.name:
        raise ConfigError(
            f"{remote.name!r} cannot name a repository",
            why="it becomes a folder: letters, digits, dot, dash and underscore only",
            fix="rename it in the configuration",
        )
    url = remote.url
    scheme = urlsplit(url).scheme if "://" in url else ("file" if url.startswith("/") else "ssh" if ":" in url else "")
    if "::" in url.split("/", 1)[0] or url.startswith("-") or scheme not in protocols or not url.isprintable():
        raise ConfigError(
            f"the url of repository {remote.name} cannot be used",
            why=f"allowed are {', '.join(protocols)} urls and absolute paths",
            fix="correct its url in the configuration",
        )
    if "://" in url and urlsplit(url).password:
        raise ConfigError(
            f"the url of repository {remote.name} holds a password",
            why="every process on this machine could read it in git's arguments",
            fix="take it out of the url; a token belongs in the forge's token setting",
        )


def _base_ref(branch: str) -> str:
    """A flat name, so that a branch ``a/b`` can follow a branch ``a``."""
    flat = quote(branch, safe="")
    return f"refs/tamma/base/{flat if len(flat) <= 150 else hashlib.sha256(branch.encode()).hexdigest()}"
