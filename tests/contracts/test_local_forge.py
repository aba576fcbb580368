"""The forge ``local``, on real files, keeps what every forge promises."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import pytest

from tamma.adapters.forges import document as documents
from tamma.adapters.forges.document import Document, Value
from tamma.adapters.forges.local import LocalForge, LocalRepository
from tamma.core.change import ChangeDraft
from tamma.core.ids import IssueRef
from tests.contracts.forge_contract import LABEL, STRANGER, ForgeContract
from tests.support.issue_files import issue_document, write_issue


class LocalWorld:
    """A person with an editor and the right to write into the folders."""

    is_atomic = True
    is_verbatim = True
    can_be_malformed = True

    def __init__(self, root: Path) -> None:
        self.repository = "demo"
        self.issues = root / "demo" / "issues"
        self.changes = root / "demo" / "changes"
        self.issues.mkdir(parents=True)
        self.forge = self.forge_as("tamma")

    def forge_as(self, user: str) -> LocalForge:
        """The same folders in the hands of another user, or of another process."""
        here = LocalRepository(name=self.repository, git_url="demo.git", issues=self.issues, changes=self.changes)
        return LocalForge(name="local", user=user, repositories=[here])

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
        document = issue_document(
            title=title, body=body, labels=labels, author=author, assignees=assignees, blocked_by=blocked_by,
            created_at=created_at,
        )  # fmt: skip
        return self.ref(write_issue(self.issues, document).stem)

    def ref(self, number: str) -> IssueRef:
        return IssueRef(forge="local", repository=self.repository, number=number)

    def file(self, ref: IssueRef) -> Path:
        return self.issues / f"{ref.number}.md"

    def edit_issue(self, ref: IssueRef, *, title: str, body: str) -> None:
        document = documents.parse(self.file(ref).read_bytes())
        self.file(ref).write_bytes(documents.with_body(documents.with_value(document, "title", title), body).raw)

    def close_issue(self, ref: IssueRef) -> None:
        _set(self.file(ref), "state", "closed")

    def delete_issue(self, ref: IssueRef) -> None:
        self.file(ref).unlink()

    def break_issue(self, ref: IssueRef) -> None:
        self.file(ref).write_text("---\nlabels: [tamma\n---\n", encoding="utf-8")

    def comment_as(self, user: str, ref: IssueRef, *, body: str) -> None:
        document = documents.parse(self.file(ref).read_bytes())
        self.file(ref).write_bytes(documents.with_item(document, "comments", {"author": user, "body": body}).raw)

    def change_as(self, user: str, draft: ChangeDraft) -> str:
        return self.forge_as(user).open_change(draft).id

    def close_change(self, number: str) -> None:
        _set(self.changes / f"{number}.md", "state", "closed")

    def merge_change(self, number: str) -> None:
        _set(self.changes / f"{number}.md", "state", "merged")


def _set(file: Path, key: str, value: Value) -> None:
    document: Document = documents.with_value(documents.parse(file.read_bytes()), key, value)
    file.write_bytes(document.raw)


@pytest.fixture
def world(tmp_path: Path) -> LocalWorld:
    """An empty local forge."""
    return LocalWorld(tmp_path)


class TestLocalForge(ForgeContract):
    """The contract, on files."""
