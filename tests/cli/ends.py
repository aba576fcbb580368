"""How commands end, asserted in one place: the code, the words, and never a traceback."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence

from tamma.core.event import TaskSettled
from tamma.core.ids import TaskId
from tests.support.project import Done, Project

ANSI = re.compile(r"\x1b\[")


def assert_told(done: Done, code: int, *words: str) -> None:
    """Ended with this code, and told what, why and what next on stderr, plainly."""
    assert done.code == code, (done.code, done.err, done.out)
    assert_plain(done)
    assert "tamma: " in done.err, done.err
    missing = [word for word in words if word not in done.err]
    assert not missing, (missing, done.err)


def assert_plain(done: Done) -> None:
    """No traceback and no escape anywhere."""
    for text in (done.out, done.err):
        assert "Traceback" not in text, text
        assert not ANSI.search(text), text


def assert_ok(done: Done) -> Done:
    """Ended with 0, plainly."""
    assert done.code == 0, (done.code, done.err, done.out)
    assert_plain(done)
    return done


def last_settled(project: Project, task: TaskId | None = None) -> TaskSettled:
    """The newest fact of an attempt that ended by its own word."""
    found: Sequence[TaskSettled] = [e.fact for e in project.events(task) if isinstance(e.fact, TaskSettled)]
    assert found, project.types(task)
    return found[-1]


def added(project: Project, number: str = "1") -> TaskId:
    """A task for the issue, made by the command."""
    done = assert_ok(project.run("task", "add", f"demo#{number}"))
    assert done.out.strip() == project.task_id(number)
    return project.task_id(number)


def ended(child: subprocess.Popen[str]) -> Done:
    """A started process, at its end."""
    out, err = child.communicate(timeout=60)
    return Done(code=child.returncode, out=out, err=err)
