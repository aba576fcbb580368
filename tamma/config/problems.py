"""What is wrong with a configuration, each problem on one line: the key, what stands there, what could, and who gave it.

Values that may be secrets are never repeated.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any, Final

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from tamma.config.fields import has_password, mask_password
from tamma.config.keys import ANY_NAME, ROOT, Key, Path, Shape, dotted, fields_of, key_of, run_together, walk
from tamma.config.secrecy import SECRET_NAME
from tamma.config.sources import Layer
from tamma.core.errors import ConfigError
from tamma.core.redact import clean

_SHOWN_CHARS_MAX: Final = 80
_PROBLEMS_MAX: Final = 50
_EXPECTED: Final[Mapping[str, str]] = {
    "int_type": "a whole number", "int_from_float": "a whole number", "float_type": "a number", "finite_number": "a finite number",
    "bool_type": "true or false", "string_type": "text in quotes", "tuple_type": "a list", "dict_type": "a table", "model_type": "a table",
    "model_attributes_type": "a table", "path_type": "a path", "too_long": "shorter", "string_too_long": "shorter", "too_short": "not empty",
    "string_too_short": "not empty", "string_pattern_mismatch": "letters, digits and .-_ and start with a letter or digit",
}  # fmt: skip


def refuse(problems: list[str]) -> ConfigError:
    """All problems as one error."""
    shown = problems[:_PROBLEMS_MAX] + (
        [f"and {len(problems) - _PROBLEMS_MAX} more"] if len(problems) > _PROBLEMS_MAX else []
    )
    count = "a problem" if len(problems) == 1 else f"{len(problems)} problems"
    return ConfigError(
        f"the configuration has {count}",
        why="\n        ".join(clean(line) for line in shown),
        fix="correct it; docs/configuration.md lists every key",
    )


def told(error: ValidationError, layers: tuple[Layer, ...]) -> list[str]:
    """A line for each thing that the schema refuses."""
    return [_line(detail, layers) for detail in error.errors(include_url=False)]


def passwords(layer: Layer, file_name: str) -> Iterator[str]:
    """A line for each address in the file that carries a password."""
    for key in ("url", "direct_url"):
        found, value = layer.find(("database", key))
        if found and isinstance(value, str) and has_password(value):
            variable = "DATABASE_URL" if key == "url" else "TAMMA_DATABASE__DIRECT_URL"
            yield f"database.{key} holds a password ({file_name}): set {variable}, or name a file with it as database.{key}_file"
    repositories = layer.values.get("repositories")
    for name, table in repositories.items() if isinstance(repositories, dict) else ():
        if isinstance(table, dict) and isinstance(table.get("git"), str) and has_password(table["git"]):
            yield f"repositories.{name}.git holds a password ({file_name}): use an SSH address or a git credential helper"


def _line(detail: ErrorDetails, layers: tuple[Layer, ...]) -> str:
    path: Path = tuple(part for part in detail["loc"] if part != "[key]")
    origin = next((layer.origin(path) for layer in layers if layer.find(path)[0]), None) or next(
        (layer.origin(path[:-1]) for layer in layers if path and layer.find(path[:-1])[0]), "default"
    )
    return f"{dotted(path) or 'tamma.toml'} {_fault(detail, path)} (from {origin})"


def _fault(detail: ErrorDetails, path: Path) -> str:
    kind, context = detail["type"], detail.get("ctx", {})
    match kind:
        case "extra_forbidden":
            near = nearest(path)
            return "is not a known key" + (f"; did you mean {near}?" if near else "")
        case "missing":
            return "is missing"
        case "value_error":
            return f"is refused: {mask_password(str(context.get('error', '')))}"
        case "greater_than" | "greater_than_equal" | "less_than" | "less_than_equal":
            return f"is {_shown(detail['input'], path)}, out of range: {bounds(path)}"
        case "enum":
            return f"is {_shown(detail['input'], path)}, not one of {context.get('expected', '')}"
        case _:
            expected = _EXPECTED.get(kind) or detail["msg"].removeprefix("Input should be ")
            return f"is {_shown(detail['input'], path)}, but must be {expected}"


def bounds(path: Path) -> str:
    """The bounds of the number at a path, in words."""
    table = _table_at(path[:-1])
    info = fields_of(table).get(str(path[-1])) if table else None
    return bounds_of(info) if info else ""


def bounds_of(info: FieldInfo) -> str:
    """The bounds of a field's number, in words."""
    words = {"ge": "at least {}", "gt": "more than {}", "le": "at most {}", "lt": "less than {}"}
    found = [
        text.format(shown_number(getattr(m, name)))
        for m in info.metadata
        for name, text in words.items()
        if hasattr(m, name)
    ]
    return ", ".join(found)


def shown_number(value: float) -> str:
    """A number without needless digits."""
    return str(int(value)) if float(value).is_integer() else str(value)


def nearest(path: Path) -> str | None:
    """The known key that was probably meant: one joined by one underscore, a sibling, else the same name elsewhere, else, where the table is none that is known,
    the most alike of all."""
    *above, last = path
    if not above and (meant := run_together(str(last))):
        return dotted(meant)
    siblings = list(fields_of(_table_at(tuple(above)) or ROOT)) if _table_at(tuple(above)) else []
    if close := difflib.get_close_matches(str(last), siblings, n=1):
        return dotted((*above, close[0]))
    known = [at for at, _, _ in walk() if ANY_NAME not in at and "[]" not in ".".join(at)]
    if same := [at for at in known if at[-1] == last]:
        return dotted(same[0])
    if above and siblings:
        return None
    names = [dotted(at) for at in known] + list(fields_of(ROOT))
    return next(iter(difflib.get_close_matches(dotted(path), names, n=1)), None)


def _table_at(path: Path) -> Key | None:
    key: Key = ROOT
    for part in path:
        if key.shape is Shape.TABLE:
            info = fields_of(key).get(str(part))
            if info is None:
                return None
            key = key_of(info)
        else:
            key = Key(Shape.TABLE, key.model)
    return key if key.shape is Shape.TABLE else None


def may_be_secret(path: Path) -> bool:
    """Whether the value at a path is never to be shown as it is."""
    return any(
        isinstance(part, str) and (part == "env" or part.endswith("url") or SECRET_NAME.search(part)) for part in path
    )


def _shown(value: Any, path: Path) -> str:
    if may_be_secret(path):
        return f"a {type(value).__name__} that is not shown"
    text = mask_password(repr(value))
    return text if len(text) <= _SHOWN_CHARS_MAX else text[: _SHOWN_CHARS_MAX - 1] + "…"
