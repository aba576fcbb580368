"""What stands before the command."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Globals:
    """The options of ``tamma`` itself."""

    config: Path | None
