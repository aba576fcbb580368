"""Keeps secrets out of everything that is stored or shown."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

MASK: Final = "[redacted]"
_SECRET_CHARS_MIN: Final = 6
_CONTROL: Final = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[@-_]|[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]"
)


class Redactor:
    """Replaces each known secret by a mask. Secrets shorter than six characters are ignored: masking them would mangle text."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        known = sorted({s for s in secrets if len(s) >= _SECRET_CHARS_MIN}, key=lambda s: (-len(s), s))
        self._pattern = re.compile("|".join(map(re.escape, known))) if known else None

    def __call__(self, text: str) -> str:
        """The text without the secrets."""
        return self._pattern.sub(MASK, text) if self._pattern else text


def clean(text: str) -> str:
    """Text that a terminal, a log line and Postgres can take: no control characters, escapes, bidi overrides or NULs."""
    return _CONTROL.sub("", text).encode("utf-8", "replace").decode("utf-8")


def bounded(text: str, *, bytes_max: int) -> str:
    """Head and tail of a text that is too long, with the number of bytes left out in between; never over ``bytes_max`` + 64."""
    raw = text.encode("utf-8", "replace")
    if len(raw) <= bytes_max:
        return text
    half = bytes_max // 2
    head, tail = raw[:half].decode("utf-8", "ignore"), raw[-half:].decode("utf-8", "ignore") if half else ""
    return f"{head}\n[… {len(raw) - 2 * half} bytes left out …]\n{tail}"
