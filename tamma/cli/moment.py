"""A moment in the past as a person writes it."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from tamma.core.errors import ConfigError
from tamma.core.moment import local

_AGO: Final = re.compile(r"(\d{1,18})([smhd])")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_SECOND: Final = timedelta(seconds=1) - timedelta.resolution
HELP: Final = "As it was then: 2026-11-23T08:30Z (without a zone: local time), or 30s, 5m, 2h, 1d ago."


def parse_moment(text: str, *, now: datetime) -> datetime:
    """The moment in UTC; a time without fractions of a second is that whole second, as times are printed. Raises ConfigError
    for what is no moment, or one that is yet to come."""
    try:
        if ago := _AGO.fullmatch(text):
            return now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        moment = datetime.fromisoformat(text).astimezone(UTC)
    except OverflowError:
        raise ConfigError(
            f"{text} is no moment",
            why="no calendar reaches that far",
            fix="write it as 2026-11-23T08:30Z, or as 2h for two hours ago",
        ) from None
    except ValueError:
        raise ConfigError(
            f"{text!r} is no moment",
            why="it is neither a date with a time nor a number with s, m, h or d",
            fix="write it as 2026-11-23T08:30Z, or as 2h for two hours ago",
        ) from None
    if moment > now:
        raise ConfigError(f"{text} is yet to come", why=f"it is {local(now)} now", fix="name a moment that is past")
    return moment if "." in text else min(now, moment + _SECOND)
