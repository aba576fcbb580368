"""Which task a person means."""

from __future__ import annotations

from itertools import count

import pytest

from tamma.adapters.postgres.store import PostgresStore
from tamma.core.errors import ConfigError, NoSuchTask
from tamma.core.ids import BlobId, IssueRef, task_id
from tamma.core.task import TaskKind
from tamma.engine.lookup import Lookup
from tamma.ports.store import TaskDraft


def test_the_beginning_of_an_id_may_be_a_number(store: PostgresStore) -> None:
    """An issue that has a task comes first; of several repositories a number alone is no issue."""
    ref = next(ref for ref in map(in_demo, count(1)) if id_of(ref)[:4].isdecimal() and id_of(ref)[0] != "0")
    number = id_of(ref)[:4]
    made = store.tasks.create(draft(ref))
    lookup, several = Lookup(store=store, parse_issue=in_demo), Lookup(store=store, parse_issue=refuse)
    assert lookup.task_id(number) == several.task_id(number) == several.named(number) == made.id
    with pytest.raises(NoSuchTask, match="has no task"):
        lookup.task_id(number[::-1] + "99")
    other = store.tasks.create(draft(in_demo(number)))
    assert lookup.task_id(number) == other.id


def in_demo(number: object) -> IssueRef:
    """An issue of the only repository."""
    return IssueRef(forge="local", repository="demo", number=str(number))


def refuse(text: str) -> IssueRef:
    """There are several repositories."""
    raise ConfigError(f"{text} is not an issue reference")


def id_of(ref: IssueRef) -> str:
    """Of its first task."""
    return task_id(ref, kind=TaskKind.RESOLVE, generation=1)


def draft(ref: IssueRef) -> TaskDraft:
    """Its first task."""
    return TaskDraft(ref=ref, title="t", digest="d", snapshot=BlobId("b"), asked_by="label")
