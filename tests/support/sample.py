"""What is too much for every run: a run takes a sample that shifts with the day, ``TAMMA_TEST_WHOLE=1`` takes all of it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final, TypeVar

T = TypeVar("T")
IS_WHOLE: Final = bool(os.environ.get("TAMMA_TEST_WHOLE"))
# The same for all processes of a run, also over midnight: who comes first says which day it is.
DAY: Final = int(os.environ.setdefault("TAMMA_TEST_DAY", str(datetime.now(UTC).toordinal())))


def sample(items: Sequence[T], *, one_in: int) -> list[T]:
    """One in so many, all of them in so many days."""
    return list(items) if IS_WHOLE else list(items[DAY % one_in :: one_in])
