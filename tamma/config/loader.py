"""Reads the configuration: flags over environment over file over defaults, and where each value came from.

The only module that reads the process's environment.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, get_args
from urllib.parse import urlsplit

from pydantic import BaseModel, ValidationError
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict

from tamma.config.schema import Config
from tamma.core.errors import ConfigError

FILE_NAME: Final = "tamma.toml"
ENV_PREFIX: Final = "TAMMA_"
CONFIG_BYTES_MAX: Final = 1_048_576
DEFAULT: Final = "default"
_SECRET_NAME: Final = re.compile(r"TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|API_?KEY|PRIVATE_?KEY|ACCESS_?KEY", re.IGNORECASE)
_MASK: Final = "***"
# Other names without a double underscore belong to the agents' contract (docs/agents.md) and to the loader itself.
_WHOLE_TABLES: Final = frozenset({"TAMMA_GATES", "TAMMA_REPOSITORIES"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A valid configuration. ``base`` is what relative paths are relative to; ``origins`` maps each dotted key that was set
    to the file, variable or flag that set it; ``environ`` is the process's environment."""

    config: Config
    base: Path
    path: Path | None
    database_url: str | None
    origins: Mapping[str, str] = field(default_factory=dict)
    environ: Mapping[str, str] = field(default_factory=dict)
    fail_points: str = ""

    @property
    def secrets(self) -> tuple[str, ...]:
        """Values that must never be shown or stored: the database's password, and what the environment names as secret."""
        named = (value for name, value in self.environ.items() if _SECRET_NAME.search(name))
        password = urlsplit(self.database_url).password if self.database_url else None
        return tuple(value for value in (*named, password or "") if value)


def load(
    path: Path | None = None,
    *,
    flags: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Loaded:
    """The configuration of this process. ``flags`` maps dotted keys to values, None meaning not given.

    Raises ConfigError that lists every problem, each with its key, its value and what is allowed.
    """
    env = dict(os.environ if environ is None else environ)  # noqa: TID251 — this module is where it is read
    here = cwd or Path.cwd()
    found = _find(path, env, here)
    file_values = _read(found) if found else {}
    layers = (
        (str(found), file_values),
        ("env", _from_env(env)),
        ("flag", _unflatten({key: value for key, value in (flags or {}).items() if value is not None})),
    )
    merged, origins = _merge(layers)
    config = _validate(merged, origins)
    base = found.parent.absolute() if found else here.absolute()
    _refuse_password(config, origins)
    return Loaded(
        config=config,
        base=base,
        path=found.absolute() if found else None,
        database_url=_database_url(config, env, base),
        origins=origins,
        environ=env,
        fail_points=env.get("TAMMA_FAILPOINTS", ""),
    )


def describe(loaded: Loaded) -> list[tuple[str, str, str]]:
    """(key, value, origin) of every setting, secrets masked."""
    rows = [(key, _shown(key, value), _origin(key, loaded.origins)) for key, value in flatten(loaded.config.model_dump(mode="json"))]
    url = mask(loaded.database_url) if loaded.database_url else "(embedded)"
    origin = "env DATABASE_URL" if loaded.environ.get("DATABASE_URL") == loaded.database_url and loaded.database_url else ""
    return [(k, url if k == "database.url" else v, (origin or o) if k == "database.url" else o) for k, v, o in rows]


def mask(url: str) -> str:
    """A URL without its password."""
    return re.sub(r"(://[^:/@\s]*:)[^@\s]*@", rf"\1{_MASK}@", url)


def flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and their values; a list is one value, an empty table none."""
    for name, value in values.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping):
            yield from flatten(value, f"{key}.")
        else:
            yield key, value


# Finding and reading


def _find(path: Path | None, env: Mapping[str, str], here: Path) -> Path | None:
    if path is not None:
        return path
    if named := env.get("TAMMA_CONFIG"):
        return Path(named)
    for folder in (here, *here.parents):
        if (folder / FILE_NAME).is_file():
            return folder / FILE_NAME
        if (folder / ".git").exists():
            return None
    return None


def _read(path: Path) -> dict[str, Any]:
    fix = "name a readable file with --config, or make one with `tamma init`"
    try:
        with path.open("rb") as source:
            raw = source.read(CONFIG_BYTES_MAX + 1)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read", why=error.strerror or str(error), fix=fix) from error
    if len(raw) > CONFIG_BYTES_MAX:
        raise ConfigError(f"{path} is too large", why=f"over {CONFIG_BYTES_MAX} bytes", fix=fix)
    try:
        return tomllib.loads(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8", why=str(error), fix="save it as UTF-8") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not valid TOML", why=str(error), fix="mend that line") from error


class _Tamma(BaseSettings, Config):
    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, env_nested_delimiter="__", extra="forbid")


class _EnvSource(EnvSettingsSource):
    """pydantic-settings' own reading of nested variables and JSON values, over the given environment."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        super().__init__(_Tamma)

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return {name.lower(): value for name, value in self._environ.items()}


def _from_env(env: Mapping[str, str]) -> dict[str, Any]:
    """Variables of the form TAMMA_SECTION__KEY. Raises ConfigError for one whose section or key is unknown."""
    ours = {n: v for n, v in env.items() if n.startswith(ENV_PREFIX) and ("__" in n or n in _WHOLE_TABLES)}
    try:
        values = dict(_EnvSource(ours)())
    except ValueError as error:
        raise ConfigError("a TAMMA_ variable cannot be read", why=str(error.__cause__ or error), fix="lists and tables are written as JSON") from error
    read = {f"{ENV_PREFIX}{key.replace('.', '__')}".upper() for key, _ in flatten(values)}
    for name in sorted(ours):
        if not any(name == known or name.startswith(f"{known}__") or known.startswith(f"{name}__") for known in read):
            key = name.removeprefix(ENV_PREFIX).replace("__", ".").lower()
            raise ConfigError(f"the variable {name} sets nothing", why=f"there is no setting {key!r}", fix=_nearest(key))
    return values


# Merging and checking


def _merge(layers: tuple[tuple[str, dict[str, Any]], ...]) -> tuple[dict[str, Any], dict[str, str]]:
    merged: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for name, values in layers:
        for key, value in flatten(values):
            _set(merged, key, value)
            origins[key] = {"env": f"env {ENV_PREFIX}{key.replace('.', '__').upper()}", "flag": f"flag {key}"}.get(name, name)
        for key in (k for k, v in values.items() if isinstance(v, Mapping) and not v):
            merged.setdefault(key, {})
        _keep_empty_tables(merged, values)
    return merged, origins


def _keep_empty_tables(merged: dict[str, Any], values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        if isinstance(value, Mapping) and isinstance(merged.setdefault(name, {}), dict):
            _keep_empty_tables(merged[name], value)


def _set(target: dict[str, Any], dotted: str, value: object) -> None:
    *parents, last = dotted.split(".")
    for name in parents:
        step = target.setdefault(name, {})
        if not isinstance(step, dict):
            step = target[name] = {}
        target = step
    target[last] = value


def _unflatten(values: Mapping[str, object]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        _set(found, key, value)
    return found


def _validate(values: dict[str, Any], origins: Mapping[str, str]) -> Config:
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        problems = [_problem(e, origins) for e in error.errors(include_url=False)]
        raise ConfigError(
            f"the configuration has {len(problems)} problem{'s' * (len(problems) != 1)}",
            why="\n        ".join(problems),
            fix="mend what is named above; docs/configuration.md has every setting",
        ) from error


def _problem(error: Any, origins: Mapping[str, str]) -> str:
    key = ".".join(str(part) for part in error["loc"])
    origin = _origin(key, origins)
    where = f" ({origin})" if origin != DEFAULT else ""
    if error["type"] == "extra_forbidden":
        return f"{key}{where}: unknown setting; {_nearest(key)}"
    value = error.get("input")
    shown = "" if isinstance(value, Mapping | list | tuple) or error["type"] == "missing" else f", not {_shown(key, value)!r}"
    return f"{key or 'configuration'}{where}: {error['msg'].removeprefix('Value error, ')}{shown}"


def _shown(key: str, value: object) -> str:
    if value is None:
        return "(unset)"
    if "url" in key and isinstance(value, str):
        return mask(value)
    if ".env." in f".{key}" and _SECRET_NAME.search(key):
        return _MASK
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _origin(key: str, origins: Mapping[str, str]) -> str:
    """Where the key, or the nearest table or list around it, was set."""
    while key:
        if key in origins:
            return origins[key]
        key = key.rpartition(".")[0]
    return DEFAULT


def known_keys() -> tuple[str, ...]:
    """Every dotted key of the schema; those of list items and repositories without index or name."""
    return tuple(_keys(Config, ""))


def _keys(model: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, info in model.model_fields.items():
        nested = next((t for t in _types(info.annotation) if issubclass(t, BaseModel)), None)
        yield f"{prefix}{name}"
        if nested is not None:
            yield from _keys(nested, f"{prefix}{name}.")


def _types(annotation: Any) -> Iterator[type]:
    """The classes that an annotation is made of."""
    if isinstance(annotation, type) and not get_args(annotation):
        yield annotation
    for inner in get_args(annotation):
        yield from _types(inner)


def _nearest(key: str) -> str:
    parts = [part for part in key.split(".") if not part.isdecimal()]
    if parts[0] == "repositories" and len(parts) > 2:
        del parts[1]
    plain = ".".join(parts)
    siblings = [k for k in known_keys() if k.rpartition(".")[0] == plain.rpartition(".")[0]]
    for choice in (siblings, known_keys()):
        if matches := get_close_matches(plain, choice, n=1, cutoff=0.6):
            return f"did you mean {matches[0]!r}?"
    return "docs/configuration.md has every setting"


def _refuse_password(config: Config, origins: Mapping[str, str]) -> None:
    for key in ("url", "direct_url"):
        url = getattr(config.database, key)
        if url and urlsplit(url).password and not origins.get(f"database.{key}", "").startswith("env "):
            raise ConfigError(
                f"database.{key} holds a password",
                why="secrets do not belong into a file that is shared",
                fix="use the variable DATABASE_URL, or database.url_file with a file only you can read",
            )


def _database_url(config: Config, env: Mapping[str, str], base: Path) -> str | None:
    if config.database.url:
        return config.database.url
    if config.database.url_file:
        path = base / config.database.url_file
        try:
            return path.read_text(encoding="utf-8").strip() or None
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"database.url_file {path} cannot be read", why=str(error), fix="make it readable, or unset it") from error
    return env.get("DATABASE_URL") or None
