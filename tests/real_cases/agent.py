"""An agent command that knows the answer: it applies a case's own patches, or misbehaves in one known way.

Run in the workspace as ``agent.py BEHAVIOUR CASES_FOLDER``; Tamma's environment says which case and which turn it is.
``gold`` solves the issue, ``nothing`` changes nothing, ``mends`` solves it but breaks a test until it is told, ``never``
does the same and does not listen. Standard library only, since it runs with whatever Python a workspace has.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

WORDS = "broken on purpose by the agent of the real cases"
# Named so that pytest and unittest call it before any test of the file, and prefer it to one that is there already.
BREAKS_PYTHON = f'\n\ndef setUpModule():\n    raise AssertionError("{WORDS}")\n'
BREAKS_NODE = f'throw new Error("{WORDS}");\n'


def main(behaviour: str, folder: Path) -> int:
    """What this behaviour does in this turn."""
    turn = int(os.environ["TAMMA_TURN"])
    place = folder / os.environ["TAMMA_REPOSITORY"]
    case = json.loads((place / "case.json").read_text(encoding="utf-8"))
    sys.stdin.read()  # the prompt: a person would read it, this agent knows already
    if behaviour == "nothing":
        print("looked around, changed nothing")
        return 0
    if turn == 0:
        victim = _victim(case)
        _apply(place / "tests.patch")
        _apply(place / "gold.patch")
        if behaviour in ("mends", "never"):
            _break(victim)
    elif behaviour == "mends":
        _mend(_victim(case))
    print(f"{behaviour}: turn {turn} is done")
    return 0


def _apply(patch: Path) -> None:
    subprocess.run(["git", "apply", "--whitespace=nowarn", str(patch)], check=True)


def _victim(case: dict[str, list[str]]) -> Path:
    """The first test file that is there before the change, and so holds tests that pass on the base."""
    there = [Path(name) for name in case["run_files"] if Path(name).exists()]
    return there[0] if there else Path(case["run_files"][0])


def _break(victim: Path) -> None:
    text = _read(victim)
    if victim.suffix == ".py":
        _write(victim, text + BREAKS_PYTHON)
        return
    first, newline, rest = text.partition("\n")
    _write(victim, first + newline + BREAKS_NODE + rest if first.startswith("#!") else BREAKS_NODE + text)


def _mend(victim: Path) -> None:
    _write(victim, _read(victim).replace(BREAKS_PYTHON if victim.suffix == ".py" else BREAKS_NODE, "", 1))


def _read(path: Path) -> str:
    return path.read_bytes().decode("utf-8", "surrogateescape")


def _write(path: Path, text: str) -> None:
    path.write_bytes(text.encode("utf-8", "surrogateescape"))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2])))
