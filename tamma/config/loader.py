"""Reads the configuration: file, then environment, then flags; says where each value came from. Only reader of os.environ."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from tamma.config.fields import has_password
from tamma.config.places import misplaced
from tamma.config.problems import passwords, refuse, told
from tamma.config.schema import LAYERS, Config
from tamma.config.secrecy import SECRET_NAME, secret_texts
from tamma.config.sources import Layer, LayerSource, environ_layer, file_layer, flags_layer, origins, read_regular
from tamma.core.errors import ConfigError

FILE_NAME: Final = "tamma.toml"
CONFIG_VARIABLE: Final = "TAMMA_CONFIG"
FAIL_POINTS_VARIABLE: Final = "TAMMA_FAILPOINTS"
_SECRET_BYTES_MAX: Final = 8_192
_STATE_FOLDER: Final = ".tamma"  # what state.folder is by default
NO_FILE: Final = f"no {FILE_NAME} was found"
LOST_FIX: Final = f"go to the folder of {FILE_NAME}, name the file by --config, or make one: `tamma init`"


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """The configuration, and how it came about.

    ``base`` is the folder that relative paths start from: the file's, or where Tamma was started. ``origins`` maps the dotted
    key of each value that was set to who set it; what is not in it is a default. ``database_url`` and ``direct_url`` may
    carry passwords: they are not in ``repr``, and neither is ``environ``.
    """

    config: Config
    path: Path | None
    base: Path
    origins: Mapping[str, str]
    environ: Mapping[str, str] = field(repr=False)
    fail_points: Mapping[str, str] = field(default_factory=dict)
    database_url: str | None = field(default=None, repr=False)
    direct_url: str | None = field(default=None, repr=False)

    def missing(self, what: str, *, why: str, fix: str) -> ConfigError:
        """Something that the file would name is not there; where there is no file, that is what is missing."""
        if self.path is not None:
            return ConfigError(what, why=why, fix=fix)
        return ConfigError(NO_FILE, why=f"none is in {self.base} or above it, and {what}: {why}", fix=LOST_FIX)

    def resolve(self, path: Path | str) -> Path:
        """A path of the configuration, made absolute."""
        return self.base / Path(path).expanduser()

    def origin(self, key: str) -> str:
        """Who set a key."""
        return self.origins.get(key, "default")

    def secrets(self) -> Mapping[str, str]:
        """What must never be stored, shown or delivered, each text with its name: variables named like secrets, and passwords
        in addresses."""
        named = [(name, value) for name, value in self.environ.items() if value and SECRET_NAME.search(name)]
        places = (("database.url", self.database_url), ("database.direct_url", self.direct_url), *self.environ.items())
        addresses = [(name, value) for name, value in places if value and has_password(value)]
        inside = [(f"password in {name}", word) for name, url in addresses for word in _passwords_in(url)]
        found: dict[str, str] = {}
        for name, value in (*named, *addresses, *inside):
            for text in secret_texts(value):
                found.setdefault(text, name)
        return found


def load(
    path: Path | None = None,
    flags: Mapping[str, object] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Loaded:
    """The configuration in force. ``flags`` are values by dotted key, None where a flag was not given.

    The file is ``path``, else the one TAMMA_CONFIG names, else the nearest tamma.toml; none at all is fine. Raises
    ConfigError that lists everything that is wrong.
    """
    env = dict(os.environ if environ is None else environ)  # noqa: TID251 — the one place that reads the environment
    here = (cwd or _current_folder()).absolute()
    file = find_file(path, environ=env, cwd=here)
    layers = (flags_layer(flags or {}), environ_layer(env), file_layer(file) if file else Layer())
    config, problems = _validated(layers)
    problems += passwords(layers[-1], str(file))
    base = file.parent if file else here
    if config is not None:
        problems += misplaced(config, base)
    if config is None or problems:
        raise refuse(problems)
    urls = {key: _address(key, config, layers, base=base) for key in ("url", "direct_url")}
    return Loaded(
        config=config, path=file, base=base, origins=origins(layers), environ=env, fail_points=_fail_points(env.get(FAIL_POINTS_VARIABLE, "")),
        database_url=urls["url"], direct_url=urls["direct_url"],
    )  # fmt: skip


def _current_folder() -> Path:
    try:
        return Path.cwd()
    except FileNotFoundError:
        raise ConfigError(
            "the current folder is gone", why="somebody removed it", fix="change to one that is there"
        ) from None


def find_file(path: Path | None, *, environ: Mapping[str, str], cwd: Path) -> Path | None:
    """The file to read. Raises ConfigError if one was named and is not there."""
    for named, by in ((path, "--config"), (environ.get(CONFIG_VARIABLE) or None, CONFIG_VARIABLE)):
        if named is not None:
            file = cwd / Path(named).expanduser()
            if not file.is_file():
                raise ConfigError(
                    f"{file} is not a file",
                    why=f"{by} names it",
                    fix=f"correct {by}, or `tamma init` to make a {FILE_NAME}",
                )
            return file
    # Whatever has the name is read: a dangling link or a folder is told by who reads it, not taken for "none".
    return next((folder / FILE_NAME for folder in _folders(cwd) if os.path.lexists(folder / FILE_NAME)), None)


def _folders(cwd: Path) -> tuple[Path, ...]:
    """Here, and upwards to the root of the checkout; outside of one as long as nobody else can have put the file there:
    /tmp/tamma.toml may be anybody's. Not out of a state folder either, where the code of changes runs."""
    above = (cwd, *cwd.parents)
    for n, folder in enumerate(above):
        if (folder / ".git").exists():
            return above[: n + 1]
    return (cwd, *takewhile(_is_ours, above[1:])) if _STATE_FOLDER not in cwd.parts else (cwd,)


def _is_ours(folder: Path) -> bool:
    try:
        found = folder.stat()
    except OSError:
        return False
    return found.st_uid == os.geteuid() and not found.st_mode & stat.S_IWOTH


def _validated(layers: tuple[Layer, ...]) -> tuple[Config | None, list[str]]:
    flags, *others = layers
    token = LAYERS.set(tuple(LayerSource(layer) for layer in others))
    try:
        return Config(**flags.values), []
    except ValidationError as error:
        return None, told(error, layers)
    finally:
        LAYERS.reset(token)


def _address(key: str, config: Config, layers: tuple[Layer, ...], *, base: Path) -> str | None:
    """The address itself, or what its file holds; of the two, the one that the higher layer names."""
    url, file = getattr(config.database, key), getattr(config.database, f"{key}_file")
    for layer in layers:
        has_url, has_file = layer.find(("database", key))[0], layer.find(("database", f"{key}_file"))[0]
        if has_url and has_file:
            raise refuse(
                [
                    f"database.{key} and database.{key}_file are both set (from {layer.origin(('database', key))}): keep one"
                ]
            )
        if has_url:
            return str(url)
        if has_file:
            return _read_secret(base / file.expanduser(), key=f"database.{key}_file")
    return None


def _read_secret(path: Path, *, key: str) -> str:
    try:
        text = read_regular(path)[:_SECRET_BYTES_MAX].decode("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path} cannot be read",
            why=f"{key} names it: {type(error).__name__}",
            fix="check the path and its permissions",
        ) from None
    if not text.startswith(("postgres://", "postgresql://", "postgresql+psycopg://")):
        raise ConfigError(
            f"{path} holds no database address",
            why=f"{key} names it; it must start with postgresql://",
            fix="write one line into it",
        )
    return text


def _fail_points(text: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        name, mark, action = (piece.strip() for piece in part.partition("="))
        if not (name and mark and action):
            raise ConfigError(
                f"{FAIL_POINTS_VARIABLE} is wrong",
                why=f"{part!r} is not NAME=ACTION",
                fix="write push.before_effect=kill@2",
            )
        pairs[name] = action
    return pairs


def _passwords_in(url: str) -> tuple[Any, ...]:
    from urllib.parse import unquote, urlsplit

    try:
        password = urlsplit(url).password
    except ValueError:
        return ()
    return (password, unquote(password)) if password else ()
