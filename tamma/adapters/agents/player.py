"""Plays the steps of a scripted agent inside its box: ``python -I player.py STEPS``. Standard library only, run by path.

Paths are confined to the workspace, links resolved, except in ``raw`` and ``symlink``, which exist to be hostile.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final


class Over(Exception):
    """A step ended the run."""

    def __init__(self, status: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


def _inside(name: str) -> Path:
    root = Path.cwd().resolve()
    path = root / name
    if path == root or not path.parent.resolve().is_relative_to(root) or path.is_symlink() or ".." in Path(name).parts:
        raise Over("failed", f"{name} is outside of the workspace")
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _write(step: dict[str, Any]) -> None:
    path = _inside(step["write"])
    path.write_text(step["text"])
    if step.get("executable"):
        path.chmod(0o755)


def _append(step: dict[str, Any]) -> None:
    with _inside(step["append"]).open("a") as file:
        file.write(step["text"])


def _replace(step: dict[str, Any]) -> None:
    path = _inside(step["replace"])
    try:
        text = path.read_text()
    except OSError as e:
        raise Over("failed", f"{step['replace']}: {e.strerror}") from e
    if step["old"] not in text:
        raise Over("failed", f"{step['replace']} does not contain {step['old']!r}")
    path.write_text(text.replace(step["old"], step["new"]))


def _delete(step: dict[str, Any]) -> None:
    try:
        _inside(step["delete"]).unlink()
    except OSError as e:
        raise Over("failed", f"{step['delete']}: {e.strerror}") from e


def _patch(step: dict[str, Any]) -> None:
    neutral = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "GIT_DIR": os.devnull}
    env = {"PATH": os.defpath, **os.environ, **neutral}  # noqa: TID251 — inside the box there is no configuration
    done = subprocess.run(  # noqa: TID251 — inside the box there is no port
        ["git", "apply", "--whitespace=nowarn", "-"], input=step["patch"].encode(), env=env, check=False
    )
    if done.returncode:
        raise Over("failed", "the patch does not apply")


def _run(step: dict[str, Any]) -> None:
    done = subprocess.run(step["run"], check=False)  # noqa: TID251 — inside the box there is no port
    if done.returncode and not step.get("may_fail"):
        raise Over("failed", f"{step['run'][0]} ended with {done.returncode}")


def _flood(step: dict[str, Any]) -> None:
    left, line = step["flood"], b"x" * 99 + (b"" if step.get("one_line") else b"\n")
    chunk = line * 600
    while left > 0:
        left -= os.write(1, chunk[:left])


def _hang(step: dict[str, Any]) -> None:
    if step["hang"] == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        time.sleep(3600)


def _say(step: dict[str, Any]) -> None:
    print(step["say"], flush=True)  # noqa: T201 — the agent's own voice


def _symlink(step: dict[str, Any]) -> None:
    Path(step["symlink"]).symlink_to(step["target"])


def _raw(step: dict[str, Any]) -> None:
    path = Path(os.fsdecode(os.path.join(b".", step["raw"].encode())))  # noqa: PTH118 — bytes on purpose
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes.fromhex(step["hex"]))


def _ends(status: str, key: str) -> Callable[[dict[str, Any]], None]:
    def end(step: dict[str, Any]) -> None:
        raise Over(status, step[key])

    return end


PLAYERS: Final[dict[str, Callable[[dict[str, Any]], None]]] = {
    "write": _write,
    "append": _append,
    "replace": _replace,
    "delete": _delete,
    "patch": _patch,
    "run": _run,
    "sleep": lambda step: time.sleep(step["sleep"]),
    "say": _say,
    "flood": _flood,
    "hang": _hang,
    "symlink": _symlink,
    "raw": _raw,
    "fail": _ends("failed", "fail"),
    "block": _ends("blocked", "block"),
    "no_change_needed": _ends("no_change_needed", "no_change_needed"),
    "exhaust": _ends("budget_spent", "exhaust"),
}


def play(steps: list[dict[str, Any]]) -> tuple[dict[str, Any], int]:
    """Do the steps in order; the result for the result file, and the exit code."""
    usage: dict[str, float] = {}
    result: dict[str, Any] = {"status": "finished", "detail": "", "usage": usage}
    for step in steps:
        try:
            if "spend" in step:
                for name, number in step["spend"].items():
                    usage[name] = usage.get(name, 0) + number
            else:
                next(PLAYERS[verb] for verb in PLAYERS if verb in step)(step)
        except Over as over:
            return {**result, "status": over.status, "detail": over.detail}, int(over.status == "failed")
        except OSError as e:
            return {**result, "status": "failed", "detail": str(e)}, 1
    return result, 0


def main() -> None:
    """Play the file named on the command line."""
    result, code = play(json.loads(Path(sys.argv[1]).read_text()))
    if result["status"] != "finished":
        _say({"say": f"{result['status']}: {result['detail']}"})
    Path(sys.argv[2]).write_text(json.dumps(result))
    sys.exit(code)


if __name__ == "__main__":
    main()
