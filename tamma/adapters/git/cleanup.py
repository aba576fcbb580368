"""Folders of Tamma's own."""

from __future__ import annotations

from pathlib import Path

from tamma.core.errors import ConfigError


def make_private(folder: Path) -> Path:
    """A folder of mode 0700, and a real one: a link in its place is refused."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.is_symlink() or not folder.is_dir():
        raise ConfigError(
            f"{folder} must be a folder", why="it is a link", fix="remove the link, or name another state folder"
        )
    folder.chmod(0o700)
    return folder
