"""Claims about names in braces: mistyped ones are refused with what was probably meant, and scripts keep their braces."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tamma.adapters.agents import command
from tamma.config import placeholders
from tamma.config.loader import load
from tamma.core.errors import ConfigError
from tests.docs.generate import FOLDER


def of_gate(*argv: str, env: str = "{}") -> str:
    return f'[[gates]]\nname = "a"\nargv = {json.dumps(argv)}\nenv = {env}\n'


REFUSED = {
    "agent": ('[agent]\nargv = ["run", "{promt_file}"]\n', "agent.argv", "did you mean {prompt_file}?"),
    "agent-env": ('[agent]\nenv = {A = "{Turn}"}\n', "agent.env", "did you mean {turn}?"),
    "agent-of-a-repository": ('[repositories.x.agent]\nargv = ["{foo}"]\n', "repositories.x.agent.argv", "{prompt_file}"),
    "gate": (of_gate("{enviroment}/bin/python"), "gates[0].argv", "did you mean {environment}?"),
    "gate-env": (of_gate("x", env='{A = "{reprot}"}'), "gates[0].env", "did you mean {report}?"),
    "agents-name-in-a-gate": (of_gate("x", "{prompt_file}"), "gates[0].argv", "here there is {environment}, {report}"),
    "script": (of_gate("sh", "-c", "exec '{enviroment}/bin/python' -m pytest"), "gates[0].argv", "did you mean {environment}?"),
    "set-up": ('[environment]\nsetup = [["python3", "-m", "venv", "{env}"]]\n', "environment.setup[0]", "{environment}"),
}  # fmt: skip
KEPT = {
    "awk": of_gate("sh", "-c", "git diff | awk '{print} {total += $1}'"),
    "shell": of_gate("sh", "-c", 'echo "${HOME}" {a,b} {}', env='{A = "${HOME}"}'),
    "python": of_gate("python3", "-c", "name = 'x'; print(f'{name}')"),
    "template": of_gate("docker", "ps", "--format={{json}}"),
    "json": of_gate("x", '{"a": 1}'),
    "known": of_gate("{environment}/bin/python", "--junitxml={report}"),
}


@pytest.mark.parametrize(("text", "key", "told"), REFUSED.values(), ids=REFUSED)
def test_what_is_not_filled_in_is_refused_with_what_was_meant(tmp_path: Path, text: str, key: str, told: str) -> None:
    """When it is read, not at the first attempt; the key is named."""
    (tmp_path / "tamma.toml").write_text(text)
    with pytest.raises(ConfigError) as refused:
        load(tmp_path / "tamma.toml", environ={})
    assert f"{key} is refused" in str(refused.value)
    assert told in str(refused.value)


@pytest.mark.parametrize("text", KEPT.values(), ids=KEPT)
def test_braces_of_others_are_left_alone(tmp_path: Path, text: str) -> None:
    """The shell's, awk's, Python's and templates'."""
    (tmp_path / "tamma.toml").write_text(text)
    assert load(tmp_path / "tamma.toml", environ={}).config.gates


def test_the_names_are_those_that_are_filled_in() -> None:
    """By the agent, and in the page that tells of them."""
    assert sorted(placeholders.AGENT) == sorted(command.PLACEHOLDERS)
    page = (FOLDER / "agents.md").read_text(encoding="utf-8")
    assert all(f"`{{{name}}}`" in page for name in placeholders.AGENT)
