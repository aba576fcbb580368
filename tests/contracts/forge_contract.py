"""What every forge promises (``ports.forge.Forge``), as tests: an adapter passes them by giving a ``world`` fixture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Protocol, TypeVar

import pytest

from tamma.core.change import ChangeDraft, ChangeState
from tamma.core.errors import NoSuchTask, PermanentError
from tamma.core.ids import IssueRef
from tamma.core.issue import IssueState
from tamma.core.policy import Order
from tamma.ports.forge import Forge, Malformed

LABEL = "tamma"
STRANGER = "stranger"
MARKER = "<!-- tamma:notice=refused task=00000000-0000-4000-8000-000000000001 epoch=1 -->"
THREADS = 8
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
BODIES = {
    "empty": "", "newlines": "\n\n a \n\n", "fences": "```yaml\n---\na: 1\n---\n```\n", "rules": "---\n---\n...\n--- \n",
    "crlf": "one\r\ntwo\r\n", "nul": "a\0b", "bidi": "a\u202eb\u2066c\u200b\ufeff", "emoji": "\U0001f600 \u00e9\U000e0041",
    "breaks": "a\x85b\u2028c\u2029d\re", "ansi": "\x1b[31mred\x07", "yaml": "key: [1, &a *a\n!!python/object:x {}\n\t- tab",
    "html": "<!-- unclosed", "trailing": "no newline at the end",
}  # fmt: skip

T = TypeVar("T")


class ForgeWorld(Protocol):
    """A forge, and what other people do there. ``repository`` is empty in the beginning."""

    repository: str
    is_atomic: bool  # find-or-create holds against concurrent callers
    is_verbatim: bool  # every character of a text comes back
    can_be_malformed: bool  # an issue can be there and be unreadable

    @property
    def forge(self) -> Forge: ...

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
    ) -> IssueRef: ...

    def edit_issue(self, ref: IssueRef, *, title: str, body: str) -> None: ...

    def close_issue(self, ref: IssueRef) -> None: ...

    def delete_issue(self, ref: IssueRef) -> None: ...

    def break_issue(self, ref: IssueRef) -> None: ...

    def comment_as(self, user: str, ref: IssueRef, *, body: str) -> None: ...

    def change_as(self, user: str, draft: ChangeDraft) -> str: ...

    def close_change(self, number: str) -> None: ...

    def merge_change(self, number: str) -> None: ...


def a_draft(world: ForgeWorld, ref: IssueRef, *, head: str = "tamma/1", is_draft: bool = False) -> ChangeDraft:
    """A change for an issue."""
    return ChangeDraft(
        repository=world.repository,
        head=head,
        base="main",
        title="A change",
        body="Why\n",
        issue=ref,
        is_draft=is_draft,
    )


def at_once(call: Callable[[], T], *, times: int = THREADS) -> list[T]:
    """The results of as many threads as ``times``."""
    with ThreadPoolExecutor(times) as pool:
        return [future.result() for future in [pool.submit(call) for _ in range(times)]]


class ForgeContract:
    """Inherit it as ``Test...`` beside a ``world`` fixture."""

    # -- issues

    def test_name_user_and_repositories_are_told(self, world: ForgeWorld) -> None:
        """The repository is among those served, in order of names."""
        names = [remote.name for remote in world.forge.repositories()]
        assert world.forge.name
        assert world.forge.user not in ("", STRANGER)
        assert world.repository in names
        assert names == sorted(names)

    def test_an_issue_comes_back_as_written(self, world: ForgeWorld) -> None:
        """Title, body, author, assignees, state and its address."""
        ref = world.create_issue(title="Fix: it", body="Please\n", assignees=["ann", "bob"], created_at=BEGIN)
        issue = world.forge.issue(ref)
        assert (issue.ref, issue.title, issue.body, issue.author) == (ref, "Fix: it", "Please\n", STRANGER)
        assert (issue.state, issue.assignees, issue.created_at) == (IssueState.OPEN, ("ann", "bob"), BEGIN)
        assert (ref.forge, ref.repository) == (world.forge.name, world.repository)

    def test_open_issues_tells_the_same_as_issue(self, world: ForgeWorld) -> None:
        """A listed issue is complete, body included."""
        ref = world.create_issue(body="long " * 1000, labels=[LABEL, "bug"])
        assert world.forge.open_issues(world.repository, label=LABEL, limit=10).issues == (world.forge.issue(ref),)

    def test_labels_are_lower_case_and_asked_in_any_case(self, world: ForgeWorld) -> None:
        """A label is the same in any case."""
        ref = world.create_issue(labels=["TamMa", "BUG"])
        assert world.forge.issue(ref).labels == {"tamma", "bug"}
        for label in ("tamma", "TAMMA"):
            assert [i.ref for i in world.forge.open_issues(world.repository, label=label, limit=10).issues] == [ref]

    def test_only_open_issues_with_the_label_are_listed(self, world: ForgeWorld) -> None:
        """Not the closed, the unlabelled, or those whose label only contains the word."""
        world.create_issue(labels=[])
        world.create_issue(labels=["tamma-later"])
        world.close_issue(world.create_issue())
        page = world.forge.open_issues(world.repository, label=LABEL, limit=10)
        assert (page.issues, page.malformed, page.next) == ((), (), None)

    def test_a_closed_issue_is_still_told_by_issue(self, world: ForgeWorld) -> None:
        """Whatever its state."""
        ref = world.create_issue()
        world.close_issue(ref)
        assert world.forge.issue(ref).state is IssueState.CLOSED

    def test_listing_is_oldest_first_and_bounded(self, world: ForgeWorld) -> None:
        """The bound keeps the oldest, and says where to go on."""
        refs = [world.create_issue(created_at=BEGIN + timedelta(days=n)) for n in range(12)]
        page = world.forge.open_issues(world.repository, label=LABEL, limit=11)
        assert [i.ref for i in page.issues] == refs[:11]
        assert page.next is not None
        page = world.forge.open_issues(world.repository, label=LABEL, limit=12)
        assert [i.ref for i in page.issues] == refs
        assert page.next is None

    def test_page_by_page_every_issue_comes_once(self, world: ForgeWorld) -> None:
        """Also when the last one of a page is closed before the next is asked for."""
        refs = [world.create_issue(created_at=BEGIN + timedelta(days=n)) for n in range(7)]
        seen: list[IssueRef] = []
        after = None
        for _ in range(4):
            page = world.forge.open_issues(world.repository, label=LABEL, limit=2, after=after)
            seen += [issue.ref for issue in page.issues]
            world.close_issue(seen[-1])
            after = page.next
        assert (seen, after) == (refs, None)

    @pytest.mark.parametrize(
        ("order", "wanted"), [(Order.OLDEST, "01234"), (Order.NEWEST, "43210"), (Order.PRIORITY, "32014")]
    )
    def test_the_order_holds_over_all_pages(self, world: ForgeWorld, order: Order, wanted: str) -> None:
        """Among those of one priority the oldest goes first; what is no number is none."""
        labels = ((), ("priority:soon",), ("priority:2",), ("priority:1", "priority:3"), ())
        refs = [
            world.create_issue(labels=(LABEL, *more), created_at=BEGIN + timedelta(days=n))
            for n, more in enumerate(labels)
        ]
        seen: list[IssueRef] = []
        after = None
        for _ in range(3):
            page = world.forge.open_issues(
                world.repository, label=LABEL, limit=2, after=after, order=order, priority_prefix="priority:"
            )
            seen += [issue.ref for issue in page.issues]
            after = page.next
        assert (seen, after) == ([refs[int(n)] for n in wanted], None)

    def test_an_edit_is_seen(self, world: ForgeWorld) -> None:
        """No stale answer, by either call, and another digest."""
        ref = world.create_issue(title="old", body="same size")
        before = world.forge.open_issues(world.repository, label=LABEL, limit=10).issues[0]
        world.edit_issue(ref, title="new", body="SAME SIZE")
        after = world.forge.open_issues(world.repository, label=LABEL, limit=10).issues[0]
        assert (after.title, after.body) == ("new", "SAME SIZE")
        assert after == world.forge.issue(ref)
        assert after.digest != before.digest

    def test_no_such_issue(self, world: ForgeWorld) -> None:
        """Every call about an issue that is not there raises NoSuchTask."""
        ref = replace(world.create_issue(), number="424242")
        for call in (
            lambda: world.forge.issue(ref),
            lambda: world.forge.comments(ref),
            lambda: world.forge.comment(ref, marker=MARKER, body=MARKER),
            lambda: world.forge.change_labels(ref, add=["x"], remove=[]),
        ):
            with pytest.raises(NoSuchTask):
                call()

    def test_only_open_blockers_count(self, world: ForgeWorld) -> None:
        """A closed or vanished blocker blocks nothing any more."""
        first, second, third = (world.create_issue() for _ in range(3))
        ref = world.create_issue(blocked_by=[first.number, second.number, third.number], labels=["waits"])
        world.close_issue(first)
        world.delete_issue(third)
        assert world.forge.issue(ref).blocked_by == (second.number,)
        assert world.forge.open_issues(world.repository, label="waits", limit=9).issues[0].blocked_by == (
            second.number,
        )

    def test_a_malformed_issue_is_reported_and_harms_no_other(self, world: ForgeWorld) -> None:
        """It is told apart with a reason; asked for alone it is a PermanentError; as a blocker it still blocks."""
        if not world.can_be_malformed:
            pytest.skip("no issue can be malformed on this forge")
        broken = world.create_issue()
        fine = world.create_issue(blocked_by=[broken.number])
        world.break_issue(broken)
        page = world.forge.open_issues(world.repository, label=LABEL, limit=10)
        assert [(i.ref, i.blocked_by) for i in page.issues] == [(fine, (broken.number,))]
        assert [m.ref for m in page.malformed] == [broken]
        assert page.malformed[0].why
        assert world.forge.issue(fine).blocked_by == (broken.number,)
        with pytest.raises(PermanentError):
            world.forge.issue(broken)
        with pytest.raises(PermanentError):
            world.forge.comments(broken)

    @pytest.mark.parametrize("kind", BODIES)
    def test_texts_come_back_as_written(self, world: ForgeWorld, kind: str) -> None:
        """Of issues, comments and changes, whatever is in them; writing beside them changes none."""
        if not world.is_verbatim:
            pytest.skip("this forge normalises texts")
        body = BODIES[kind]
        ref = world.create_issue(body=body, title=f"t {body} t")
        assert world.forge.comment(ref, marker=MARKER, body=MARKER + body).body == MARKER + body
        world.forge.change_labels(ref, add=["more"], remove=[LABEL])
        change = world.forge.open_change(replace(a_draft(world, ref), body=body, title=f"t {body}"))
        issue = world.forge.issue(ref)
        assert (issue.body, issue.title) == (body, f"t {body} t")
        assert [c.body for c in world.forge.comments(ref)] == [MARKER + body]
        assert (change.body, change.title) == (body, f"t {body}")
        assert list(world.forge.changes(world.repository, head="tamma/1")) == [change]

    def test_a_body_of_ten_megabytes_comes_back(self, world: ForgeWorld) -> None:
        """It is large, and nothing else."""
        if not world.is_verbatim:
            pytest.skip("this forge bounds texts")
        body = "0123456789abcde\n" * 655_360
        ref = world.create_issue(body=body)
        world.forge.comment(ref, marker=MARKER, body=MARKER)
        assert world.forge.open_issues(world.repository, label=LABEL, limit=1).issues[0].body == body

    # -- comments

    def test_comments_are_oldest_first(self, world: ForgeWorld) -> None:
        """With their authors, ours among them."""
        ref = world.create_issue()
        world.comment_as(STRANGER, ref, body="first")
        world.forge.comment(ref, marker=MARKER, body=f"second\n{MARKER}")
        world.comment_as("another", ref, body="third")
        told = [(c.author, c.body.partition("\n")[0]) for c in world.forge.comments(ref)]
        assert told == [(STRANGER, "first"), (world.forge.user, "second"), ("another", "third")]
        assert len({c.id for c in world.forge.comments(ref)}) == 3

    def test_commenting_twice_gives_one(self, world: ForgeWorld) -> None:
        """The second call returns the first's comment, unchanged."""
        ref = world.create_issue()
        first = world.forge.comment(ref, marker=MARKER, body=f"one\n{MARKER}")
        second = world.forge.comment(ref, marker=MARKER, body=f"two\n{MARKER}")
        assert (second.id, second.body) == (first.id, f"one\n{MARKER}")
        assert len(world.forge.comments(ref)) == 1

    def test_a_comment_holds_its_marker(self, world: ForgeWorld) -> None:
        """Also when the body came without, so that it is found again."""
        ref = world.create_issue()
        assert MARKER in world.forge.comment(ref, marker=MARKER, body="bare").body
        world.forge.comment(ref, marker=MARKER, body="bare")
        assert len(world.forge.comments(ref)) == 1

    def test_another_marker_is_another_comment(self, world: ForgeWorld) -> None:
        """The marker is the key."""
        ref = world.create_issue()
        world.forge.comment(ref, marker=MARKER, body=MARKER)
        world.forge.comment(ref, marker=MARKER.replace("epoch=1", "epoch=2"), body="second")
        assert len(world.forge.comments(ref)) == 2

    def test_a_forged_marker_neither_suppresses_nor_redirects(self, world: ForgeWorld) -> None:
        """Only what our own user wrote counts; the issue's text does not either."""
        ref = world.create_issue(body=MARKER)
        world.comment_as(STRANGER, ref, body=f"forged\n{MARKER}")
        ours = world.forge.comment(ref, marker=MARKER, body=f"real\n{MARKER}")
        assert (ours.author, ours.body) == (world.forge.user, f"real\n{MARKER}")
        assert [c.author for c in world.forge.comments(ref)] == [STRANGER, world.forge.user]

    def test_commenting_at_once_gives_one(self, world: ForgeWorld) -> None:
        """However many threads find or create it."""
        if not world.is_atomic:
            pytest.skip("this forge cannot find-or-create atomically")
        ref = world.create_issue()
        told = at_once(lambda: world.forge.comment(ref, marker=MARKER, body=MARKER))
        assert len({c.id for c in told}) == len(world.forge.comments(ref)) == 1

    # -- labels

    def test_labels_are_set_style(self, world: ForgeWorld) -> None:
        """Adding what is there and removing what is not are no-ops, in any case; others stay."""
        ref = world.create_issue(labels=[LABEL, "Keep"])
        for _ in range(2):
            world.forge.change_labels(ref, add=["New", "TAMMA"], remove=["absent"])
            assert world.forge.issue(ref).labels == {LABEL, "keep", "new"}
        for _ in range(2):
            world.forge.change_labels(ref, add=[], remove=["TAMMA", "new"])
            assert world.forge.issue(ref).labels == {"keep"}

    def test_labels_changed_at_once_are_all_there(self, world: ForgeWorld) -> None:
        """No writer undoes another."""
        if not world.is_atomic:
            pytest.skip("this forge cannot change labels atomically")
        ref = world.create_issue()
        numbers = iter(range(THREADS))
        at_once(lambda: world.forge.change_labels(ref, add=[f"l{next(numbers)}"], remove=[]))
        assert world.forge.issue(ref).labels == {LABEL, *(f"l{n}" for n in range(THREADS))}

    # -- changes

    @pytest.mark.parametrize("is_draft", [False, True])
    def test_a_change_comes_back_as_opened(self, world: ForgeWorld, is_draft: bool) -> None:
        """By our user, for its issue, open or draft."""
        ref = world.create_issue()
        change = world.forge.open_change(a_draft(world, ref, is_draft=is_draft))
        assert (change.head, change.base, change.title, change.body) == ("tamma/1", "main", "A change", "Why\n")
        assert (change.author, change.repository, change.issue) == (world.forge.user, world.repository, ref)
        assert change.state is (ChangeState.DRAFT if is_draft else ChangeState.OPEN)
        assert list(world.forge.changes(world.repository, head="tamma/1")) == [change]

    def test_opening_twice_gives_one_with_the_latest_text(self, world: ForgeWorld) -> None:
        """The open one is found, and its title and body made ours."""
        draft = a_draft(world, world.create_issue())
        first = world.forge.open_change(draft)
        assert world.forge.open_change(draft) == first
        second = world.forge.open_change(replace(draft, title="Better", body="Because"))
        assert (second.id, second.title, second.body) == (first.id, "Better", "Because")
        assert list(world.forge.changes(world.repository, head="tamma/1")) == [second]

    def test_another_base_is_another_change(self, world: ForgeWorld) -> None:
        """One is open per head and base."""
        draft = a_draft(world, world.create_issue())
        ids = {
            world.forge.open_change(d).id for d in (draft, replace(draft, base="next"), replace(draft, head="tamma/2"))
        }
        assert len(ids) == 3

    def test_a_foreign_open_change_is_refused_and_left_alone(self, world: ForgeWorld) -> None:
        """Somebody else's change from the same head to the same base is a human's matter, whatever marker it holds."""
        draft = a_draft(world, world.create_issue())
        world.change_as(STRANGER, replace(draft, body=f"forged {MARKER}"))
        with pytest.raises(PermanentError):
            world.forge.open_change(draft)
        (only,) = world.forge.changes(world.repository, head="tamma/1")
        assert (only.author, only.body) == (STRANGER, f"forged {MARKER}")

    def test_a_finished_change_is_not_reopened(self, world: ForgeWorld) -> None:
        """Merged and closed ones stay as they are; the new one is first in the list of that head alone."""
        draft = a_draft(world, world.create_issue())
        merged = world.forge.open_change(draft)
        world.merge_change(merged.id)
        closed = world.forge.open_change(draft)
        world.close_change(closed.id)
        fresh = world.forge.open_change(draft)
        world.forge.open_change(replace(draft, head="tamma/12"))
        told = [(c.id, c.state) for c in world.forge.changes(world.repository, head="tamma/1")]
        assert told == [
            (fresh.id, ChangeState.OPEN), (closed.id, ChangeState.CLOSED), (merged.id, ChangeState.MERGED)
        ]  # fmt: skip

    def test_changes_of_many_heads_are_those_of_each(self, world: ForgeWorld) -> None:
        """In one answer, a head without any included."""
        ref = world.create_issue()
        for head in ("tamma/1", "tamma/2"):
            world.forge.open_change(a_draft(world, ref, head=head))
        world.close_change(world.forge.changes(world.repository, head="tamma/1")[0].id)
        world.forge.open_change(a_draft(world, ref, head="tamma/1"))
        heads = ("tamma/1", "tamma/2", "tamma/none")
        told = world.forge.changes_of(world.repository, heads=heads)
        assert told == {head: world.forge.changes(world.repository, head=head) for head in heads}
        assert [len(changes) for changes in told.values() if not isinstance(changes, Malformed)] == [2, 1, 0]

    def test_no_change_from_a_head(self, world: ForgeWorld) -> None:
        """An empty answer is an answer."""
        assert list(world.forge.changes(world.repository, head="tamma/none")) == []

    def test_only_our_open_changes_count(self, world: ForgeWorld) -> None:
        """Open and draft ones of our user; not finished or foreign ones."""
        ref = world.create_issue()
        assert world.forge.count_open_changes(world.repository) == 0
        first, second = (world.forge.open_change(a_draft(world, ref, head=f"tamma/{n}")) for n in (1, 2))
        world.forge.open_change(a_draft(world, ref, head="tamma/3", is_draft=True))
        world.forge.open_change(a_draft(world, ref, head="tamma/4"))
        world.change_as(STRANGER, a_draft(world, ref, head="feature"))
        world.merge_change(first.id)
        world.close_change(second.id)
        assert world.forge.count_open_changes(world.repository) == 2

    def test_opening_at_once_gives_one(self, world: ForgeWorld) -> None:
        """However many threads find or create it."""
        if not world.is_atomic:
            pytest.skip("this forge cannot find-or-create atomically")
        draft = a_draft(world, world.create_issue())
        told = at_once(lambda: world.forge.open_change(draft))
        assert len({c.id for c in told}) == len(world.forge.changes(world.repository, head="tamma/1")) == 1
