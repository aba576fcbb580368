"""From a folder that an agent wrote to a commit of ours: walk, audit, blobs, index, tree, commit; always the same one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tamma.adapters.git.audit import clashes
from tamma.adapters.git.command import Git
from tamma.adapters.git.difference import index_lines, list_changes, list_tree, make_patch
from tamma.adapters.git.walk import GITLINK, Bounds, Entry, Findings, Walk
from tamma.adapters.proc.removal import remove_tree
from tamma.core.errors import PASSING, PermanentError
from tamma.core.ids import Oid
from tamma.core.policy import ChangePolicy
from tamma.core.words import counted
from tamma.ports.workspace import Base, Candidate

_REFUSALS_MAX: Final = 50
_CHANGED_FACTOR: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Author:
    """Who writes the commits."""

    name: str = "Tamma"
    email: str = "tamma@localhost"


@dataclass(frozen=True, slots=True, kw_only=True)
class Capture:
    """Reads one attempt's tree. ``git`` works in the trusted git-dir; ``index`` holds the base; ``desk`` is a private
    folder for what is needed in between."""

    git: Git
    folder: Path
    desk: Path
    index: Path
    base: Base
    policy: ChangePolicy
    author: Author
    excludes: Sequence[str]
    entries_max: int

    def run(self, *, message: str) -> Candidate:
        """Read, audit, commit."""
        before = list_tree(self.git, self.base.tree)
        findings = Walk(
            self.folder,
            base=before,
            excludes=self.excludes,
            ignored=_Rules(self, before).ignored,
            bounds=self._bounds(),
        ).run()
        after = _merge(before, findings)
        refusals = [*findings.refusals, *clashes([p for p in after if p not in before], after)]
        tree = self._write_tree(before, after, findings.contents)
        commit = self._commit(tree, message)
        return describe(self.git, commit=commit, tree=tree, base=self.base, policy=self.policy, refusals=refusals)

    def _bounds(self) -> Bounds:
        return Bounds(
            entries_max=self.entries_max,
            file_bytes_max=self.policy.file_bytes_max,
            changed_bytes_max=_CHANGED_FACTOR * self.policy.bytes_max,
        )

    def _write_tree(
        self, before: Mapping[bytes, Entry], after: Mapping[bytes, Entry], contents: Mapping[str, bytes]
    ) -> Oid:
        needed = {entry.oid for path, entry in after.items() if before.get(path) != entry}
        stream = b"".join(b"blob\ndata %d\n%s\n" % (len(c), c) for oid, c in contents.items() if oid in needed)
        if stream:  # fast-import checks for SHA-1 collisions, and never looks at attributes or the work tree
            self.git.run("fast-import", "--quiet", "--done", stdin=stream + b"done\n")
        changed = [
            (path, after.get(path)) for path in before.keys() | after.keys() if before.get(path) != after.get(path)
        ]
        if not changed:
            return self.base.tree
        index = self.desk / "capture.index"
        shutil.copyfile(self.index, index)
        assert self.git.git_dir is not None
        git = self.git.at(self.git.git_dir, index=index)
        zero = "0" * len(self.base.commit)
        git.run(
            "update-index", "--add", "--replace", "-z", "--index-info", stdin=index_lines(sorted(changed), zero=zero)
        )
        return Oid(git.text("write-tree"))

    def _commit(self, tree: Oid, message: str) -> Oid:
        date = self.git.text("show", "-s", "--no-show-signature", "--format=%ct +0000", self.base.commit)
        env = {
            f"GIT_{who}_{what}": value
            for who in ("AUTHOR", "COMMITTER")
            for what, value in (("NAME", self.author.name), ("EMAIL", self.author.email), ("DATE", f"@{date}"))
        }
        text = message.replace("\0", "").encode("utf-8", "replace")
        return Oid(self.git.text("commit-tree", tree, "-p", self.base.commit, "-F", "-", stdin=text, env=env))


def _is_made(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        if e.errno in PASSING:
            raise
        return False
    return True


class _Rules:
    """The base's committed .gitignore files, laid out in a private folder; the agent's own edits of them do not count."""

    def __init__(self, capture: Capture, before: Mapping[bytes, Entry]) -> None:
        self._capture = capture
        self._paths = [
            p for p, e in before.items() if p.rsplit(b"/", 1)[-1] == b".gitignore" and e.mode.startswith("100")
        ]
        self._folder = capture.desk / "rules"
        self._git: Git | None = None

    def ignored(self, folders: Sequence[bytes], files: Sequence[bytes]) -> set[bytes]:
        """Which of these paths the rules leave out. Folders are created beside the rules, so that ``name/`` can match; one that
        cannot be (too long, or a rules file was there) is not left out, and the walk judges what is in it."""
        if not self._paths:
            return set()
        git = self._prepare()
        folders = [path for path in folders if _is_made(self._folder / os.fsdecode(path))]
        # "./" keeps a name like ":(top)x" from being read as pathspec magic; this command does not take literal pathspecs.
        asked = b"".join(b"./%s\0" % path for path in (*folders, *files))
        env = {"GIT_LITERAL_PATHSPECS": "0"}
        out = git.run("check-ignore", "-z", "--stdin", "--no-index", stdin=asked, ok=(0, 1), env=env).stdout
        return {path.removeprefix(b"./") for path in out.split(b"\0") if path}

    def _prepare(self) -> Git:
        if self._git is None:
            remove_tree(self._folder, root=self._capture.desk)
            self._folder.mkdir()
            assert self._capture.git.git_dir is not None
            index = self._capture.desk / "rules.index"
            shutil.copyfile(self._capture.index, index)
            self._git = self._capture.git.at(self._capture.git.git_dir, work_tree=self._folder, index=index)
            self._git.run("checkout-index", "-q", "-f", "-z", "--stdin", stdin=b"\0".join(self._paths) + b"\0")
        return self._git


def describe(
    git: Git, *, commit: Oid, tree: Oid, base: Base, policy: ChangePolicy, refusals: Sequence[str] = ()
) -> Candidate:
    """The candidate that a tree is, with what its sizes refuse."""
    told = list(refusals)
    changes = list_changes(git, base.tree, tree) if tree != base.tree else ()
    binaries = sum(1 for change in changes if change.is_binary and change.status != "D")
    if binaries > policy.binaries_max:
        told.append(f"the change holds {counted(binaries, 'binary file')}; {policy.binaries_max} are allowed")
    patch = b""
    try:
        patch = make_patch(git, base.tree, tree) if changes else b""
    except PermanentError as e:
        told.append(f"the difference is too big to be shown: {e}")
    if len(patch) > policy.bytes_max:
        told.append(f"the difference has {len(patch)} bytes; {policy.bytes_max} are allowed")
    if len(told) > _REFUSALS_MAX:
        told = [*told[:_REFUSALS_MAX], f"and {len(told) - _REFUSALS_MAX} more"]
    return Candidate(base=base.commit, commit=commit, tree=tree, changes=changes, patch=patch, refusals=tuple(told))


def _merge(before: Mapping[bytes, Entry], findings: Findings) -> dict[bytes, Entry]:
    """The tree to commit: what was found, with the base's version of what could not be taken, and its submodules."""
    after = dict(findings.entries)
    blocked = tuple(path + b"/" for path in findings.refused)
    for path, entry in before.items():
        kept = path in findings.refused or not findings.is_complete or entry.mode == GITLINK
        if path not in after and (kept or (blocked and path.startswith(blocked))):
            after[path] = entry
    return _without_conflicts(after, before)


def _without_conflicts(after: dict[bytes, Entry], before: Mapping[bytes, Entry]) -> dict[bytes, Entry]:
    """A kept path may stand where a new file or folder now is; the base's version wins, since it was refused anyway."""
    folders = {path[:n] for path in after for n, byte in enumerate(path) if byte == 0x2F}
    for path in [p for p in after if p in folders]:
        inside = [p for p in after if p.startswith(path + b"/")]
        losers = inside if path in before else [path]
        for loser in losers:
            del after[loser]
    return after
