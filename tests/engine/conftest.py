"""A store for tests of the loop."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tamma.adapters.postgres.connections import connections_for
from tamma.adapters.postgres.store import PostgresStore


@pytest.fixture
def store(database_url: str) -> Iterator[PostgresStore]:
    """On a database of its own."""
    opened = PostgresStore(connections_for(database_url, application_name="test"), listen_url=database_url)
    yield opened
    opened.close()
