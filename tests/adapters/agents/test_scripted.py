"""A script plays what it says, in the workspace only; a mistake in it is told by file and key."""

from __future__ import annotations

import json
import os
import re
import tomllib
from pathlib import Path

import pytest

from tamma.adapters.agents import ScriptedAgent
from tamma.adapters.agents.scripted import choose, load_script
from tamma.core.errors import ConfigError
from tamma.core.ids import IssueRef
from tamma.ports.agent import AgentResult, AgentStatus
from tests.contracts.agent_contract import ISSUE, a_request
from tests.support.machine import a_sandbox, a_tag

PATCH = "--- a/old.txt\n+++ b/old.txt\n@@ -1 +1 @@\n-one\n+two\n"


def play(tmp_path: Path, *steps: dict[str, object]) -> AgentResult:
    script, workspace = tmp_path / "script.json", tmp_path / "workspace"
    workspace.mkdir(exist_ok=True)
    script.write_text(json.dumps({"play": [{"steps": steps}]}))
    box = a_sandbox().box(workspace, tag=a_tag())
    return ScriptedAgent(script).run(a_request(tmp_path / "scratch"), box, lambda _: None)


def test_each_edit_does_what_it_says(tmp_path: Path) -> None:
    """Write, append, replace, delete, patch, run, links and raw bytes; usage adds up."""
    (tmp_path / "fix.patch").write_text(PATCH)
    result = play(
        tmp_path,
        {"write": "a/b.sh", "text": "ä\n", "executable": True},
        {"append": "a/b.sh", "text": "more\n"},
        {"replace": "a/b.sh", "old": "more", "new": "less"},
        {"write": "gone", "text": ""},
        {"delete": "gone"},
        {"write": "old.txt", "text": "one\n"},
        {"patch": "fix.patch"},
        {"run": ["sh", "-c", "echo ran > ran"]},
        {"run": ["false"], "may_fail": True},
        {"symlink": "link", "target": "/etc/passwd"},
        {"raw": "../outside", "hex": "ff00"},
        {"spend": {"tokens": 2}},
        {"spend": {"tokens": 3, "usd": 0.5}},
    )
    workspace = tmp_path / "workspace"
    assert result.status is AgentStatus.FINISHED, result
    assert (workspace / "a" / "b.sh").read_text() == "ä\nless\n"
    assert (workspace / "a" / "b.sh").stat().st_mode & 0o111
    assert not (workspace / "gone").exists()
    assert (workspace / "old.txt").read_text() == "two\n"
    assert (workspace / "ran").read_text() == "ran\n"
    assert (workspace / "link").is_symlink()
    assert (tmp_path / "outside").read_bytes() == b"\xff\0"
    assert result.usage == {"tokens": 5, "usd": 0.5}


@pytest.mark.parametrize("path", ["../x", "/tmp/x", "out/x", "a/../../x", "link"])
def test_a_plain_edit_stays_in_the_workspace(tmp_path: Path, path: str) -> None:
    """Whatever the path; the run fails and says so."""
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    (workspace / "out").symlink_to(tmp_path)
    (workspace / "link").symlink_to(tmp_path / "x")
    result = play(tmp_path, {"write": path, "text": "no"})
    assert (result.status, result.exit_code) == (AgentStatus.FAILED, 1)
    assert "outside" in result.detail
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("step", "status"),
    [
        ({"replace": "none", "old": "a", "new": "b"}, AgentStatus.FAILED),
        ({"run": ["false"]}, AgentStatus.FAILED),
        ({"run": ["no-such-program"]}, AgentStatus.FAILED),
        ({"exhaust": "no money"}, AgentStatus.BUDGET_SPENT),
    ],
)
def test_a_step_may_end_the_run(tmp_path: Path, step: dict[str, object], status: AgentStatus) -> None:
    """And later steps are not played."""
    assert play(tmp_path, step, {"write": "later", "text": ""}).status is status
    assert not (tmp_path / "workspace" / "later").exists()


def test_the_play_that_fits_best_is_chosen(tmp_path: Path) -> None:
    """Issue before attempt before turn; the earlier of two alike; a word where none fits."""
    script = tmp_path / "s.toml"
    script.write_text(
        "".join(
            f"[[play]]\n{head}\nsteps=[{{say='{n}'}}]\n"
            for n, head in enumerate(
                ["", "turn=1", "attempt=2", "issue=7", "issue='demo#7'\nturn=0", "issue='demo#7'\nturn=0"]
            )
        )
    )
    plays, other = load_script(script), IssueRef(forge="f", repository="demo", number="8")
    picks = [(ISSUE, 0, 1), (ISSUE, 1, 1), (other, 0, 1), (other, 1, 1), (other, 1, 2)]
    said = [choose(plays, ref, turn=turn, attempt=attempt)[0]["say"] for ref, turn, attempt in picks]
    assert said == ["4", "3", "0", "1", "2"]
    assert "nothing for demo#8" in choose(plays[3:], other, turn=0, attempt=1)[0]["say"]


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("", "play"),
        ("x = 1\nplay = []", "x"),
        ("[[play]]\n", "play[0].steps"),
        ("[[play]]\nsteps=[]\nextra=1", "play[0].extra"),
        ("[[play]]\nsteps=[{}]", "play[0].steps[0]"),
        ("[[play]]\nsteps=[{say='a', fail='b'}]", "play[0].steps[0]"),
        ("[[play]]\nsteps=[{write='a'}]", "play[0].steps[0].text"),
        ("[[play]]\nsteps=[{write=1, text='a'}]", "play[0].steps[0].write"),
        ("[[play]]\nsteps=[{say='a', loud=true}]", "play[0].steps[0].loud"),
        ("[[play]]\nturn=-1\nsteps=[]", "play[0].turn"),
        ("[[play]]\nsteps=[{run=[]}]", "play[0].steps[0].run"),
        ("[[play]]\nsteps=[{raw='a', hex='xyz'}]", "play[0].steps[0].hex"),
        ("[[play]]\nsteps=[{patch='missing'}]", "play[0].steps[0].patch"),
        ("[[play]]\nsteps=[{sleep=true}]", "play[0].steps[0].sleep"),
        ("[[play", "script.toml"),
    ],
)
def test_a_bad_script_is_told_by_file_and_key(tmp_path: Path, text: str, key: str) -> None:
    """Before anything runs."""
    script = tmp_path / "script.toml"
    script.write_text(text)
    with pytest.raises(ConfigError) as caught:
        ScriptedAgent(script)
    assert str(script) in str(caught.value)
    assert key in str(caught.value)
    assert caught.value.fix


def test_a_missing_script_is_a_configuration_error(tmp_path: Path) -> None:
    """Not a traceback."""
    with pytest.raises(ConfigError):
        ScriptedAgent(tmp_path / "none.toml")


@pytest.mark.timeout(20)
@pytest.mark.parametrize("text", [None, "[[play]]\nsteps=[{patch='fifo'}]"])
def test_a_fifo_in_place_of_the_script_or_its_patch_holds_nobody(tmp_path: Path, text: str | None) -> None:
    """Whoever may write to the checkout may put one there."""
    script = tmp_path / "script.toml"
    os.mkfifo(tmp_path / "fifo" if text else script)
    if text:
        script.write_text(text)
    with pytest.raises(ConfigError, match="not a regular file"):
        ScriptedAgent(script)


def test_the_example_in_the_documentation_is_a_good_script(tmp_path: Path) -> None:
    """It is read from the page."""
    page = (Path(__file__).parents[3] / "docs" / "agents.md").read_text()
    (example,) = (block for block in re.findall(r"```toml\n(.*?)```", page, re.DOTALL) if "[[play]]" in block)
    assert tomllib.loads(example)
    script = tmp_path / "script.toml"
    script.write_text(example)
    assert len(load_script(script)) == 3
