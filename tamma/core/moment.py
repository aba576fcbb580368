"""A moment as a person reads it: the same everywhere, so that what one command prints another understands."""

from __future__ import annotations

from datetime import datetime


def local(moment: datetime) -> str:
    """To the second, with its offset, in the reader's own zone (TZ): one word that ``--at`` takes as it stands.

    For what is shown and gone. What is stored or read by programs stays in UTC.
    """
    return moment.astimezone().isoformat(timespec="seconds")
