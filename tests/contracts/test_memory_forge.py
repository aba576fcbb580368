"""The forge in memory, on which the engine's tests stand, keeps what the real ones promise."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import pytest

from tamma.core.change import ChangeDraft, ChangeState
from tamma.core.ids import IssueRef
from tamma.core.issue import IssueState
from tests.contracts.forge_contract import LABEL, STRANGER, ForgeContract
from tests.contracts.memory_forge import MemoryForge


class MemoryWorld:
    """Other people on a forge in memory."""

    repository = "demo"
    is_atomic = True
    is_verbatim = True
    can_be_malformed = True

    def __init__(self) -> None:
        self.forge = MemoryForge()

    def create_issue(
        self,
        *,
        title: str = "A title",
        body: str = "A body",
        labels: Sequence[str] = (LABEL,),
        author: str = STRANGER,
        assignees: Sequence[str] = (),
        blocked_by: Sequence[str] = (),
        created_at: datetime | None = None,
    ) -> IssueRef:
        return self.forge.add_issue(
            title=title, body=body, labels=labels, author=author, assignees=assignees, blocked_by=blocked_by,
            created_at=created_at,
        )  # fmt: skip

    def edit_issue(self, ref: IssueRef, *, title: str, body: str) -> None:
        self.forge.set_issue(ref, title=title, body=body)

    def close_issue(self, ref: IssueRef) -> None:
        self.forge.set_issue(ref, state=IssueState.CLOSED)

    def delete_issue(self, ref: IssueRef) -> None:
        self.forge.delete_issue(ref)

    def break_issue(self, ref: IssueRef) -> None:
        self.forge.break_issue(ref)

    def comment_as(self, user: str, ref: IssueRef, *, body: str) -> None:
        self.forge.add_comment(ref, author=user, body=body)

    def change_as(self, user: str, draft: ChangeDraft) -> str:
        return self.forge.add_change(draft, author=user).id

    def close_change(self, number: str) -> None:
        self.forge.set_change(number, state=ChangeState.CLOSED)

    def merge_change(self, number: str) -> None:
        self.forge.set_change(number, state=ChangeState.MERGED)


@pytest.fixture
def world() -> MemoryWorld:
    """An empty forge."""
    return MemoryWorld()


class TestMemoryForge(ForgeContract):
    """The contract, in memory."""
