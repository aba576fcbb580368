"""Text that came from gates, agents or issues, made harmless before it is shown on a forge (SECURITY C8).

Nobody is mentioned, nothing is closed, no command is given, no image or link is loaded, no fence is broken.
"""

from __future__ import annotations

import re
from typing import Final

from tamma.core.redact import bounded, clean

# A zero-width space ends a forge's pattern without a visible trace.
_BREAK: Final = "\u200b"
_MENTION: Final = re.compile(r"@(?=[\w\[])")
_REFERENCE: Final = re.compile(r"(?<!&)[#!](?=\d)|\bGH-(?=\d)", re.IGNORECASE)
_SCHEME: Final = re.compile(r"\b(https?|ftp|data|javascript|mailto|ssh|file)(:)(?=\S)|\b(www)(\.)(?=\w)", re.IGNORECASE)
_COMMAND: Final = re.compile(r"^(\s*)/(?=[a-z])", re.MULTILINE)
# An image or a link without a scheme (``![](//host/x)``), and HTML.
_MARKUP: Final = re.compile(r"\](?=[(\[:])|/(?=/\w)|<(?=[A-Za-z/!?])")
_MARKDOWN: Final = re.compile(r"([\\`*_\[\]<>|~!])")
_TICKS: Final = re.compile(r"`+")


def defused(text: str) -> str:
    """The same words, inert on a forge: mentions, references (and so closing keywords), links,
    images, HTML and slash commands are broken."""
    text = _MENTION.sub("@" + _BREAK, clean(text))
    text = _REFERENCE.sub(lambda m: m.group() + _BREAK, text)
    text = _MARKUP.sub(lambda m: m.group() + _BREAK, text)
    text = _SCHEME.sub(lambda m: (m.group(1) or m.group(3)) + _BREAK + (m.group(2) or m.group(4)), text)
    return _COMMAND.sub(r"\1" + _BREAK + "/", text)


def inline(text: str, *, chars_max: int = 300) -> str:
    """One line of plain Markdown text, without markup of its own; also safe in a table cell and in HTML."""
    flat = " ".join(text.split())
    if len(flat) > chars_max:
        flat = flat[: chars_max - 1] + "…"
    escaped = _MARKDOWN.sub(r"\\\1", clean(flat).replace("&", "&amp;"))
    return defused(escaped.replace("\\<", "&lt;").replace("\\>", "&gt;"))


def code(text: str, *, chars_max: int = 300) -> str:
    """One line as a code span that its own backticks cannot end, for use in a table cell too."""
    flat = defused(" ".join(text.split()))
    if len(flat) > chars_max:
        flat = flat[: chars_max - 1] + "…"
    ticks = "`" * (_longest_ticks(flat) + 1)
    pad = " " if flat.startswith("`") or flat.endswith("`") or not flat else ""
    return f"{ticks}{pad}{flat.replace('|', chr(0x2223))}{pad}{ticks}"


def fenced(text: str, *, bytes_max: int, info: str = "text") -> str:
    """A code block whose fence is longer than any run of backticks inside it."""
    body = bounded(clean(text), bytes_max=bytes_max).strip("\n")
    fence = "`" * max(3, _longest_ticks(body) + 1)
    return f"{fence}{info}\n{body}\n{fence}"


def quoted(text: str, *, bytes_max: int) -> str:
    """A code block for a forge: fenced, and inert even where a forge looks into code blocks."""
    return fenced(defused(text), bytes_max=bytes_max)


def _longest_ticks(text: str) -> int:
    return max((len(run) for run in _TICKS.findall(text)), default=0)
