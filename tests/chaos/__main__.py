"""``python -m tests.chaos --kills N --minutes M --seed S [--cases DIR] [--json]``: what was killed, and whether every promise held.

With ``--minutes`` it is a soak: one loop is spared, and what is used up must be flat. With both, it ends when both are reached.
With ``--cases`` the work is that of real packages, each issue a bug of one of them, rebuilt as ``tests.real_cases`` does.
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
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tenacity import retry, retry_if_exception_type, stop_after_attempt

from tamma.adapters.postgres.embedded import EmbeddedPostgres
from tamma.adapters.postgres.migrate import upgrade
from tamma.core.errors import TransientError
from tests.chaos.oracle import Scene, violations
from tests.chaos.resources import Gauge, not_flat
from tests.chaos.storm import Plan, Storm
from tests.chaos.work import SECRET, small_work, work_of_cases
from tests.real_cases.case import CasesUnusable
from tests.support.project import a_project


def main() -> int:
    """Run it."""
    asked = _arguments()
    begun = time.monotonic()
    scratch = Path(tempfile.mkdtemp(prefix="tamma-chaos-"))
    scratch.chmod(0o711)
    server = EmbeddedPostgres(scratch / "server")
    try:
        found = run(scratch, server, seed=asked.seed, kills=asked.kills, minutes=asked.minutes, cases=asked.cases)
    except CasesUnusable as error:
        print(f"chaos: {error}", file=sys.stderr)
        return 2
    finally:
        server.stop("immediate")
        shutil.rmtree(scratch, ignore_errors=True)
    found["seconds"] = round(time.monotonic() - begun, 1)
    _show(found, as_json=asked.json)
    return 1 if found["violations"] else 0


def run(
    scratch: Path,
    server: EmbeddedPostgres,
    *,
    seed: int,
    kills: int | None,
    minutes: float | None,
    cases: Path | None = None,
) -> dict[str, Any]:
    """One storm and what the oracle says of it."""

    @retry(retry=retry_if_exception_type(TransientError), stop=stop_after_attempt(5), reraise=True)
    def start() -> str:  # on a machine that is busy for so long it is slow, not broken
        return server.start()

    def restart() -> None:
        server.stop("immediate")
        start()

    url = start()
    upgrade(url)
    root = scratch / "project"
    root.mkdir()
    with a_project(root, url) as project:
        issues = work_of_cases(project, cases) if cases else small_work(project)
        seconds = minutes * 60 if minutes else None
        plan = Plan(
            seed=seed, issues=issues, kills=kills, seconds=seconds, is_one_spared=bool(seconds), restart_database=restart
        )  # fmt: skip
        gauge = Gauge(root=root, rows=project.rows)
        storm = Storm(project=project, plan=plan, gauge=gauge)
        storm.rage()
        is_calm = storm.calm()
        scene = Scene(root=root, database_url=url, issues=storm.tally.issues, secret=SECRET)
        against = {name: found for name, found in violations(scene).items() if found}
    if not is_calm:
        against["I11 all is quiet in time"] = [f"the last loop did not end with 0: {dict(storm.tally.codes)}"]
    if grown := list(not_flat(gauge.samples)):
        against["what is used up is flat"] = grown
    tally = storm.tally
    if tally.bugs:
        against["no process met a bug"] = tally.bugs
    return {
        "seed": seed, "issues": len(tally.issues), "killed": tally.killed, "by": dict(tally.kills), "phases": dict(tally.phases),
        "faults": dict(tally.faults), "codes": dict(tally.codes), "quiet_seconds": round(tally.quiet_seconds, 1),
        "resources": {when: asdict(sample) for when, sample in gauge.shown().items()}, "samples": len(gauge.samples),
        "violations": against,
    }  # fmt: skip


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--kills", type=int, help="until so many processes were killed")
    parser.add_argument("--minutes", type=float, help="for so long")
    parser.add_argument(
        "--seed", type=int, default=random.randrange(1_000_000), help="every choice of the hand that kills"
    )
    parser.add_argument("--cases", type=Path, help="folder of real bugs to work on, instead of one small repository")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    asked = parser.parse_args()
    if not (asked.kills or asked.minutes):
        parser.error("give --kills or --minutes")
    return asked


def _show(found: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(found))
        return
    for name, value in found.items():
        if name != "resources":
            print(f"{name:>14}: {value}")
    _show_resources(found["resources"])
    print("every invariant held" if not found["violations"] else "VIOLATED", file=sys.stderr)


def _show_resources(resources: dict[str, dict[str, float]]) -> None:
    print(f"\n{'used up':>24}" + "".join(f"{when:>10}" for when in resources))
    for name in next(iter(resources.values()), {}):
        print(f"{name:>24}" + "".join(f"{sample[name]:>10g}" for sample in resources.values()))


if __name__ == "__main__":
    sys.exit(main())
