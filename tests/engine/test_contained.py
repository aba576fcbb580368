"""One failing issue, repository or child never ends the loop, not even by a bug."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tamma.adapters.forges.local import LocalForge, LocalRepository
from tamma.adapters.postgres.store import PostgresStore
from tamma.core.errors import ExitCode
from tamma.core.ids import IssueRef, TaskId, WorkerId
from tamma.core.issue import Issue
from tamma.core.policy import Limits
from tamma.core.reconcile import Prospect
from tamma.engine.intake import Intake
from tamma.engine.orchestrator import Mode
from tamma.ports.dispatch import Ended
from tests.contracts.memory_forge import MemoryForge
from tests.engine.loop_world import a_loop
from tests.support.crowd import a_loop_over
from tests.support.issue_files import issue_document, write_issue

QUIT = "raise SystemExit(3)"


def broken(*_args: object, **_more: object) -> Any:
    """What a bug in an adapter does."""
    raise KeyError("no such key")


@pytest.mark.parametrize("method", ["open_issues", "count_open_changes"])
def test_a_bug_about_one_repository_leaves_the_others(
    store: PostgresStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """The other repository's issue becomes a task, and the bug is told once, with its type and message."""
    forge = MemoryForge(name="local", repositories=("bad", "good"))
    forge.add_issue(repository="bad")
    forge.add_issue(repository="good")
    asked: Callable[..., Any] = getattr(forge, method)
    monkeypatch.setattr(forge, method, lambda name, **more: broken() if name == "bad" else asked(name, **more))
    loop = a_loop(store, forge, tmp_path, worker=QUIT)
    told: list[str] = []
    loop.report = told.append
    monkeypatch.setattr(type(loop.dispatcher), "start", lambda _self, _task: 0)
    loop.tick()
    loop.tick()
    assert [task.ref.repository for task in store.tasks.list()] == ["good"]
    assert [line for line in told if "KeyError" in line and "'no such key'" in line and "bad" in line] == told[:1]


def test_a_bug_about_a_dead_worker_ends_nothing(
    store: PostgresStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop goes on to its tick, and the bug is told."""
    loop = a_loop(store, MemoryForge(name="local"), tmp_path, worker=QUIT)
    told: list[str] = []
    loop.report = told.append
    dead = [Ended(task_id=TaskId("t"), worker=WorkerId("here:7:boot"), pid=7, exit_code=1)]
    monkeypatch.setattr(type(loop.dispatcher), "ended", lambda _self: [dead.pop()] if dead else [])
    monkeypatch.setattr(type(store.tasks), "get", broken)
    assert loop.run(Mode.UNTIL_IDLE) is ExitCode.DELIVERED
    assert "KeyError" in told[0]


def test_an_issue_that_is_gone_is_named_itself(
    store: PostgresStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its repository is not skipped, and nobody says so."""
    forge = MemoryForge(name="local")
    ref = forge.add_issue()
    loop = a_loop(store, forge, tmp_path, worker=QUIT)
    monkeypatch.setattr(type(loop.dispatcher), "start", lambda _self, _task: 0)
    told: list[str] = []
    loop.tick()
    forge.delete_issue(ref)
    loop.report = told.append
    loop.tick()
    assert any(line.startswith(f"issue {ref} ") for line in told), told
    assert not any(line.startswith("repository") for line in told), told


def test_a_bug_about_one_issue_leaves_those_behind_it(
    store: PostgresStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither its neighbour on the page nor those of later pages wait for it, and it is named."""
    forge = MemoryForge(name="local")
    bad, *good = [forge.add_issue() for _ in range(4)]
    real = Intake.judge

    def judge(self: Intake, issue: Issue, **asked: Any) -> Prospect:
        return broken() if issue.ref == bad else real(self, issue, **asked)

    monkeypatch.setattr(Intake, "judge", judge)
    loop = a_loop_over(store, forge, limits=Limits(candidates=2))
    told: list[str] = []
    loop.report = told.append
    loop.tick()
    loop.tick()
    assert {task.ref for task in store.tasks.list()} == set(good)
    assert [line for line in told if line.startswith(f"issue {bad} ") and "KeyError" in line] == told


def test_a_change_that_cannot_be_read_hides_its_own_issue_only(store: PostgresStore, tmp_path: Path) -> None:
    """The issue is named with the reason, and is not taken; its neighbours in the same repository are."""
    here = LocalRepository(name="demo", git_url="demo.git", issues=tmp_path / "issues", changes=tmp_path / "changes")
    forge = LocalForge(name="local", user="tamma", repositories=[here])
    here.issues.mkdir()
    here.changes.mkdir()
    for number in "1", "2":
        write_issue(here.issues, issue_document(title="t", labels=["tamma"]), number=number)
    (here.changes / "7.md").write_text("---\nhead: tamma/1\nstate: [\n---\n", encoding="utf-8")
    loop = a_loop_over(store, forge)
    told: list[str] = []
    loop.report = told.append
    loop.tick()
    assert [task.ref.number for task in store.tasks.list()] == ["2"]
    unread = IssueRef(forge="local", repository="demo", number="1")
    assert any(line.startswith(f"issue {unread} ") and "7.md" in line for line in told), told
    assert not any(line.startswith("repository") for line in told), told
