"""What an operator does around the loop: the database's schema and server, a first configuration."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tamma.bootstrap import database
from tamma.config.loader import load
from tamma.core.errors import ConfigError
from tamma.core.proposals import propose

_READ_BYTES_MAX = 262_144


def upgrade_database(config: Path | None) -> str:
    """Bring the schema up to date; what was done, in words."""
    return database.upgrade(load(config))


def stop_database(config: Path | None) -> str:
    """Stop the embedded server; what was done, in words."""
    return database.stop(load(config))


def embedded_url(config: Path | None) -> str:
    """The address of the embedded server, started if it was not. Raises ConfigError if there is none."""
    loaded = load(config)
    if database.configured_url(loaded) is not None:
        raise ConfigError("no embedded server is used here", why="a URL is configured", fix="use that URL")
    return database.ready_url(loaded, may_create=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposedConfig:
    """A commented tamma.toml, and what to know about it."""

    text: str
    notes: tuple[str, ...]


def propose_config(folder: Path) -> ProposedConfig:
    """For the repository checked out in ``folder``: gates and environment proposed from its files. Raises ConfigError."""
    from tamma.config.template import render_template

    if not folder.is_dir():
        raise ConfigError(f"{folder} is not a folder", fix="name a checkout of the repository")
    names = sorted(entry.name for entry in folder.iterdir())
    contents = {name: _text(folder / name) for name in names if (folder / name).is_file()}
    proposal = propose(names, contents)
    return ProposedConfig(text=render_template(proposal), notes=proposal.notes)


def _text(path: Path) -> str:
    try:
        with path.open("rb") as source:
            return source.read(_READ_BYTES_MAX).decode("utf-8", "replace")
    except OSError:
        return ""
