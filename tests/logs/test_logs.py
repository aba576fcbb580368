"""Claims about log lines: stable fields, no secrets, a level and a sentence for every fact."""

from __future__ import annotations

import dataclasses
import io
import json
import typing
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from loguru import logger

from tamma.core.event import FACTS, Event, Fact
from tamma.core.ids import CorrelationId
from tamma.core.redact import Redactor
from tamma.core.tell import SENTENCE_CHARS_MAX, describe_fact
from tamma.logs import level_of, log_event, set_up


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    yield
    logger.remove()


def a_fact(cls: type[Fact], text: str = "word") -> Fact:
    """A fact whose texts are all ``text``."""
    hints = typing.get_type_hints(cls)
    return cls(**{item.name: _filled(hints[item.name], text) for item in dataclasses.fields(cls)})


def _filled(hint: Any, text: str) -> Any:
    origin = typing.get_origin(hint)
    if origin is tuple:
        return (text,)
    if origin is not None and issubclass(origin, Mapping) if isinstance(origin, type) else False:
        return {text: 1 if typing.get_args(hint)[1] is int else text}
    if hint in (int, bool):
        return hint(1)
    args = typing.get_args(hint)
    return 1 if int in args else datetime(2026, 1, 1, tzinfo=UTC) if datetime in args else text


def an_event(fact: Fact) -> Event:
    """The fact in an envelope."""
    return Event(
        position=1,
        stream="task:T1",
        version=1,
        at=datetime(2026, 1, 1, tzinfo=UTC),
        tags=(),
        correlation=CorrelationId("c"),
        fact=fact,
    )


@pytest.mark.parametrize("cls", FACTS.values(), ids=FACTS)
@pytest.mark.parametrize("text", ["word", "", "long " * 10_000, "a\nb\x1b[31m\u202e\x00c", "{task} <red>"])
def test_every_fact_is_one_bounded_sentence(cls: type[Fact], text: str) -> None:
    """Whatever its texts hold, a fact is told on one line of bounded length without control characters."""
    told = describe_fact(a_fact(cls, text))
    assert 0 < len(told) <= SENTENCE_CHARS_MAX
    assert not any(ord(char) < 32 or char == "\u202e" for char in told)


@pytest.mark.parametrize("cls", FACTS.values(), ids=FACTS)
def test_json_lines_have_the_same_fields_always(cls: type[Fact]) -> None:
    """Each event is one JSON object with our flat fields and its type as the action name."""
    out = io.StringIO()
    set_up(level="debug", as_json=True, stream=out)
    log_event(an_event(a_fact(cls, "{task} <red>")))
    (line,) = out.getvalue().splitlines()
    values = json.loads(line)
    assert list(values) == ["time", "level", "event", "message", "correlation", "task", "worker", "epoch"]
    assert (values["event"], values["level"], values["task"]) == (cls.TYPE, level_of(a_fact(cls)).lower(), "T1")


@pytest.mark.parametrize("as_json", [True, False])
def test_no_secret_reaches_a_line(as_json: bool) -> None:
    """Messages, bound values and exceptions pass the redactor; local variables are never shown."""
    out = io.StringIO()
    set_up(as_json=as_json, redactor=Redactor(["top-secret"]), stream=out)
    local = "top-" + "secret"
    try:
        raise RuntimeError(f"with {local}")
    except RuntimeError:
        logger.bind(worker=local).exception("failed with {}", local)
    assert "secret" not in out.getvalue()
    assert "RuntimeError" in out.getvalue()
    assert len(out.getvalue().splitlines()) == 1


def test_level_and_color_are_as_asked() -> None:
    """Lines under the level stay out; NO_COLOR means no escape, on a terminal too."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    plain, colored = Terminal(), Terminal()
    set_up(level="warning", no_color=True, stream=plain)
    logger.info("quiet")
    logger.warning("loud")
    assert "quiet" not in plain.getvalue()
    assert "loud" in plain.getvalue()
    assert "\x1b" not in plain.getvalue()
    set_up(stream=colored)
    logger.warning("loud")
    assert "\x1b[33m" in colored.getvalue()
