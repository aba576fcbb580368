"""Paths of a diff and the patterns they are held against.

Both sides are compared in Unicode NFC and case-folded, since a file system that folds case would otherwise run
``.GitHub/workflows/x.yml`` as if it were the protected one.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

_DRIVE: Final = re.compile(r"[A-Za-z]:")


def fold(text: str) -> str:
    """The form in which paths and patterns are compared."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())


def normalised(path: str) -> str | None:
    """The path without ``./`` and double slashes; None for one that no honest tree holds.

    Odd are: empty, absolute, with ``..``, a drive letter, a backslash, a control character or a lone surrogate.
    """
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if not parts or path.startswith("/") or ".." in parts or "\\" in path or _DRIVE.match(path):
        return None
    if any(unicodedata.category(char) in ("Cc", "Cs") for char in path):
        return None
    return "/".join(parts)


def inside(path: str) -> tuple[str, ...] | None:
    """The names that lead to a place below a folder, none for the folder itself; None for a path that leads out of it."""
    parts = tuple(part for part in path.split("/") if part not in ("", "."))
    return None if path.startswith("/") or ".." in parts or "\x00" in path else parts


def matches(path: str, pattern: str) -> bool:
    """Whether a whole, normalised path matches a glob: ``*`` and ``?`` stay inside one name, ``**`` spans any number.

    A pattern that ends in ``/**`` also matches the folder's own name, so that a symbolic link or a submodule put in its
    place is seen.
    """
    return _compiled(fold(pattern.removeprefix("./"))).fullmatch(fold(path)) is not None


def first_match(path: str, patterns: Iterable[str]) -> str | None:
    """The first pattern that matches, if any does."""
    return next((pattern for pattern in patterns if matches(path, pattern)), None)


def select(paths: Iterable[str], patterns: Iterable[str]) -> tuple[str, ...]:
    """The paths that match at least one pattern, in their order; odd paths match none."""
    wanted = tuple(patterns)
    return tuple(path for path in paths if (clean := normalised(path)) is not None and first_match(clean, wanted))


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    names = pattern.rstrip("/").split("/")
    out = []
    for index, name in enumerate(names):
        is_last = index == len(names) - 1
        if name == "**":
            out.append(".*" if is_last else "(?:[^/]+/)*")
        elif index == len(names) - 2 and names[-1] == "**":
            out.append(_name(name) + "(?:/.*)?")
            break
        else:
            out.append(_name(name) + ("" if is_last else "/"))
    return re.compile("".join(out), re.DOTALL)


_MEMBER: Final = re.compile(r"([^-])-([^-])|.", re.DOTALL)
_TOKEN: Final = re.compile(r"\*+|\[(!?)([^]/]+)\]|.", re.DOTALL)


def _name(name: str) -> str:
    return "".join(map(_piece, _TOKEN.finditer(name)))


def _piece(token: re.Match[str]) -> str:
    text = token.group()
    if text.startswith("*"):
        return "[^/]*"
    if text == "?":
        return "[^/]"
    if token.group(2):
        members = "".join(map(_member, _MEMBER.finditer(token.group(2))))
        piece = f"[{'^/' if token.group(1) else ''}{members}]"
        return piece if _is_valid(piece) else re.escape(text)
    return re.escape(text)


def _member(found: re.Match[str]) -> str:
    low, high = found.groups()
    return re.escape(found.group()) if low is None else f"{re.escape(low)}-{re.escape(high)}"


def _is_valid(piece: str) -> bool:
    try:
        re.compile(piece)
    except re.error:  # a range that runs backwards: then the brackets are just characters
        return False
    return True
