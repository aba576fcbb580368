"""Running mutants: one Postgres and one migrated database for all of them, and a few hands that each fork for the next."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final

import psycopg

from tamma.adapters.postgres.embedded import EmbeddedPostgres
from tamma.adapters.postgres.migrate import upgrade
from tests.mutation.mutants import TOP, Mutant
from tests.support.postgres import TEMPLATE_VARIABLE, other

GOAL: Final = 95.0
SECONDS_MAX: Final = 90
LIST: Final = Path(__file__).with_name("known.toml")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Tests of a file, with a mutant of it, or (None) with the file as it is."""

    mutant: Mutant | None
    file: str
    tests: tuple[str, ...]


def known(kind: str = "") -> dict[str, str]:
    """The mutants that are listed, by id, each with the reason: ``equivalent`` (nobody can see a difference), ``survivor``."""
    lists = tomllib.loads(LIST.read_text())
    return {m["mutant"]: m["reason"] for name, listed in lists.items() if kind in ("", name) for m in listed}


def stale(ids: Sequence[str]) -> list[str]:
    """What is listed and is no mutant (any more)."""
    return sorted(set(known()) - set(ids))


@contextmanager
def a_server(scratch: Path) -> Iterator[dict[str, str]]:
    """The environment of tests on a server of their own, with a database to make others from."""
    server = EmbeddedPostgres(scratch / "server")
    try:
        url = server.start()
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("alter system set fsync = off")
            connection.execute("select pg_reload_conf()")
            connection.execute("create database mutation_template")
        upgrade(other(url, "mutation_template"))
        yield {"TAMMA_TEST_DATABASE_URL": url, TEMPLATE_VARIABLE: "mutation_template"}
    finally:
        server.stop("immediate")


def run(
    cases: Sequence[Case], environment: Mapping[str, str], *, jobs: int, show: bool = False
) -> Iterator[tuple[Case, dict[str, Any]]]:
    """Each case with its answer, in order."""
    hands: SimpleQueue[subprocess.Popen[str]] = SimpleQueue()
    started = [_hand(environment) for _ in range(jobs)]
    for hand in started:
        hands.put(hand)

    def one(case: Case) -> dict[str, Any]:
        hand = hands.get()
        try:
            return _ask(hand, case)
        finally:
            hands.put(hand)

    try:
        with ThreadPoolExecutor(jobs) as pool:
            for number, (case, answer) in enumerate(zip(cases, pool.map(one, cases), strict=True), start=1):
                if show:
                    what = "as it is: " + case.file if case.mutant is None else case.mutant.id
                    print(
                        f"{number}/{len(cases)} {answer['seconds']} s {answer['verdict']}: {what}",
                        file=sys.stderr,
                        flush=True,
                    )
                yield case, answer
    finally:
        for hand in started:
            assert hand.stdin is not None
            with hand:  # closes its pipes
                hand.stdin.close()
                hand.wait(timeout=SECONDS_MAX)


def _hand(environment: Mapping[str, str]) -> subprocess.Popen[str]:
    argv = [sys.executable, "-m", "tests.mutation.hand"]
    env = {**os.environ, **environment}
    return subprocess.Popen(argv, cwd=TOP, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _ask(hand: subprocess.Popen[str], case: Case) -> dict[str, Any]:
    assert hand.stdin is not None
    assert hand.stdout is not None
    question = {
        "module": case.file.removesuffix(".py").replace("/", ".") if case.mutant else "",
        "file": case.file,
        "text": case.mutant.text if case.mutant else "",
        "tests": case.tests,
        "seconds": SECONDS_MAX,
    }
    hand.stdin.write(json.dumps(question) + "\n")
    hand.stdin.flush()
    answer: dict[str, Any] = json.loads(hand.stdout.readline())
    return answer
