"""``python -m tests.mutation [--only FILE] [--jobs N] [--json]``: how many small changes of the guards the tests notice.

Exits 1 if the score is below the goal, a mutant listed as equivalent is no mutant any more, or a test fails without one.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from tests.mutation.mutants import mutants_of
from tests.mutation.run import GOAL, Case, a_server, known, run, stale
from tests.mutation.targets import TARGETS


def main() -> int:
    """Run it."""
    asked = _arguments()
    begun = time.monotonic()
    memory = Path("/dev/shm")  # where there is one, no database waits for a disk
    scratch = Path(tempfile.mkdtemp(prefix="tamma-mutation-", dir=memory if os.access(memory, os.W_OK) else None))
    scratch.chmod(0o711)
    try:
        with a_server(scratch) as environment:
            found = _found(asked, environment)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    found["seconds"] = round(time.monotonic() - begun, 1)
    _show(found, as_json=asked.json)
    return 1 if found["red"] or found["stale"] or found["score"] < GOAL else 0


def _found(asked: argparse.Namespace, environment: dict[str, str]) -> dict[str, Any]:
    equivalent = known("equivalent")
    every = {file: mutants_of(file, scopes=t.scopes, strings=t.strings) for file, t in TARGETS.items()}
    chosen = [file for file in TARGETS if not asked.only or any(part in file for part in asked.only)]
    wanted = [m for file in chosen for m in every[file] if m.id not in equivalent and asked.match in m.id]
    if asked.sample:
        wanted = random.Random(asked.seed).sample(wanted, min(asked.sample, len(wanted)))
    cases = [Case(mutant=None, file=file, tests=TARGETS[file].tests) for file in {m.file: 0 for m in wanted}]
    cases += [Case(mutant=m, file=m.file, tests=TARGETS[m.file].tests) for m in wanted]
    told = [(case, answer) for case, answer in run(cases, environment, jobs=asked.jobs, show=not asked.json)]
    counts = {file: Counter(a["verdict"] for c, a in told if c.mutant and c.file == file) for file in chosen}
    whole: Counter[str] = sum(counts.values(), Counter())
    killed = whole["killed"] + whole["killed by time"]
    return {
        "score": round(100 * killed / max(1, killed + whole["survived"]), 1),
        "files": {file: dict(count) for file, count in counts.items()},
        "whole": dict(whole),
        "equivalent": len([m for file in chosen for m in every[file] if m.id in equivalent]),
        "survivors": [c.mutant.id for c, a in told if c.mutant and a["verdict"] == "survived"],
        "red": [f"{c.file}: {a['said'][-1500:]}" for c, a in told if c.mutant is None and a["verdict"] != "survived"],
        "stale": [*stale([m.id for mutants in every.values() for m in mutants]), *_noticed(told)],
    }


def _noticed(told: list[tuple[Case, dict[str, Any]]]) -> list[str]:
    """What is listed as a survivor and is none any more."""
    ended = {case.mutant.id for case, answer in told if case.mutant and answer["verdict"] != "survived"}
    return sorted(ended & set(known("survivor")))


def _show(found: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(found, indent=2))
        return
    for file, count in found["files"].items():
        print(f"{file}: " + ", ".join(f"{n} {verdict}" for verdict, n in sorted(count.items())))
    for title in ("survivors", "stale", "red"):
        for line in found[title]:
            print(f"{title}: {line}")
    print(f"score {found['score']} % of {sum(found['whole'].values())} {found['whole']}; "
          f"{found['equivalent']} equivalent; {found['seconds']} s")  # fmt: skip


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("--only", action="append", default=[], help="part of a file's name; may be given again")
    parser.add_argument("--match", default="", help="only mutants with this in their id")
    parser.add_argument("--sample", type=int, default=0, help="so many, drawn by the seed")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
