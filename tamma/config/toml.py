"""Writes TOML values: the standard library only reads them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from enum import Enum
from pathlib import PurePath
from typing import Any, Final

_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")


def to_toml(value: Any) -> str:
    """One value on one line: text, numbers, booleans, lists, inline tables, enums and paths."""
    match value:
        case bool():
            return "true" if value else "false"
        case Enum():
            return to_toml(value.value)
        case str() | PurePath():
            return text(str(value))
        case float() if value.is_integer():
            return str(int(value))
        case int() | float():
            return repr(value)
        case Mapping():
            inner = ", ".join(f"{key(name)} = {to_toml(item)}" for name, item in value.items())
            return f"{{ {inner} }}" if inner else "{}"
        case tuple() | list():
            return f"[{', '.join(to_toml(item) for item in value)}]"
        case _:
            raise TypeError(f"{type(value).__name__} has no form in TOML here")


def text(value: str) -> str:
    """A basic string. JSON's escapes are TOML's, but for DEL, which TOML wants escaped, and surrogates, which it has not."""
    return json.dumps(value.encode("utf-8", "replace").decode(), ensure_ascii=False).replace("\x7f", "\\u007f")


def key(name: str) -> str:
    """A key, quoted where it must be."""
    return name if _BARE.fullmatch(name) else text(name)
