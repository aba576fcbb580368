"""A real bare remote, a builder of commits in it, and workspaces on a state folder of their own."""

from __future__ import annotations

import os
import subprocess
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tamma.adapters.git import GitWorkspaces
from tamma.adapters.git.workspace import GitWorkspace
from tamma.core.ids import Oid, TaskId
from tamma.ports.workspace import Base, Remote

IDENTITY = ("-c", "user.name=someone", "-c", "user.email=someone@example.org")


def git(*argv: str | Path, cwd: Path, stdin: bytes = b"") -> str:
    """Plain git, as a person would run it, with no configuration of this machine."""
    env = {"PATH": os.environ["PATH"], "HOME": str(cwd), "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull}
    done = subprocess.run(["git", *map(str, argv)], cwd=cwd, env=env, input=stdin, capture_output=True, check=True)
    return done.stdout.decode(errors="replace").strip()


@dataclass
class World:
    """One remote repository and the workspaces on it."""

    tmp: Path
    remote: Remote
    workspaces: GitWorkspaces
    origin: Path
    author: Path
    task: TaskId
    stack: ExitStack

    def commit(self, files: dict[str, bytes | None], *, branch: str = "main") -> Oid:
        """Somebody else commits files (None deletes) and pushes."""
        for path, content in files.items():
            place = self.author / path
            if content is None:
                place.unlink()
                continue
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
        git("add", "-A", "-f", cwd=self.author)
        return self.publish(branch=branch)

    def publish(self, *, branch: str = "main") -> Oid:
        """Commit the author's index as it stands, and push."""
        git(*IDENTITY, "commit", "--quiet", "--allow-empty", "-m", "a commit", cwd=self.author)
        git("push", "--quiet", "--force", self.origin, f"HEAD:refs/heads/{branch}", cwd=self.author)
        return Oid(git("rev-parse", "HEAD", cwd=self.author))

    def open(self, *, epoch: int = 1, base: Base | None = None) -> GitWorkspace:
        """A workspace that lives as long as the test."""
        base = base or self.workspaces.fetch_base(self.remote)
        return self.stack.enter_context(self.workspaces.open(self.remote, base, task_id=self.task, epoch=epoch))

    def heads(self, repository: Path | None = None) -> dict[str, str]:
        """Branches of the remote, read from its own files."""
        rows = git("for-each-ref", "--format=%(refname) %(objectname)", cwd=repository or self.origin).splitlines()
        return dict(row.split(" ", 1) for row in rows)


@pytest.fixture
def make_world(tmp_path: Path) -> Iterator[Callable[..., World]]:
    """Builds worlds below one folder."""
    with ExitStack() as stack:

        def make(files: dict[str, bytes | None] | None = None, **settings: object) -> World:
            origin, author = tmp_path / "origin.git", tmp_path / "author"
            git("init", "--quiet", "--bare", "--initial-branch=main", origin, cwd=tmp_path)
            git("init", "--quiet", "--initial-branch=main", author, cwd=tmp_path)
            (author / ".git/info/attributes").write_text("* -text -ident -filter -working-tree-encoding\n")
            world = World(
                tmp=tmp_path,
                remote=Remote(name="demo", url=f"file://{origin}"),
                workspaces=GitWorkspaces(state=tmp_path / "state", **settings),  # type: ignore[arg-type]
                origin=origin,
                author=author,
                task=TaskId(str(uuid.UUID(int=7))),
                stack=stack,
            )
            if files is not None:
                world.commit(files)
            return world

        yield make


BASE_FILES: dict[str, bytes | None] = {
    "README.md": b"read me\n",
    "src/app.py": b"print('hello')\n",
    "src/crlf.txt": b"one\r\ntwo\r\n",
    ".gitignore": b"build/\n*.log\n!keep.log\n",
    "docs/big/table.txt": b"x\n" * 50,
}


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    """A small repository."""
    return make_world(dict(BASE_FILES))
