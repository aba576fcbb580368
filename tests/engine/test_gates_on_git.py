"""Claims about gates on the real thing: git workspaces, real processes, real pytest."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tamma.adapters.git import GitWorkspaces
from tamma.adapters.sandboxes.none import NoSandbox
from tamma.adapters.system import OsProcesses
from tamma.core.diff import refusal
from tamma.core.gate import GateReport, GateSpec, GateVerdict
from tamma.core.ids import TaskId
from tamma.core.policy import ChangePolicy
from tamma.core.redact import Redactor
from tamma.engine.gates import GateInterrupted, GateRunner, GateSite
from tamma.ports.workspace import Remote, Workspace
from tests.engine.gate_world import MemoryBaselines, MemoryBlobs, pytest_gate, python_gate
from tests.engine.test_gates import BASE, FIX, TEST

TASK = TaskId("6e1b2d0c-4f6d-5a53-8f30-0d7c0f0b8a11")


def git(folder: Path, *args: str) -> None:
    """Plain git, with no configuration but this."""
    env = {
        "PATH": os.environ["PATH"], "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "HOME": str(folder),
        "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@example.invalid",
        "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@example.invalid",
    }  # fmt: skip
    subprocess.run(["git", *args], cwd=folder, env=env, check=True, capture_output=True)


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    """A workspace of a small Python project."""
    origin = tmp_path / "origin"
    origin.mkdir()
    for path, text in BASE.items():
        (origin / path).parent.mkdir(parents=True, exist_ok=True)
        (origin / path).write_text(text)
    git(origin, "init", "-b", "main")
    git(origin, "add", ".")
    git(origin, "commit", "-m", "base")
    workspaces = GitWorkspaces(state=tmp_path / "state")
    remote = Remote(name="demo", url=str(origin))
    with workspaces.open(remote, workspaces.fetch_base(remote), task_id=TASK, epoch=1) as opened:
        yield opened


@pytest.fixture
def runner() -> GateRunner:
    """With no sandbox and a store in memory."""
    sandbox = NoSandbox(OsProcesses(), env_allow=(), environ={"PATH": os.environ["PATH"]})
    return GateRunner(sandbox=sandbox, blobs=MemoryBlobs({}), baselines=MemoryBaselines({}), redactor=Redactor())


def judge(runner: GateRunner, workspace: Workspace, changes: dict[str, str], *specs: GateSpec) -> dict[str, GateReport]:
    """Reports on these edits."""
    site = GateSite(tag="task:gates")
    base_runs = runner.baseline(specs, workspace, site=site)
    for path, text in changes.items():
        (workspace.folder / path).parent.mkdir(parents=True, exist_ok=True)
        (workspace.folder / path).write_text(text)
    candidate = workspace.capture(message="change")
    found = runner.judge_candidate(
        candidate, workspace, specs=specs, base_runs=base_runs, policy=ChangePolicy(), site=site
    )
    assert all(report.tree == candidate.tree for report in found)
    return {report.name: report for report in found}


def test_red_to_green_from_capture_to_report(workspace: Workspace, runner: GateRunner) -> None:
    """The tree that was captured is the tree that is judged."""
    reports = judge(runner, workspace, {**FIX, **TEST}, pytest_gate())
    assert {r.verdict for r in reports.values()} == {GateVerdict.PASS}, reports
    assert reports["red-green"].fixed == ("tests/test_calc.py::test_sum",)


def test_what_the_agent_left_uncommitted_in_its_folder_does_not_help(workspace: Workspace, runner: GateRunner) -> None:
    """Gates see the captured tree in a fresh folder, without git and without the workspace's leftovers."""
    spec = python_gate("import os, sys; sys.exit(os.path.exists('.git') or os.path.exists('x.pyc'))")
    (workspace.folder / "x.pyc").write_bytes(b"left over")
    assert judge(runner, workspace, FIX, spec)["check"].verdict is GateVerdict.PASS


def test_a_protected_path_is_refused(workspace: Workspace, runner: GateRunner) -> None:
    """From git's own list of paths."""
    reports = judge(runner, workspace, {".github/workflows/ci.yml": "x\n"}, python_gate("pass"))
    assert refusal(reports.values()) is not None


def test_a_running_gate_is_stopped(workspace: Workspace, runner: GateRunner) -> None:
    """The process is killed, and the engine hears of an interruption instead of a verdict."""
    asked: list[int] = []

    def should_stop() -> bool:
        asked.append(1)
        return len(asked) > 2

    hang = python_gate("import threading; threading.Event().wait()")
    with pytest.raises(GateInterrupted):
        runner.baseline([hang], workspace, site=GateSite(tag="task:gates", should_stop=should_stop))
