"""Which folders may not be one another."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tamma.config.schema import Config, ForgeKind


def misplaced(config: Config, base: Path) -> Iterator[str]:
    """What is wrong with where the state folder lies. It is Tamma's alone: what it holds is swept, and Git ignores all of it."""
    folder = (base / config.state.folder.expanduser()).resolve()
    others = {"the folder of the configuration": base.resolve()}
    if config.forge.kind is ForgeKind.LOCAL:
        others["forge.root"] = (base / config.forge.root.expanduser()).resolve()
    for name, other in others.items():
        if folder == other or folder in other.parents:
            yield f"state.folder is {folder}, which {'is' if folder == other else 'holds'} {name}: give it a folder of its own"
            return
