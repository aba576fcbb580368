"""What an attempt that died brought outside is looked at again before it is believed."""

from __future__ import annotations

from tests.faults.world import ended, finish, queue, start_work
from tests.support.project import Project, git

BARE = "forge/demo/repo.git"


def test_a_branch_that_was_deleted_after_its_record_is_pushed_again(project: Project) -> None:
    """The record says done, the forge says otherwise: commits are deterministic, so it is the very same one."""
    project.configure()
    [task] = queue(project)
    assert ended(start_work(project, task, "push.after_record=kill")).code == -9
    [(branch, commit)] = project.branches().items()
    git("update-ref", "-d", f"refs/heads/{branch}", cwd=project.root / BARE)
    finish(project)
    assert project.state() == ("succeeded", "delivered")
    assert project.branches() == {branch: commit}
    assert len(project.changes()) == 1


def test_a_publish_that_is_taken_up_looks_at_the_issue_again(project: Project) -> None:
    """Edited after the push and before the change: no surprise change for the older text."""
    project.configure()
    [task] = queue(project)
    assert ended(start_work(project, task, "push.after_effect=kill")).code == -9
    project.issue(body="please subtract")
    finish(project)
    assert project.state()[0] == "blocked"
    assert project.changes() == []
