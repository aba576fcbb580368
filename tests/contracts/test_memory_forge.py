"""The forge in memory, on which the engine's tests stand, keeps what the real ones promise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

import pytest

from tamma.adapters.forges.around import AtFailPoints, ForgeAround, LeftAlone
from tamma.adapters.system import NoFailPoints
from tamma.core.change import ChangeDraft, ChangeState
from tamma.core.ids import IssueRef
from tamma.core.issue import IssueState
from tamma.ports.forge import Forge
from tests.contracts.forge_contract import LABEL, STRANGER, ForgeContract
from tests.contracts.memory_forge import MemoryForge


class MemoryWorld:
    """Other people on a forge in memory."""

    repository = "demo"
    is_atomic = True
    is_verbatim = True
    can_be_malformed = True

    def __init__(self, around: Callable[[Forge], Forge] = lambda forge: forge) -> None:
        self.memory = MemoryForge()
        self.forge: Forge = around(self.memory)

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
        return self.memory.add_issue(
            title=title, body=body, labels=labels, author=author, assignees=assignees, blocked_by=blocked_by,
            created_at=created_at,
        )  # fmt: skip

    def edit_issue(self, ref: IssueRef, *, title: str, body: str) -> None:
        self.memory.set_issue(ref, title=title, body=body)

    def close_issue(self, ref: IssueRef) -> None:
        self.memory.set_issue(ref, state=IssueState.CLOSED)

    def delete_issue(self, ref: IssueRef) -> None:
        self.memory.delete_issue(ref)

    def break_issue(self, ref: IssueRef) -> None:
        self.memory.break_issue(ref)

    def comment_as(self, user: str, ref: IssueRef, *, body: str) -> None:
        self.memory.add_comment(ref, author=user, body=body)

    def change_as(self, user: str, draft: ChangeDraft) -> str:
        return self.memory.add_change(draft, author=user).id

    def close_change(self, number: str) -> None:
        self.memory.set_change(number, state=ChangeState.CLOSED)

    def merge_change(self, number: str) -> None:
        self.memory.set_change(number, state=ChangeState.MERGED)


@pytest.fixture
def world() -> MemoryWorld:
    """An empty forge."""
    return MemoryWorld()


class TestMemoryForge(ForgeContract):
    """The contract, in memory."""


class TestForgeAround(ForgeContract):
    """The contract with something around each call."""

    @pytest.fixture
    def world(self) -> MemoryWorld:
        """One at whose fail points nothing happens, and that asks for no patience."""
        points = AtFailPoints(NoFailPoints())
        return MemoryWorld(lambda forge: ForgeAround(ForgeAround(forge, points), LeftAlone(lambda: 0.0)))
