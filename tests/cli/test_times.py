"""Claims about the times that people read: one zone, theirs, told with each; and what one command prints another takes."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from tamma.cli.moment import parse_moment
from tamma.core.errors import ConfigError
from tamma.core.event import TaskSettled
from tamma.core.moment import local
from tamma.core.tell import describe_fact
from tests.cli.ends import assert_ok
from tests.support.project import Project

HOURS_BEHIND = {"TZ": "EST5"}
TIME = re.compile(r"\d\d:\d\d:\d\d")
WHOLE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d-05:00")


@pytest.fixture
def _hours_behind(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "EST5")
        time.tzset()
        yield
    time.tzset()


def test_every_time_is_the_readers_with_its_offset(project: Project) -> None:
    """In the log of a worker, the loop's lines, events, explain and status: date, time and offset, of one zone."""
    project.configure(
        steps='{ fail = "no idea" }', quick="[retry]\nbackoff_base_seconds = 3600\nbackoff_max_seconds = 3600\n"
    )
    project.env |= HOURS_BEHIND
    logged = project.run("work", "--issue", "demo#1").err
    assert_ok(project.run("pause", "demo"))
    (project.root / "forge" / "demo" / "issues" / "2.md").write_text("---\ntitle: [unclosed\n---\nbody\n")
    loop = project.run("orchestrate", "--once")
    shown = {
        "work": logged,
        "loop": loop.out + loop.err,
        "events": assert_ok(project.run("events")).out,
        "explain": assert_ok(project.run("explain", "demo#1")).out,
        "status": assert_ok(project.run("status")).out,
    }
    for command, text in shown.items():
        assert len(WHOLE.findall(text)) == len(TIME.findall(text)) > 0, (command, text)


def test_a_time_that_was_printed_names_a_moment(project: Project) -> None:
    """What stood on the last line is shown again by ``--at`` with that line's time, and a script reads UTC as ever."""
    project.env |= HOURS_BEHIND
    assert_ok(project.run("task", "add", "demo#1"))
    out = assert_ok(project.run("events")).out
    assert assert_ok(project.run("events", "--at", out.split()[0])).out == out
    assert "1 queued" in assert_ok(project.run("status", "--at", out.split()[0])).out
    assert '+00:00"' in assert_ok(project.run("events", "--json")).out


@pytest.mark.usefixtures("_hours_behind")
def test_a_printed_time_is_the_whole_second() -> None:
    """Times are cut when they are printed: the event of that second happened by then. The future stays out."""
    moment, now = (
        datetime(2026, 1, 1, 12, 0, 7, 250_000, tzinfo=UTC),
        datetime(2026, 1, 1, 12, 0, 7, 900_000, tzinfo=UTC),
    )
    assert local(moment) == "2026-01-01T07:00:07-05:00"
    assert moment <= parse_moment(local(moment), now=now) <= now
    assert parse_moment("2026-01-01T07:00:07.25", now=now) == moment


@pytest.mark.usefixtures("_hours_behind")
def test_a_retry_is_told_with_the_time_it_waits_for() -> None:
    """It is tried after that time, not until then."""
    fact = TaskSettled(
        epoch=1, outcome="agent failed", trigger="retry", state="retryable", reason="no idea", attempts=1, infra=0, interruptions=0,
        crashes=0, exit_code=11, notice=None, run_after=datetime(2026, 1, 1, 12, tzinfo=UTC),
    )  # fmt: skip
    assert describe_fact(fact) == (
        "attempt 1 ended: agent failed; it is tried again after 2026-01-01T07:00:00-05:00: no idea"
    )


@pytest.mark.parametrize("text", ["9999-12-31T23:59:59-23:00", "99999999999999d"])
def test_a_time_that_no_calendar_reaches_is_told_as_that(text: str) -> None:
    """It is written as it should be; the reason is another."""
    with pytest.raises(ConfigError, match="no moment") as told:
        parse_moment(text, now=datetime(2026, 1, 1, tzinfo=UTC))
    assert told.value.why == "no calendar reaches that far"
