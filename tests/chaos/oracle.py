"""What must hold after any run, asked of git, of the forge's files and of the database in plain SQL; nothing of Tamma is used.

Every check returns what is against it, in words. The names are those of the invariants in the design's reliability page.
"""

from __future__ import annotations

import hashlib
import re
import struct
import subprocess
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import psycopg

_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
_LEGAL: Final = {
    ("queued", "running"), ("retryable", "running"), ("running", "queued"), ("running", "retryable"), ("running", "blocked"),
    ("running", "succeeded"), ("running", "failed"), ("running", "cancelled"), ("queued", "cancelled"),
    ("retryable", "cancelled"), ("blocked", "cancelled"), ("blocked", "queued"),
}  # fmt: skip
_GIT: Final = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1", "PATH": "/usr/bin:/bin:/usr/local/bin"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What was left when all was quiet."""

    root: Path
    database_url: str
    issues: Mapping[str, str]  # number -> repository; no number is in two of them
    secret: str
    trees: frozenset[str] = frozenset()  # those that passed their gates in a log that was destroyed

    @property
    def repositories(self) -> list[str]:
        """Those that have issues."""
        return sorted(set(self.issues.values()))

    def forge(self, name: str) -> Path:
        """The folder of a repository."""
        return self.root / "forge" / name

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        """Straight from the database."""
        with psycopg.connect(self.database_url) as connection:
            return connection.execute(statement).fetchall()

    def git(self, name: str, *args: str) -> str:
        """Straight from a bare repository."""
        done = subprocess.run(
            ["git", "-c", "safe.directory=*", *args], cwd=self.forge(name) / "repo.git", env=_GIT, check=True, capture_output=True
        )  # fmt: skip
        return done.stdout.decode(errors="replace")

    def issue(self, number: str) -> str:
        """The issue's file."""
        return (self.forge(self.issues[number]) / "issues" / f"{number}.md").read_text()

    def branches(self, name: str) -> set[str]:
        """Every reference of a repository, without its main branch."""
        main = self.git(name, "symbolic-ref", "HEAD").strip()
        return set(self.git(name, "for-each-ref", "--format=%(refname)").splitlines()) - {main}

    def events(self) -> Iterator[dict[str, Any]]:
        """Every event, stream by stream."""
        for stream, version, kind, data in self.rows(
            "SELECT stream, version, type, data FROM event ORDER BY stream, version"
        ):
            yield {"stream": stream, "version": version, "type": kind, "data": data}


def nothing_is_lost(scene: Scene) -> Iterator[str]:
    """I1: each issue ended, and delivered."""
    found = {n: (s, o, c, r) for n, s, o, c, r in scene.rows("SELECT issue, state, outcome, crashes, reason FROM task")}
    for number in scene.issues:
        state, outcome, crashes, reason = found.get(number, ("none", None, 0, ""))
        if (state, outcome) != ("succeeded", "delivered"):
            yield f"issue {number} ended as {state}, {outcome} after {crashes} crashes: {reason}"


def nothing_is_done_twice(scene: Scene) -> Iterator[str]:
    """I2: one task, one branch, one change, one comment for an issue."""
    for number, count in scene.rows("SELECT issue, count(*) FROM task GROUP BY issue HAVING count(*) > 1"):
        yield f"issue {number} has {count} tasks"
    heads = Counter(
        _front(path, "head") for name in scene.repositories for path in (scene.forge(name) / "changes").glob("*.md")
    )
    branches = {ref for name in scene.repositories for ref in scene.branches(name)}
    for number in scene.issues:
        if heads[f"tamma/{number}"] != 1:
            yield f"issue {number} has {heads[f'tamma/{number}']} changes"
        if f"refs/heads/tamma/{number}" not in branches:
            yield f"issue {number} has no branch"
        comments = scene.issue(number).count("<!-- tamma:notice=")
        if comments != 1:
            yield f"issue {number} has {comments} comments"


def nothing_is_pushed_elsewhere(scene: Scene) -> Iterator[str]:
    """I10: only our branches, and on each exactly the tree that the gates saw."""
    there = {(name, ref) for name in scene.repositories for ref in scene.branches(name)}
    ours = {(name, f"refs/heads/tamma/{number}") for number, name in scene.issues.items()}
    for name, ref in sorted(there - ours):
        yield f"{ref} of {name} is nobody's"
    gated = defaultdict(set)
    for event in scene.events():
        if event["type"] == "GATE.RUN.FINISHED" and event["data"]["verdict"] == "pass":
            gated[event["stream"]].add(event["data"]["tree"])
    tasks = {number: f"task:{task}" for number, task in scene.rows("SELECT issue, id FROM task")}
    for name, ref in sorted(there & ours):  # one that is not there is told by another invariant
        number = ref.rpartition("/")[2]
        tree = scene.git(name, "rev-parse", f"{ref}^{{tree}}").strip()
        if tree not in gated[tasks[number]] | scene.trees:
            yield f"the tree of tamma/{number} passed no gate"


def every_step_is_legal(scene: Scene) -> Iterator[str]:
    """I9: from state to state only as the table of states allows, told from the log alone."""
    state: dict[str, str] = {}
    for event in scene.events():
        new = _state_after(event["type"], event["data"])
        old = state.get(event["stream"])
        if new is not None:
            if old is not None and (old, new) not in _LEGAL:
                yield f"{event['stream']} version {event['version']}: from {old} to {new}"
            state[event["stream"]] = new
    held = {f"task:{task}": s for task, s in scene.rows("SELECT id, state FROM task")}
    for stream, told in state.items():
        if held.get(stream) != told:
            yield f"{stream} is {held.get(stream)}, its log says {told}"


def no_stale_holder_wrote(scene: Scene) -> Iterator[str]:
    """I3: once an attempt has begun, no earlier one says or does anything; each attempt has the next number."""
    newest: dict[str, int] = defaultdict(int)
    for event in scene.events():
        epoch = event["data"].get("epoch")
        if event["type"] == "TASK.CLAIM.SUCCEEDED":
            if epoch != newest[event["stream"]] + 1:
                yield f"{event['stream']} version {event['version']}: attempt {epoch} after {newest[event['stream']]}"
            newest[event["stream"]] = epoch
        elif epoch is not None and epoch < newest[event["stream"]]:
            yield f"{event['stream']} version {event['version']}: {event['type']} of attempt {epoch}, {newest[event['stream']]} has begun"


def every_effect_was_intended(scene: Scene) -> Iterator[str]:
    """I5: an intent before each record, and no intent left open."""
    intended = set()
    for event in scene.events():
        if event["type"] == "EFFECT.INTEND.SUCCEEDED":
            intended.add(event["data"]["key"])
        if event["type"] == "EFFECT.RECORD.SUCCEEDED" and event["data"]["key"] not in intended:
            yield f"{event['data']['key']} was recorded but never intended"
    for (key,) in scene.rows("SELECT key FROM effect WHERE state = 'intended'"):
        yield f"{key} was intended, and nobody knows what became of it"


def the_log_is_whole(scene: Scene) -> Iterator[str]:
    """I4: versions without holes, each event's hash over the one before it, as the documentation tells how."""
    before: dict[str, tuple[int, bytes]] = {}
    told = "jsonb_build_array(stream, version, position, type, tags, correlation, data)::text"
    for stream, version, at, found, text in scene.rows(
        f"SELECT stream, version, at, hash, {told} FROM event ORDER BY stream, version"
    ):
        last, chained = before.get(stream, (0, b""))
        moment = struct.pack(">q", (at - _EPOCH) // timedelta(microseconds=1))
        expected = hashlib.sha256(chained + moment + text.encode()).digest()
        if version != last + 1:
            yield f"{stream} has no version {last + 1}"
        if bytes(found) != expected:
            yield f"{stream} version {version} is not what its hash says"
        before[stream] = (version, bytes(found))
    for stream, version, head in scene.rows("SELECT 'task:' || id, version, head FROM task"):
        if before.get(stream) != (version, bytes(head)):
            yield f"{stream} does not end where its row says"


def nothing_is_left_over(scene: Scene) -> Iterator[str]:
    """I7: no process, no lease, no reservation, no hold, no checkout, no box, no connection."""
    mark = str(scene.root).encode()
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                if (
                    b"TAMMA_" in (environ := (entry / "environ").read_bytes())
                    and mark in environ
                    and b"/postgres" not in environ
                ):
                    yield f"process {entry.name} still runs: {(entry / 'cmdline').read_bytes()[:200]!r}"
            except OSError:
                continue
    for what, condition in (
        ("a lease", "lease_expires_at IS NOT NULL"),
        ("a reservation", "dispatched_by IS NOT NULL"),
    ):
        for (task,) in scene.rows(f"SELECT id FROM task WHERE {condition}"):
            yield f"task {task} has {what}"
    for (key,) in scene.rows("SELECT key FROM effect WHERE held_by IS NOT NULL"):
        yield f"effect {key} is held"
    for left in (scene.root / ".tamma" / "workspaces").glob("*/*"):
        yield f"{left} was left"
    for (name,) in scene.rows(
        "SELECT application_name FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    ):
        yield f"a connection of {name!r} is open"


def no_secret_is_out(scene: Scene) -> Iterator[str]:
    """I8: the canary is in no event, blob, issue, change or commit."""
    like = f"%{scene.secret}%"
    with psycopg.connect(scene.database_url) as connection:
        for table, column in (("event", "data::text"), ("task", "reason"), ("blob", "encode(content, 'escape')")):
            row = connection.execute(f"SELECT count(*) FROM {table} WHERE {column} LIKE %s", [like]).fetchone()
            if row != (0,):
                yield f"the canary is in {table}"
    for name in scene.repositories:
        for path in scene.forge(name).glob("*/*.md"):
            if scene.secret in path.read_text():
                yield f"the canary is in {path.name} of {name}"
        if scene.secret in scene.git(name, "log", "-p", "--branches=tamma/*"):
            yield f"the canary is in a commit of {name}"


INVARIANTS: Final[Mapping[str, Callable[[Scene], Iterator[str]]]] = {
    "I1 nothing is lost": nothing_is_lost,
    "I2 nothing is done twice": nothing_is_done_twice,
    "I3 no stale holder wrote": no_stale_holder_wrote,
    "I4 the log is whole": the_log_is_whole,
    "I5 every effect was intended": every_effect_was_intended,
    "I7 nothing is left over": nothing_is_left_over,
    "I8 no secret is out": no_secret_is_out,
    "I9 every step is legal": every_step_is_legal,
    "I10 nothing is pushed elsewhere": nothing_is_pushed_elsewhere,
}


def violations(scene: Scene) -> dict[str, list[str]]:
    """What each invariant finds; all empty if all hold."""
    return {name: list(check(scene)) for name, check in INVARIANTS.items()}


def _state_after(kind: str, data: Mapping[str, Any]) -> str | None:
    fixed = {
        "TASK.CREATE.SUCCEEDED": "queued",
        "TASK.CLAIM.SUCCEEDED": "running",
        "TASK.CANCEL.SUCCEEDED": "cancelled",
        "TASK.UNBLOCK.SUCCEEDED": "queued",
    }
    if kind in {"TASK.SETTLE.SUCCEEDED", "TASK.REAP.SUCCEEDED"}:
        return str(data["state"])
    return fixed.get(kind)


def _front(path: Path, key: str) -> str:
    match = re.search(rf"^{key}: *[\"']?([^\"'\n]+)", path.read_text(), re.MULTILINE)
    return match[1].strip() if match else ""
