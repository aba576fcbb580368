"""What gates said about a base commit can be asked for by its age."""

from __future__ import annotations

from datetime import timedelta

from tests.adapters.postgres.store_world import World

DAY = timedelta(days=1)


def test_an_old_baseline_is_found_only_by_who_asks_for_any_and_gives_way(world: World) -> None:
    """By the database's clock; who puts a later value after a day replaces the old one."""
    world.store.baselines.put("k", b"one")
    assert world.store.baselines.get("k", max_age=DAY) == b"one"
    with world.later(by=DAY + timedelta(seconds=1)) as tomorrow:
        assert tomorrow.baselines.get("k", max_age=DAY) is None
        assert tomorrow.baselines.get("k") == b"one"
        tomorrow.baselines.put("k", b"two")
        tomorrow.baselines.put("k", b"three")
        assert tomorrow.baselines.get("k", max_age=DAY) == b"two"
