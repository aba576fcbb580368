"""What is done outside, told as a person would tell it."""

from __future__ import annotations

import pytest

from tamma.core.event import EffectIntended, EffectRecorded, Fact, NoticeSent, TreeAudited
from tamma.core.ids import WorkerId
from tamma.core.task import Notice
from tamma.core.tell import describe_fact

COMMIT = "c0ffee" * 6
TOLD: list[tuple[Fact, str]] = [
    (
        EffectIntended(key="t:push:x", kind="push", epoch=1, intent={"branch": "tamma/1", "commit": COMMIT}),
        "pushing tamma/1 at c0ffeec0ffee",
    ),
    (
        EffectIntended(key="t:change:x", kind="change", epoch=1, intent={"branch": "tamma/1"}),
        "opening the change for tamma/1",
    ),
    (EffectIntended(key="t:comment:x", kind="comment", epoch=1, intent={}), "telling the issue"),
    (EffectRecorded(key="t:push:x", state="done", epoch=1, result={"commit": COMMIT}), "pushed commit c0ffeec0ffee"),
    (
        EffectRecorded(key="t:change:x", state="done", epoch=2, result={"change": "1", "found": "yes"}),
        "opened change 1, found as an earlier attempt left it",
    ),
    (EffectRecorded(key="t:comment:x", state="done", epoch=1, result={"comment": "7"}), "told the issue, by a comment"),
    (
        EffectRecorded(
            key="t:labels:x", state="done", epoch=1, result={"added": "tamma:delivered", "removed": "tamma"}
        ),
        "changed the issue's labels: +tamma:delivered -tamma",
    ),
    (
        EffectRecorded(key="t:labels:x", state="done", epoch=1, result={"added": "", "removed": ""}),
        "the issue's labels are as they should be",
    ),
    (
        TreeAudited(epoch=1, tree=None, commit=None, files=0, lines=0, patch=None, refusals=()),
        "nothing was changed",
    ),
    (EffectRecorded(key="t:push:x", state="abandoned", epoch=1, result={}), "given up: push"),
]


@pytest.mark.parametrize(("fact", "sentence"), TOLD, ids=[sentence for _, sentence in TOLD])
def test_an_effect_is_told_in_words(fact: Fact, sentence: str) -> None:
    """No key, no field name: what happens to the branch, the change, the issue."""
    assert describe_fact(fact) == sentence


@pytest.mark.parametrize("notice", Notice)
def test_a_notice_is_told_in_words(notice: Notice) -> None:
    """Each has its own: nobody's task "is asked"."""
    told = describe_fact(NoticeSent(notice=notice, by=WorkerId("w")))
    assert told.startswith("the issue was told that its task ")
    assert not told.endswith((" is asked", " is escalated", " is unchanged", " is cancelled"))
