"""An agent that takes away what a gate runs is seen, even where the gate is green."""

from __future__ import annotations

from pathlib import Path

import pytest

from tamma.core.gate import GateSpec, GateVerdict
from tamma.engine.evidence import evidence_markdown
from tests.engine.gate_world import World

FILES = {"ci/check.sh": "exit 0\n", "run.sh": "sh ci/check.sh\n", "other.sh": "true\n"}


@pytest.mark.parametrize(
    ("argv", "cwd"),
    [
        (("sh", "-c", "[ ! -e ci/check.sh ] || sh 'ci/check.sh'"), "."),
        (("sh", "-c", "sh ./check.sh || true"), "ci"),
        (("true", "--script=ci/check.sh::some_test"), "."),
    ],
)
@pytest.mark.parametrize("content", [None, ""])
def test_a_gate_without_its_script_says_so(
    tmp_path: Path, argv: tuple[str, ...], cwd: str, content: str | None
) -> None:
    """In its summary, which the event log has, and above the lists in the change's description."""
    spec = GateSpec(name="check", argv=argv, cwd=cwd)
    world = World(tmp_path, FILES | {"ci/kept": "x"})
    report = world.judge({"ci/check.sh": content, "other.sh": None}, spec)["check"]
    assert report.verdict is GateVerdict.PASS
    assert report.summary.endswith("the change deletes or empties what it runs: ci/check.sh")
    assert "- ⚠️ check: its command names `ci/check.sh`, which this change deletes or empties" in evidence_markdown(
        [report]
    )


def test_an_edited_script_is_no_hollow_one(tmp_path: Path) -> None:
    """Review sees the edit; nothing is said here."""
    world = World(tmp_path, FILES)
    report = world.judge({"run.sh": "exit 0\n"}, GateSpec(name="check", argv=("sh", "run.sh")))["check"]
    assert not report.hollowed
