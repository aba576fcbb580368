"""Where values come from: flags, environment variables and the file, each as one layer that knows its origins."""

from __future__ import annotations

import json
import os
import stat
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any, Final

from pydantic.fields import FieldInfo
from pydantic_settings import PydanticBaseSettingsSource

from tamma.config.keys import ROOT, Key, Path, Shape, dotted, fields_of, key_of, run_together
from tamma.config.schema import Config
from tamma.core.errors import ConfigError

PREFIX: Final = "TAMMA_"
DATABASE_URL: Final = "DATABASE_URL"
_WHOLE: Final = frozenset({"gates", "repositories"})
_FILE_BYTES_MAX: Final = 1_048_576
_TRUE: Final = frozenset({"true", "1", "yes", "on"})
_FALSE: Final = frozenset({"false", "0", "no", "off"})


@dataclass(slots=True)
class Layer:
    """The values of one kind of source. ``names`` says which variable or flag gave the value at a path."""

    values: dict[str, Any] = field(default_factory=dict)
    names: dict[Path, str] = field(default_factory=dict)
    default_name: str = ""

    def put(self, path: tuple[str, ...], value: Any, *, name: str) -> None:
        """Set the value at a path; what stood there, or above it and was no table, gives way."""
        table = self.values
        for part in path[:-1]:
            if not isinstance(table.get(part), dict):
                table[part] = {}
            table = table[part]
        table[path[-1]] = value
        self.names[path] = name

    def find(self, path: Path) -> tuple[bool, Any]:
        """Whether the layer says something at a path, and what."""
        here: Any = self.values
        for part in path:
            try:
                here = here[part]
            except (KeyError, IndexError, TypeError):
                return False, None
        return True, here

    def origin(self, path: Path) -> str:
        """Who gave the value at a path."""
        known = (self.names[path[:n]] for n in range(len(path), 0, -1) if path[:n] in self.names)
        below = (name for at, name in self.names.items() if at[: len(path)] == path)
        return next(known, None) or next(below, self.default_name)


class LayerSource(PydanticBaseSettingsSource):
    """A layer as pydantic-settings takes it."""

    def __init__(self, layer: Layer) -> None:
        super().__init__(Config)
        self._layer = layer

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """One top-level value."""
        return self._layer.values.get(field_name), field_name, False

    def __call__(self) -> dict[str, Any]:
        """All values of the layer."""
        return self._layer.values


def flags_layer(flags: Mapping[str, object]) -> Layer:
    """Flags by dotted key; None is a flag that was not given."""
    layer = Layer()
    for key, value in flags.items():
        if value is not None:
            layer.put(tuple(key.split(".")), value, name=f"flag for {key}")
    return layer


def environ_layer(environ: Mapping[str, str]) -> Layer:
    """``TAMMA_SECTION__KEY`` and ``DATABASE_URL``; empty ones count as unset, as CI systems set them.

    A key's name with one underscore too few is taken too, as a key that nobody knows: a limit that silently did not hold
    would be worse. Other ``TAMMA_*`` names are no configuration: the contracts with agents and gates use them, and they may reach a Tamma
    that runs inside another's task.
    """
    layer = Layer()
    for name, text in sorted(environ.items()):
        rest = name.removeprefix(PREFIX)
        if rest == name or not text or not ("__" in rest or rest.lower() in _WHOLE or run_together(rest.lower())):
            continue
        path, key = _locate(rest.split("__"))
        layer.put(path, _value(key, text), name=name)
    has_own = layer.find(("database", "url"))[0] or layer.find(("database", "url_file"))[0]
    if environ.get(DATABASE_URL) and not has_own:
        layer.put(("database", "url"), environ[DATABASE_URL], name=DATABASE_URL)
    return layer


def variable_name(path: tuple[str, ...]) -> str:
    """The environment variable for a key."""
    return PREFIX + "__".join(part.upper() for part in path)


def _locate(parts: list[str]) -> tuple[tuple[str, ...], Key | None]:
    """The path that a variable's parts name, and its key; None where the schema knows no such key."""
    path: list[str] = []
    key: Key | None = ROOT
    while parts:
        match key:
            case Key(shape=Shape.TABLE):
                path.append(parts.pop(0).lower())
                info = fields_of(key).get(path[-1])
                key = key_of(info) if info else None
            case Key(shape=Shape.TABLES_BY_NAME, model=model):
                path.append(parts.pop(0))
                key = Key(Shape.TABLE, model)
            case Key(shape=Shape.VALUE, type=hint) if str(hint).startswith("dict"):
                path.append("__".join(parts))  # a name in a table such as agent.env, which may hold "__" itself
                return tuple(path), Key(Shape.VALUE, None, str)
            case _:
                return (*path, *(part.lower() for part in parts)), None
    return tuple(path), key


def _value(key: Key | None, text: str) -> Any:
    """Text as the key's type; left as it is where it does not fit, so that validation says so in one place."""
    if key is None:
        return text
    if key.type is bool:
        return True if text.lower() in _TRUE else False if text.lower() in _FALSE else text
    if key.type in (int, float):
        try:
            return key.type(text)
        except ValueError:
            return text
    if isinstance(key.type, type) and not hasattr(key.type, "__args__"):
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def file_layer(path: FilePath) -> Layer:
    """The values of a TOML file. Raises ConfigError if it cannot be read or is not TOML."""
    try:
        raw = read_regular(path)
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read", why=error.strerror or str(error), fix="check the path and its permissions"
        ) from error
    if len(raw) > _FILE_BYTES_MAX:
        raise ConfigError(
            f"{path} is too long", why=f"it has more than {_FILE_BYTES_MAX} bytes", fix="is it the right file?"
        )
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise ConfigError(
            f"{path} is not UTF-8", why=f"line {line} has a byte that is not", fix="save it as UTF-8"
        ) from error
    try:
        values = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(
            f"{path} is not valid TOML",
            why=str(error) or "nested too deep",
            fix="correct that line; see https://toml.io",
        ) from error
    return Layer(values=values, default_name=str(path))


def read_regular(path: FilePath) -> bytes:
    """Up to one byte too many. Anyone who may write to the checkout may put a FIFO here: opening it must not hang."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ConfigError(f"{path} cannot be read", why="it is not a regular file", fix="is it the right file?")
        return file.read(_FILE_BYTES_MAX + 1)


def leaves(values: Mapping[str, Any], key: Key = ROOT, at: Path = ()) -> Iterator[Path]:
    """The paths of the values that a layer sets; a list of tables is one value."""
    for name, value in values.items():
        info = fields_of(key).get(name) if key.shape is Shape.TABLE else None
        child = (
            Key(Shape.TABLE, key.model)
            if key.shape is Shape.TABLES_BY_NAME
            else key_of(info)
            if info
            else Key(Shape.VALUE)
        )
        if isinstance(value, Mapping) and child.shape in (Shape.TABLE, Shape.TABLES_BY_NAME):
            yield from leaves(value, child, (*at, name))
        else:
            yield (*at, name)


def origins(layers: tuple[Layer, ...]) -> dict[str, str]:
    """Dotted key -> who gave it, for every value that some layer sets; layers come highest first."""
    found: dict[str, str] = {}
    for layer in layers:
        for path in leaves(layer.values):
            found.setdefault(dotted(path), layer.origin(path))
    return found
