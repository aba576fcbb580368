"""Facts survive being written down."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tamma.core.event import FACTS, AgentFinished, Fact, decode, encode

st.register_type_strategy(float, st.floats(allow_nan=False, allow_infinity=False))  # JSON has neither
FACT = st.one_of([st.from_type(cls) for cls in FACTS.values()])


@given(fact=FACT)
def test_a_fact_read_back_equals_the_fact(fact: Fact) -> None:
    """Through JSON and back, for every type of the union."""
    again = decode(fact.TYPE, json.loads(json.dumps(encode(fact))))
    assert again == fact


@given(fact=FACT)
def test_an_older_reader_ignores_fields_it_does_not_know(fact: Fact) -> None:
    """Workers and orchestrators are upgraded apart."""
    assert decode(fact.TYPE, {**json.loads(json.dumps(encode(fact))), "tomorrow": 1}) == fact


def test_a_fact_of_before_has_the_default_of_a_field_that_came_later() -> None:
    """Of a required field it is still an error."""
    fact = AgentFinished(
        epoch=1, turn=0, status="finished", detail="", exit_code=0, duration_ms=1, output=None, output_bytes=0, files=1, lines=1
    )  # fmt: skip
    data = encode(fact)
    del data["usage"]
    assert decode(fact.TYPE, data) == fact
    with pytest.raises(KeyError):
        decode(fact.TYPE, {name: value for name, value in data.items() if name != "epoch"})


@pytest.mark.parametrize("name", FACTS)
def test_event_types_are_named_alike(name: str) -> None:
    """SUBJECT.ACTION.RESULT, in capitals."""
    assert re.fullmatch(r"[A-Z]+(\.[A-Z]+){2}", name)
    assert FACTS[name].__doc__
