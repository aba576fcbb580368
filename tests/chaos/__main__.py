"""``python -m tests.chaos --kills N | --minutes M --seed S [--json]``: what was killed, and whether every promise held.

Exits 1 on any violation. The seed fixes every choice of the hand that kills; when exactly a kill lands is up to the machine.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tamma.adapters.postgres.embedded import EmbeddedPostgres
from tamma.adapters.postgres.migrate import upgrade
from tests.chaos.oracle import Scene, violations
from tests.chaos.storm import LEASE_SECONDS, Plan, Storm
from tests.faults.test_worker_killed import NEEDS_REPAIR, PROUD_GATE
from tests.support.project import Project, a_project

SECRET = "canary-7f3a9c51e2"
CONFIGURATION = f"""
[retry]
backoff_base_seconds = 0.05
backoff_max_seconds = 0.2
crashes_max = 100
infra_max = 1000
interruptions_max = 1000
attempts_max = 100

[limits]
tick_seconds = 0.3
open_changes_per_repository_max = 10000

[lease]
duration_seconds = {LEASE_SECONDS}
beat_seconds = 0.5
"""


def main() -> int:
    """Run it."""
    asked = _arguments()
    begun = time.monotonic()
    scratch = Path(tempfile.mkdtemp(prefix="tamma-chaos-"))
    scratch.chmod(0o711)
    server = EmbeddedPostgres(scratch / "server")
    try:
        found = run(scratch, server, seed=asked.seed, kills=asked.kills, minutes=asked.minutes)
    finally:
        server.stop("immediate")
        shutil.rmtree(scratch, ignore_errors=True)
    found["seconds"] = round(time.monotonic() - begun, 1)
    _show(found, as_json=asked.json)
    return 1 if found["violations"] else 0


def run(
    scratch: Path, server: EmbeddedPostgres, *, seed: int, kills: int | None, minutes: float | None
) -> dict[str, object]:
    """One storm and what the oracle says of it."""
    url = server.start()
    upgrade(url)

    def restart() -> None:
        server.stop("immediate")
        server.start()

    root = scratch / "project"
    root.mkdir()
    with a_project(root, url) as project:
        _prepare(project)
        plan = Plan(seed=seed, kills=kills, seconds=minutes * 60 if minutes else None, restart_database=restart)
        storm = Storm(project=project, plan=plan)
        storm.rage()
        is_calm = storm.calm()
        scene = Scene(root=root, database_url=url, numbers=tuple(storm.tally.numbers), secret=SECRET)
        against = {name: found for name, found in violations(scene).items() if found}
    if not is_calm:
        against["I11 all is quiet in time"] = [f"the last loop did not end with 0: {dict(storm.tally.codes)}"]
    tally = storm.tally
    if tally.bugs:
        against["no process met a bug"] = tally.bugs
    return {
        "seed": seed, "issues": len(tally.numbers), "killed": tally.killed, "by": dict(tally.kills), "phases": dict(tally.phases),
        "faults": dict(tally.faults), "codes": dict(tally.codes), "quiet_seconds": round(tally.quiet_seconds, 1),
        "violations": against,
    }  # fmt: skip


def _prepare(project: Project) -> None:
    project.repository()
    project.env["TAMMA_CHAOS_TOKEN"] = SECRET
    project.configure(PROUD_GATE, steps=None, quick=CONFIGURATION)
    project.script(**NEEDS_REPAIR)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    how_long = parser.add_mutually_exclusive_group(required=True)
    how_long.add_argument("--kills", type=int, help="until so many processes were killed")
    how_long.add_argument("--minutes", type=float, help="for so long")
    parser.add_argument(
        "--seed", type=int, default=random.randrange(1_000_000), help="every choice of the hand that kills"
    )
    parser.add_argument("--json", action="store_true", help="one JSON document")
    return parser.parse_args()


def _show(found: dict[str, object], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(found))
        return
    for name, value in found.items():
        print(f"{name:>14}: {value}")
    print("every invariant held" if not found["violations"] else "VIOLATED", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
