"""Both agents hold to the contract."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from tamma.adapters.agents import CommandAgent, ScriptedAgent
from tamma.ports.agent import Agent
from tests.contracts.agent_contract import AgentContract
from tests.support.machine import PYTHON

COMMANDS: Final = {
    "edits": "mkdir sub && echo new > sub/new.txt",
    "blocks": """echo '{"status": "blocked", "detail": "which one?"}' > "$TAMMA_RESULT_FILE" """,
    "no-change": """echo '{"status": "no_change_needed", "detail": "already so"}' > "$TAMMA_RESULT_FILE" """,
    "fails": "echo broken; exit 3",
    "hangs": "sleep 600 & sleep 600",
    "hangs-stubbornly": "trap '' TERM; sleep 600; sleep 600",
    "floods": "head -c 20000000 /dev/zero | tr '\\0' x | fold -w 99",
    "garbles": r"printf 'a\377\000b\033[31m\n'",
    "tells-environment": "env",
}
STEPS: Final[dict[str, list[dict[str, object]]]] = {
    "edits": [{"write": "sub/new.txt", "text": "new\n"}],
    "blocks": [{"block": "which one?"}],
    "no-change": [{"no_change_needed": "already so"}],
    "fails": [{"fail": "broken"}],
    "hangs": [{"hang": "quiet"}],
    "hangs-stubbornly": [{"hang": "stubborn"}],
    "floods": [{"flood": 20_000_000}],
    "garbles": [{"run": [PYTHON, "-c", r"import os; os.write(1, b'a\xff\0b\x1b[31m\n')"]}],
    "tells-environment": [{"run": ["env"]}],
}


class TestCommandAgent(AgentContract):
    """Any command line."""

    def agent(self, folder: Path, behaviour: str) -> Agent:
        """A line of shell."""
        return CommandAgent(["sh", "-c", COMMANDS[behaviour]])


class TestScriptedAgent(AgentContract):
    """A script that is played."""

    def agent(self, folder: Path, behaviour: str) -> Agent:
        """One play for all runs."""
        script = folder / "script.json"
        script.write_text(json.dumps({"play": [{"steps": STEPS[behaviour]}]}))
        return ScriptedAgent(script)
