"""How to reproduce a change is written so that it can be typed."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tamma.core.gate import GateSpec
from tamma.engine.typed import as_typed, gate_as_typed


@pytest.mark.parametrize(
    ("argv", "typed"),
    [
        (("python3", "-m", "venv", "{environment}"), 'python3 -m venv "$ENVIRONMENT"'),
        (("{environment}/bin/pytest", "--junitxml={report}"), '"$ENVIRONMENT"/bin/pytest --junitxml=report.xml'),
        (("sh", "-c", "echo a b"), "sh -c 'echo a b'"),
    ],
)
def test_placeholders_become_a_variable_and_a_file(argv: tuple[str, ...], typed: str) -> None:
    """The reader pastes it into a shell."""
    assert as_typed(argv) == typed


def test_a_shell_reads_back_the_very_arguments() -> None:
    """sh is the oracle."""
    line = as_typed(("printf", "%s\\n", "{environment}/x y", "it's", "$HOME", ""))
    out = subprocess.run(
        ["sh", "-c", line],
        env={"ENVIRONMENT": "/e", "PATH": "/usr/bin:/bin"},
        check=True,
        capture_output=True,
        text=True,
    )
    assert out.stdout.splitlines() == ["/e/x y", "it's", "$HOME", ""]


def test_a_gate_runs_where_and_with_what_tamma_ran_it(tmp_path: Path) -> None:
    """Its folder and its variables are part of the line that is pasted; the shell's own folder stays."""
    (tmp_path / "sub dir").mkdir()
    code = """printf '%s|' "$PWD" "$A" "$B" "$TAMMA_REPORT" "$HOME" "{environment}" > out"""
    gate = GateSpec(name="g", argv=("sh", "-c", code), cwd="sub dir", env={"A": "it's $HOME", "B": "{environment}/b c"})
    line = gate_as_typed(gate)
    env = {"ENVIRONMENT": "/e", "PATH": "/usr/bin:/bin", "HOME": "/h"}
    subprocess.run(["sh", "-c", f"{line}; pwd > here"], cwd=tmp_path, env=env, check=True)
    seen = (tmp_path / "sub dir" / "out").read_text().split("|")
    assert seen[:-1] == [str(tmp_path / "sub dir"), "it's $HOME", "/e/b c", "report.xml", "/h", "/e"]
    assert (tmp_path / "here").is_file()


def test_a_variable_that_no_shell_can_set_is_set_by_env() -> None:
    """``npm_config_//registry/`` is such a name."""
    line = gate_as_typed(GateSpec(name="g", argv=("printenv", "a.b"), env={"a.b": "c"}))
    assert subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=True).stdout == "c\n"
