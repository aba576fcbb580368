"""Keeps secrets out of everything that is stored, shown or delivered."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final
from urllib.parse import quote, quote_plus

MASK: Final = "[redacted]"
_SECRET_CHARS_MIN: Final = 6
_PERCENT: Final = re.compile("%[0-9A-F]{2}")
_CONTROL: Final = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[@-_]|[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]"
)


class Redactor:
    """Knows secrets, as they are, as base64, hex, URL-encoded, JSON-escaped and backwards.

    Takes them out of a text, and names those in some bytes.

    A mapping gives each secret's name. Secrets shorter than six characters are ignored: masking them would mangle text.
    """

    def __init__(self, secrets: Iterable[str] | Mapping[str, str] = ()) -> None:
        names = secrets if isinstance(secrets, Mapping) else dict.fromkeys(secrets, "a secret")
        self._names = {form: name for s, name in names.items() if len(s) >= _SECRET_CHARS_MIN for form in spellings(s)}
        self._raw = {_bytes(form): name for form, name in self._names.items()}

    def __call__(self, text: str) -> str:
        """The text without the secrets."""
        # Looking for each is many times faster than one pattern of all, and nearly every text holds none.
        found = sorted((form for form in self._names if form in text), key=lambda form: (-len(form), form))
        return re.sub("|".join(map(re.escape, found)), MASK, text) if found else text

    def mask(self, raw: bytes) -> bytes:
        """The same for bytes that need not be text."""
        found = sorted((form for form in self._raw if form in raw), key=lambda form: (-len(form), form))
        return re.sub(b"|".join(map(re.escape, found)), MASK.encode(), raw) if found else raw

    def names_in(self, raw: bytes) -> tuple[str, ...]:
        """The names of the secrets that these bytes hold, each once."""
        return tuple(sorted({name for form, name in self._raw.items() if form in raw}))


def spellings(secret: str) -> Iterator[str]:
    """How a secret may be written: as it is, backwards, hex, URL-encoded, JSON-escaped, and base64 wherever it
    begins in what was encoded."""
    raw = _bytes(secret)
    yield secret
    yield secret[::-1]
    for is_ascii in (True, False):
        yield json.dumps(secret, ensure_ascii=is_ascii)[1:-1]
    yield raw.hex()
    yield raw.hex().upper()
    for quoted in (quote(raw, safe=""), quote(raw), quote_plus(raw), "".join(f"%{byte:02X}" for byte in raw)):
        yield quoted
        yield _PERCENT.sub(lambda found: found.group().lower(), quoted)
    for before in range(3):
        # Of what stands beside it in the same group of three bytes nothing is known: only whole characters of its own count.
        text = base64.b64encode(b"\0" * before + raw).decode().rstrip("=")
        own = text[(0, 2, 3)[before] : len(text) - bool((before + len(raw)) % 3)]
        yield own
        yield own.replace("+", "-").replace("/", "_")


def _bytes(text: str) -> bytes:
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


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
