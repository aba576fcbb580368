"""Tamma as an operator runs it: real child processes, their output kept, their database stopped at the end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from tests.real_cases.case import CasesUnusable, run
from tests.real_cases.site import Site

ASK_TIMEOUT_SECONDS: Final = 120
DRAIN_SECONDS: Final = 30
EVENTS_MAX: Final = 100_000
_TOP: Final = Path(__file__).resolve().parents[2]


def orchestrate(site: Site, *, workers: int, loops: int, timeout_seconds: float) -> int:
    """So many `tamma orchestrate --until-idle` on one database; their highest exit code.

    Raises CasesUnusable if they take too long.
    """
    log = site.root / "orchestrate.log"
    argv = _argv(site, "orchestrate", "--until-idle", "--workers", str(workers))
    give_up_at = time.monotonic() + timeout_seconds
    with log.open("wb") as out:
        children = [
            subprocess.Popen(argv, env=environ(), stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT)
            for _ in range(loops)
        ]
        try:
            return max(child.wait(timeout=max(0.0, give_up_at - time.monotonic())) for child in children)
        except subprocess.TimeoutExpired:
            raise CasesUnusable(f"orchestrate did not end within {timeout_seconds:.0f} s; see {log}") from None
        finally:
            for child in children:
                _end(child)


def dispatches(site: Site) -> dict[str, int]:
    """How many tasks each loop gave to a worker."""
    printed = _asked(site, "events", "--limit", str(EVENTS_MAX), "--json")
    told = [json.loads(line) for line in printed.splitlines()]
    return dict(Counter(event["data"]["by"] for event in told if event["type"] == "TASK.DISPATCH.SUCCEEDED"))


def ask(site: Site, *argv: str) -> Any:
    """The JSON document that a command prints. Raises CasesUnusable if it fails."""
    return json.loads(_asked(site, *argv))


def events(site: Site, issue: str) -> list[dict[str, Any]]:
    """Every event of an issue, in order."""
    printed = _asked(site, "events", "--issue", issue, "--limit", str(EVENTS_MAX), "--json")
    return [json.loads(line) for line in printed.splitlines()]


@contextmanager
def stopped_afterwards(site: Site) -> Iterator[None]:
    """Whatever happens, no server of this site is left running."""
    try:
        yield
    finally:
        done = run(_argv(site, "db", "stop"), timeout_seconds=ASK_TIMEOUT_SECONDS, env=environ())
        if done.returncode:
            print(f"the database was not stopped: {done.stderr}", file=sys.stderr)


def environ() -> dict[str, str]:
    """This process's environment, without what would point Tamma elsewhere, and with this very checkout first."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("TAMMA_", "GIT_")) and k != "DATABASE_URL"}
    return {**kept, "PYTHONPATH": os.pathsep.join(filter(None, (str(_TOP), kept.get("PYTHONPATH"))))}


def _asked(site: Site, *argv: str) -> str:
    done = run(_argv(site, *argv), timeout_seconds=ASK_TIMEOUT_SECONDS, env=environ())
    if done.returncode:
        raise CasesUnusable(f"tamma {' '.join(argv)} exited {done.returncode}\n{done.stderr}")
    return done.stdout


def _argv(site: Site, *argv: str) -> list[str]:
    return [sys.executable, "-m", "tamma", "--config", str(site.config), *argv]


def _end(child: subprocess.Popen[bytes]) -> None:
    """End it if it still runs: first by asking, twice, since the second signal stops its workers."""
    for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGKILL):
        if child.poll() is not None:
            return
        child.send_signal(number)
        try:
            child.wait(timeout=DRAIN_SECONDS)
        except subprocess.TimeoutExpired:
            continue
