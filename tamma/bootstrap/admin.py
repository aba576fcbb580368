"""What an operator does around the loop: the database's schema and server, a first configuration."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tamma.bootstrap import database
from tamma.config.loader import load
from tamma.core.change import REMOTE
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
    database.ready_url(loaded, may_create=False)  # starts it
    return database.embedded(loaded).shared_url()


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposedConfig:
    """A commented tamma.toml, what to know about it, and what to do next."""

    text: str
    notes: tuple[str, ...]
    steps: tuple[str, ...]


def propose_config(folder: Path, *, beside: Path) -> ProposedConfig:
    """For the repository checked out in ``folder``: gates and environment proposed from its files; ``beside`` is where the
    file and the forge's folder will lie. Raises ConfigError."""
    from tamma.config.template import render_template

    if not folder.is_dir():
        raise ConfigError(f"{folder} is not a folder", fix="name a checkout of the repository")
    if (folder / "HEAD").is_file() and (folder / "objects").is_dir():
        raise ConfigError(f"{folder} is a bare repository", fix="name a checkout of it, with files to look at")
    names = sorted(entry.name for entry in folder.iterdir())
    contents = {name: _text(folder / name) for name in names if (folder / name).is_file()}
    proposal = propose(names, contents)
    notes = proposal.notes
    if (beside / ".git").exists():
        notes += (
            "this folder is a checkout: unless it is for CI, call init in a folder of its own, with the checkout's path",
        )
    return ProposedConfig(text=render_template(proposal), notes=notes, steps=tuple(_steps(folder, beside)))


def _steps(checkout: Path, beside: Path) -> Iterator[str]:
    """What is still to be done, in order, as one would type it in ``beside``; README tells the same."""
    is_repository = any((folder / ".git").exists() for folder in (checkout.resolve(), *checkout.resolve().parents))
    if not is_repository and checkout.resolve() == beside.resolve():
        yield "tamma init --force CHECKOUT, with the path of your repository's checkout: this folder is none"
        return
    yield "in tamma.toml: the agent's command line ([agent] argv), and whether the proposed gates are the right ones"
    made = sorted(path.parent for path in (beside / "forge").glob("*/repo.git"))
    home = made[0] if made else beside / "forge" / _name_of(checkout)
    place = f"forge/{home.name}"
    if not made:
        source = os.path.relpath(checkout.resolve(), beside.resolve())
        if not is_repository:
            yield f"git init {shlex.quote(source)}, and a first commit there: it is no Git repository yet"
        yield f"git clone --bare {shlex.quote(source)} {place}/repo.git"
        yield f"git -C {shlex.quote(source)} remote add {REMOTE} {shlex.quote(str(home.resolve() / 'repo.git'))}"
    if not any((home / "issues").glob("*.md")):
        if not (home / "issues").is_dir():
            yield f"mkdir {place}/issues"
        yield f"an issue, {place}/issues/1.md, with the label that asks for Tamma (docs/forge-local.md tells its form)"
    yield "tamma doctor"
    yield "tamma orchestrate --dry-run, then tamma orchestrate --until-idle"


def _name_of(checkout: Path) -> str:
    """The folder's name as that of a repository."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", checkout.resolve().name).strip(".-_") or "demo"


def _text(path: Path) -> str:
    try:
        with path.open("rb") as source:
            return source.read(_READ_BYTES_MAX).decode("utf-8", "replace")
    except OSError:
        return ""
