"""A world for gates without git or sandbox: trees are dicts of files, commands are real processes."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Final

from tamma.core.errors import PermanentError
from tamma.core.gate import GateReport, GateSpec, TestRun
from tamma.core.ids import BlobId, Oid, blob_id
from tamma.core.policy import ChangePolicy
from tamma.core.redact import Redactor, clean
from tamma.engine.gates import GateRunner, GateSite
from tamma.ports.system import Completed, ProcessLimits, Stop
from tamma.ports.workspace import Base, Candidate, PathChange, PushResult

Files = Mapping[str, str]
SECRET: Final = "hunter2-is-the-secret"


@dataclass
class LocalBox:
    """Runs processes right here."""

    folder: Path
    should_stop: Callable[[], bool] | None
    spawned: list[tuple[str, ...]]

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
        """Run to the end, or to the limit."""
        self.spawned.append(tuple(argv))
        if self.should_stop is not None and self.should_stop():
            return Completed(exit_code=-15, stop=Stop.ASKED, output="", output_bytes=0, duration=timedelta(0))
        full = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "HOME": str(self.folder)} | dict(env)
        try:
            child = subprocess.Popen(
                list(argv), cwd=self.folder / cwd, env=full, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        except OSError as e:
            raise PermanentError(f"cannot start {argv[0]}", why=str(e)) from e
        stop = Stop.EXITED
        try:
            out, _ = child.communicate(timeout=limits.wall_clock.total_seconds())
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            out, _ = child.communicate()
            stop = Stop.WALL_CLOCK
        text = clean(out.decode(errors="replace"))
        took = timedelta(milliseconds=5)
        return Completed(exit_code=child.returncode, stop=stop, output=text, output_bytes=len(out), duration=took)


@dataclass
class LocalSandbox:
    """Boxes that are none."""

    name: str = "none"
    spawned: list[tuple[str, ...]] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    refusal: OSError | None = None  # what the machine says instead of starting anything

    def box(
        self, folder: Path, *, tag: str, readable: Sequence[Path] = (), should_stop: Callable[[], bool] | None = None
    ) -> LocalBox:
        """A box for the folder."""
        self.tags.append(tag)
        if self.refusal is not None:
            raise self.refusal
        return LocalBox(folder, should_stop, self.spawned)

    def tidy(self) -> None:
        """Nothing is left behind."""

    def sweep(self, tag: str) -> int:
        """Nothing is left behind."""
        return 0


@dataclass
class Memory:
    """Blobs and baselines in dicts."""

    blobs: dict[BlobId, bytes] = field(default_factory=dict)
    values: dict[str, bytes] = field(default_factory=dict)


@dataclass
class MemoryBlobs:
    """Blobs by hash."""

    kept: dict[BlobId, bytes]

    def put(self, content: bytes) -> BlobId:
        """Idempotent."""
        self.kept[blob_id(content)] = content
        return blob_id(content)

    def get(self, blob: BlobId) -> bytes | None:
        """None if unknown."""
        return self.kept.get(blob)


@dataclass
class MemoryBaselines:
    """The first value stays for a day; all of them have one age."""

    kept: dict[str, bytes]
    age: timedelta = timedelta(0)

    def get(self, key: str, *, max_age: timedelta | None = None) -> bytes | None:
        """None if unknown, or too old."""
        return None if max_age is not None and self.age > max_age else self.kept.get(key)

    def put(self, key: str, value: bytes) -> None:
        """Idempotent; what is old gives way."""
        if self.age > timedelta(days=1):
            self.kept.clear()
        self.kept.setdefault(key, value)


class World:
    """A base, changes to it, a workspace that checks trees out, and a runner."""

    def __init__(self, root: Path, base: Files) -> None:
        self.folder = root / "agent"
        self.scratch = root
        self.trees: dict[Oid, dict[str, str]] = {}
        self.checkouts: list[str] = []
        self.broken_checkouts: set[str] = set()
        self.base = Base(branch="main", commit=Oid("c" * 40), tree=self._tree(base))
        self.sandbox = LocalSandbox()
        self.memory = Memory()
        self.baselines = MemoryBaselines(self.memory.values)
        self.runner = GateRunner(
            sandbox=self.sandbox,
            blobs=MemoryBlobs(self.memory.blobs),
            baselines=self.baselines,
            redactor=Redactor([SECRET]),
        )
        self.site = GateSite(tag="task:1")

    def candidate(self, changes: Mapping[str, str | None]) -> Candidate:
        """The base with these files; None deletes."""
        base = self.trees[self.base.tree]
        after = {p: t for p, t in {**base, **changes}.items() if t is not None}
        paths = tuple(
            PathChange(
                path=path,
                status="D" if text is None else "M" if path in base else "A",
                old_mode="100644",
                new_mode="100644",
                lines_added=(text or "").count("\n"),
                lines_removed=base.get(path, "").count("\n"),
                bytes=len(text or ""),
                is_binary=False,
            )
            for path, text in changes.items()
        )
        tree = self._tree(after)
        return Candidate(base=Oid("base"), commit=Oid(tree[::-1]), tree=tree, changes=paths, patch=b"")

    def judge(
        self, changes: Mapping[str, str | None], *specs: GateSpec, policy: ChangePolicy | None = None
    ) -> dict[str, GateReport]:
        """All reports on a change, by gate."""
        base_runs = self.baseline(*specs)
        reports = self.runner.judge_candidate(
            self.candidate(changes),
            self,
            specs=specs,
            base_runs=base_runs,
            policy=policy or ChangePolicy(),
            site=self.site,
        )
        return {report.name: report for report in reports}

    def baseline(self, *specs: GateSpec) -> Mapping[str, TestRun]:
        """The base's runs."""
        return self.runner.baseline(specs, self, site=self.site)

    # The workspace port

    @contextmanager
    def checkout(self, tree: Oid, *, name: str) -> Iterator[Path]:
        """A fresh folder with the tree."""
        self.checkouts.append(name)
        if any(name.endswith(role) for role in self.broken_checkouts):
            raise PermanentError(f"cannot check out {name}")
        folder = self.scratch / "checkouts" / name
        folder.mkdir(parents=True)
        for path, text in self.trees[tree].items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text)
        try:
            yield folder
        finally:
            shutil.rmtree(folder)

    def overlay(self, candidate: Candidate, *, paths: Sequence[str]) -> Oid:
        """The base with the candidate's version of paths."""
        after, files = self.trees[candidate.tree], dict(self.trees[self.base.tree])
        for path in paths:
            files.pop(path, None)
            if path in after:
                files[path] = after[path]
        return self._tree(files)

    def capture(self, *, message: str) -> Candidate:
        """Not asked here."""
        raise NotImplementedError

    def restore(self, commit: Oid) -> Candidate:
        """Not asked here."""
        raise NotImplementedError

    def push(self, commit: Oid, *, branch: str, expected: Oid | None) -> PushResult:
        """Not asked here."""
        raise NotImplementedError

    def branch_head(self, branch: str) -> Oid | None:
        """Not asked here."""
        raise NotImplementedError

    def _tree(self, files: Files) -> Oid:
        oid = Oid(hashlib.sha1(json.dumps(dict(files), sort_keys=True).encode()).hexdigest())
        self.trees[oid] = dict(files)
        return oid


def python_gate(
    code: str, *, name: str = "check", report: str | None = None, seconds: float = 60, required: bool = True
) -> GateSpec:
    """A gate that runs a piece of Python."""
    return GateSpec(
        name=name,
        argv=(sys.executable, "-c", code),
        report=report,
        timeout=timedelta(seconds=seconds),
        is_required=required,
    )


def pytest_gate(*options: str) -> GateSpec:
    """Real pytest, with its report where we ask for it."""
    argv = (
        sys.executable,
        "-B",
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        *options,
        "--junitxml={report}",
        ".",
    )
    return GateSpec(name="tests", argv=argv, env={"PYTHONPATH": "."})
