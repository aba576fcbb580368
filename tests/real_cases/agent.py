"""An agent command that knows the answer: it applies a case's own patches, or misbehaves in one known way.

Run in the workspace as ``agent.py BEHAVIOUR CASES_FOLDER``; Tamma's environment says which case and which turn it is.
``gold`` solves the issue, ``nothing`` changes nothing, ``mends`` solves it but breaks a test until it is told, ``never``
does the same and does not listen. Standard library only, since it runs with whatever Python a workspace has.
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

WORDS = "broken on purpose by the agent of the real cases"
BREAKS_PYTHON = f'raise AssertionError("{WORDS}")'
BREAKS_NODE = f'throw new Error("{WORDS}");'
# Several, since one alone might be a test that did not pass before; few, since each failure costs a traceback.
BROKEN_MAX = 4


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
    """Make a few tests of a Python file fail; with none to be found, or in any other language, the file as a whole."""
    text = _read(victim)
    lines = text.split("\n")
    if victim.suffix == ".py":
        found = sorted(list(_bodies(text))[:BROKEN_MAX], reverse=True)
        for line, indent in found:
            lines.insert(line, indent + BREAKS_PYTHON)
        if not found:
            lines.append(BREAKS_PYTHON)
    else:
        lines.insert(int(text.startswith("#!")), BREAKS_NODE)
    _write(victim, "\n".join(lines))


def _mend(victim: Path) -> None:
    lines = _read(victim).split("\n")
    _write(victim, "\n".join(line for line in lines if line.strip() not in (BREAKS_PYTHON, BREAKS_NODE)))


def _bodies(text: str) -> Iterator[tuple[int, str]]:
    """(index of its first line, its indent) for the body of each plain test: those of the module first, then of classes."""
    try:
        top = ast.parse(text).body
    except (SyntaxError, ValueError):
        return
    classes = [node for node in top if isinstance(node, ast.ClassDef)]
    lines = text.split("\n")
    for node in [*top, *(inner for cls in classes for inner in cls.body)]:
        if not isinstance(node, ast.FunctionDef) or not node.name.startswith("test") or node.decorator_list:
            continue
        first = node.body[0]
        indent = lines[first.lineno - 1][: first.col_offset]
        if not indent.strip() and not isinstance(first, ast.FunctionDef | ast.ClassDef):
            yield first.lineno - 1, indent


def _read(path: Path) -> str:
    return path.read_bytes().decode("utf-8", "surrogateescape")


def _write(path: Path, text: str) -> None:
    path.write_bytes(text.encode("utf-8", "surrogateescape"))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2])))
