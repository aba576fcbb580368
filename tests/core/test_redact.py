"""Secrets and control characters stay out."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from tamma.core.redact import MASK, Redactor, bounded, clean


def test_a_known_secret_is_masked_and_a_short_one_is_not() -> None:
    """Masking three letters would mangle every text."""
    redact = Redactor(["hunter2-secret", "abc"])
    assert redact("the abc of hunter2-secret") == f"the abc of {MASK}"


@given(secrets=st.lists(st.text(min_size=6, max_size=12), max_size=4), text=st.text(max_size=40), data=st.data())
def test_no_known_secret_survives(secrets: list[str], text: str, data: st.DataObject) -> None:
    """Wherever it stands."""
    for secret in secrets:
        at = data.draw(st.integers(0, len(text)))
        text = text[:at] + secret + text[at:]
    between = Redactor(secrets)(text).split(MASK)  # the mask's own bracket, with what follows, may look like one
    assert not [s for s in secrets if any(s in part for part in between) and s not in text.replace(s, "")]


@given(text=st.text())
def test_clean_text_can_be_stored_and_shown(text: str) -> None:
    """No NUL, no escape, no lone surrogate; cleaning twice changes nothing."""
    cleaned = clean(text)
    assert not set(cleaned) & {chr(c) for c in range(32) if chr(c) not in "\t\n"}
    assert clean(cleaned) == cleaned
    cleaned.encode("utf-8")


@given(text=st.text(max_size=400), bytes_max=st.integers(0, 100))
def test_bounded_text_is_bounded(text: str, bytes_max: int) -> None:
    """Head and tail, and the number of bytes in between."""
    assert len(bounded(text, bytes_max=bytes_max).encode("utf-8", "replace")) <= max(bytes_max, 0) + 64


def test_a_secret_written_backwards_or_in_json_is_masked() -> None:
    """As JSON with and without letters beyond ASCII; in bytes, too."""
    secret = 'pä"ss\\wörd'
    for form in (secret[::-1], json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]):
        assert Redactor([secret])(f"<{form}>") == f"<{MASK}>"
        assert Redactor({secret: "KEY"}).names_in(form.encode()) == ("KEY",)
