"""Values with defaults, so that a test names only what it is about."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from tamma.core.change import Change, ChangeState
from tamma.core.ids import BlobId, IssueRef, WorkerId, correlation_id, task_id
from tamma.core.issue import Issue
from tamma.core.task import TERMINAL, Task, TaskKind, TaskState

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
REF = IssueRef(forge="local", repository="demo", number="1")


def an_issue(number: str = "1", **changes: Any) -> Issue:
    """Open and labelled, so eligible."""
    ref = replace(REF, number=number, repository=changes.pop("repository", "demo"))
    values: dict[str, Any] = {
        "title": f"issue {number}",
        "body": "text",
        "author": "alice",
        "labels": frozenset({"tamma"}),
    }
    return Issue(ref=ref, **(values | changes))


def a_task(state: TaskState = TaskState.QUEUED, *, number: str = "1", **changes: Any) -> Task:
    """In a state, with the columns that follow from it."""
    ref = replace(REF, number=number, repository=changes.pop("repository", "demo"))
    generation = changes.get("generation", 1)
    values: dict[str, Any] = {
        "generation": generation,
        "worker": WorkerId("host:1:boot") if state is TaskState.RUNNING else None,
        "finished_at": NOW if state in TERMINAL else None,
    }
    return Task(
        id=task_id(ref, kind=TaskKind.RESOLVE, generation=generation), ref=ref, kind=TaskKind.RESOLVE, state=state, title="t",
        digest="d", snapshot=BlobId("b"), correlation=correlation_id(ref), created_at=NOW, **(values | changes),
    )  # fmt: skip


def a_change(state: ChangeState = ChangeState.OPEN, *, author: str = "tamma", body: str = "") -> Change:
    """From the issue's branch."""
    return Change(
        id="1", repository="demo", head="tamma/1", base="main", title="t", body=body, author=author, state=state
    )
