"""Exported heads as a file: a JSON line for each stream, and an end line with their number, without which it is not whole.

Several exports may stand in one file, one after another.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tamma.core.errors import ConfigError
from tamma.core.redact import clean

if TYPE_CHECKING:
    from tamma.adapters.postgres.verify import Head

_BYTES_MAX: Final = 1_000_000_000
_VERSION_MAX: Final = 2**31 - 1  # the database's integer
_HASH: Final = re.compile("[0-9a-f]{64}")
_END: Final = "streams"


def lines_of(heads: Iterable[Head]) -> Iterator[str]:
    """One export."""
    count = 0
    for head in heads:
        count += 1
        yield json.dumps({"stream": head.stream, "version": head.version, "hash": head.hash})
    yield json.dumps({_END: count})


def read(file: Path) -> frozenset[Head]:
    """Every head of every export in the file. Raises ConfigError if one is cut short, or the file holds none."""
    try:
        with file.open(encoding="utf-8") as source:
            return frozenset(_heads(source.read(_BYTES_MAX).split("\n")))
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ConfigError(
            f"{file} cannot be read as heads", why=str(error), fix="name a whole file that `tamma db heads` has written"
        ) from error


def _heads(lines: Iterable[str]) -> Iterator[Head]:
    seen, is_ended = 0, False
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        told = _object(line, number)
        if is_ended := told.keys() == {_END}:
            if told[_END] != seen:
                raise ValueError(f"line {number} tells of {told[_END]} streams, there are {seen} before it")
            seen = 0
        else:
            yield _head(told, number)
            seen += 1
    if not is_ended:
        raise ValueError("it is cut short: its last line does not say how many streams there were")


def _object(line: str, number: int) -> dict[str, Any]:
    try:
        told = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"line {number} is no JSON: {error}") from error
    if not isinstance(told, dict):
        raise TypeError(f"line {number} is no JSON object")
    return told


def _head(told: dict[str, Any], number: int) -> Head:
    from tamma.adapters.postgres.verify import Head

    match told:
        case {"stream": str(stream), "version": int(version), "hash": str(hash_)} if (
            stream and clean(stream) == stream and 0 < version <= _VERSION_MAX and _HASH.fullmatch(hash_)
        ):
            return Head(stream=stream, version=version, hash=hash_)
        case _:
            raise ValueError(f"line {number} names no stream with a version and a hash")
