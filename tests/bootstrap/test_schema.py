"""A connection that is cut while the schema is looked at is the database's absence, not a bug of ours."""

from __future__ import annotations

from contextlib import suppress

from tamma.bootstrap.schema import require_current
from tamma.core.errors import TransientError
from tests.support.wire import a_wire


def test_a_cut_at_any_request_passes(database_url: str) -> None:
    """The first, the second and so on, until a look comes through: chaos found a worker that called it a bug."""
    with a_wire(database_url) as wire:
        for nth in range(1, 7):
            wire.cut_at(nth, is_done=False)
            with suppress(TransientError):
                require_current(wire.url)
        assert wire.cuts >= 3
