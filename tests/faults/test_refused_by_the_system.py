"""What the system refuses in the middle of an attempt is told to whoever can act: no bug, unless it is one."""

from __future__ import annotations

import pytest

from tests.faults.world import ended, finish, queue, start_work
from tests.support.project import Project


@pytest.mark.parametrize(
    ("action", "code", "state", "said"),
    [
        ("full", 75, ("retryable", "unavailable"), "No space left on device"),
        ("denied", 2, ("blocked", "blocked"), "must own /some/place"),
        ("raise", 1, ("retryable", "crashed"), "a bug in Tamma"),
    ],
)
def test_the_attempt_ends_for_whoever_can_act(
    project: Project, action: str, code: int, state: tuple[str, str], said: str
) -> None:
    """A full disk passes and is tried again; a folder that is somebody else's waits for the operator."""
    [task] = queue(project)
    done = ended(start_work(project, task, f"implement.after_enter={action}", TAMMA_LEASE__DURATION_SECONDS="60"))
    assert (done.code, project.state()) == (code, state), (done.err, done.out)
    assert said in done.err
    if state[0] == "retryable":
        finish(project)
        assert project.state() == ("succeeded", "delivered")
