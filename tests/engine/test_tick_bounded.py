"""What a tick asks of database, forge and disk does not grow with the past nor with the number of open issues."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final, TypeVar

import pytest

from tamma.adapters.forges.around import ForgeAround
from tamma.adapters.postgres.connections import connections_for
from tamma.adapters.postgres.store import PostgresStore
from tamma.core.policy import Limits
from tests.support.crowd import a_loop_over, fill_database, fill_forge, give_back
from tests.support.wire import a_wire

PAGE: Final = 20
REQUESTS_MAX: Final = 25
LISTINGS_MAX: Final = 4
_listings: Final = Counter[str]()
_is_hooked: Final = list[bool]()

T = TypeVar("T")


@contextmanager
def listings() -> Iterator[Counter[str]]:
    """How often each folder is looked through in the block, as Python's own audit tells it."""

    def listen(event: str, args: tuple[object, ...]) -> None:
        if event == "os.listdir":
            _listings[str(args[0])] += 1

    if not _is_hooked:  # a hook cannot be taken out again
        sys.addaudithook(listen)
        _is_hooked.append(True)
    _listings.clear()
    yield _listings


@pytest.mark.parametrize(("finished", "issues"), [(0, 100), (3_000, 400)])
def test_a_tick_asks_no_more_of_a_crowd(database_url: str, tmp_path: Path, finished: int, issues: int) -> None:
    """The same bounds hold for a hundred issues and for four times as many with thousands of finished tasks."""
    calls = Counter[str]()

    def counted(call: str, ask: Callable[[], T]) -> T:
        calls[call] += 1
        return ask()

    fill_database(database_url, finished=finished, issues=issues)
    forge = ForgeAround(fill_forge(tmp_path / "forge", issues=issues), counted)
    with (
        a_wire(database_url) as wire,
        closing(PostgresStore(connections_for(wire.url, application_name="test"))) as store,
    ):
        loop = a_loop_over(store, forge, limits=Limits(candidates=PAGE, open_changes_per_repository=10_000))
        loop.tick()
        for _ in range(4):
            give_back(loop)
            calls.clear()
            before = wire.asked
            with listings() as listed:
                loop.tick()
            assert calls.pop("issue") <= PAGE  # each live task of the page is asked about
            assert calls == {"open_issues": 1, "count_open_changes": 1, "changes_of": 1}
            assert 0 < wire.asked - before <= REQUESTS_MAX
            assert sum(n for folder, n in listed.items() if folder.startswith(str(tmp_path))) <= LISTINGS_MAX
