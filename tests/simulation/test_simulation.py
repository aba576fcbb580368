"""Claims under thousands of interleavings: no promise is broken, the real store does what the model says, each rule matters."""

from __future__ import annotations

from contextlib import closing
from dataclasses import fields, replace
from datetime import datetime

import pytest

from tamma.adapters.postgres.connections import connections_for
from tamma.adapters.postgres.store import PostgresStore
from tests.simulation.actors import Violation
from tests.simulation.model import ModelStore, Rules
from tests.simulation.run import Run
from tests.support.fold_check import assert_fold_equals_tables

SEEDS = 1_000
SEEDS_ON_POSTGRES = 6
SEEDS_PER_RULE = 3_000


def on_model(seed: int, rules: Rules | None = None) -> Run:
    """A run over the model, not yet begun."""
    store = ModelStore(rules)

    def set_clock(moment: datetime) -> None:
        store.now = moment

    return Run(seed=seed, store=store, set_clock=set_clock, rules=store.rules)


def test_no_interleaving_breaks_a_promise() -> None:
    """Crashes, sleepers, lost dispatches and people at random; after the storm every issue is delivered and told once."""
    steps: set[str] = set()
    for seed in range(SEEDS):
        run = on_model(seed)
        run.storm()
        run.quiet()
        steps |= {step.partition(" ")[2] for step in run.trace}
    assert {"push begun", "change begun", "telling", "called off", "reaped", "dispatched"} <= steps


@pytest.mark.parametrize("seed", range(SEEDS_ON_POSTGRES))
def test_the_real_store_does_what_the_model_says(database_url: str, seed: int) -> None:
    """The same seed, step by step: the same trace, and in the end the same rows."""
    model = on_model(seed)
    model.storm()
    model.quiet()
    with closing(
        PostgresStore(connections_for(database_url, application_name="simulation", connections_max=1))
    ) as store:

        def set_clock(moment: datetime) -> None:
            store._pool.one("SELECT set_config('tamma.fake_now', %(at)s, false)", {"at": moment.isoformat()})

        real = Run(seed=seed, store=store, set_clock=set_clock)
        real.storm()
        real.quiet()
        assert real.trace == model.trace
        held = [store.tasks.get(task) for task in real.world.tasks]
        assert held == [model.store.tasks.get(task) for task in model.world.tasks]
    assert (real.world.forge.branch, real.world.forge.comments) == (
        model.world.forge.branch,
        model.world.forge.comments,
    )
    assert_fold_equals_tables(database_url)


@pytest.mark.parametrize("rule", [rule.name for rule in fields(Rules)])
def test_each_rule_is_needed(rule: str) -> None:
    """Left out, some interleaving breaks a promise: the simulation would notice if the product forgot it."""
    rules = replace(Rules(), **{rule: False})
    for seed in range(SEEDS_PER_RULE):
        run = on_model(seed, rules)
        try:
            run.storm()
            run.quiet()
        except Violation:
            return
    pytest.fail(f"{SEEDS_PER_RULE} runs without the rule {rule!r} broke nothing")
