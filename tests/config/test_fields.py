"""Claims about the values that every section is made of."""

from __future__ import annotations

import time

import pytest

from tamma.config.fields import has_password, mask_password


@pytest.mark.parametrize("piece", ["a", "a.", "a://", "a://b:", "://a:b", "?password", "a:b"])
def test_looking_for_passwords_takes_time_in_proportion(piece: str) -> None:
    """Every variable and every refused value is looked through: a long one must not hold the process."""
    text = piece * (400_000 // len(piece))
    begun = time.process_time()
    has_password(text)
    mask_password(text)
    assert time.process_time() - begun < 1


def test_a_password_is_masked_wherever_its_address_stands() -> None:
    """The scheme may be of any length and have anything before it."""
    for url in ("postgresql+psycopg://u:pw@h/x", "x" * 50 + "://u:pw@h", "see(http://:pw@h)"):
        assert has_password(url)
        assert "pw" not in mask_password(url)
        assert mask_password(url).startswith(url.partition("://")[0] + "://")
    assert not has_password("http://host:8080/a@b")
