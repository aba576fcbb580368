"""The configuration as rows: every key with its meaning, and every value in force with where it came from."""

from __future__ import annotations

import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path as FilePath
from typing import Any, Final

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from tamma.config.fields import mask_password
from tamma.config.keys import ROOT, Key, Path, Shape, dotted, fields_of, key_of, plain, walk
from tamma.config.loader import Loaded
from tamma.config.problems import bounds_of
from tamma.config.secrecy import SECRET_NAME
from tamma.config.sources import variable_name
from tamma.config.toml import to_toml

MASK: Final = "***"
_UNITS: Final = ("seconds", "bytes")
_TYPES: Final[Mapping[Any, str]] = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "true or false",
    FilePath: "path",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One key of the reference. ``default`` is TOML, empty where there is none; ``variable`` sets it from the environment."""

    key: str
    type: str
    default: str
    unit: str
    bounds: str
    description: str
    variable: str


def reference() -> list[Row]:
    """Every key that holds a value, in the schema's order; those inside a repository's own tables are told once, at the top."""
    return [_row(path, info, key) for path, info, key in walk() if len(path) <= 3]


def describe(loaded: Loaded) -> list[tuple[str, str, str]]:
    """(key, value in TOML with secrets masked, who set it) for everything in force."""
    return [(dotted(path), value, _origin(loaded, path)) for path, value in _values(loaded.config, ROOT, ())]


def _row(path: tuple[str, ...], info: FieldInfo, key: Key) -> Row:
    name = path[-1]
    unit = next((unit for unit in _UNITS if unit in name.split("_")), "")
    is_listed = any(part.endswith("[]") for part in path)
    return Row(
        key=".".join(path),
        type=type_name(key.type),
        default="" if info.default in (None, PydanticUndefined) else to_toml(info.default),
        unit=unit,
        bounds=bounds_of(info),
        description=info.description or "",
        variable=f"{variable_name((path[0].removesuffix('[]'),))} (JSON)" if is_listed else variable_name(path),
    )


def type_name(hint: Any) -> str:
    """A type in plain words."""
    hint = plain(hint)
    args = [arg for arg in typing.get_args(hint) if arg is not Ellipsis]
    if typing.get_origin(hint) is tuple:
        return f"list of {type_name(args[0])}"
    if typing.get_origin(hint) is dict:
        return f"table of {type_name(args[-1])}"
    if isinstance(hint, type) and issubclass(hint, Enum):
        return " or ".join(f"`{member.value}`" for member in hint)
    return _TYPES[hint]


def _values(model: BaseModel, key: Key, at: Path) -> Iterator[tuple[Path, str]]:
    for name, info in fields_of(key).items():
        value, child, path = getattr(model, name), key_of(info), (*at, name)
        match child.shape:
            case Shape.TABLE if value is not None:
                yield from _values(value, child, path)
            case Shape.TABLES_BY_NAME:
                for entry, table in value.items():
                    yield from _set_values(table, Key(Shape.TABLE, child.model), (*path, entry))
            case Shape.LIST_OF_TABLES if value:
                for n, table in enumerate(value):
                    yield from _values(table, Key(Shape.TABLE, child.model), (*path, n))
            case _:
                yield path, _shown(value, path)


def _set_values(model: BaseModel, key: Key, at: Path) -> Iterator[tuple[Path, str]]:
    """Of a repository's tables only what they set: the rest is told at the top level."""
    for path, value in _values(model, key, at):
        here: Any = model
        for part in path[len(at) :]:
            if isinstance(part, str) and isinstance(here, BaseModel) and part not in here.model_fields_set:
                break
            here = getattr(here, part) if isinstance(part, str) else here[part]
        else:
            yield path, value


def _shown(value: Any, path: Path) -> str:
    if value is None:
        return "(not set)"
    if path[-1] == "env":
        return to_toml(
            {name: MASK if SECRET_NAME.search(name) else mask_password(text) for name, text in value.items()}
        )
    return mask_password(to_toml(value))


def _origin(loaded: Loaded, path: Path) -> str:
    """Who set the value, or the table or list that it stands in."""
    keys = [dotted(path[:n]) for n in range(len(path), 0, -1)]
    return next((loaded.origins[key] for key in keys if key in loaded.origins), "default")
