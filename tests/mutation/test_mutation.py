"""Claims about the mutants: those that are listed are there, and of the others a few, others each day, are noticed."""

from __future__ import annotations

import random

from tests.mutation.mutants import mutants_of
from tests.mutation.run import Case, known, run, stale
from tests.mutation.targets import TARGETS
from tests.support.postgres import TEMPLATE_VARIABLE
from tests.support.sample import DAY

MUTANTS = [m for file, t in TARGETS.items() for m in mutants_of(file, scopes=t.scopes, strings=t.strings)]
A_FEW = 5


def test_every_mutant_that_is_listed_is_one() -> None:
    """With a reason; what the code has moved on from is taken off the list."""
    assert stale([m.id for m in MUTANTS]) == []
    assert all(len(reason) > 10 for reason in known().values())


def test_a_few_mutants_are_noticed(postgres_server: str, database_template: str) -> None:
    """By the tests that are named for their file; ``python -m tests.mutation`` tries all of them."""
    wanted = [m for m in MUTANTS if m.id not in known() and TARGETS[m.file].is_sampled]
    chosen = random.Random(DAY).sample(wanted, A_FEW)
    cases = [Case(mutant=m, file=m.file, tests=TARGETS[m.file].tests) for m in chosen]
    environment = {"TAMMA_TEST_DATABASE_URL": postgres_server, TEMPLATE_VARIABLE: database_template}
    assert not [c.mutant for c, answer in run(cases, environment, jobs=1) if answer["verdict"] == "survived"]
