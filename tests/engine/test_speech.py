"""Claims about what an agent says: the database may be away, slow or lost, and the agent is not held."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from tamma.core.errors import LeaseLost, TransientError
from tamma.engine.speech import WAITING_MAX, Speech
from tests.support.machine import eventually


class Log:
    """Takes texts while it is open."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.asked = 0
        self.is_away = False

    def __call__(self, text: str) -> None:
        self.asked += 1
        if self.is_away:
            raise TransientError("away")
        self.texts.append(text)

    def come_back(self) -> None:
        self.is_away = False


def away() -> Log:
    log = Log()
    log.is_away = True
    return log


def stays_away() -> None:
    raise TransientError("away")


def test_words_are_written_in_order_and_at_once() -> None:
    """Without waiting for the end."""
    log = Log()
    with Speech(log) as words:
        words.say("one")
        eventually(lambda: log.texts == ["one"])
        words.say("two")
    assert log.texts == ["one", "two"]


def test_words_said_while_the_database_is_away_are_written_later() -> None:
    """In order, each once."""
    log = away()
    with Speech(log) as words:
        words.say("one")
        eventually(lambda: log.asked > 0)
        words.say("two")
        log.come_back()
        eventually(lambda: log.texts == ["one", "two"])


def test_only_the_newest_wait_and_the_gap_is_told() -> None:
    """Bounded memory, and no silence about it."""
    log = away()
    with Speech(log) as words:
        for n in range(WAITING_MAX + 3):
            words.say(str(n))
    words.flush(when_away=log.come_back)
    assert log.texts[0] == "[… 3 messages were dropped while the database was away …]"
    assert log.texts[1:] == [str(n) for n in range(3, WAITING_MAX + 3)]


def test_a_database_that_stays_away_is_the_callers_business_at_the_end() -> None:
    """Whoever goes on needs the database anyway."""
    log = away()
    with Speech(log) as words:
        words.say("one")
    with pytest.raises(TransientError):
        words.flush(when_away=stays_away)


def test_a_slow_database_does_not_hold_the_agent() -> None:
    """``say`` returns while a record hangs."""
    go, began = threading.Event(), threading.Event()

    def hang(_: str) -> None:
        began.set()
        go.wait(timeout=20)

    with Speech(hang) as words:
        words.say("one")
        assert began.wait(timeout=20)
        words.say("two")
        go.set()


@pytest.mark.parametrize("tell", [lambda w: w.say("two"), lambda w: w.flush(when_away=lambda: None)])
def test_a_lost_lease_is_told_to_whoever_speaks_next(tell: Callable[[Speech], None]) -> None:
    """And to whoever is done."""
    asked = threading.Event()

    def lose(_: str) -> None:
        asked.set()
        raise LeaseLost("lost")

    with Speech(lose) as words:
        words.say("one")
        assert asked.wait(timeout=20)
    with pytest.raises(LeaseLost):
        tell(words)
