"""A command line gets what it was promised, and what it says back is not trusted."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tamma.adapters.agents import CommandAgent, PromptBy
from tamma.adapters.agents.scripted import ScriptedAgent
from tamma.adapters.agents.telling import EVENTS_MAX, Telling
from tamma.core.errors import ConfigError
from tamma.ports.agent import Agent, AgentResult, AgentStatus
from tests.contracts.agent_contract import a_request
from tests.support.machine import a_sandbox, a_tag


def run(tmp_path: Path, agent: Agent, **changes: object) -> AgentResult:
    workspace = tmp_path / "workspace"
    workspace.mkdir(exist_ok=True)
    box = a_sandbox().box(workspace, tag=a_tag())
    return agent.run(a_request(tmp_path / "scratch", **changes), box, lambda _: None)


def said(tmp_path: Path, text: str, *, then: str = "") -> AgentResult:
    return run(
        tmp_path, CommandAgent(["sh", "-c", f'cat > "$TAMMA_RESULT_FILE"; {then}'], prompt=PromptBy.STDIN), prompt=text
    )


def test_placeholders_are_filled_once(tmp_path: Path) -> None:
    """An issue whose title looks like a placeholder stays what it is; unknown braces stay, too."""
    argv = [
        "printf",
        "%s|",
        "{title}",
        "{issue}",
        "{repository}",
        "{workspace}",
        "{environment}",
        "{turn}",
        "{x}",
        "{prompt}",
    ]
    result = run(tmp_path, CommandAgent(argv), title="{prompt} $(id)", environment=Path("/e"), prompt="p", turn=2)
    assert result.output == f"{{prompt}} $(id)|7|demo|{tmp_path}/workspace|/e|2|{{x}}|p|"


@pytest.mark.parametrize(("how", "expected"), [(PromptBy.STDIN, "the prompt"), (PromptBy.FILE, "")])
def test_the_prompt_comes_by_stdin_where_asked(tmp_path: Path, how: PromptBy, expected: str) -> None:
    """Otherwise standard input is empty, not a terminal."""
    assert run(tmp_path, CommandAgent(["cat"], prompt=how), prompt="the prompt").output == expected


def test_the_contract_beats_the_configured_environment(tmp_path: Path) -> None:
    """Configured variables come too, filled in."""
    agent = CommandAgent(["sh", "-c", 'echo "$TAMMA_ISSUE $MINE"'], env={"TAMMA_ISSUE": "x", "MINE": "{issue}!"})
    assert run(tmp_path, agent).output == "7 7!\n"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("not json", "not JSON"),
        ("[]", "not a JSON object"),
        ('{"status": "merged"}', "status"),
        ('{"status": ["x"]}', "status"),
        ("[" * 50_000, "not JSON"),
        ('{"detail": "' + "x" * 70_000 + '"}', "larger"),
    ],
)
def test_a_malformed_result_file_is_ignored_and_said(tmp_path: Path, text: str, fault: str) -> None:
    """The exit code then speaks."""
    result = said(tmp_path, text)
    assert result.status is AgentStatus.FINISHED
    assert fault in result.detail


@pytest.mark.parametrize("trick", ["ln -s /etc/passwd", "mkfifo", "mkdir"])
def test_a_result_that_is_no_plain_file_is_ignored(tmp_path: Path, trick: str) -> None:
    """A link is not followed, a pipe does not hang us."""
    result = run(tmp_path, CommandAgent(["sh", "-c", f'{trick} "$TAMMA_RESULT_FILE"']))
    assert "ignored" in result.detail
    assert run(tmp_path, CommandAgent(["true"])).detail == ""


def test_a_claim_of_nothing_to_do_needs_a_clean_exit(tmp_path: Path) -> None:
    """Anything else is a failure."""
    text = json.dumps({"status": "no_change_needed", "detail": "fine"})
    assert said(tmp_path, text, then="exit 1").status is AgentStatus.FAILED
    assert said(tmp_path, json.dumps({"status": "blocked"}), then="exit 1").status is AgentStatus.BLOCKED


def test_usage_is_finite_numbers_only(tmp_path: Path) -> None:
    """Whatever else the agent writes there."""
    text = '{"usage": {"tokens": 3, "usd": 0.5, "x": NaN, "y": "z", "w": true, "v": -1, "big": 1e300}}'
    assert said(tmp_path, text).usage == {"tokens": 3.0, "usd": 0.5}


def test_a_result_of_an_earlier_run_does_not_count(tmp_path: Path) -> None:
    """It is removed before the start."""
    said(tmp_path, '{"status": "blocked"}')
    assert run(tmp_path, CommandAgent(["true"])).status is AgentStatus.FINISHED


@pytest.mark.timeout(20)
@pytest.mark.parametrize("trick", ["fifo", "link", "file", "folder"])
@pytest.mark.parametrize("kind", ["command", "scripted"])
def test_what_lies_where_a_prompt_belongs_gives_way(tmp_path: Path, trick: str, kind: str) -> None:
    """An earlier run may have planted it: no FIFO holds us, no link is followed, and what was there is not read."""
    precious, name = tmp_path / "precious", "prompt.md" if kind == "command" else "steps.json"
    precious.write_text("mine")
    place = tmp_path / "scratch" / name
    place.parent.mkdir()
    match trick:
        case "fifo":
            os.mkfifo(place)
        case "link":
            place.symlink_to(precious)
        case "file":
            place.write_text("theirs")
        case _:
            place.mkdir()
    (tmp_path / "script.json").write_text('{"play": [{"steps": [{"say": "played"}]}]}')
    agent = CommandAgent(["cat", "{prompt_file}"]) if kind == "command" else ScriptedAgent(tmp_path / "script.json")
    assert run(tmp_path, agent, prompt="played").output.strip() == "played"
    assert precious.read_text() == "mine"


def test_a_missing_program_is_named(tmp_path: Path) -> None:
    """What the operator wrote must be mended: at the run, and for no command at all."""
    with pytest.raises(ConfigError, match="no-such-agent"):
        run(tmp_path, CommandAgent(["no-such-agent"]))
    with pytest.raises(ConfigError):
        CommandAgent([])


def test_events_are_few_and_tell_the_rest(tmp_path: Path) -> None:
    """A burst is coalesced, what does not fit is counted, and the last event is kept for the end."""
    now, events = [0.0], list[str]()
    telling = Telling(events.append, bytes_max=100, now=lambda: now[0])
    for n in range(1_000):
        telling.line(f"line {n}")
    assert events == ["line 0"]
    now[0] = 1.0
    telling.line("later")
    assert events[1].startswith("line 1\nline 2")
    assert "lines left out" in events[1]
    for n in range(1_000):
        now[0] += 1
        telling.line(f"slow {n}")
    telling.line("x" * 500)
    telling.end()
    assert len(events) == EVENTS_MAX
    assert all(len(event.encode()) <= 140 for event in events)
