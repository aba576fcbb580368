"""A throwaway project: a real bare repository, issue files, a scripted agent, and ``tamma`` as real child processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from tamma.core.event import Event, decode
from tamma.core.ids import IssueRef, TaskId, task_id

GIT_ENV = {
    "PATH": os.environ["PATH"],
    "HOME": "/nonexistent",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "alice",
    "GIT_AUTHOR_EMAIL": "alice@example.invalid",
    "GIT_COMMITTER_NAME": "alice",
    "GIT_COMMITTER_EMAIL": "alice@example.invalid",
}
FILES = {
    "calc.py": "def add(a, b):\n    return a - b\n",
    "check.py": "import calc\nassert calc.add(2, 2) == 4, 'two and two'\n",
    "README.md": "calc\n",
}
FIX = '{ replace = "calc.py", old = "a - b", new = "a + b" }'
GATE = f"""
[[gates]]
name = "check"
argv = ["{sys.executable}", "check.py"]
"""
QUICK = """
[retry]
backoff_base_seconds = 0.05
backoff_max_seconds = 0.1

[limits]
tick_seconds = 0.2
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """How a ``tamma`` process ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Its output as one document."""
        return json.loads(self.out)


@dataclass(slots=True, kw_only=True)
class Project:
    """One folder with a forge, a configuration and a database URL."""

    root: Path
    database_url: str
    env: dict[str, str] = field(default_factory=dict)
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    # What is there

    def repository(self, files: Mapping[str, str] = FILES, *, name: str = "demo") -> Path:
        """A bare repository with one commit on main; returns its path."""
        bare = self.root / "forge" / name / "repo.git"
        bare.parent.mkdir(parents=True, exist_ok=True)
        (bare.parent / "issues").mkdir()
        work = self.root / f"seed-{name}"
        work.mkdir()
        for path, text in files.items():
            (work / path).parent.mkdir(parents=True, exist_ok=True)
            (work / path).write_text(text)
        git("init", "-q", "-b", "main", cwd=work)
        git("add", "-A", cwd=work)
        git("commit", "-q", "-m", "first", cwd=work)
        git("clone", "-q", "--bare", str(work), str(bare), cwd=self.root)
        return bare

    def issue(
        self,
        number: str = "1",
        *,
        title: str = "Adding is wrong",
        body: str = "2 + 2 is 0",
        name: str = "demo",
        **matter: Any,
    ) -> Path:
        """An issue file, labelled unless told otherwise."""
        values = {"title": title, "labels": ["tamma"], "author": "alice", "state": "open"} | matter
        path = self.root / "forge" / name / "issues" / f"{number}.md"
        front = "\n".join(f"{key}: {json.dumps(value)}" for key, value in values.items())
        path.write_text(f"---\n{front}\n---\n{body}\n")
        return path

    def script(self, *plays: str, **by_turn: str) -> None:
        """What the agent does: whole ``[[play]]`` tables, or the steps of turn0, turn1, …"""
        text = "\n".join(plays)
        for turn, steps in by_turn.items():
            text += f'\n[[play]]\nissue = "*"\nturn = {turn.removeprefix("turn")}\nsteps = [{steps}]\n'
        (self.root / "agent.toml").write_text(text)

    def configure(self, extra: str = GATE, *, steps: str | None = FIX, quick: str = QUICK) -> None:
        """tamma.toml with a scripted agent that does ``steps`` whenever it is asked."""
        if steps is not None:
            (self.root / "agent.toml").write_text(f'[[play]]\nissue = "*"\nsteps = [{steps}]\n')
        agent = "" if "[agent]" in extra else '[agent]\nkind = "scripted"\nscript = "agent.toml"\n'
        (self.root / "tamma.toml").write_text(f'[forge]\nroot = "forge"\n{agent}{quick}{extra}')

    # Processes

    def run(self, *args: str, env: Mapping[str, str] | None = None, timeout: float = 60) -> Done:
        """``tamma`` to its end."""
        child = self.start(*args, env=env)
        out, err = child.communicate(timeout=timeout)
        return Done(code=child.returncode, out=out, err=err)

    def start(
        self, *args: str, env: Mapping[str, str] | None = None, output: Path | None = None
    ) -> subprocess.Popen[str]:
        """``tamma`` in the background; what it prints goes into pipes, or into one file."""
        with output.open("wb") if output else nullcontext() as file:
            out, err = (file, subprocess.STDOUT) if file else (subprocess.PIPE, subprocess.PIPE)
            child = subprocess.Popen(
                [sys.executable, "-m", "tamma", *args], cwd=self.root, env=self.environ() | dict(env or {}),
                stdin=subprocess.DEVNULL, stdout=out, stderr=err, text=True, start_new_session=True,
            )  # fmt: skip
        self.started.append(child)
        return child

    def environ(self) -> dict[str, str]:
        """What the processes get."""
        base = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.root),
            "LANG": "C.UTF-8",
            "DATABASE_URL": self.database_url,
        }
        if path := os.environ.get("PYTHONPATH"):  # the code under test lies elsewhere
            base["PYTHONPATH"] = path
        return base | self.env

    def stop_all(self) -> None:
        """End whatever is still running."""
        for child in self.started:
            if child.poll() is None:
                child.send_signal(signal.SIGCONT)
                child.kill()
            child.communicate()

    # What became of it, asked of the database, the forge's files and git alone

    def task_id(self, number: str = "1", *, generation: int = 1, name: str = "demo") -> TaskId:
        """The id an issue's task has."""
        return task_id(IssueRef(forge="local", repository=name, number=number), kind="resolve", generation=generation)

    def rows(self, sql: str, *args: object) -> list[tuple[Any, ...]]:
        """Straight from the database."""
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            return connection.execute(sql, args).fetchall()

    def state(self, task: TaskId | None = None) -> tuple[str, str | None]:
        """(state, outcome) of a task."""
        found = self.rows("SELECT state, outcome FROM task WHERE id = %s", task or self.task_id())
        return found[0] if found else ("none", None)

    def events(self, task: TaskId | None = None) -> list[Event]:
        """A task's stream."""
        found = self.rows(
            "SELECT position, stream, version, at, tags, correlation, type, data FROM event WHERE stream = %s ORDER BY version",
            f"task:{task or self.task_id()}",
        )
        return [
            Event(position=p, stream=s, version=v, at=at, tags=tuple(tags), correlation=c, fact=decode(t, data), type=t)
            for p, s, v, at, tags, c, t, data in found
        ]

    def types(self, task: TaskId | None = None) -> list[str]:
        """The types of a task's events, in order."""
        return [event.fact.TYPE for event in self.events(task)]

    def branches(self, name: str = "demo") -> dict[str, str]:
        """tamma's branches in the bare repository."""
        out = git(
            "for-each-ref",
            "--format=%(refname:short) %(objectname)",
            "refs/heads/tamma",
            cwd=self.root / "forge" / name / "repo.git",
        )
        return dict(line.split() for line in out.splitlines())

    def refs(self, name: str = "demo") -> str:
        """Every reference of the bare repository."""
        return git("for-each-ref", cwd=self.root / "forge" / name / "repo.git")

    def show(self, path: str, *, branch: str = "tamma/1", name: str = "demo") -> str:
        """A file on a branch."""
        return git("show", f"{branch}:{path}", cwd=self.root / "forge" / name / "repo.git")

    def changes(self, name: str = "demo") -> list[str]:
        """The texts of the change files."""
        return [path.read_text() for path in sorted((self.root / "forge" / name / "changes").glob("*.md"))]

    def issue_text(self, number: str = "1", *, name: str = "demo") -> str:
        """The issue file as it is now."""
        return (self.root / "forge" / name / "issues" / f"{number}.md").read_text()

    def comments(self, number: str = "1", *, name: str = "demo") -> list[str]:
        """The comments on an issue, by their hidden marker."""
        return [line for line in self.issue_text(number, name=name).splitlines() if "<!-- tamma:notice=" in line]


def git(*args: str, cwd: Path) -> str:
    """git without the machine's configuration."""
    return subprocess.run(["git", *args], cwd=cwd, env=GIT_ENV, check=True, capture_output=True, text=True).stdout


def wait_until(is_so: Callable[[], bool], *, seconds: float = 30, what: str = "it") -> None:
    """Poll until it is so; fail when it takes too long."""
    give_up_at = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < give_up_at, f"{what} did not happen within {seconds} s"
        time.sleep(0.02)


@contextmanager
def a_project(root: Path, database_url: str) -> Iterator[Project]:
    """A project, and no process of it afterwards."""
    project = Project(root=root, database_url=database_url)
    try:
        yield project
    finally:
        project.stop_all()


def pids_with(marker: str, *, skip: Sequence[int] = ()) -> list[int]:
    """Processes of this machine whose environment holds a text."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) not in skip:
            try:
                if marker.encode() in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found
