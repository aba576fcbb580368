"""Tamma as an operator runs it: real child processes, their output kept, their database stopped at the end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
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


def orchestrate(site: Site, *, workers: int, timeout_seconds: float) -> int:
    """`tamma orchestrate --until-idle`; its exit code. Raises CasesUnusable if it takes too long."""
    log = site.root / "orchestrate.log"
    argv = _argv(site, "orchestrate", "--until-idle", "--workers", str(workers))
    with log.open("wb") as out:
        child = subprocess.Popen(argv, env=environ(), stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT)
        try:
            return child.wait(timeout=timeout_seconds)
        except subprocess.TimeoutExpired:
            raise CasesUnusable(f"orchestrate did not end within {timeout_seconds:.0f} s; see {log}") from None
        finally:
            _end(child)


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
