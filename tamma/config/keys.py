"""The tree of keys that the schema makes: what may stand where, for the loader, its error messages and the reference."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum, unique
from typing import Annotated, Any, Final, TypeAlias

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from tamma.config.schema import Config

Path: TypeAlias = tuple[str | int, ...]
ANY_NAME: Final = "NAME"


@unique
class Shape(StrEnum):
    """What a key holds."""

    VALUE = "value"
    TABLE = "table"
    TABLES_BY_NAME = "tables by name"
    LIST_OF_TABLES = "list of tables"


@dataclass(frozen=True, slots=True)
class Key:
    """A key's shape; ``model`` is the table's where there is one, ``type`` the plain type of a value."""

    shape: Shape
    model: type[BaseModel] | None = None
    type: Any = None


ROOT: Final = Key(Shape.TABLE, Config)


def plain(hint: Any) -> Any:
    """A type without ``Annotated`` and ``| None``."""
    if typing.get_origin(hint) is Annotated:
        return plain(typing.get_args(hint)[0])
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        (only,) = [arg for arg in typing.get_args(hint) if arg is not type(None)]
        return plain(only)
    return hint


def key_of(info: FieldInfo) -> Key:
    """The key that a field makes."""
    hint = plain(info.annotation)
    args = [plain(arg) for arg in typing.get_args(hint) if arg is not Ellipsis]
    if _is_model(hint):
        return Key(Shape.TABLE, hint)
    if args and _is_model(args[-1]):
        shape = Shape.TABLES_BY_NAME if typing.get_origin(hint) is dict else Shape.LIST_OF_TABLES
        return Key(shape, args[-1])
    return Key(Shape.VALUE, None, hint)


def fields_of(key: Key) -> dict[str, FieldInfo]:
    """The fields of a key's table."""
    return dict(key.model.model_fields) if key.model else {}


def walk(key: Key = ROOT, at: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], FieldInfo, Key]]:
    """Every key that holds a value, with NAME for the name of a repository and ``[]`` behind a list of tables."""
    for name, info in fields_of(key).items():
        child = key_of(info)
        match child.shape:
            case Shape.VALUE:
                yield (*at, name), info, child
            case Shape.TABLE:
                yield from walk(child, (*at, name))
            case Shape.TABLES_BY_NAME:
                yield from walk(child, (*at, name, ANY_NAME))
            case Shape.LIST_OF_TABLES:
                yield from walk(child, (*at, f"{name}[]"))


def run_together(name: str) -> Path | None:
    """The key whose section and name this is, joined by one underscore; None where there is none."""
    return next((at for at, _, _ in walk() if len(at) > 1 and "_".join(at) == name), None)


def dotted(path: Path) -> str:
    """A path as people write it: ``gates[0].argv``."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")


def _is_model(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, BaseModel)
