"""A store on a fresh database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.adapters.postgres.store_world import World, open_store


@pytest.fixture
def world(database_url: str) -> Iterator[World]:
    """A store on a database that nobody else uses."""
    with closing(open_store(database_url)) as store:
        yield World(url=database_url, store=store)
