"""Claims about status, explain and events: what they answer, for people and for scripts."""

from __future__ import annotations

import json
import signal
from contextlib import closing
from typing import Any

import pytest

from tamma.adapters.postgres.connections import connections_for
from tamma.adapters.postgres.events import PostgresEvents
from tamma.adapters.postgres.pool import Pool
from tamma.cli.events import newest
from tests.cli.ends import added, assert_ok, assert_plain, assert_told, ended
from tests.support.project import FIX, GATE, Project, wait_until

BROKEN = '{ append = "calc.py", text = "broken(" }'


def explained(project: Project, what: str = "demo#1", **env: str) -> tuple[str, dict[str, Any]]:
    """The answer for people, and the one for scripts."""
    told = assert_ok(project.run("explain", what, env=env))
    return told.out, assert_ok(project.run("explain", what, "--json", env=env)).json


NOT_PICKED: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "not-labelled": ({"labels": []}, {}),
    "label-forbids": ({"labels": ["tamma", "wontfix"]}, {}),
    "label-missing": ({}, {"TAMMA_SELECT__LABELS_ALL": '["ready"]'}),
    "other-assignee": ({}, {"TAMMA_SELECT__ASSIGNEE": "bob"}),
    "author-not-allowed": ({}, {"TAMMA_SELECT__AUTHORS": '["bob"]'}),
    "blocked-by": ({"blocked_by": ["2"]}, {}),
    "closed": ({"state": "closed"}, {}),
    "too-large": ({"body": "x" * 1000}, {"TAMMA_LIMITS__ISSUE_BYTES_MAX": "256"}),
}


@pytest.mark.parametrize(("why", "matter", "env"), [(why, *case) for why, case in NOT_PICKED.items()], ids=NOT_PICKED)
def test_explain_tells_why_an_issue_is_not_picked(
    project: Project, why: str, matter: dict[str, Any], env: dict[str, str]
) -> None:
    """The reason, as a code for scripts and a sentence for people, and what would change it; the loop agrees."""
    project.issue("2", labels=[])
    project.issue(**matter)
    text, values = explained(project, **env)
    assert [reason["why"] for reason in values["reasons"]] == [why]
    assert "not picked: " in text
    assert values["next"]
    assert_ok(project.run("orchestrate", "--once", env=env))
    assert not project.rows("SELECT 1 FROM task")


def test_explain_tells_that_too_many_changes_are_open(project: Project) -> None:
    """A limit of the repository, told with its number."""
    assert_ok(project.run("work", "--issue", "demo#1"))
    project.issue("2")
    _, values = explained(project, "demo#2", TAMMA_LIMITS__OPEN_CHANGES_PER_REPOSITORY_MAX="1")
    assert [reason["why"] for reason in values["reasons"]] == ["too-many-changes"]


def test_explain_follows_an_issue_to_its_end(project: Project) -> None:
    """Eligible, waiting for a slot, running, waiting for another try, done: each with what comes next."""
    text, values = explained(project)
    assert str(values["status"]).startswith("eligible"), text
    assert values["next"] == "run `tamma orchestrate`"
    task = added(project)
    text, values = explained(project)
    assert str(values["status"]).startswith("waiting"), text
    assert "tamma work --task-id demo#1" in str(values["next"])
    project.configure(steps='{ say = "at it" }, { hang = "quiet" }')
    child = project.start("work", "--task-id", task)
    wait_until(lambda: "AGENT.RUN.STARTED" in project.types())
    text, values = explained(project)
    assert "running: attempt 1, phase implement" in text
    child.send_signal(signal.SIGTERM)
    ended(child)
    project.configure(steps='{ fail = "not today" }')
    assert project.run("work", "--task-id", task).code == 11
    text, values = explained(project)
    assert "tried again" in text
    assert "not today" in text
    assert "tamma task output demo#1 agent" in values["next"]
    project.configure(steps=FIX)
    assert_ok(project.run("work", "--task-id", task))
    text, values = explained(project)
    assert "done: change" in text
    assert "tamma/1" in text
    assert "not taken again" not in text
    assert (values["reasons"], values["next"]) == ([], "review the change")
    outcomes = [story["outcome"] for story in values["attempts"]]
    assert outcomes == ["interrupted", "agent failed", "delivered"]


def test_explain_tells_what_a_failed_task_came_to(project: Project) -> None:
    """Attempt, size of the difference, gates, the patch that is left, and what a human can do; by issue and by id."""
    project.configure(
        '[[gates]]\nname = "compiles"\nargv = ["python3", "-c", "import sys; sys.tracebacklimit = 0; import calc"]\n[change]\nrepairs_max = 1\n',
        steps=BROKEN,
    )
    assert project.run("work", "--issue", "demo#1").code == 10
    text, values = explained(project)
    by_id, _ = explained(project, project.task_id())
    for told in (text, by_id):
        assert "stopped (gates failed)" in told, told
        assert "gate compiles: fail" in told
        assert "diff 1 file, 1 line; 1 repair\n" in told
        assert "tamma task retry demo#1" in told
        assert "  kept: the undelivered work; `tamma task patch demo#1` prints it\n" in told
    (story,) = values["attempts"]
    assert (story["exit_code"], story["diff"]["files"], bool(story["patch"])) == (10, 1, True)


def test_a_refused_change_leads_to_the_rule_and_the_work(project: Project) -> None:
    """Also once the issue was told: asking again without either would end the same; the reason has no advice of its own."""
    project.configure(steps='{ write = "Makefile", text = "all:" }')
    assert project.run("work", "--issue", "demo#1").code == 14
    assert_ok(project.run("orchestrate", "--once"))
    text, values = explained(project)
    assert "adds Makefile (" in text
    assert "change.protected_paths" in str(values["next"])
    assert "tamma task patch demo#1" in str(values["next"])
    assert "Next:" not in text
    assert "Next:" not in project.issue_text()


def test_explain_tells_what_a_blocked_task_asks(project: Project) -> None:
    """The question, and the command that answers it."""
    project.configure(steps='{ block = "Which parser?" }')
    assert project.run("work", "--issue", "demo#1").code == 13
    text, _ = explained(project)
    assert "waits for a human" in text
    assert "Which parser?" in text
    assert "tamma task approve demo#1" in text


def test_explain_sets_in_what_others_printed(project: Project) -> None:
    """A question may have many lines: the status has the first, the attempt all, and none looks like one of ours."""
    project.configure(steps=r'{ block = "Which one?\n\nnext: no\n\nover" }')
    assert project.run("work", "--issue", "demo#1").code == 13
    text, _ = explained(project)
    (status,) = [line for line in text.splitlines() if line.startswith("  status: ")]
    assert status.endswith(" …")
    assert "      next: no" in text.splitlines()
    assert "\n\n" not in text


def test_explain_of_nothing_is_3(project: Project) -> None:
    """Neither an issue nor a task of that name."""
    assert_told(project.run("explain", "demo#99"), 3, "demo#99", "next:")
    assert_told(project.run("explain", project.task_id("99")), 3, "next:")
    assert_told(project.run("explain", "0173"), 3, "neither an issue nor a task", "tamma status")
    assert_told(project.run("explain", "nowhere#1"), 2, "nowhere", "next:")
    assert project.run("explain", "99") == project.run("explain", "demo#99"), "where there is one repository"


def test_explain_of_an_issue_that_cannot_be_read_is_13(project: Project) -> None:
    """A human must mend the file; once there is a task, its story is told all the same."""
    path = project.issue("2")
    good = path.read_text()
    path.write_text("---\ntitle: [unclosed\n---\n")
    assert_told(project.run("explain", "demo#2"), 13, "2.md", "next:")
    path.write_text(good)
    added(project, "2")
    path.write_text("---\ntitle: [unclosed\n---\n")
    text, values = explained(project, "demo#2")
    assert "the forge says: " in text
    assert values["task"]["state"] == "queued"


@pytest.mark.parametrize(("state", "told"), [("merged", "the change was merged"), ("closed", "asks for another")])
def test_explain_knows_what_a_human_did_with_the_change(project: Project, state: str, told: str) -> None:
    """Reviewing is over once it is merged or closed; by issue and by task."""
    assert_ok(project.run("work", "--issue", "demo#1"))
    (change,) = (project.root / "forge" / "demo" / "changes").glob("*.md")
    _, before = explained(project)
    assert (before["change"]["state"], before["next"]) == ("open", "review the change")
    change.write_text(change.read_text().replace("state: open", f"state: {state}"))
    for what in ("demo#1", project.task_id()):
        text, values = explained(project, what)
        assert values["change"]["state"] == state
        assert "nothing: " in values["next"]
        assert told in values["next"]
        assert f"(tamma/1), {state}" in text


def test_the_label_put_on_again_is_not_taken_while_a_change_is_there(project: Project) -> None:
    """Who asks that way is told so, by issue and by task; not before the issue was told, when the label is still the first asking."""
    assert_ok(project.run("work", "--issue", "demo#1"))
    assert "not taken" not in explained(project)[0]
    project.issue()
    assert_ok(project.run("orchestrate", "--until-idle"))
    for what in ("demo#1", project.task_id()):
        text, values = explained(project, what)
        assert "status: done: change 1" in text
        assert "asked for again, not taken: change 1 for it is open\n" in text
        assert [reason["why"] for reason in values["reasons"]] == ["has-change"]
        assert "merge or close it" in values["next"]
        assert "tamma task retry demo#1" in values["next"]


def test_explain_of_a_cancelled_task_shows_nothing_that_runs(project: Project) -> None:
    """The attempt ended with it, whatever its worker came to; where that kept its work, the command that prints it is named."""
    project.configure(steps=FIX + ', { say = "now" }, { hang = "stubborn" }')
    task = added(project)
    child = project.start("work", "--task-id", task, env={"TAMMA_LEASE__BEAT_SECONDS": "0.3"})
    wait_until(lambda: "AGENT.OUTPUT.RECEIVED" in project.types())
    assert_ok(project.run("task", "cancel", task, "--reason", "no longer wanted"))
    assert ended(child).code == 4
    text, values = explained(project)
    assert "status: stopped (cancelled): no longer wanted\n" in text
    (story,) = values["attempts"]
    assert (story["outcome"], story["reason"]) == ("cancelled", "no longer wanted")
    assert "): cancelled\n" in text
    assert "  kept: the undelivered work; `tamma task patch demo#1` prints it\n" in text
    assert "a + b" in assert_ok(project.run("task", "patch", "demo#1")).out


def test_who_did_not_get_a_change_is_led_to_what_the_agent_said_or_did(project: Project) -> None:
    """Each command with its task: the output of an agent that failed, the patch of a change that was refused."""
    project.env["TAMMA_RETRY__ATTEMPTS_MAX"] = "1"
    project.configure(steps='{ fail = "no idea" }')
    assert_told(project.run("work", "--issue", "demo#1"), 11, f"tamma task output {project.task_id()} agent")
    assert "tamma task output demo#1 agent" in explained(project)[1]["next"]
    project.issue("2")
    project.configure(steps='{ write = "Makefile", text = "all:" }')
    assert_told(project.run("work", "--issue", "demo#2"), 14, f"tamma task patch {project.task_id('2')}")


def test_explain_leads_to_the_work_that_waits_for_approval(project: Project) -> None:
    """Nobody should approve what he has not seen."""
    project.configure(GATE + "[change]\napprove_before_publish = true\n")
    assert project.run("work", "--issue", "demo#1").code == 13
    text, _ = explained(project)
    for command in ("patch", "approve", "cancel"):
        assert f"tamma task {command} demo#1" in text
    assert project.task_id() not in text
    assert all(len(line) < 120 for line in text.partition("next: ")[2].splitlines()), text
    assert f"tamma task patch {project.task_id()}" in project.issue_text()


def test_times_are_written_the_same_everywhere(project: Project) -> None:
    """ISO, with T and the zone."""
    assert_ok(project.run("work", "--issue", "demo#1"))
    _, values = explained(project)
    times = [values["task"]["created_at"], *(story["started_at"] for story in values["attempts"])]
    assert all("T" in moment and moment.endswith("+00:00") for moment in times), times


def test_the_log_tells_only_labels_that_came_or_went(project: Project) -> None:
    """Labels that an issue never had were not taken off."""
    assert_ok(project.run("work", "--issue", "demo#1"))
    told = [line for line in assert_ok(project.run("events")).out.splitlines() if "changed the issue's labels" in line]
    assert [line.partition("labels: ")[2] for line in told] == ["+tamma:delivered -tamma"]


def test_status_shows_every_state(project: Project) -> None:
    """Counts, each task with where it stands, the living workers; the same as JSON."""
    assert "no tasks yet" in assert_ok(project.run("status")).out
    project.issue("2", title="Another\ttab \x1b[1mbold")
    task = added(project)
    assert_ok(project.run("task", "add", "demo#2"))
    assert_ok(project.run("work", "--task-id", task))
    done = assert_ok(project.run("status"))
    assert "1 queued, 1 succeeded" in done.out
    assert "demo#1\tsucceeded\t" in done.out
    values = assert_ok(project.run("status", "--json")).json
    assert values["counts"]["succeeded"] == 1
    assert {t["issue"]: t["state"] for t in values["tasks"]} == {"1": "succeeded", "2": "queued"}
    assert len(assert_ok(project.run("status", "--limit", "1", "--json")).json["tasks"]) == 1


def test_events_by_tag_and_issue(project: Project) -> None:
    """Each line of JSON is one event; an issue, a tag and a limit narrow them; none is doubled or out of order."""
    project.issue("2")
    for number in "12":
        added(project, number)
    assert_ok(project.run("work", "--task-id", project.task_id()))
    every = [
        json.loads(line) for line in assert_ok(project.run("events", "--json", "--limit", "1000")).out.splitlines()
    ]
    assert [e["position"] for e in every] == sorted({e["position"] for e in every})
    one = [
        json.loads(line) for line in assert_ok(project.run("events", "--json", "--issue", "demo#1")).out.splitlines()
    ]
    assert [e["type"] for e in one] == project.types()
    tagged = assert_ok(project.run("events", "--json", "--tag", f"task:{project.task_id('2')}")).out.splitlines()
    assert [json.loads(line)["type"] for line in tagged] == ["TASK.CREATE.SUCCEEDED"]
    assert len(assert_ok(project.run("events", "--limit", "3")).out.splitlines()) == 3
    words = assert_ok(project.run("events", "--issue", "demo#1")).out
    assert "pushed commit" in words
    assert "delivered as change" in words
    assert_told(project.run("events", "--issue", "nowhere#1"), 2, "next:")


def test_events_of_nothing_say_so(project: Project) -> None:
    """On stderr, with 0 where something may yet happen and 3 where there is no such issue or task."""
    assert_told(project.run("events"), 0, "no event yet")
    assert_told(project.run("events", "--issue", "demo#1", "--json"), 0, "no event has the tag issue:local/demo#1")
    assert_told(project.run("events", "--tag", "worker:nobody"), 0, "no event has the tag worker:nobody")
    assert_told(project.run("events", "--issue", "demo#99"), 3, "demo#99", "next:")
    for options in (("--task", project.task_id()), ("--tag", f"task:{project.task_id()}"), ("--task", "beef")):
        assert_told(project.run("events", *options), 3, options[1].removeprefix("task:"), "next:")
    assert_told(project.run("events", "--tag", "task:seven"), 2, "seven", "next:")
    assert_told(project.run("events", "--tag", "x", "--issue", "demo#1"), 2, "exclude each other", "next:")
    task = added(project)
    for name in (task[:8], "demo#1"):
        assert "task created" in assert_ok(project.run("events", "--task", name)).out


def test_what_comes_between_the_newest_and_the_rest_is_shown_once(project: Project) -> None:
    """An event that is written while the newest are read is not among them: it comes with those that are followed."""
    added(project)
    project.issue("2")

    class Busy(PostgresEvents):
        """A log to which somebody writes right after its head was asked for."""

        def head(self) -> int:
            cursor = super().head()
            added(project, "2")
            return cursor

    with closing(Pool(connections_for(project.database_url, application_name="test"))) as pool:
        log = Busy(pool)
        first, cursor = newest(log, tag=None, limit=100, is_followed=True)
        rest, _ = log.tail(cursor)
    assert [len(first), len(rest)] == [1, 1]


def test_events_follow_until_interrupted(project: Project) -> None:
    """What comes is shown as it comes, each once; SIGINT ends it with 130 and no traceback."""
    task = added(project)
    child = project.start("events", "--follow", "--json")
    assert child.stdout is not None
    assert json.loads(child.stdout.readline())["type"] == "TASK.CREATE.SUCCEEDED"
    assert_ok(project.run("task", "cancel", task))
    assert json.loads(child.stdout.readline())["type"] == "TASK.CANCEL.SUCCEEDED"
    child.send_signal(signal.SIGINT)
    done = ended(child)
    assert done.code == 130
    assert_plain(done)


def test_a_dry_run_as_json_tells_what_it_leaves_alone(project: Project) -> None:
    """One document: what would be done, what not and why, and what could not be read."""
    project.issue("2", labels=["tamma", "wontfix"])
    project.issue("3").write_text("---\ntitle: [unclosed\n---\n")
    said = assert_ok(project.run("orchestrate", "--dry-run", "--json")).json
    assert [action["action"] for action in said["actions"]] == ["create", "dispatch"]
    (left,) = said["not_selected"]
    assert (left["issue"], [r["why"] for r in left["reasons"]]) == ("demo#2", ["label-forbids"])
    assert [bad["issue"] for bad in said["malformed"]] == ["demo#3"]
    assert said["away"] == []


def test_json_is_json_and_nothing_else(project: Project) -> None:
    """Every command that offers --json prints a document that parses, without a word on stderr."""
    project.configure(GATE + "[log]\nlevel = 'debug'\n")
    added(project)
    for command in (("status",), ("explain", "demo#1"), ("doctor",), ("orchestrate", "--dry-run")):
        done = assert_ok(project.run(*command, "--json"))
        assert done.json is not None
        assert done.err == ""
    lines = assert_ok(project.run("orchestrate", "--until-idle", "--json")).out.splitlines()
    assert all(json.loads(line)["type"] for line in lines)
