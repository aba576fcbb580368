"""What people answered when Tamma waited for one: from the issue's comments, by the approval, to the agent's prompt."""

from __future__ import annotations

from collections.abc import Collection

from tamma.core.errors import PermanentError
from tamma.core.event import TaskUnblocked, task_stream
from tamma.core.ids import BlobId, IssueRef, TaskId
from tamma.ports.forge import Forge
from tamma.ports.store import Store


def said_since_asked(forge: Forge, ref: IssueRef, *, authors: Collection[str]) -> str:
    """What people wrote on the issue after our last comment, each under its author's name; empty if nobody did.

    ``authors``, if any, are the only ones who are heard. A comment is nobody's order by itself: the approval vouches for it.
    """
    comments = forge.comments(ref)
    asked = max((n for n, comment in enumerate(comments) if comment.author == forge.user), default=-1)
    heard = [comment for comment in comments[asked + 1 :] if not authors or comment.author in authors]
    return "\n\n".join(f"{comment.author} wrote:\n{comment.body.strip()}" for comment in heard)


def answers_to(task_id: TaskId, store: Store) -> tuple[str, ...]:
    """Every answer that an approval of this task brought, oldest first, as it was pinned then.

    Raises PermanentError if one of them is gone from the store.
    """
    facts = (event.fact for event in store.events.stream(task_stream(task_id)))
    return tuple(
        _text(BlobId(fact.answer), task_id, store)
        for fact in facts
        if isinstance(fact, TaskUnblocked) and fact.answer
    )  # fmt: skip


def _text(answer: BlobId, task_id: TaskId, store: Store) -> str:
    raw = store.blobs.get(answer)
    if raw is None:
        raise PermanentError(
            f"an answer for task {task_id} is gone",
            why=f"blob {answer} is not in the store",
            fix=f"`tamma task retry {task_id}` begins anew with the issue's text of today",
        )
    return raw.decode()
