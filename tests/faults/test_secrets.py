"""A secret that Tamma knows leaves the machine in no change."""

from __future__ import annotations

from tamma.core.event import TreeAudited, WorkSalvaged
from tests.faults.world import EDIT, ended, queue, start_work
from tests.support.project import Project

TOKEN = "hunter2-hunter2-hunter2"


def test_a_change_that_holds_a_secret_of_tamma_is_refused(project: Project) -> None:
    """14, nothing pushed; file and name of the secret are told, its value stands in nothing that is kept."""
    project.configure(
        steps=f'{EDIT}, {{ write = "conf.py", text = "key = bytes.fromhex(\'{TOKEN.encode().hex()}\')\\n" }}'
    )
    [task] = queue(project)
    done = ended(start_work(project, task, REVIEW_TOKEN=TOKEN, TAMMA_LEASE__DURATION_SECONDS="60"))
    assert done.code == 14, (done.err, done.out)
    assert "conf.py would publish the secret REVIEW_TOKEN" in done.out + done.err
    assert project.state() == ("failed", "refused")
    assert project.branches() == {}
    kept = [bytes(row[0]) for row in project.rows("SELECT content FROM blob")]
    facts = [event.fact for event in project.events(task)]
    assert any(isinstance(fact, TreeAudited) and fact.refusals for fact in facts)
    assert any(isinstance(fact, WorkSalvaged) for fact in facts)
    assert any(b"+++ b/conf.py" in content for content in kept)
    for form in (TOKEN, TOKEN.encode().hex()):
        assert form not in done.out + done.err
        assert not [content for content in kept if form.encode() in content]
